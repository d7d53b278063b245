// Q8_0 weights: the layout that they are repacked to, and the activations they are multiplied with.
#pragma once

#include "kernels/matmul/matmul.h"

#include <stdint.h>

namespace sheily::q8_0 {

using matmul::Product;

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
    int32_t start; // what a sum over the block begins with: -bias * sum of the quants
    int8_t quants[BLOCK];
};

extern const matmul::Format FORMAT;

} // namespace sheily::q8_0
