// Attention with 256-bit vectors.
#include "kernels/attention/attention.h"
#include "kernels/x86/kernels.h"

#include <immintrin.h>

namespace sheily::attention {
namespace {

struct Isa {
    using Floats = __m256;
    static constexpr int LANES = 8;
    // 6 x 2 sums, 2 vectors, a broadcast: 15 of 16 registers.
    static constexpr int SCORE_VECTORS = 2;
    static constexpr int VALUE_VECTORS = 2;

    static Floats load(const float *p) { return _mm256_loadu_ps(p); }
    static void store(float *p, Floats v) { _mm256_storeu_ps(p, v); }
    static Floats all(float value) { return _mm256_set1_ps(value); }
    static float from_half(uint16_t half) { return _cvtsh_ss(half); }
    static Floats from_halves(const uint8_t *p) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
    }
    static Floats from_bytes(const uint8_t *p) {
        return _mm256_cvtepi32_ps(
            _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(p))));
    }
    static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
    static Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
    static Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
    static Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
    static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
    static float largest(Floats v) {
        __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        four = _mm_max_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
    }
    static float total(Floats v) {
        __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        four = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
    }
    static float first(Floats v) { return _mm256_cvtss_f32(v); }
    // As in attention_avx512.cpp; zero below -87, where 2^n would not be a normal number.
    static Floats exp(Floats x) {
        const Floats least = _mm256_set1_ps(-87.0f);
        const Floats is_normal = _mm256_cmp_ps(x, least, _CMP_GE_OQ);
        x = _mm256_max_ps(x, least);
        const Floats n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        Floats r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
        r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
        Floats e = _mm256_set1_ps(1.0f / 720);
        e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0f / 120));
        e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0f / 24));
        e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0f / 6));
        e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(0.5f));
        e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0f));
        e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0f));
        const __m256i power =
            _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
        return _mm256_and_ps(_mm256_mul_ps(e, _mm256_castsi256_ps(power)), is_normal);
    }
    static void transpose(Floats *rows) {
        Floats a[8];
        Floats b[8];
        for (int i = 0; i < 4; i++) {
            a[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
            a[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
        }
        for (int i = 0; i < 2; i++) {
            for (int k = 0; k < 2; k++) {
                const __m256d low = _mm256_castps_pd(a[4 * i + k]);
                const __m256d high = _mm256_castps_pd(a[4 * i + k + 2]);
                b[4 * i + 2 * k] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
                b[4 * i + 2 * k + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
            }
        }
        for (int k = 0; k < 4; k++) {
            rows[k] = _mm256_permute2f128_ps(b[k], b[4 + k], 0x20);
            rows[4 + k] = _mm256_permute2f128_ps(b[k], b[4 + k], 0x31);
        }
    }
};

#include "kernels/attention/tile-inl.h"

bool visible(const uint16_t *mask, int64_t n_cells, uint64_t *bits) {
    const __m256i hidden = _mm256_set1_epi16(static_cast<int16_t>(0xFC00)); // minus infinity
    __m256i others = _mm256_setzero_si256();
    uint16_t other = 0;
    for (int64_t c = 0; c < n_cells; c += 64) {
        uint64_t word = 0;
        int64_t i = 0;
        for (; i + 16 <= 64 && c + i + 16 <= n_cells; i += 16) {
            const __m256i values =
                _mm256_loadu_si256(reinterpret_cast<const __m256i *>(mask + c + i));
            const __m256i is_hidden = _mm256_cmpeq_epi16(values, hidden);
            others = _mm256_or_si256(others, _mm256_andnot_si256(is_hidden, values));
            const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(is_hidden),
                                                  _mm256_extracti128_si256(is_hidden, 1));
            const uint32_t seen = ~static_cast<uint32_t>(_mm_movemask_epi8(bytes)) & 0xFFFF;
            word |= static_cast<uint64_t>(seen) << i;
        }
        for (; i < 64 && c + i < n_cells; i++) {
            const bool seen = mask[c + i] != 0xFC00;
            other |= seen ? mask[c + i] : 0;
            word |= static_cast<uint64_t>(seen) << i;
        }
        bits[c / 64] = word;
    }
    return other == 0 && _mm256_testz_si256(others, others) != 0;
}

} // namespace

const Kernel AVX2 = {visible, attend};

} // namespace sheily::attention
