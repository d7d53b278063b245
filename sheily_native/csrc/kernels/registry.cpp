#include "kernels/registry.h"

#if defined(SHEILY_KERNELS_X86)
#include "kernels/x86/kernels.h"
#endif

#include <iterator>

namespace sheily {
namespace {

#if defined(SHEILY_KERNELS_X86)

constexpr CpuFeatures AVX2 = x86::AVX2 | x86::FMA | x86::F16C;
constexpr CpuFeatures AVX512 = AVX2 | x86::AVX512F | x86::AVX512BW | x86::AVX512VL;

const InstructionSet BUILT[] = {
    {"avx512_vnni", AVX512 | x86::AVX512_VNNI, &q8_0::AVX512_VNNI, &attention::AVX512,
     peak::avx512_vnni},
#if defined(SHEILY_KERNELS_AVX_VNNI)
    {"avx_vnni", AVX2 | x86::AVX_VNNI, &q8_0::AVX_VNNI, &attention::AVX2, peak::avx_vnni},
#endif
    {"avx512vl_vnni", AVX512 | x86::AVX512_VNNI, &q8_0::AVX512VL_VNNI, &attention::AVX2,
     peak::avx512vl_vnni},
    {"avx2", AVX2, &q8_0::AVX2, &attention::AVX2, peak::avx2},
};
constexpr int32_t COUNT = std::size(BUILT);

#else

constexpr const InstructionSet *BUILT = nullptr;
constexpr int32_t COUNT = 0;

#endif

} // namespace

int32_t instruction_set_count() {
    return COUNT;
}

const InstructionSet *instruction_set(int32_t number) {
    return number >= 0 && number < COUNT ? BUILT + number : nullptr;
}

bool runs_here(const InstructionSet &set) {
    return cpu_features().contain(set.needs);
}

} // namespace sheily
