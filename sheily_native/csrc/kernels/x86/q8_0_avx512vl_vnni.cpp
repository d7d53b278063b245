// Q8_0 products with 256-bit vectors and the AVX-512 form of vpdpbusd: for CPUs that slow down at
// 512 bits, and to run what q8_0_avx_vnni.cpp computes where there is AVX-512 alone.
#include "kernels/matmul/q8_0/q8_0.h"
#include "kernels/x86/kernels.h"

#include <immintrin.h>

namespace sheily::q8_0 {
namespace {

#include "kernels/matmul/q8_0/tile_256-inl.h"

inline __m256i dpbusd(__m256i sum, __m256i unsigned_bytes, __m256i signed_bytes) {
    return _mm256_dpbusd_epi32(sum, unsigned_bytes, signed_bytes);
}

#include "kernels/matmul/q8_0/vnni_256-inl.h"

} // namespace

const matmul::Kernel AVX512VL_VNNI = {BIAS, quantize, multiply};

} // namespace sheily::q8_0
