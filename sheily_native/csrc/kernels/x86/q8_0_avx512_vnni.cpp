// Q8_0 products with 512-bit vectors and vpdpbusd: Intel since Cascade Lake, AMD since Zen 4.
#include "kernels/matmul/q8_0/q8_0.h"
#include "kernels/x86/kernels.h"

#include <immintrin.h>

namespace sheily::q8_0 {
namespace {

struct Isa {
    using Ints = __m512i;
    using Floats = __m512;
    using Weights = __m512i;
    using Sum = __m512i;
    static constexpr int ROWS = 16;
    static constexpr int FEW_VECTORS = 4;
    static constexpr int FEW_TOKENS = 2;
    static constexpr int STREAM_TOKENS = 12;
    static constexpr int STREAM_TOKENS_2 = 16;
    static constexpr int PANEL_VECTORS = 2;
    static constexpr int PANEL_TOKENS = 7;

    static Floats zero() { return _mm512_setzero_ps(); }
    static Sum start(int32_t value) { return _mm512_set1_epi32(value); }
    static Weights weights(const uint8_t *quants) { return _mm512_loadu_si512(quants); }
    static Ints columns(const int8_t *quants) {
        int32_t four;
        __builtin_memcpy(&four, quants, sizeof(four));
        return _mm512_set1_epi32(four);
    }
    static Sum dot(Sum sum, Weights weights, Ints columns) {
        return _mm512_dpbusd_epi32(sum, weights, columns);
    }
    static Ints finish(Sum sum, int32_t) { return sum; }
    static Floats scales(const uint16_t *scales) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(scales)));
    }
    static Floats add_scaled(Floats total, Ints sum, Floats scales, float scale) {
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum),
                               _mm512_mul_ps(scales, _mm512_set1_ps(scale)), total);
    }
    static void store(float *out, Floats total) { _mm512_storeu_ps(out, total); }
};

#include "kernels/matmul/q8_0/tile-inl.h"

void quantize(const float *values, void *activations, int64_t n_blocks) {
    auto *out = static_cast<Activation *>(activations);
    for (int64_t b = 0; b < n_blocks; b++, values += BLOCK) {
        const __m512 low = _mm512_loadu_ps(values);
        const __m512 high = _mm512_loadu_ps(values + 16);
        const float most =
            _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
        const float inverse = most > SMALLEST ? 127.0f / most : 0.0f;
        // A NaN becomes the smallest integer: without this limit, the sum of two of those would
        // overflow.
        const __m512i least = _mm512_set1_epi32(-127);
        const __m512i a = _mm512_max_epi32(
            _mm512_cvtps_epi32(_mm512_mul_ps(low, _mm512_set1_ps(inverse))), least);
        const __m512i b2 = _mm512_max_epi32(
            _mm512_cvtps_epi32(_mm512_mul_ps(high, _mm512_set1_ps(inverse))), least);
        out[b].scale = most / 127.0f;
        out[b].start = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(a, b2));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(out[b].quants), _mm512_cvtepi32_epi8(a));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(out[b].quants + 16), _mm512_cvtepi32_epi8(b2));
    }
}

} // namespace

const matmul::Kernel AVX512_VNNI = {128, quantize, multiply};

} // namespace sheily::q8_0
