// Attention over a KV cache: what the op asks for, and what a kernel for one instruction set
// offers. Free of STL and of ggml's headers, as matmul.h is and for the same reason.
#pragma once

#include <stdint.h>

namespace sheily::attention {

// Cells that are worked on together.
constexpr int64_t TILE = 64;
// Most query rows of a block, unless one token alone has more: a token has a row for each head that
// shares a K and V head. Each K tile is transposed once for all of them.
constexpr int64_t BLOCK_ROWS = 48;
// Query rows that are in registers at a time.
constexpr int64_t ROWS = 6;
// The width of a head is a multiple of this.
constexpr int64_t WIDTH_STEP = 16;

enum class CellType { F16, Q8_0 };

// Strides of q are in floats, those of k and v in bytes, that of the mask in halves.
struct Problem {
    const float *q;
    int64_t q_token_stride;
    int64_t q_head_stride;
    const uint8_t *k;
    int64_t k_cell_stride;
    int64_t k_head_stride;
    const uint8_t *v;
    int64_t v_cell_stride;
    int64_t v_head_stride;
    CellType type;
    const uint16_t *mask; // half precision, added to the scores; minus infinity: not visible
    int64_t mask_stride;
    float *out; // [token][head][width]
    int64_t n_tokens;
    int64_t n_heads;
    int64_t n_kv_heads;
    int64_t n_cells;
    int64_t width;
    float scale;

    int64_t heads_a_kv_head() const { return n_heads / n_kv_heads; }
};

// Tokens that see about the same cells. `cells` begins with the n_common cells that all of them see
// and whose mask is zero; the others follow.
struct Block {
    int64_t first_token;
    int64_t n_tokens;
    const int32_t *cells;
    int64_t n_common;
    int64_t n_cells;
};

// A part of the work: the cells first_cell to last_cell - 1 of the block's list, for the query
// heads of one K and V head. If `partial` is null, the rows of `out` are written. Otherwise it
// gets, for each row (token by token, head by head), its maximum, its sum and `width` values that
// are not yet divided by the sum.
struct Part {
    const Block *block;
    int64_t kv_head;
    int64_t first_cell;
    int64_t last_cell;
    float *partial;
};

constexpr int64_t partial_floats(int64_t width) {
    return width + 2;
}

// The scratch memory that a thread needs for blocks of `rows` rows.
constexpr int64_t scratch_floats(int64_t rows, int64_t width) {
    return rows * (2 * width + 2) + 2 * TILE * width + (ROWS + 1) * TILE;
}

struct Kernel {
    // Sets bit i % 64 of word i / 64 where cell i is visible, and clears it elsewhere. Returns
    // whether the mask is zero for all visible cells, so that nothing is added to their scores.
    bool (*visible)(const uint16_t *mask, int64_t n_cells, uint64_t *bits);
    // `scratch` is aligned to 64 bytes.
    void (*attend)(const Problem &problem, const Part &part, float *scratch);
};

} // namespace sheily::attention
