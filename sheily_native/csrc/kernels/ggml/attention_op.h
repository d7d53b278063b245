// How the attention kernels get into llama.cpp: as the traits of its flash attention op.
#pragma once

#include "kernels/attention/attention.h"

struct ggml_tensor;

namespace ggml::cpu {
class tensor_traits;
}

namespace sheily {

// Sets the kernel for the attention of the graphs that this thread computes next; null: the stock
// one. Returns what was set before. Switched (switched.h) sets it back.
const attention::Kernel *exchange_attention(const attention::Kernel *kernel);

// Returns the traits of an op that a kernel of ours can compute, else null.
ggml::cpu::tensor_traits *attention_traits(const ggml_tensor *op);

} // namespace sheily
