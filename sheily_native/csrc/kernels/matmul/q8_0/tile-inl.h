// The arithmetic of a Q8_0 product, written once for all instruction sets. Computes with what
// q8_0.h lays out.
//
// An instruction-set file defines `Isa` in an unnamed namespace and then includes this file there,
// so that every copy stays in its own file. Isa offers vectors of ROWS int32 (Ints) and ROWS floats
// (Floats), one lane a row, and the shape of the tiles that its registers can hold:
//   FEW_TOKENS       most tokens of a tile over several groups, as one run of memory alone would
//                    not keep the memory busy; 0 where registers are too few for that
//   FEW_VECTORS      vectors of rows in such a tile
//   STREAM_TOKENS    most tokens of a tile over one whole group
//   STREAM_TOKENS_2  the same for a tile that makes its integer sums for half of them at a time;
//                    0: no such tiles
//   PANEL_VECTORS    vectors of rows in a tile for many tokens
//   PANEL_TOKENS     tokens in it

constexpr int VECTORS = GROUP / Isa::ROWS;
constexpr int COLUMNS_A_STEP = 4;
constexpr int STEPS = BLOCK / COLUMNS_A_STEP;
constexpr int STEP_BYTES = GROUP * COLUMNS_A_STEP;
constexpr int CACHE_LINE = 64;
// A block of one group is 8.5 lines. A tile that reads one group asks for all of them, as it would
// wait for a line left out. A tile that reads several is fastest when it asks for one line in four,
// as the CPU then fetches the others by itself.
constexpr int MOST_LINES = STEPS + 1;
// Bytes: far enough ahead for memory to answer, near enough to stay in the second-level cache.
constexpr int STREAM_AHEAD = 4096;

// What a tile prefetches into the second-level cache while it computes: `lines` cache lines a
// block, `bytes` apart, from `next` on.
struct Prefetch {
    const uint8_t *next;
    int64_t bytes;
    int lines;
};

// Prefetches the next `bytes` evenly over `n_blocks` blocks.
inline Prefetch spread(const uint8_t *next, int64_t bytes, int64_t n_blocks) {
    const int64_t a_block = (bytes + n_blocks - 1) / n_blocks;
    int64_t lines = (a_block + CACHE_LINE - 1) / CACHE_LINE;
    lines = lines > MOST_LINES ? MOST_LINES : lines;
    return {next, (a_block + lines - 1) / lines, static_cast<int>(lines)};
}

// The vectors of a tile: where the scales and quants of each begin.
template <int W> struct Rows {
    const uint16_t *scales[W];
    const uint8_t *quants[W];
};

// `first` counts vectors from the beginning of the weights.
template <int W> inline Rows<W> rows_at(const Product &product, int64_t first) {
    Rows<W> rows;
    for (int w = 0; w < W; w++) {
        const int64_t vector = first + w;
        const uint8_t *group = product.weights + vector / VECTORS * group_bytes(product.n_blocks);
        const int64_t part = vector % VECTORS;
        rows.scales[w] = reinterpret_cast<const uint16_t *>(group) + part * Isa::ROWS;
        rows.quants[w] = group + product.n_blocks * SCALE_BYTES + part * (STEP_BYTES / VECTORS);
    }
    return rows;
}

// W vectors of rows by HALVES x T tokens, all columns. The float sums of all tokens stay in
// registers; the integer sums of a block are made for T tokens at a time.
template <int W, int T, int HALVES = 1>
inline void tile(const Product &product, int64_t vector, int64_t token, Prefetch prefetch) {
    const int64_t n_blocks = product.n_blocks;
    const Activation *activations =
        static_cast<const Activation *>(product.activations) + token * n_blocks;
    Rows<W> rows = rows_at<W>(product, vector);
    typename Isa::Floats total[W][HALVES * T];
    for (int t = 0; t < HALVES * T; t++) {
        for (int w = 0; w < W; w++) {
            total[w][t] = Isa::zero();
        }
    }
    for (int64_t b = 0; b < n_blocks; b++, activations++) {
        for (int i = 0; i < prefetch.lines; i++, prefetch.next += prefetch.bytes) {
            __builtin_prefetch(prefetch.next, 0, 2);
        }
#pragma GCC unroll 2
        for (int half = 0; half < HALVES; half++) {
            const Activation *a = activations + half * T * n_blocks;
            typename Isa::Sum sum[W][T];
#pragma GCC unroll 16
            for (int t = 0; t < T; t++) {
                for (int w = 0; w < W; w++) {
                    sum[w][t] = Isa::start(a[t * n_blocks].start);
                }
            }
#pragma GCC unroll 8
            for (int step = 0; step < STEPS; step++) {
                typename Isa::Weights weights[W];
                for (int w = 0; w < W; w++) {
                    weights[w] = Isa::weights(rows.quants[w] + step * STEP_BYTES);
                }
#pragma GCC unroll 16
                for (int t = 0; t < T; t++) {
                    const auto columns =
                        Isa::columns(a[t * n_blocks].quants + step * COLUMNS_A_STEP);
                    for (int w = 0; w < W; w++) {
                        sum[w][t] = Isa::dot(sum[w][t], weights[w], columns);
                    }
                }
            }
            for (int w = 0; w < W; w++) {
                const auto scales = Isa::scales(rows.scales[w]);
#pragma GCC unroll 16
                for (int t = 0; t < T; t++) {
                    total[w][half * T + t] = Isa::add_scaled(
                        total[w][half * T + t], Isa::finish(sum[w][t], a[t * n_blocks].start),
                        scales, a[t * n_blocks].scale);
                }
            }
        }
        for (int w = 0; w < W; w++) {
            rows.scales[w] += GROUP;
            rows.quants[w] += QUANT_BYTES;
        }
    }
    float *out = product.out + token * product.out_stride + vector * Isa::ROWS;
    for (int t = 0; t < HALVES * T; t++) {
        for (int w = 0; w < W; w++) {
            Isa::store(out + t * product.out_stride + w * Isa::ROWS, total[w][t]);
        }
    }
}

