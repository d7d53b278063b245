// llama.cpp's flash attention op on our kernels: groups tokens that see the same cells, and shares
// the work among the threads.
#include "kernels/ggml/attention_op.h"

#include "ggml-backend-impl.h"
#include "ggml-cpu-impl.h"
#include "ggml-impl.h"
#include "traits.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace sheily {
namespace {

using attention::Block;
using attention::BLOCK_ROWS;
using attention::CellType;
using attention::Kernel;
using attention::Part;
using attention::partial_floats;
using attention::Problem;
using attention::TILE;

constexpr size_t ALIGNMENT = 64;
constexpr int64_t WORD = 64;
// Up to this many tokens, the cells of a block may be split among threads.
constexpr int64_t FEW_TOKENS = 16;
constexpr int64_t PARTS_A_THREAD = 4;
constexpr int64_t CELLS_A_PART = 4 * TILE;

thread_local const Kernel *wanted = nullptr;

// The op carries the kernel from the thread that plans a graph to those that compute it, behind the
// parameters that ggml uses (ggml.c, ggml_flash_attn_ext).
constexpr int PARAM = GGML_MAX_OP_PARAMS / sizeof(int32_t) - 2;
static_assert(sizeof(const Kernel *) <= 2 * sizeof(int32_t), "a pointer fits into two parameters");

void put_kernel(const ggml_tensor *op, const Kernel *kernel) {
    std::memcpy(const_cast<int32_t *>(op->op_params) + PARAM, &kernel, sizeof(kernel));
}

const Kernel *kernel_of(const ggml_tensor *op) {
    const Kernel *kernel;
    std::memcpy(&kernel, op->op_params + PARAM, sizeof(kernel));
    return kernel;
}

bool is_supported(const ggml_tensor *op) {
    const ggml_tensor *q = op->src[0];
    const ggml_tensor *k = op->src[1];
    const ggml_tensor *v = op->src[2];
    const ggml_tensor *mask = op->src[3];
    float max_bias;
    float softcap;
    std::memcpy(&max_bias, op->op_params + 1, sizeof(max_bias));
    std::memcpy(&softcap, op->op_params + 2, sizeof(softcap));
    const bool quants = k->type == GGML_TYPE_Q8_0;
    return mask != nullptr && op->src[4] == nullptr && max_bias == 0.0f && softcap == 0.0f &&
           q->type == GGML_TYPE_F32 && (k->type == GGML_TYPE_F16 || quants) && v->type == k->type &&
           mask->type == GGML_TYPE_F16 && k->ne[0] == v->ne[0] && k->ne[1] == v->ne[1] &&
           k->ne[2] == v->ne[2] &&
           k->ne[0] % (quants ? 2 * attention::WIDTH_STEP : attention::WIDTH_STEP) == 0 &&
           q->ne[2] % k->ne[2] == 0 && q->ne[3] == 1 && k->ne[3] == 1 && mask->ne[2] == 1 &&
           mask->ne[3] == 1 && q->nb[0] == sizeof(float) && q->nb[1] % sizeof(float) == 0 &&
           q->nb[2] % sizeof(float) == 0 && k->nb[0] == ggml_type_size(k->type) &&
           v->nb[0] == ggml_type_size(v->type) && ggml_is_contiguous(op);
}

Problem problem_of(const ggml_tensor *op) {
    const ggml_tensor *q = op->src[0];
    const ggml_tensor *k = op->src[1];
    const ggml_tensor *v = op->src[2];
    const ggml_tensor *mask = op->src[3];
    Problem problem = {};
    problem.q = static_cast<const float *>(q->data);
    problem.q_token_stride = q->nb[1] / sizeof(float);
    problem.q_head_stride = q->nb[2] / sizeof(float);
    problem.k = static_cast<const uint8_t *>(k->data);
    problem.k_cell_stride = k->nb[1];
    problem.k_head_stride = k->nb[2];
    problem.v = static_cast<const uint8_t *>(v->data);
    problem.v_cell_stride = v->nb[1];
    problem.v_head_stride = v->nb[2];
    problem.type = k->type == GGML_TYPE_F16 ? CellType::F16 : CellType::Q8_0;
    problem.mask = static_cast<const uint16_t *>(mask->data);
    problem.mask_stride = mask->nb[1] / sizeof(uint16_t);
    problem.out = static_cast<float *>(op->data);
    problem.n_tokens = q->ne[1];
    problem.n_heads = q->ne[2];
    problem.n_kv_heads = k->ne[2];
    problem.n_cells = k->ne[1];
    problem.width = k->ne[0];
    std::memcpy(&problem.scale, op->op_params, sizeof(problem.scale));
    return problem;
}

// How an op is cut, and where its parts lie in the work buffer.
struct Plan {
    int64_t n_words;      // of the bits of a token; the last says whether its mask adds nothing
    int64_t block_tokens; // at most
    int64_t n_parts;      // of a block's cells
    size_t bits;          // offsets
    size_t partials;
    size_t threads;
    size_t a_thread;
    size_t cells; // offset in a thread's piece, which begins with the scratch memory

