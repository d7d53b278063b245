// The most 8-bit multiply-adds of the 256-bit VNNI instructions, which differ in the encoding of a
// function `dpbusd` alone. Included in the unnamed namespace of each instruction-set file.

inline int64_t vnni_256(int64_t turns) {
    constexpr int CHAINS = 12;
    __m256i sums[CHAINS];
    for (auto &sum : sums) {
        sum = _mm256_setzero_si256();
    }
    __m256i a = _mm256_set1_epi8(3);
    for (int64_t i = 0; i < turns; i++) {
        asm volatile("" : "+x"(a));
#pragma GCC unroll 16
        for (auto &sum : sums) {
            sum = dpbusd(sum, a, a);
        }
    }
    for (auto &sum : sums) {
        asm volatile("" : : "x"(sum));
    }
    return turns * CHAINS * 32;
}
