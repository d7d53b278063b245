#include "kernels/cpu_features.h"

#if defined(SHEILY_KERNELS_X86)
#include <cpuid.h>
#endif

namespace sheily {
namespace {

#if defined(SHEILY_KERNELS_X86)

// The registers that the operating system saves when it switches threads. Intel, Software
// Developer's Manual, volume 1, 13.3: XCR0 bits 1 and 2 are the 256-bit registers, 5 to 7 what
// AVX-512 adds.
constexpr uint32_t SAVES_256 = 0x06;
constexpr uint32_t SAVES_512 = 0xE0;

uint32_t saved_registers() {
    uint32_t low;
    uint32_t high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

// The bits are those of Intel's manual, volume 2, CPUID.
CpuFeatures detect() {
    CpuFeatures found;
    const auto add = [&found](uint32_t word, int bit, CpuFeatures feature) {
        found = (word >> bit & 1) != 0 ? found | feature : found;
    };
    uint32_t a;
    uint32_t b;
    uint32_t c;
    uint32_t d;
    constexpr uint32_t OSXSAVE = 1u << 27;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & OSXSAVE) == 0) {
        return found;
    }
    const uint32_t saved = saved_registers();
    if ((saved & SAVES_256) != SAVES_256) {
        return found;
    }
    add(c, 12, x86::FMA);
    add(c, 29, x86::F16C);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return found;
    }
    const uint32_t subleaves = a;
    add(b, 5, x86::AVX2);
    if ((saved & SAVES_512) == SAVES_512) {
        add(b, 16, x86::AVX512F);
        add(b, 30, x86::AVX512BW);
        add(b, 31, x86::AVX512VL);
        add(c, 11, x86::AVX512_VNNI);
    }
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        add(a, 4, x86::AVX_VNNI);
    }
    return found;
}

#else

CpuFeatures detect() {
    return {};
}

#endif

} // namespace

CpuFeatures cpu_features() {
    static const CpuFeatures found = detect();
    return found;
}

} // namespace sheily
