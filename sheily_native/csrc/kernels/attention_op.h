// How the attention kernels get into llama.cpp: as the traits of its flash attention op.
#pragma once

#include "attention.h"

struct ggml_tensor;

namespace ggml::cpu {
class tensor_traits;
}

namespace sheily {

// What the graphs that this thread has computed next use for attention; null: the stock kernel.
// Gives what it was before. Switched (switched.h) sets it back.
const attention::Kernel *exchange_attention(const attention::Kernel *kernel);

// The traits for an op that a kernel of ours can compute, or null.
ggml::cpu::tensor_traits *attention_traits(const ggml_tensor *op);

} // namespace sheily
