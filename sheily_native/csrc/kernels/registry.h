// The instruction sets that this build has kernels for, numbered from 0, best first.
#pragma once

#include "kernels/isa.h"

namespace sheily {

int32_t instruction_set_count();

// Null for a number that is out of range.
const InstructionSet *instruction_set(int32_t number);

// Whether this CPU, and its operating system, can run it.
bool runs_here(const InstructionSet &set);

} // namespace sheily
