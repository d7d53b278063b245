// Q8_0 products with 256-bit vectors and vpdpbusd: Intel since Alder Lake, AMD since Zen 5.
#include "kernels/matmul/q8_0/q8_0.h"
#include "kernels/x86/kernels.h"

#include <immintrin.h>

namespace sheily::q8_0 {
namespace {

#include "kernels/matmul/q8_0/tile_256-inl.h"

inline __m256i dpbusd(__m256i sum, __m256i unsigned_bytes, __m256i signed_bytes) {
    return _mm256_dpbusd_avx_epi32(sum, unsigned_bytes, signed_bytes);
}

#include "kernels/matmul/q8_0/vnni_256-inl.h"

} // namespace

const matmul::Kernel AVX_VNNI = {BIAS, quantize, multiply};

} // namespace sheily::q8_0
