// An instruction set: which features of a CPU it needs, and the kernels that were compiled for it.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/cpu_features.h"
#include "kernels/matmul/matmul.h"

#include <stdint.h>

namespace sheily {

// A kernel is null where the instruction set has none; such products and attention stay with
// llama.cpp.
struct InstructionSet {
    const char *name; // as in SHEILY_KERNEL
    CpuFeatures needs;
    const matmul::Kernel *q8_0;
    const attention::Kernel *attention;
    // The number of 8-bit multiply-adds that `turns` turns of a loop make which does nothing else.
    int64_t (*peak)(int64_t turns);
};

} // namespace sheily
