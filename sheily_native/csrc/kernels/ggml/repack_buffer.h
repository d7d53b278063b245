// How the kernels for quantized weights get into llama.cpp: a CPU buffer type that holds repacked
// weights.
#pragma once

#include "kernels/isa.h"

#include "ggml-backend.h"

namespace sheily {

// Puts the buffer type before llama.cpp's own. Before the first model is loaded: llama.cpp takes
// its list of buffer types once.
void register_repack_buffer();
ggml_backend_buffer_type_t repack_buffer_type();

// How this thread loads the next models.
struct Repacking {
    const InstructionSet *set; // its kernels multiply the weights; null: the stock ones do
    bool mapped; // weights come from a mapping of the file: once repacked, its pages are given back
    int n_threads;
};

// Returns what was set before. Switched (switched.h) sets it back.
Repacking exchange_repacking(Repacking repacking);

// Whether llama.cpp was built with kernels of its own that are faster than ours.
bool stock_is_better();

} // namespace sheily
