// The most 8-bit multiply-adds that AVX2 alone can do.
#include "kernels/x86/kernels.h"

#include <immintrin.h>

namespace sheily::peak {

int64_t avx2(int64_t turns) {
    constexpr int CHAINS = 8;
    __m256i sums[CHAINS];
    for (auto &sum : sums) {
        sum = _mm256_setzero_si256();
    }
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i a = _mm256_set1_epi8(3);
    for (int64_t i = 0; i < turns; i++) {
#pragma GCC unroll 8
        for (auto &sum : sums) {
            asm volatile("" : "+x"(a));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, a), ones));
        }
    }
    for (auto &sum : sums) {
        asm volatile("" : : "x"(sum));
    }
    return turns * CHAINS * 32;
}

} // namespace sheily::peak
