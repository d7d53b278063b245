// Q8_0 products with 256-bit vectors and vpdpbusd: Intel since Alder Lake, AMD since Zen 5.
#include "q8_0.h"

#include <immintrin.h>

namespace sheily::attention {
extern const Kernel AVX2;
}

namespace sheily::q8_0 {
namespace {

#include "q8_0_256.h"

inline __m256i dpbusd(__m256i sum, __m256i unsigned_bytes, __m256i signed_bytes) {
    return _mm256_dpbusd_avx_epi32(sum, unsigned_bytes, signed_bytes);
}

#include "q8_0_vnni_256.h"

} // namespace

extern const Kernel AVX_VNNI;
const Kernel AVX_VNNI = {"avx_vnni", BIAS, quantize, multiply, &attention::AVX2, peak};

} // namespace sheily::q8_0
