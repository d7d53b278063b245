// Q8_0 products with AVX2 alone: Intel since Haswell, AMD since Zen.
#include "kernels/matmul/q8_0/q8_0.h"
#include "kernels/x86/kernels.h"

#include <immintrin.h>

namespace sheily::q8_0 {
namespace {

#include "kernels/matmul/q8_0/tile_256-inl.h"

constexpr int BIAS = 128;

// vpmaddubsw adds two products of an unsigned and a signed byte in 16 bits, and saturates: too
// small for a weight of 8 bits. So each weight is two digits of 4 bits, and a block's products with
// either, 16 of at most 15 * 127, fit into 16 bits.
struct Isa : Vectors256 {
    struct Weights {
        __m256i low;
        __m256i high;
    };
    struct Sum {
        __m256i low;
        __m256i high;
    };
    // 16 registers: 2 x 3 sums, 3 totals, the weights twice, the mask, one of columns.
    static constexpr int FEW_TOKENS = 0;
    static constexpr int STREAM_TOKENS = 2;
    static constexpr int STREAM_TOKENS_2 = 0;
    static constexpr int PANEL_VECTORS = 1;
    static constexpr int PANEL_TOKENS = 4;

    static Sum start(int32_t) { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
    static Weights weights(const uint8_t *quants) {
        const __m256i digit = _mm256_set1_epi8(15);
        const __m256i both = load(quants);
        return {_mm256_and_si256(both, digit), _mm256_and_si256(_mm256_srli_epi16(both, 4), digit)};
    }
    static Sum dot(const Sum &sum, const Weights &weights, Ints columns) {
        __m256i low = _mm256_add_epi16(sum.low, _mm256_maddubs_epi16(weights.low, columns));
        __m256i high = _mm256_add_epi16(sum.high, _mm256_maddubs_epi16(weights.high, columns));
        // Keeps the compiler from making all products first, to add them in pairs out of memory.
        asm("" : "+x"(low), "+x"(high));
        return {low, high};
    }
    static Ints finish(const Sum &sum, int32_t start) {
        const __m256i low = _mm256_madd_epi16(sum.low, _mm256_set1_epi16(1));
        const __m256i high = _mm256_madd_epi16(sum.high, _mm256_set1_epi16(16));
        return _mm256_add_epi32(_mm256_add_epi32(low, high), _mm256_set1_epi32(start));
    }
};

#include "kernels/matmul/q8_0/tile-inl.h"

void quantize(const float *values, void *activations, int64_t n_blocks) {
    quantize_256(values, activations, n_blocks, BIAS);
}

} // namespace

const matmul::Kernel AVX2 = {BIAS, quantize, multiply};

} // namespace sheily::q8_0
