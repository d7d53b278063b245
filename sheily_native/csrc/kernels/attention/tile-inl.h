// Attention in one pass over the cells (Dao et al. 2022, FlashAttention): scores of a tile, softmax
// with a running maximum, values. Written once for all instruction sets.
//
// An instruction-set file defines `Isa` in an unnamed namespace and then includes this file there.
// Isa offers vectors of LANES floats, and how many of them a row of a tile in registers has:
//   SCORE_VECTORS   over the cells
//   VALUE_VECTORS   over the values of a head, at most

using Floats = Isa::Floats;

// The score of a cell that is not visible.
constexpr float NOTHING = -__builtin_inff();
constexpr int CACHE_LINE = 64;
constexpr int64_t QUANT_BLOCK = 32; // ggml's Q8_0: a half-precision scale and 32 int8
constexpr int64_t QUANT_BLOCK_BYTES = 34;

struct Halves {
    static Floats load(const uint8_t *row, int64_t d) { return Isa::from_halves(row + 2 * d); }
    static int64_t bytes(int64_t width) { return 2 * width; }
};

struct Quants {
    static Floats load(const uint8_t *row, int64_t d) {
        const uint8_t *block = row + d / QUANT_BLOCK * QUANT_BLOCK_BYTES;
        uint16_t scale;
        __builtin_memcpy(&scale, block, sizeof(scale));
        return Isa::mul(Isa::from_bytes(block + 2 + d % QUANT_BLOCK),
                        Isa::all(Isa::from_half(scale)));
    }
    static int64_t bytes(int64_t width) { return width / QUANT_BLOCK * QUANT_BLOCK_BYTES; }
};

struct Plain {
    static Floats load(const uint8_t *row, int64_t d) {
        return Isa::load(reinterpret_cast<const float *>(row) + d);
    }
};

// The rows of K or V of a tile's cells, for one head. Without a list of cells (null) the rows
// follow one another in memory.
struct CellRows {
    const uint8_t *base;
    int64_t stride;
    const int32_t *cells;
    int64_t count;

    const uint8_t *at(int64_t i) const { return base + (cells == nullptr ? i : cells[i]) * stride; }
};

inline void prefetch(const CellRows &rows, int64_t i, int64_t bytes) {
    if (i < rows.count) {
        const uint8_t *row = rows.at(i);
        for (int64_t offset = 0; offset < bytes; offset += CACHE_LINE) {
            __builtin_prefetch(row + offset, 0, 2);
        }
    }
}

// out[d][cell] = rows[cell][d], zero for cells beyond the last. Meanwhile `next` is prefetched.
template <typename Source>
void transpose(const CellRows &rows, const CellRows &next, int64_t width, float *out) {
    constexpr int LANES = Isa::LANES;
    for (int64_t c = 0; c < TILE; c += LANES) {
        for (int lane = 0; lane < LANES; lane++) {
            prefetch(next, c + lane, Source::bytes(width));
        }
        for (int64_t d = 0; d < width; d += LANES) {
            Floats block[LANES];
            for (int lane = 0; lane < LANES; lane++) {
                block[lane] =
                    c + lane < rows.count ? Source::load(rows.at(c + lane), d) : Isa::all(0.0f);
            }
            Isa::transpose(block);
            for (int lane = 0; lane < LANES; lane++) {
                Isa::store(out + (d + lane) * TILE + c, block[lane]);
            }
        }
    }
}

template <typename Source> void widen(const CellRows &rows, int64_t width, float *out) {
    for (int64_t c = 0; c < rows.count; c++) {
        for (int64_t d = 0; d < width; d += Isa::LANES) {
            Isa::store(out + c * width + d, Source::load(rows.at(c), d));
        }
    }
}

// scores[r][cell] = q[r] . transposed[..][cell]
template <int R> void score(const float *q, const float *transposed, int64_t width, float *scores) {
    constexpr int V = Isa::SCORE_VECTORS;
    for (int64_t c = 0; c < TILE; c += V * Isa::LANES) {
        Floats sum[R][V];
        for (int r = 0; r < R; r++) {
            for (int v = 0; v < V; v++) {
                sum[r][v] = Isa::all(0.0f);
            }
        }
        for (int64_t d = 0; d < width; d++) {
            Floats cells[V];
            for (int v = 0; v < V; v++) {
                cells[v] = Isa::load(transposed + d * TILE + c + v * Isa::LANES);
            }
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                const Floats value = Isa::all(q[r * width + d]);
                for (int v = 0; v < V; v++) {
                    sum[r][v] = Isa::fma(value, cells[v], sum[r][v]);
                }
            }
        }
        for (int r = 0; r < R; r++) {
            for (int v = 0; v < V; v++) {
                Isa::store(scores + r * TILE + c + v * Isa::LANES, sum[r][v]);
            }
        }
    }
}

