// The most 8-bit multiply-adds that 256-bit vectors and the AVX-512 form of vpdpbusd can do.
#include "kernels/x86/kernels.h"

#include <immintrin.h>

namespace sheily::peak {
namespace {

inline __m256i dpbusd(__m256i sum, __m256i unsigned_bytes, __m256i signed_bytes) {
    return _mm256_dpbusd_epi32(sum, unsigned_bytes, signed_bytes);
}

#include "kernels/x86/peak_vnni_256-inl.h"

} // namespace

int64_t avx512vl_vnni(int64_t turns) {
    return vnni_256(turns);
}

} // namespace sheily::peak
