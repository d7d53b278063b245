// What a CPU and its operating system can run.
#pragma once

#include <stdint.h>

namespace sheily {

// A set of features, one bit each.
struct CpuFeatures {
    uint64_t bits = 0;

    constexpr bool contain(CpuFeatures needed) const { return (bits & needed.bits) == needed.bits; }
};

constexpr CpuFeatures operator|(CpuFeatures a, CpuFeatures b) {
    return {a.bits | b.bits};
}

namespace x86 {

constexpr CpuFeatures FMA = {1u << 0};
constexpr CpuFeatures F16C = {1u << 1};
constexpr CpuFeatures AVX2 = {1u << 2};
constexpr CpuFeatures AVX_VNNI = {1u << 3};
constexpr CpuFeatures AVX512F = {1u << 4};
constexpr CpuFeatures AVX512BW = {1u << 5};
constexpr CpuFeatures AVX512VL = {1u << 6};
constexpr CpuFeatures AVX512_VNNI = {1u << 7};

} // namespace x86

// The features of this CPU, without those whose registers the operating system does not save.
CpuFeatures cpu_features();

} // namespace sheily
