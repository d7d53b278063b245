// Q8_0 matrix products: the layout that weights are repacked to, and what a kernel for one
// instruction set offers. Free of STL and of ggml's headers: the instruction-set files include it,
// and whatever inline function they compiled could be kept by the linker for every other file.
#pragma once

#include "attention.h"

#include <stdint.h>

namespace sheily::q8_0 {

// Columns that share a scale, as in ggml's Q8_0.
constexpr int64_t BLOCK = 32;
// Activations whose largest value is below this are taken as zero: its inverse would overflow.
constexpr float SMALLEST = 1e-30f;
// Rows that are interleaved.
constexpr int64_t GROUP = 16;

// A group of 16 rows is one run of bytes, as long as the rows were in the file (34 bytes a block):
//   for each block: 16 scales, IEEE half precision
//   for each block: 8 x 64 bytes, each of them 16 rows x 4 columns
constexpr int64_t SCALE_BYTES = 2 * GROUP;
constexpr int64_t QUANT_BYTES = BLOCK * GROUP;

constexpr int64_t group_bytes(int64_t n_blocks) {
    return n_blocks * (SCALE_BYTES + QUANT_BYTES);
}

// 32 values of one token: about scale * quants[i], quants in -127 to 127.
struct Activation {
    float scale;
    int32_t start; // what a sum over the block begins with, see Kernel::bias
    int8_t quants[BLOCK];
};

// out[t * out_stride + row] = dot product of row `row` and token t.
struct Product {
    const uint8_t *weights;        // groups, one behind the other
    int64_t n_blocks;              // of a row
    const Activation *activations; // n_tokens rows of n_blocks
    int64_t n_tokens;
    float *out;
    int64_t out_stride; // in floats
};

struct Kernel {
    const char *name;
    // Added to each weight, modulo 256. 128 where the instruction set multiplies unsigned by signed
    // bytes: dot(w, a) = dot(w + 128, a) - 128 * sum(a), and the last term is Activation::start.
    uint8_t bias;
    void (*quantize)(const float *values, Activation *out, int64_t n_blocks);
    // The rows of the groups first to last - 1.
    void (*multiply)(const Product &product, int64_t first, int64_t last);
    // What goes with it.
    const attention::Kernel *attention;
    // Multiply-adds that `turns` turns of a loop make which does nothing else.
    int64_t (*peak)(int64_t turns);
};

// Best first; null-terminated. Only those that the compiler could build.
extern const Kernel *const KERNELS[];

// Whether this CPU, and its operating system, can run it.
bool runs_here(const Kernel &kernel);

} // namespace sheily::q8_0
