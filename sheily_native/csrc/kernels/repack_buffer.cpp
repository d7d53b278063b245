// A CPU buffer type for Q8_0 weights. llama.cpp asks it which weights it takes
// (Extra::supports_op), gives it their bytes (set_tensor, which repacks), and then has it compute
// the products with them inside the ordinary graph, on the graph's own threads
// (Traits::compute_forward).
#include "repack_buffer.h"

#include "attention_op.h"
#include "threads.h"

#include "ggml-backend-impl.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml-impl.h"
#include "traits.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace sheily {
namespace {

using q8_0::Activation;
using q8_0::BLOCK;
using q8_0::GROUP;
using q8_0::Kernel;

constexpr size_t ALIGNMENT = 64;
// Few tokens: memory decides, and a thread that reads one long run reads fastest. So three quarters
// of the rows are dealt out beforehand, the rest in small parts to whoever is early.
constexpr int64_t FEW_TOKENS = 16;
constexpr int64_t PARTS_A_THREAD = 16;

thread_local Repacking repacking = {nullptr, false, 1};

bool is_ours(const ggml_tensor *tensor) {
    return tensor->buffer != nullptr && tensor->buffer->buft == repack_buffer_type();
}

// A share of the groups of rows, by number.
struct Range {
    int64_t first;
    int64_t last;
};

// How the groups of a product are dealt out: shares 0 to n_threads - 1 are one a thread, in equal
// parts of the first `dealt` groups; the shares behind them have `part` groups each.
struct Shares {
    int64_t n_groups;
    int64_t n_threads;
    int64_t dealt;
    int64_t part;

    Shares(int64_t n_groups, int64_t n_threads, int64_t n_tokens)
        : n_groups(n_groups), n_threads(n_threads) {
        const bool few = n_tokens <= FEW_TOKENS;
        dealt = few ? n_groups * 3 / 4 : 0;
        const int64_t panel = few ? 4 : 2; // of groups, as the kernels work on them
        dealt = dealt / (panel * n_threads) * panel * n_threads;
        part = (n_groups - dealt) / (n_threads * PARTS_A_THREAD);
        part = std::max<int64_t>((part + panel - 1) / panel, 1) * panel;
    }
    int64_t count() const { return n_threads + (n_groups - dealt + part - 1) / part; }
    Range at(int64_t share) const {
        if (share < n_threads) {
            return {dealt * share / n_threads, dealt * (share + 1) / n_threads};
        }
        const int64_t first = dealt + (share - n_threads) * part;
        return {first, std::min(first + part, n_groups)};
    }
};

const float *row_of(const ggml_tensor *tensor, int64_t row) {
    const int64_t i1 = row % tensor->ne[1];
    const int64_t i2 = row / tensor->ne[1] % tensor->ne[2];
    const int64_t i3 = row / tensor->ne[1] / tensor->ne[2];
    return reinterpret_cast<const float *>(static_cast<const char *>(tensor->data) +
                                           i1 * tensor->nb[1] + i2 * tensor->nb[2] +
                                           i3 * tensor->nb[3]);
}

// The products with the weights that were repacked for one kernel.
class Traits : public ggml::cpu::tensor_traits {
  public:
    explicit Traits(const Kernel &kernel) : kernel_(kernel) {}

    const Kernel &kernel() const { return kernel_; }

    bool work_size(int, const ggml_tensor *op, size_t &size) override {
        const ggml_tensor *tokens = op->src[1];
        size =
            static_cast<size_t>(tokens->ne[0] / BLOCK * ggml_nrows(tokens)) * sizeof(Activation) +
            ALIGNMENT;
        return true;
    }

