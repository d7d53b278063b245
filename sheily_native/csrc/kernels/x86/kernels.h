// The kernels for x86. `attention::AVX512` is in attention_avx512.cpp, and so on: one file for each
// instruction set and format.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/matmul/matmul.h"

#include <stdint.h>

namespace sheily::q8_0 {

extern const matmul::Kernel AVX2;
extern const matmul::Kernel AVX_VNNI;
extern const matmul::Kernel AVX512VL_VNNI;
extern const matmul::Kernel AVX512_VNNI;

} // namespace sheily::q8_0

namespace sheily::attention {

extern const Kernel AVX2;
extern const Kernel AVX512;

} // namespace sheily::attention

namespace sheily::peak {

int64_t avx2(int64_t turns);
int64_t avx_vnni(int64_t turns);
int64_t avx512vl_vnni(int64_t turns);
int64_t avx512_vnni(int64_t turns);

} // namespace sheily::peak
