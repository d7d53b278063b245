// Attention with 512-bit vectors.
#include "kernels/attention/attention.h"
#include "kernels/x86/kernels.h"

#include <immintrin.h>

namespace sheily::attention {
namespace {

struct Isa {
    using Floats = __m512;
    static constexpr int LANES = 16;
    // 6 x 4 sums, 4 vectors, a broadcast: 29 of 32 registers.
    static constexpr int SCORE_VECTORS = 4;
    static constexpr int VALUE_VECTORS = 4;

    static Floats load(const float *p) { return _mm512_loadu_ps(p); }
    static void store(float *p, Floats v) { _mm512_storeu_ps(p, v); }
    static Floats all(float value) { return _mm512_set1_ps(value); }
    static float from_half(uint16_t half) { return _cvtsh_ss(half); }
    static Floats from_halves(const uint8_t *p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)));
    }
    static Floats from_bytes(const uint8_t *p) {
        return _mm512_cvtepi32_ps(
            _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p))));
    }
    static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
    static Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
    static Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
    static Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
    static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
    static float largest(Floats v) { return _mm512_reduce_max_ps(v); }
    static float total(Floats v) { return _mm512_reduce_add_ps(v); }
    static float first(Floats v) { return _mm512_cvtss_f32(v); }
    // e^x for x <= 0: 2^n e^r with |r| <= ln(2) / 2, and the series of e^r to the sixth power,
    // whose error is below 2e-7. Zero below -120.
    static Floats exp(Floats x) {
        x = _mm512_max_ps(x, _mm512_set1_ps(-120.0f));
        const Floats n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                              _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        // ln(2) in two parts, the first of which has few bits.
        Floats r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
        r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
        Floats e = _mm512_set1_ps(1.0f / 720);
        e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(1.0f / 120));
        e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(1.0f / 24));
        e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(1.0f / 6));
        e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(0.5f));
        e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(1.0f));
        e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(1.0f));
        return _mm512_scalef_ps(e, n);
    }
    static void transpose(Floats *rows) {
        Floats a[16];
        Floats b[16];
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            a[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
            a[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            for (int k = 0; k < 2; k++) {
                const __m512d low = _mm512_castps_pd(a[4 * i + k]);
                const __m512d high = _mm512_castps_pd(a[4 * i + k + 2]);
                b[4 * i + 2 * k] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
                b[4 * i + 2 * k + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
            }
        }
        // b[4 * i + k] has column k of each 128-bit lane, for rows 4 * i to 4 * i + 3.
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            const Floats low = _mm512_shuffle_f32x4(b[k], b[4 + k], 0x88);
            const Floats low_odd = _mm512_shuffle_f32x4(b[k], b[4 + k], 0xDD);
            const Floats high = _mm512_shuffle_f32x4(b[8 + k], b[12 + k], 0x88);
            const Floats high_odd = _mm512_shuffle_f32x4(b[8 + k], b[12 + k], 0xDD);
            rows[k] = _mm512_shuffle_f32x4(low, high, 0x88);
            rows[8 + k] = _mm512_shuffle_f32x4(low, high, 0xDD);
            rows[4 + k] = _mm512_shuffle_f32x4(low_odd, high_odd, 0x88);
            rows[12 + k] = _mm512_shuffle_f32x4(low_odd, high_odd, 0xDD);
        }
    }
};

#include "kernels/attention/tile-inl.h"

bool visible(const uint16_t *mask, int64_t n_cells, uint64_t *bits) {
    const __m512i hidden = _mm512_set1_epi16(static_cast<int16_t>(0xFC00)); // minus infinity
    uint32_t other = 0;
    for (int64_t c = 0; c < n_cells; c += 64) {
        uint64_t word = 0;
        for (int64_t half = 0; half < 64 && c + half < n_cells; half += 32) {
            const int64_t left = n_cells - c - half;
            const __mmask32 valid = left >= 32 ? ~0u : (1u << left) - 1;
            const __m512i values = _mm512_maskz_loadu_epi16(valid, mask + c + half);
            const __mmask32 seen = _mm512_mask_cmpneq_epi16_mask(valid, values, hidden);
            other |= _mm512_mask_test_epi16_mask(seen, values, values);
            word |= static_cast<uint64_t>(seen) << half;
        }
        bits[c / 64] = word;
    }
    return other == 0;
}

} // namespace

const Kernel AVX512 = {visible, attend};

} // namespace sheily::attention