    bool compute_forward(ggml_compute_params *params, ggml_tensor *op) override {
        const ggml_tensor *weights = op->src[0];
        const ggml_tensor *tokens = op->src[1];
        GGML_ASSERT(tokens->nb[0] == sizeof(float) && ggml_is_contiguous(op));
        const int64_t n_blocks = weights->ne[0] / BLOCK;
        const int64_t n_tokens = ggml_nrows(tokens);
        auto *activations = reinterpret_cast<Activation *>(
            GGML_PAD(reinterpret_cast<uintptr_t>(params->wdata), ALIGNMENT));
        quantize(params, tokens, activations, n_blocks, n_tokens);
        if (params->ith == 0) {
            ggml_threadpool_chunk_set(params->threadpool, params->nth);
        }
        ggml_barrier(params->threadpool);

        const q8_0::Product product = {static_cast<const uint8_t *>(weights->data),
                                       n_blocks,
                                       activations,
                                       n_tokens,
                                       static_cast<float *>(op->data),
                                       op->ne[0]};
        const Shares shares(weights->ne[1] / GROUP, params->nth, n_tokens);
        for (int64_t share = params->ith; share < shares.count();
             share = ggml_threadpool_chunk_add(params->threadpool, 1)) {
            const Range groups = shares.at(share);
            kernel_.multiply(product, groups.first, groups.last);
        }
        return true;
    }

  private:
    void quantize(const ggml_compute_params *params, const ggml_tensor *tokens,
                  Activation *activations, int64_t n_blocks, int64_t n_tokens) const {
        // All rows together are one long run of blocks, in equal parts for the threads.
        const int64_t all = n_blocks * n_tokens;
        const int64_t end = all * (params->ith + 1) / params->nth;
        for (int64_t block = all * params->ith / params->nth; block < end;) {
            const int64_t column = block % n_blocks;
            const int64_t n = std::min(n_blocks - column, end - block);
            kernel_.quantize(row_of(tokens, block / n_blocks) + column * BLOCK, activations + block,
                             n);
            block += n;
        }
    }

    const Kernel &kernel_;
};

Traits *traits_of(const Kernel *wanted) {
    static std::vector<Traits> all = [] {
        std::vector<Traits> traits;
        for (const Kernel *const *kernel = q8_0::KERNELS; *kernel != nullptr; kernel++) {
            traits.emplace_back(**kernel);
        }
        return traits;
    }();
    for (Traits &traits : all) {
        if (&traits.kernel() == wanted) {
            return &traits;
        }
    }
    return nullptr;
}

class Extra : public ggml::cpu::extra_buffer_type {
  public:
    // Other types, rows that do not fill groups and experts stay with llama.cpp, tensor by tensor.
    bool supports_op(ggml_backend_dev_t, const ggml_tensor *op) override {
        const ggml_tensor *weights = op->src[0];
        const ggml_tensor *tokens = op->src[1];
        if (op->op != GGML_OP_MUL_MAT || !is_ours(weights)) {
            return false;
        }
        if (weights->extra == nullptr && repacking.kernel == nullptr) {
            return false;
        }
        return weights->type == GGML_TYPE_Q8_0 && ggml_n_dims(weights) == 2 &&
               weights->view_src == nullptr && weights->ne[1] % GROUP == 0 &&
               weights->ne[0] % BLOCK == 0 && tokens->type == GGML_TYPE_F32 &&
               (tokens->buffer == nullptr || ggml_backend_buft_is_host(tokens->buffer->buft));
    }