    Plan(const Problem &problem, int64_t n_threads) {
        const int64_t heads = problem.heads_a_kv_head();
        n_words = (problem.n_cells + WORD - 1) / WORD + 1;
        block_tokens = std::max<int64_t>(BLOCK_ROWS / heads, 1);
        n_parts = 1;
        if (problem.n_tokens <= FEW_TOKENS) {
            n_parts = (n_threads * PARTS_A_THREAD + problem.n_kv_heads - 1) / problem.n_kv_heads;
            n_parts = std::min(n_parts, (problem.n_cells + CELLS_A_PART - 1) / CELLS_A_PART);
            n_parts = std::max<int64_t>(n_parts, 1);
        }
        bits = 0;
        partials = bits + GGML_PAD(problem.n_tokens * n_words * sizeof(uint64_t), ALIGNMENT);
        const int64_t rows = n_parts > 1 ? problem.n_tokens * problem.n_heads * n_parts : 0;
        threads =
            partials + GGML_PAD(rows * partial_floats(problem.width) * sizeof(float), ALIGNMENT);
        const int64_t block_rows = std::min(block_tokens, problem.n_tokens) * heads;
        cells = GGML_PAD(attention::scratch_floats(block_rows, problem.width) * sizeof(float),
                         ALIGNMENT);
        a_thread = cells + GGML_PAD(problem.n_cells * sizeof(int32_t), ALIGNMENT);
    }
    size_t size(int64_t n_threads) const { return threads + n_threads * a_thread + ALIGNMENT; }
};

// The blocks of an op in order, each with the list of its cells. Tokens go together while each sees
// what the one before it saw, as those of one sequence do.
class Blocks {
  public:
    Blocks(const Problem &problem, const Plan &plan, const uint64_t *bits, int32_t *cells)
        : problem_(problem), plan_(plan), bits_(bits), cells_(cells) {}

    // Returns the block with a number, or null after the last one. No number may be less than that
    // of the call before.
    const Block *at(int64_t number) {
        if (number == number_) {
            return &block_;
        }
        while (number_ < number) {
            const int64_t first = block_.first_token + block_.n_tokens;
            if (first >= problem_.n_tokens) {
                return nullptr;
            }
            block_.first_token = first;
            block_.n_tokens = 1;
            while (block_.n_tokens < plan_.block_tokens &&
                   first + block_.n_tokens < problem_.n_tokens &&
                   sees_all_of(first + block_.n_tokens, first + block_.n_tokens - 1)) {
                block_.n_tokens++;
            }
            number_++;
        }
        list_cells();
        return &block_;
    }

  private:
    const uint64_t *bits_of(int64_t token) const { return bits_ + token * plan_.n_words; }

    bool sees_all_of(int64_t token, int64_t other) const {
        uint64_t missed = 0;
        for (int64_t word = 0; word < plan_.n_words; word++) {
            missed |= bits_of(other)[word] & ~bits_of(token)[word];
        }
        return missed == 0;
    }

    void list_cells() {
        const int64_t n_words = plan_.n_words - 1;
        const uint64_t *common = bits_of(block_.first_token);
        const uint64_t *all = bits_of(block_.first_token + block_.n_tokens - 1);
        int64_t n = 0;
        for (int64_t word = 0; word < n_words; word++) {
            n = append(n, word, common[word]);
        }
        const bool adds_nothing = common[n_words] != 0;
        block_.n_common = adds_nothing ? n : 0;
        for (int64_t word = 0; block_.n_tokens > 1 && word < n_words; word++) {
            n = append(n, word, all[word] & ~common[word]);
        }
        block_.n_cells = n;
        block_.cells = cells_;
    }

    int64_t append(int64_t n, int64_t word, uint64_t bits) {
        for (; bits != 0; bits &= bits - 1) {
            cells_[n++] = static_cast<int32_t>(word * WORD + __builtin_ctzll(bits));
        }
        return n;
    }

