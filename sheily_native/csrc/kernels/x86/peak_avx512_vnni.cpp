// The most 8-bit multiply-adds that 512-bit vectors and vpdpbusd can do.
#include "kernels/x86/kernels.h"

#include <immintrin.h>

namespace sheily::peak {

int64_t avx512_vnni(int64_t turns) {
    constexpr int CHAINS = 16;
    __m512i sums[CHAINS];
    for (auto &sum : sums) {
        sum = _mm512_setzero_si512();
    }
    __m512i a = _mm512_set1_epi8(3);
    for (int64_t i = 0; i < turns; i++) {
        asm volatile("" : "+v"(a));
#pragma GCC unroll 16
        for (auto &sum : sums) {
            sum = _mm512_dpbusd_epi32(sum, a, a);
        }
    }
    for (auto &sum : sums) {
        asm volatile("" : : "v"(sum));
    }
    return turns * CHAINS * 64;
}

} // namespace sheily::peak