// total[r][d .. d + V vectors] += weights[r] . values; meanwhile `next` is prefetched.
template <typename Source, int R, int V>
void add_values_at(const float *weights, const CellRows &values, const CellRows &next,
                   int64_t next_bytes, int64_t width, int64_t d, float *total) {
    Floats sum[R][V];
    for (int r = 0; r < R; r++) {
        for (int v = 0; v < V; v++) {
            sum[r][v] = Isa::load(total + r * width + d + v * Isa::LANES);
        }
    }
    for (int64_t c = 0; c < values.count; c++) {
        prefetch(next, c, next_bytes);
        const uint8_t *row = values.at(c);
        Floats value[V];
        for (int v = 0; v < V; v++) {
            value[v] = Source::load(row, d + v * Isa::LANES);
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            const Floats weight = Isa::all(weights[r * TILE + c]);
            for (int v = 0; v < V; v++) {
                sum[r][v] = Isa::fma(weight, value[v], sum[r][v]);
            }
        }
    }
    for (int r = 0; r < R; r++) {
        for (int v = 0; v < V; v++) {
            Isa::store(total + r * width + d + v * Isa::LANES, sum[r][v]);
        }
    }
}

// The first of the passes over the cells prefetches `next`.
template <typename Source, int R>
void add_values(const float *weights, const CellRows &values, CellRows next, int64_t next_bytes,
                int64_t width, float *total) {
    constexpr int V = Isa::VALUE_VECTORS;
    int64_t d = 0;
    for (; d + V * Isa::LANES <= width; d += V * Isa::LANES, next.count = 0) {
        add_values_at<Source, R, V>(weights, values, next, next_bytes, width, d, total);
    }
    for (; d < width; d += Isa::LANES, next.count = 0) {
        add_values_at<Source, R, 1>(weights, values, next, next_bytes, width, d, total);
    }
}

// The running softmax of a row: the maximum, and the sum of exp(score - most).
struct Row {
    float most;
    float sum;
};

// Replaces a row of scores by softmax weights relative to the new maximum, and rescales the earlier
// sum and values to it. `added`: the mask, or null where all cells are visible.
inline void update_softmax(float *scores, const float *added, Row *row, float *total,
                           int64_t width) {
    Floats most = Isa::all(row->most);
    for (int64_t c = 0; c < TILE; c += Isa::LANES) {
        Floats score = Isa::load(scores + c);
        if (added != nullptr) {
            score = Isa::add(score, Isa::load(added + c));
            Isa::store(scores + c, score);
        }
        most = Isa::max(most, score);
    }
    const float now = Isa::largest(most);
    if (now == NOTHING) { // no cell of this tile or of an earlier one is visible
        for (int64_t c = 0; c < TILE; c += Isa::LANES) {
            Isa::store(scores + c, Isa::all(0.0f));
        }
        return;
    }
    Floats sum = Isa::all(0.0f);
    for (int64_t c = 0; c < TILE; c += Isa::LANES) {
        const Floats weight = Isa::exp(Isa::sub(Isa::load(scores + c), Isa::all(now)));
        Isa::store(scores + c, weight);
        sum = Isa::add(sum, weight);
    }
    if (now > row->most) {
        const float less = Isa::first(Isa::exp(Isa::all(row->most - now)));
        row->sum *= less;
        for (int64_t d = 0; d < width; d += Isa::LANES) {
            Isa::store(total + d, Isa::mul(Isa::load(total + d), Isa::all(less)));
        }
        row->most = now;
    }
    row->sum += Isa::total(sum);
}

// Reads what the mask adds to one token's scores of a tile's cells; minus infinity beyond the last.
inline void gather_mask(const Problem &problem, int64_t token, const CellRows &rows, float *out) {
    const uint16_t *mask = problem.mask + token * problem.mask_stride;
    for (int64_t c = 0; c < TILE; c++) {
        out[c] = c < rows.count ? Isa::from_half(mask[rows.cells[c]]) : NOTHING;
    }
}

struct Scratch {
    float *q;          // [row][width], times the scale
    float *total;      // [row][width]
    float *transposed; // [width][TILE]
    float *values;     // [TILE][width]
    float *scores;     // [ROWS][TILE]
    float *added;      // [TILE]
    Row *rows;

    Scratch(float *memory, int64_t n_rows, int64_t width) {
        q = memory;
        total = q + n_rows * width;
        transposed = total + n_rows * width;
        values = transposed + TILE * width;
        scores = values + TILE * width;
        added = scores + ROWS * TILE;
        rows = reinterpret_cast<Row *>(added + TILE);
    }
};

// What all rows of a block need of a tile, beside its transposed keys.
struct Tile {
    CellRows values;
    CellRows next_keys; // prefetched while the first rows add their values
    bool masked;        // some cell is not visible to some token
    bool widened;       // the values are in the scratch memory, as floats
};