    const Problem &problem_;
    const Plan &plan_;
    const uint64_t *bits_;
    int32_t *cells_;
    int64_t number_ = -1;
    Block block_ = {};
};

// Merges the parts of a row (Milakov and Gimelshein 2018): each has its maximum, its sum and values
// relative to that maximum.
void merge(const float *parts, int64_t n_parts, int64_t stride, int64_t width, float *out) {
    float most = -INFINITY;
    for (int64_t i = 0; i < n_parts; i++) {
        most = std::max(most, parts[i * stride]);
    }
    float sum = 0.0f;
    std::fill(out, out + width, 0.0f);
    for (int64_t i = 0; i < n_parts; i++) {
        const float *part = parts + i * stride;
        if (part[0] == -INFINITY) {
            continue;
        }
        const float factor = std::exp(part[0] - most);
        sum += part[1] * factor;
        for (int64_t d = 0; d < width; d++) {
            out[d] += part[2 + d] * factor;
        }
    }
    const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
    for (int64_t d = 0; d < width; d++) {
        out[d] *= inverse;
    }
}

class Traits : public ggml::cpu::tensor_traits {
  public:
    bool work_size(int n_threads, const ggml_tensor *op, size_t &size) override {
        put_kernel(op, wanted);
        if (wanted == nullptr) {
            return false;
        }
        size = Plan(problem_of(op), n_threads).size(n_threads);
        return true;
    }

    bool compute_forward(ggml_compute_params *params, ggml_tensor *op) override {
        const Kernel *kernel = kernel_of(op);
        if (kernel == nullptr) {
            return false;
        }
        const Problem problem = problem_of(op);
        const Plan plan(problem, params->nth);
        auto *work = reinterpret_cast<uint8_t *>(
            GGML_PAD(reinterpret_cast<uintptr_t>(params->wdata), ALIGNMENT));
        auto *bits = reinterpret_cast<uint64_t *>(work + plan.bits);
        for (int64_t token = params->ith; token < problem.n_tokens; token += params->nth) {
            uint64_t *its_bits = bits + token * plan.n_words;
            its_bits[plan.n_words - 1] = kernel->visible(problem.mask + token * problem.mask_stride,
                                                         problem.n_cells, its_bits);
        }
        if (params->ith == 0) {
            ggml_threadpool_chunk_set(params->threadpool, params->nth);
        }
        ggml_barrier(params->threadpool);

        uint8_t *own = work + plan.threads + params->ith * plan.a_thread;
        auto *scratch = reinterpret_cast<float *>(own);
        auto *partials = reinterpret_cast<float *>(work + plan.partials);
        Blocks blocks(problem, plan, bits, reinterpret_cast<int32_t *>(own + plan.cells));
        const int64_t a_block = problem.n_kv_heads * plan.n_parts;
        for (int64_t i = params->ith;; i = ggml_threadpool_chunk_add(params->threadpool, 1)) {
            const Block *block = blocks.at(i / a_block);
            if (block == nullptr) {
                break;
            }
            const int64_t head = i % a_block / plan.n_parts;
            kernel->attend(
                problem, part_of(problem, plan, *block, head, i % plan.n_parts, partials), scratch);
        }
        if (plan.n_parts > 1) {
            ggml_barrier(params->threadpool);
            merge_rows(*params, problem, plan, partials);
        }
        return true;
    }

  private:
    // Partials are in memory part by part, within one kv head by kv head, token by token, head by
    // head.
    static float *partial_at(const Problem &problem, float *partials, int64_t part, int64_t kv_head,
                             int64_t token) {
        const int64_t heads = problem.heads_a_kv_head();
        const int64_t row =
            ((part * problem.n_kv_heads + kv_head) * problem.n_tokens + token) * heads;
        return partials + row * partial_floats(problem.width);
    }

    static Part part_of(const Problem &problem, const Plan &plan, const Block &block, int64_t head,
                        int64_t number, float *partials) {
        const int64_t n_tiles = (block.n_cells + TILE - 1) / TILE;
        const int64_t first = n_tiles * number / plan.n_parts * TILE;
        const int64_t last = n_tiles * (number + 1) / plan.n_parts * TILE;
        float *partial = plan.n_parts == 1
                             ? nullptr
                             : partial_at(problem, partials, number, head, block.first_token);
        return {&block, head, first, std::min(last, block.n_cells), partial};
    }

    static void merge_rows(const ggml_compute_params &params, const Problem &problem,
                           const Plan &plan, float *partials) {
        const int64_t heads = problem.heads_a_kv_head();
        const int64_t stride = problem.n_heads * problem.n_tokens * partial_floats(problem.width);
        for (int64_t row = params.ith; row < problem.n_tokens * problem.n_heads;
             row += params.nth) {
            const int64_t token = row / problem.n_heads;
            const int64_t head = row % problem.n_heads;
            const float *parts = partial_at(problem, partials, 0, head / heads, token) +
                                 head % heads * partial_floats(problem.width);
            merge(parts, plan.n_parts, stride, problem.width, problem.out + row * problem.width);
        }
    }
};

} // namespace

const Kernel *exchange_attention(const Kernel *kernel) {
    return std::exchange(wanted, kernel);
}

ggml::cpu::tensor_traits *attention_traits(const ggml_tensor *op) {
    static Traits traits;
    return op->op == GGML_OP_FLASH_ATTN_EXT && is_supported(op) ? &traits : nullptr;
}

} // namespace sheily