    ggml::cpu::tensor_traits *get_tensor_traits(const ggml_tensor *op) override {
        if (op->op == GGML_OP_MUL_MAT) {
            return is_ours(op->src[0]) ? static_cast<Traits *>(op->src[0]->extra) : nullptr;
        }
        // llama.cpp asks here for every op of every graph, not only for those with our weights.
        return attention_traits(op);
    }
};

// Groups `first` to `last` - 1 of rows of `n_blocks` Q8_0 blocks, from the file's layout to ours.
void repack(const uint8_t *rows, uint8_t *out, int64_t n_blocks, Range groups, uint8_t bias) {
    const int64_t block_bytes = static_cast<int64_t>(ggml_type_size(GGML_TYPE_Q8_0));
    const int64_t row_bytes = n_blocks * block_bytes;
    const uint32_t flip = bias * 0x01010101u; // adding 128 modulo 256 is flipping the highest bit
    for (int64_t g = groups.first; g < groups.last; g++) {
        const uint8_t *group = rows + g * GROUP * row_bytes;
        uint8_t *scales = out + g * q8_0::group_bytes(n_blocks);
        uint8_t *quants = scales + n_blocks * q8_0::SCALE_BYTES;
        for (int64_t b = 0; b < n_blocks; b++) {
            for (int64_t r = 0; r < GROUP; r++) {
                const uint8_t *block = group + r * row_bytes + b * block_bytes;
                std::memcpy(scales + 2 * r, block, 2);
                for (int64_t step = 0; step < BLOCK / 4; step++) {
                    uint32_t four;
                    std::memcpy(&four, block + 2 + 4 * step, 4);
                    four ^= flip;
                    std::memcpy(quants + step * 4 * GROUP + 4 * r, &four, 4);
                }
            }
            scales += q8_0::SCALE_BYTES;
            quants += q8_0::QUANT_BYTES;
        }
    }
}

// The pages of a mapped file that lie whole inside the tensor; they can be read again.
void give_back(const void *data, size_t size) {
#if defined(__linux__)
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto begin = reinterpret_cast<uintptr_t>(data);
    const uintptr_t first = (begin + page - 1) / page * page;
    const uintptr_t last = (begin + size) / page * page;
    if (first < last) {
        madvise(reinterpret_cast<void *>(first), last - first, MADV_DONTNEED);
    }
#else
    GGML_UNUSED(data);
    GGML_UNUSED(size);
#endif
}

ggml_status init_tensor(ggml_backend_buffer_t, ggml_tensor *tensor) {
    tensor->extra = traits_of(repacking.kernel);
    return GGML_STATUS_SUCCESS;
}

void set_tensor(ggml_backend_buffer_t, ggml_tensor *tensor, const void *data, size_t offset,
                size_t size) {
    GGML_ASSERT(offset == 0 && size == ggml_nbytes(tensor));
    const auto *traits = static_cast<Traits *>(tensor->extra);
    GGML_ASSERT(traits != nullptr);
    const int64_t n_blocks = tensor->ne[0] / BLOCK;
    const int64_t n_groups = tensor->ne[1] / GROUP;
    const int n = repacking.n_threads;
    on_threads(n, [&](int64_t i) {
        repack(static_cast<const uint8_t *>(data), static_cast<uint8_t *>(tensor->data), n_blocks,
               {n_groups * i / n, n_groups * (i + 1) / n}, traits->kernel().bias);
    });
    if (repacking.mapped) {
        give_back(data, size);
    }
}

const char *buffer_type_name(ggml_backend_buffer_type_t) {
    return "CPU_SHEILY";
}

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t buffer =
        ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
    if (buffer != nullptr) {
        buffer->buft = type;
        buffer->iface.init_tensor = init_tensor;
        buffer->iface.set_tensor = set_tensor;
        buffer->iface.get_tensor = nullptr;
        buffer->iface.cpy_tensor = nullptr;
    }
    return buffer;
}

size_t alignment(ggml_backend_buffer_type_t) {
    return ALIGNMENT;
}

} // namespace

ggml_backend_buffer_type_t repack_buffer_type() {
    static Extra extra;
    static ggml_backend_buffer_type type = [] {
        ggml_backend_buffer_type made = {};
        made.iface.get_name = buffer_type_name;
        made.iface.alloc_buffer = alloc_buffer;
        made.iface.get_alignment = alignment;
        made.device = ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0);
        made.context = &extra;
        return made;
    }();
    return &type;
}

void register_repack_buffer() {
    auto &types = ggml_backend_cpu_get_extra_buffer_types();
    types.insert(types.begin(), repack_buffer_type());
}

Repacking exchange_repacking(Repacking wanted) {
    return std::exchange(repacking, wanted);
}

bool stock_is_better() {
    return ggml_cpu_has_amx_int8() != 0;
}

} // namespace sheily