// R rows of the block against one tile, beginning with row `first`.
template <typename Source, int R>
void work_on_rows(const Problem &problem, const Block &block, const Tile &tile,
                  const Scratch &scratch, int64_t first) {
    const int64_t width = problem.width;
    score<R>(scratch.q + first * width, scratch.transposed, width, scratch.scores);
    int64_t token = -1;
    for (int r = 0; r < R; r++) {
        const int64_t its_token = block.first_token + (first + r) / problem.heads_a_kv_head();
        if (tile.masked && its_token != token) {
            token = its_token;
            gather_mask(problem, token, tile.values, scratch.added);
        }
        update_softmax(scratch.scores + r * TILE, tile.masked ? scratch.added : nullptr,
                       scratch.rows + first + r, scratch.total + (first + r) * width, width);
    }
    CellRows next = tile.next_keys;
    next.count = first == 0 ? next.count : 0;
    const int64_t bytes = Source::bytes(width);
    float *total = scratch.total + first * width;
    if (tile.widened) {
        const CellRows wide = {reinterpret_cast<const uint8_t *>(scratch.values),
                               width * static_cast<int64_t>(sizeof(float)), nullptr,
                               tile.values.count};
        add_values<Plain, R>(scratch.scores, wide, next, bytes, width, total);
    } else {
        add_values<Source, R>(scratch.scores, tile.values, next, bytes, width, total);
    }
}

template <typename Source>
void work_on_tile(const Problem &problem, const Part &part, const Scratch &scratch, int64_t n_rows,
                  int64_t cell) {
    const Block &block = *part.block;
    const auto count_at = [&](int64_t first) {
        const int64_t left = part.last_cell - first;
        return left < 0 ? 0 : left < TILE ? left : TILE;
    };
    const auto keys_at = [&](int64_t first) {
        return CellRows{problem.k + part.kv_head * problem.k_head_stride, problem.k_cell_stride,
                        block.cells + first, count_at(first)};
    };
    const CellRows values = {problem.v + part.kv_head * problem.v_head_stride,
                             problem.v_cell_stride, block.cells + cell, count_at(cell)};
    transpose<Source>(keys_at(cell), values, problem.width, scratch.transposed);
    // A few rows read the values where they are; for more it pays to widen them once.
    const Tile tile = {values, keys_at(cell + TILE),
                       values.count < TILE || cell + values.count > block.n_common, n_rows > ROWS};
    if (tile.widened) {
        widen<Source>(values, problem.width, scratch.values);
    }
    using WorkOnRows =
        void (*)(const Problem &, const Block &, const Tile &, const Scratch &, int64_t);
    static constexpr WorkOnRows by_count[ROWS] = {work_on_rows<Source, 1>, work_on_rows<Source, 2>,
                                                  work_on_rows<Source, 3>, work_on_rows<Source, 4>,
                                                  work_on_rows<Source, 5>, work_on_rows<Source, 6>};
    for (int64_t first = 0; first < n_rows; first += ROWS) {
        const int64_t n = n_rows - first < ROWS ? n_rows - first : ROWS;
        by_count[n - 1](problem, block, tile, scratch, first);
    }
}

void attend(const Problem &problem, const Part &part, float *memory) {
    const Block &block = *part.block;
    const int64_t width = problem.width;
    const int64_t heads = problem.heads_a_kv_head();
    const int64_t n_rows = block.n_tokens * heads;
    const Scratch scratch(memory, n_rows, width);
    for (int64_t r = 0; r < n_rows; r++) {
        const float *q = problem.q + (block.first_token + r / heads) * problem.q_token_stride +
                         (part.kv_head * heads + r % heads) * problem.q_head_stride;
        for (int64_t d = 0; d < width; d += Isa::LANES) {
            Isa::store(scratch.q + r * width + d,
                       Isa::mul(Isa::load(q + d), Isa::all(problem.scale)));
            Isa::store(scratch.total + r * width + d, Isa::all(0.0f));
        }
        scratch.rows[r] = {NOTHING, 0.0f};
    }
    for (int64_t cell = part.first_cell; cell < part.last_cell; cell += TILE) {
        if (problem.type == CellType::F16) {
            work_on_tile<Halves>(problem, part, scratch, n_rows, cell);
        } else {
            work_on_tile<Quants>(problem, part, scratch, n_rows, cell);
        }
    }
    for (int64_t r = 0; r < n_rows; r++) {
        const Row &row = scratch.rows[r];
        float *out = problem.out + ((block.first_token + r / heads) * problem.n_heads +
                                    part.kv_head * heads + r % heads) *
                                       width;
        float factor = row.sum == 0.0f ? 0.0f : 1.0f / row.sum;
        if (part.partial != nullptr) {
            float *partial = part.partial + r * partial_floats(width);
            partial[0] = row.most;
            partial[1] = row.sum;
            out = partial + 2;
            factor = 1.0f;
        }
        for (int64_t d = 0; d < width; d += Isa::LANES) {
            Isa::store(out + d,
                       Isa::mul(Isa::load(scratch.total + r * width + d), Isa::all(factor)));
        }
    }
}
