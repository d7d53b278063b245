// What the 256-bit kernels share: vectors of 8 rows, half a group. Included, like tile-inl.h, in
// the unnamed namespace of each instruction-set file.

struct Vectors256 {
    using Ints = __m256i;
    using Floats = __m256;
    static constexpr int ROWS = 8;

    static Floats zero() { return _mm256_setzero_ps(); }
    static Ints load(const uint8_t *quants) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(quants));
    }
    static Ints columns(const int8_t *quants) {
        int32_t four;
        __builtin_memcpy(&four, quants, sizeof(four));
        return _mm256_set1_epi32(four);
    }
    static Floats scales(const uint16_t *scales) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(scales)));
    }
    static Floats add_scaled(Floats total, Ints sum, Floats scales, float scale) {
        return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum),
                               _mm256_mul_ps(scales, _mm256_set1_ps(scale)), total);
    }
    static void store(float *out, Floats total) { _mm256_storeu_ps(out, total); }
};

inline float largest_magnitude(const __m256 *values) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 most = _mm256_andnot_ps(sign, values[0]);
    for (int i = 1; i < 4; i++) {
        most = _mm256_max_ps(most, _mm256_andnot_ps(sign, values[i]));
    }
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

inline int32_t sum_of(__m256i values) {
    __m128i four =
        _mm_add_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1)));
}

// Quantizes for a kernel with that bias.
inline void quantize_256(const float *values, void *activations, int64_t n_blocks, int32_t bias) {
    auto *out = static_cast<Activation *>(activations);
    for (int64_t b = 0; b < n_blocks; b++, values += BLOCK) {
        __m256 part[4];
        for (int i = 0; i < 4; i++) {
            part[i] = _mm256_loadu_ps(values + 8 * i);
        }
        const float most = largest_magnitude(part);
        const __m256 inverse = _mm256_set1_ps(most > SMALLEST ? 127.0f / most : 0.0f);
        __m256i quants[4];
        for (int i = 0; i < 4; i++) {
            // A NaN becomes the smallest integer: without this limit, the sum of two of those would
            // overflow.
            quants[i] = _mm256_max_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(part[i], inverse)),
                                         _mm256_set1_epi32(-127));
        }
        out[b].scale = most / 127.0f;
        out[b].start = -bias * sum_of(_mm256_add_epi32(_mm256_add_epi32(quants[0], quants[1]),
                                                       _mm256_add_epi32(quants[2], quants[3])));
        // Packing works within 128-bit lanes; the permutation puts the columns in order again.
        const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(quants[0], quants[1]),
                                                 _mm256_packs_epi32(quants[2], quants[3]));
        _mm256_storeu_si256(
            reinterpret_cast<__m256i *>(out[b].quants),
            _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    }
}
