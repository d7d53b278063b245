// A CPU buffer type for weights of the formats in FORMATS. llama.cpp asks it which weights it takes
// (Extra::supports_op), gives it their bytes (set_tensor, which repacks), and then has it compute
// the products with them inside the ordinary graph, on the graph's own threads
// (Traits::compute_forward).
#include "kernels/ggml/repack_buffer.h"

#include "kernels/ggml/attention_op.h"
#include "kernels/matmul/q8_0/q8_0.h"
#include "kernels/registry.h"
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

using matmul::Format;
using matmul::Groups;
using matmul::Kernel;

// The formats that are repacked, and where an instruction set has the kernel of each.
struct Repacked {
    ggml_type type;
    const Format &format;
    const Kernel *InstructionSet::*kernel;
};
const Repacked FORMATS[] = {
    {GGML_TYPE_Q8_0, q8_0::FORMAT, &InstructionSet::q8_0},
};

constexpr size_t ALIGNMENT = 64;
// With few tokens memory is the limit, and a thread reads fastest in one long run: three quarters
// of the rows are dealt out in advance, the rest in small parts to the threads that finish early.
constexpr int64_t FEW_TOKENS = 16;
constexpr int64_t PARTS_A_THREAD = 16;

thread_local Repacking repacking = {nullptr, false, 1};

bool is_ours(const ggml_tensor *tensor) {
    return tensor->buffer != nullptr && tensor->buffer->buft == repack_buffer_type();
}

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
    Groups at(int64_t share) const {
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

// The products with weights of one format that were repacked for one instruction set.
class Traits : public ggml::cpu::tensor_traits {
  public:
    Traits(ggml_type type, const InstructionSet &set, const Format &format, const Kernel &kernel)
        : type_(type), set_(set), format_(format), kernel_(kernel) {}

    bool are_for(ggml_type type, const InstructionSet *set) const {
        return type_ == type && &set_ == set;
    }

    // Whether the format's blocks and groups divide the weights evenly.
    bool fit(const ggml_tensor *weights) const {
        return weights->ne[1] % format_.group == 0 && weights->ne[0] % format_.block == 0;
    }

    void repack(const ggml_tensor *weights, const void *data, int n_threads) const {
        const int64_t n_blocks = weights->ne[0] / format_.block;
        const int64_t n_groups = weights->ne[1] / format_.group;
        on_threads(n_threads, [&](int64_t i) {
            format_.repack(static_cast<const uint8_t *>(data),
                           static_cast<uint8_t *>(weights->data), n_blocks,
                           {n_groups * i / n_threads, n_groups * (i + 1) / n_threads}, kernel_);
        });
    }

    bool work_size(int, const ggml_tensor *op, size_t &size) override {
        const ggml_tensor *tokens = op->src[1];
        const int64_t n_blocks = tokens->ne[0] / format_.block * ggml_nrows(tokens);
        size = static_cast<size_t>(n_blocks) * format_.activation_bytes + ALIGNMENT;
        return true;
    }

    bool compute_forward(ggml_compute_params *params, ggml_tensor *op) override {
        const ggml_tensor *weights = op->src[0];
        const ggml_tensor *tokens = op->src[1];
        GGML_ASSERT(tokens->nb[0] == sizeof(float) && ggml_is_contiguous(op));
        const int64_t n_blocks = weights->ne[0] / format_.block;
        const int64_t n_tokens = ggml_nrows(tokens);
        auto *activations = reinterpret_cast<uint8_t *>(
            GGML_PAD(reinterpret_cast<uintptr_t>(params->wdata), ALIGNMENT));
        quantize(params, tokens, activations, n_blocks, n_tokens);
        if (params->ith == 0) {
            ggml_threadpool_chunk_set(params->threadpool, params->nth);
        }
        ggml_barrier(params->threadpool);

        const matmul::Product product = {static_cast<const uint8_t *>(weights->data),
                                         n_blocks,
                                         activations,
                                         n_tokens,
                                         static_cast<float *>(op->data),
                                         op->ne[0]};
        const Shares shares(weights->ne[1] / format_.group, params->nth, n_tokens);
        for (int64_t share = params->ith; share < shares.count();
             share = ggml_threadpool_chunk_add(params->threadpool, 1)) {
            const Groups groups = shares.at(share);
            kernel_.multiply(product, groups.first, groups.last);
        }
        return true;
    }

  private:
    void quantize(const ggml_compute_params *params, const ggml_tensor *tokens,
                  uint8_t *activations, int64_t n_blocks, int64_t n_tokens) const {
        // All rows together are one long run of blocks, in equal parts for the threads.
        const int64_t all = n_blocks * n_tokens;
        const int64_t end = all * (params->ith + 1) / params->nth;
        for (int64_t block = all * params->ith / params->nth; block < end;) {
            const int64_t column = block % n_blocks;
            const int64_t n = std::min(n_blocks - column, end - block);
            kernel_.quantize(row_of(tokens, block / n_blocks) + column * format_.block,
                             activations + block * format_.activation_bytes, n);
            block += n;
        }
    }

    const ggml_type type_;
    const InstructionSet &set_;
    const Format &format_;
    const Kernel &kernel_;
};

std::vector<Traits> all_traits() {
    std::vector<Traits> all;
    for (int32_t i = 0; i < instruction_set_count(); i++) {
        const InstructionSet &set = *instruction_set(i);
        for (const Repacked &repacked : FORMATS) {
            if (const Kernel *kernel = set.*repacked.kernel) {
                all.emplace_back(repacked.type, set, repacked.format, *kernel);
            }
        }
    }
    return all;
}

// Null where the set, which may be null itself, has no kernel for weights of that type.
Traits *traits_of(ggml_type type, const InstructionSet *set) {
    static std::vector<Traits> all = all_traits();
    for (Traits &traits : all) {
        if (traits.are_for(type, set)) {
            return &traits;
        }
    }
    return nullptr;
}

// The traits of weights that are loaded, or else those that they would get.
Traits *traits_of(const ggml_tensor *weights) {
    return weights->extra != nullptr ? static_cast<Traits *>(weights->extra)
                                     : traits_of(weights->type, repacking.set);
}

class Extra : public ggml::cpu::extra_buffer_type {
  public:
    // Other types, rows that do not fill groups, and experts stay with llama.cpp, tensor by tensor.
    bool supports_op(ggml_backend_dev_t, const ggml_tensor *op) override {
        const ggml_tensor *weights = op->src[0];
        const ggml_tensor *tokens = op->src[1];
        if (op->op != GGML_OP_MUL_MAT || !is_ours(weights)) {
            return false;
        }
        const Traits *traits = traits_of(weights);
        return traits != nullptr && ggml_n_dims(weights) == 2 && weights->view_src == nullptr &&
               traits->fit(weights) && tokens->type == GGML_TYPE_F32 &&
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

// Gives back the pages of a mapped file that lie whole inside the tensor; they can be read again.
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
    tensor->extra = traits_of(tensor->type, repacking.set);
    return GGML_STATUS_SUCCESS;
}

void set_tensor(ggml_backend_buffer_t, ggml_tensor *tensor, const void *data, size_t offset,
                size_t size) {
    GGML_ASSERT(offset == 0 && size == ggml_nbytes(tensor));
    const auto *traits = static_cast<Traits *>(tensor->extra);
    GGML_ASSERT(traits != nullptr);
    traits->repack(tensor, data, repacking.n_threads);
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
