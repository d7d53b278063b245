// Q8_0 products with 256-bit vectors and the AVX-512 form of vpdpbusd: for CPUs that slow down at
// 512 bits, and to run what q8_0_avx_vnni.cpp computes where there is AVX-512 alone.
#include "q8_0.h"

#include <immintrin.h>

namespace sheily::attention {
extern const Kernel AVX2;
}

namespace sheily::q8_0 {
namespace {

#include "q8_0_256.h"

inline __m256i dpbusd(__m256i sum, __m256i unsigned_bytes, __m256i signed_bytes) {
    return _mm256_dpbusd_epi32(sum, unsigned_bytes, signed_bytes);
}

#include "q8_0_vnni_256.h"

} // namespace

extern const Kernel AVX512VL_VNNI;
const Kernel AVX512VL_VNNI = {"avx512vl_vnni", BIAS, quantize, multiply, &attention::AVX2, peak};

} // namespace sheily::q8_0
