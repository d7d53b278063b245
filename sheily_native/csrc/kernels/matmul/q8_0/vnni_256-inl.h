// The 256-bit VNNI kernels, which differ in the encoding of a function `dpbusd` alone.

constexpr int BIAS = 128;

struct Isa : Vectors256 {
    using Weights = __m256i;
    using Sum = __m256i;
    // 16 registers: 2 x 3 sums, as many totals, 2 vectors of weights, one of columns.
    static constexpr int FEW_VECTORS = 4;
    static constexpr int FEW_TOKENS = 1;
    static constexpr int STREAM_TOKENS = 3;
    static constexpr int STREAM_TOKENS_2 = 0;
    static constexpr int PANEL_VECTORS = 2;
    static constexpr int PANEL_TOKENS = 3;

    static Sum start(int32_t value) { return _mm256_set1_epi32(value); }
    static Weights weights(const uint8_t *quants) { return load(quants); }
    static Sum dot(Sum sum, Weights weights, Ints columns) { return dpbusd(sum, weights, columns); }
    static Ints finish(Sum sum, int32_t) { return sum; }
};

#include "kernels/matmul/q8_0/tile-inl.h"

void quantize(const float *values, void *activations, int64_t n_blocks) {
    quantize_256(values, activations, n_blocks, BIAS);
}
