// How the Q8_0 kernels get into llama.cpp: a CPU buffer type that holds repacked weights.
#pragma once

#include "q8_0.h"

#include "ggml-backend.h"

namespace sheily {

// Puts the buffer type before llama.cpp's own. Before the first model is loaded: llama.cpp takes
// its list of buffer types once.
void register_repack_buffer();
ggml_backend_buffer_type_t repack_buffer_type();

// What the models that are loaded next by this thread get: `kernel` for the products with their
// Q8_0 weights, null for stock kernels; `mapped` says that weights come from a mapping of the file,
// whose pages are given back once they are repacked.
struct Repacking {
    const q8_0::Kernel *kernel;
    bool mapped;
    int n_threads;
};
Repacking exchange_repacking(Repacking repacking); // gives what it was before

// Whether llama.cpp was built with kernels of its own that are to be preferred.
bool stock_is_better();

} // namespace sheily