using Tile = void (*)(const Product &, int64_t vector, int64_t token, Prefetch);

// tile<W, 1>, tile<W, 2> ... tile<W, N>.
template <int W, int N, int T = 1> struct Tiles {
    static Tile at(int64_t n_tokens) {
        if constexpr (T == N) {
            return tile<W, T>;
        } else {
            return n_tokens == T ? tile<W, T> : Tiles<W, N, T + 1>::at(n_tokens);
        }
    }
};

// tile<VECTORS, T, 2> for 2 x T tokens, one more than STREAM_TOKENS to STREAM_TOKENS_2.
template <int T> struct HalvedTiles {
    static Tile at(int64_t n_tokens) {
        if constexpr (2 * T <= Isa::STREAM_TOKENS) {
            return nullptr;
        } else {
            return n_tokens == 2 * T ? tile<VECTORS, T, 2> : HalvedTiles<T - 1>::at(n_tokens);
        }
    }
};

// Computes all tokens in one tile: each weight is read once, and reading it from memory is the
// cost.
void multiply_streaming(const Product &product, int64_t first, int64_t last, Tile whole) {
    const int64_t bytes = group_bytes(product.n_blocks);
    for (int64_t g = first; g < last; g++) {
        const uint8_t *ahead =
            product.weights + g * bytes + product.n_blocks * SCALE_BYTES + STREAM_AHEAD;
        whole(product, g * VECTORS, 0, spread(ahead, bytes, product.n_blocks));
    }
}

// Computes tiles of about equal width over the tokens, one panel of rows after the other; meanwhile
// the next panel is prefetched.
template <int W, int T>
void multiply_panels(const Product &product, int64_t first_vector, int64_t last_vector) {
    const int64_t n_tiles = (product.n_tokens + T - 1) / T;
    const int64_t panel_bytes = group_bytes(product.n_blocks) * W / VECTORS;
    const int64_t tile_bytes = (panel_bytes + n_tiles - 1) / n_tiles;
    for (int64_t v = first_vector; v < last_vector; v += W) {
        const uint8_t *next = product.weights + (v + W) / VECTORS * group_bytes(product.n_blocks);
        int64_t token = 0;
        for (int64_t i = 0; i < n_tiles; i++) {
            const int64_t n = (product.n_tokens - token + n_tiles - i - 1) / (n_tiles - i);
            Tiles<W, T>::at(n)(product, v, token,
                               spread(next + i * tile_bytes, tile_bytes, product.n_blocks));
            token += n;
        }
    }
}

// Computes whole panels of W vectors from `begin` on. Returns where they end.
template <int W, int T>
int64_t multiply_whole_panels(const Product &product, int64_t begin, int64_t end) {
    const int64_t whole = begin + (end - begin) / W * W;
    multiply_panels<W, T>(product, begin, whole);
    return whole;
}

// Computes whole panels for very few tokens, where the set has tiles for so few. Returns the first
// group that is left.
template <typename Set> int64_t multiply_few(const Product &product, int64_t first, int64_t last) {
    if constexpr (Set::FEW_TOKENS > 0) {
        if (product.n_tokens <= Set::FEW_TOKENS) {
            first = multiply_whole_panels<Set::FEW_VECTORS, Set::FEW_TOKENS>(
                        product, first * VECTORS, last * VECTORS) /
                    VECTORS;
        }
    }
    return first;
}

void multiply(const Product &product, int64_t first, int64_t last) {
    first = multiply_few<Isa>(product, first, last);
    if (product.n_tokens <= Isa::STREAM_TOKENS) {
        multiply_streaming(product, first, last,
                           Tiles<VECTORS, Isa::STREAM_TOKENS>::at(product.n_tokens));
        return;
    }
    if (product.n_tokens <= Isa::STREAM_TOKENS_2) {
        if (Tile whole = HalvedTiles<Isa::STREAM_TOKENS_2 / 2>::at(product.n_tokens)) {
            multiply_streaming(product, first, last, whole);
            return;
        }
    }
    const int64_t end = last * VECTORS;
    const int64_t rest =
        multiply_whole_panels<Isa::PANEL_VECTORS, Isa::PANEL_TOKENS>(product, first * VECTORS, end);
    if (rest < end) {
        multiply_panels<VECTORS, Isa::STREAM_TOKENS>(product, rest, end);
    }
}
