// Which Q8_0 kernels were built, and which of them this CPU can run.
#include "q8_0.h"

#if defined(SHEILY_KERNELS_X86)
#include <cpuid.h>
#endif

namespace sheily::q8_0 {

#if defined(SHEILY_KERNELS_X86)

extern const Kernel AVX512_VNNI;
extern const Kernel AVX512VL_VNNI;
extern const Kernel AVX2;
#if defined(SHEILY_KERNEL_AVX_VNNI)
extern const Kernel AVX_VNNI;
#endif

const Kernel *const KERNELS[] = {
    &AVX512_VNNI,
#if defined(SHEILY_KERNEL_AVX_VNNI)
    &AVX_VNNI,
#endif
    &AVX512VL_VNNI, &AVX2, nullptr,
};

namespace {

struct Features {
    bool avx2 = false;
    bool avx_vnni = false;
    bool avx512 = false; // F, BW and VL
    bool avx512_vnni = false;
};

constexpr bool bit(uint32_t word, int i) {
    return (word >> i & 1) != 0;
}

// What the operating system keeps of the registers when it switches threads. Intel, Software
// Developer's Manual, volume 1, 13.3: XCR0 bits 1 and 2 are the 256-bit registers, 5 to 7 what
// AVX-512 adds.
uint32_t saved_registers() {
    uint32_t low;
    uint32_t high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

// The bits are those of Intel's manual, volume 2, CPUID.
Features detect() {
    Features found;
    uint32_t a;
    uint32_t b;
    uint32_t c;
    uint32_t d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27)) { // OSXSAVE
        return found;
    }
    const bool fma = bit(c, 12);
    const bool f16c = bit(c, 29);
    const uint32_t saved = saved_registers();
    if ((saved & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return found;
    }
    const uint32_t subleaves = a;
    found.avx2 = bit(b, 5) && fma && f16c;
    if ((saved & 0xE0) == 0xE0) {
        found.avx512 = found.avx2 && bit(b, 16) && bit(b, 30) && bit(b, 31);
        found.avx512_vnni = found.avx512 && bit(c, 11);
    }
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        found.avx_vnni = found.avx2 && bit(a, 4);
    }
    return found;
}

} // namespace

bool runs_here(const Kernel &kernel) {
    static const Features cpu = detect();
#if defined(SHEILY_KERNEL_AVX_VNNI)
    if (&kernel == &AVX_VNNI) {
        return cpu.avx_vnni;
    }
#endif
    return &kernel == &AVX2 ? cpu.avx2 : cpu.avx512_vnni;
}

#else

const Kernel *const KERNELS[] = {nullptr};

bool runs_here(const Kernel &) {
    return false;
}

#endif

} // namespace sheily::q8_0
