// Products with quantized weights: what a weight format says of its layout, and what its kernel for
// one instruction set offers. Free of STL and of ggml's headers: the instruction-set files include
// it, and whatever inline function they compiled could be kept by the linker for every other file.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace sheily::matmul {

// out[t * out_stride + row] = dot product of row `row` and token t.
struct Product {
    const uint8_t *weights;  // groups of rows, one behind the other
    int64_t n_blocks;        // of a row
    const void *activations; // n_tokens rows of n_blocks, as Kernel::quantize writes them
    int64_t n_tokens;
    float *out;
    int64_t out_stride; // in floats
};

struct Kernel {
    // Added to each weight, modulo 256, when it is repacked. 128 where the instruction set
    // multiplies unsigned by signed bytes: dot(w, a) = dot(w + 128, a) - 128 * sum(a).
    uint8_t bias;
    // n_blocks blocks of one token.
    void (*quantize)(const float *values, void *activations, int64_t n_blocks);
    // The rows of the groups first to last - 1.
    void (*multiply)(const Product &product, int64_t first, int64_t last);
};

// A range of groups of rows.
struct Groups {
    int64_t first;
    int64_t last; // excluded
};

// One way of storing weights. All kernels of a format share its layout.
struct Format {
    int64_t block;           // columns that are quantized together
    int64_t group;           // rows that are interleaved
    size_t activation_bytes; // of one block of one token
    // Repacks some groups. `rows` and `out` are the beginnings of the whole matrix, in the file's
    // layout and in the kernels'; both have the same size.
    void (*repack)(const uint8_t *rows, uint8_t *out, int64_t n_blocks, Groups groups,
                   const Kernel &kernel);
};

} // namespace sheily::matmul
