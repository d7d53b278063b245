// The kernels by number and name; one product and one attention alone, for tests.
#include "shim/shim.h"

#include "kernels/ggml/attention_op.h"
#include "kernels/ggml/repack_buffer.h"
#include "kernels/matmul/q8_0/q8_0.h"
#include "kernels/registry.h"
#include "shim/switched.h"

#include "ggml-backend.h"
#include "ggml-cpu.h"

#include <cstring>
#include <memory>
#include <utility>

using sheily::fail;
using sheily::guarded;
using sheily::instruction_set;
using sheily::InstructionSet;
using sheily::Switched;

namespace {

constexpr int32_t STOCK = -1; // the number of llama.cpp's own kernels

struct Free {
    void operator()(ggml_context *context) const { ggml_free(context); }
    void operator()(ggml_backend_buffer *buffer) const { ggml_backend_buffer_free(buffer); }
    void operator()(ggml_backend *backend) const { ggml_backend_free(backend); }
};
using ContextPtr = std::unique_ptr<ggml_context, Free>;
using BufferPtr = std::unique_ptr<ggml_backend_buffer, Free>;
using BackendPtr = std::unique_ptr<ggml_backend, Free>;

ContextPtr new_context() {
    return ContextPtr(
        ggml_init({16 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true}));
}

template <typename Pointer> Pointer made(Pointer pointer) {
    return pointer != nullptr ? std::move(pointer) : throw std::bad_alloc();
}

// Computes one tensor of a context, after `fill` has set its inputs.
template <typename Fill>
int compute(ggml_context *context, ggml_tensor *result, int32_t n_threads, Fill fill, float *out) {
    ggml_cgraph *graph = ggml_new_graph(context);
    ggml_build_forward_expand(graph, result);
    const BufferPtr buffer = made(BufferPtr(
        ggml_backend_alloc_ctx_tensors_from_buft(context, ggml_backend_cpu_buffer_type())));
    const BackendPtr backend = made(BackendPtr(ggml_backend_cpu_init()));
    ggml_backend_cpu_set_n_threads(backend.get(), n_threads);
    sheily::test_throw("compute");
    fill();
    if (ggml_backend_graph_compute(backend.get(), graph) != GGML_STATUS_SUCCESS) {
        return fail(SN_INTERNAL, "the graph could not be computed");
    }
    std::memcpy(out, result->data, ggml_nbytes(result));
    return SN_OK;
}

// A tensor's memory with its weights, laid out for the set's kernel; as in a file for null.
BufferPtr filled(ggml_context *context, ggml_tensor *tensor, const InstructionSet *set,
                 const uint8_t *weights, int32_t n_threads) {
    const Switched<sheily::exchange_repacking> repacking(sheily::Repacking{set, false, n_threads});
    ggml_backend_buffer_type_t type =
        set == nullptr ? ggml_backend_cpu_buffer_type() : sheily::repack_buffer_type();
    BufferPtr buffer = made(BufferPtr(ggml_backend_alloc_ctx_tensors_from_buft(context, type)));
    sheily::test_throw("weights");
    ggml_backend_tensor_set(tensor, weights, 0, ggml_nbytes(tensor));
    return buffer;
}

int multiply(const InstructionSet *set, const uint8_t *weights, int64_t n_rows, int64_t n_columns,
             const float *tokens, int64_t n_tokens, int32_t n_threads, float *out) {
    const ContextPtr weights_context = new_context();
    ggml_tensor *w = ggml_new_tensor_2d(weights_context.get(), GGML_TYPE_Q8_0, n_columns, n_rows);
    const BufferPtr buffer = filled(weights_context.get(), w, set, weights, n_threads);
    const ContextPtr context = new_context();
    ggml_tensor *x = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, n_columns, n_tokens);
    return compute(
        context.get(), ggml_mul_mat(context.get(), w, x), n_threads,
        [&] { std::memcpy(x->data, tokens, ggml_nbytes(x)); }, out);
}

int attend(const InstructionSet *set, const sn_attention &wanted, int32_t n_threads) {
    const ContextPtr context = new_context();
    ggml_context *const c = context.get();
    const ggml_type type = wanted.kv_type == SN_KV_Q8_0 ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
    ggml_tensor *q =
        ggml_new_tensor_3d(c, GGML_TYPE_F32, wanted.width, wanted.n_heads, wanted.n_tokens);
    ggml_tensor *k = ggml_new_tensor_3d(c, type, wanted.width, wanted.n_kv_heads, wanted.n_cells);
    ggml_tensor *v = ggml_new_tensor_3d(c, type, wanted.width, wanted.n_kv_heads, wanted.n_cells);
    ggml_tensor *mask = ggml_new_tensor_2d(c, GGML_TYPE_F16, wanted.n_cells, wanted.n_tokens);
    ggml_tensor *result =
        ggml_flash_attn_ext(c, ggml_permute(c, q, 0, 2, 1, 3), ggml_permute(c, k, 0, 2, 1, 3),
                            ggml_permute(c, v, 0, 2, 1, 3), mask, wanted.scale, 0.0f, 0.0f);
    const Switched<sheily::exchange_attention> attention(set == nullptr ? nullptr : set->attention);
    return compute(
        c, result, n_threads,
        [&] {
            std::memcpy(q->data, wanted.q, ggml_nbytes(q));
            std::memcpy(k->data, wanted.k, ggml_nbytes(k));
            std::memcpy(v->data, wanted.v, ggml_nbytes(v));
            std::memcpy(mask->data, wanted.mask, ggml_nbytes(mask));
        },
        wanted.out);
}

} // namespace

namespace sheily {

KernelChoice choose_kernel(const char *name) {
    const bool automatic = std::strcmp(name, "auto") == 0;
    if (std::strcmp(name, "off") == 0) {
        return {nullptr, STOCK, nullptr};
    }
    std::string known;
    for (int32_t i = 0; i < instruction_set_count(); i++) {
        const InstructionSet &set = *instruction_set(i);
        const bool runs = runs_here(set);
        if (automatic ? runs : std::strcmp(name, set.name) == 0) {
            if (!runs) {
                throw std::invalid_argument(std::string("this CPU cannot run the kernel ") + name);
            }
            return automatic && stock_is_better() ? KernelChoice{nullptr, STOCK, set.attention}
                                                  : KernelChoice{&set, i, set.attention};
        }
        known += std::string(", ") + set.name;
    }
    if (automatic) {
        return {nullptr, STOCK, nullptr};
    }
    throw std::invalid_argument(std::string("there is no kernel ") + name +
                                "; known are auto, off" + known);
}

int check_kernel(int32_t number) {
    const InstructionSet *set = instruction_set(number);
    return set != nullptr && runs_here(*set)
               ? static_cast<int>(SN_OK)
               : fail(SN_INVALID_ARGUMENT, "this CPU cannot run the kernel number %d", number);
}

} // namespace sheily

extern "C" {

int32_t sn_kernel_count(void) {
    return sheily::instruction_set_count();
}

const char *sn_kernel_name(int32_t kernel) {
    const InstructionSet *set = instruction_set(kernel);
    return set == nullptr ? nullptr : set->name;
}

int32_t sn_kernel_runs_here(int32_t kernel) {
    const InstructionSet *set = instruction_set(kernel);
    return set != nullptr && sheily::runs_here(*set);
}

int sn_kernel_multiply(int32_t kernel, const uint8_t *weights, int64_t n_rows, int64_t n_columns,
                       const float *tokens, int64_t n_tokens, int32_t n_threads, float *out) {
    return guarded([&] {
        const bool stock = kernel == STOCK;
        if (const int status = stock ? SN_OK : sheily::check_kernel(kernel)) {
            return status;
        }
        if (n_rows < 1 || n_columns < 1 || n_tokens < 1 || n_threads < 1 ||
            n_columns % sheily::q8_0::BLOCK != 0 || (!stock && n_rows % sheily::q8_0::GROUP != 0)) {
            return fail(SN_INVALID_ARGUMENT,
                        "%lld x %lld weights for %lld tokens on %d threads: columns come in "
                        "blocks of 32, a kernel's rows in groups of 16",
                        static_cast<long long>(n_rows), static_cast<long long>(n_columns),
                        static_cast<long long>(n_tokens), n_threads);
        }
        sheily::start_backend();
        return multiply(instruction_set(kernel), weights, n_rows, n_columns, tokens, n_tokens,
                        n_threads, out);
    });
}

int sn_kernel_attend(int32_t kernel, const sn_attention *attention, int32_t n_threads) {
    return guarded([&] {
        if (const int status = kernel == STOCK ? SN_OK : sheily::check_kernel(kernel)) {
            return status;
        }
        const sn_attention &a = *attention;
        const int32_t step = a.kv_type == SN_KV_Q8_0 ? 32 : 16;
        if (a.n_tokens < 1 || a.n_heads < 1 || a.n_kv_heads < 1 || a.n_cells < 1 || a.width < 1 ||
            n_threads < 1 || a.n_heads % a.n_kv_heads != 0 || a.width % step != 0) {
            return fail(SN_INVALID_ARGUMENT,
                        "%d tokens, %d heads on %d, %d cells of %d values, %d threads: heads share "
                        "evenly, values come in multiples of %d",
                        a.n_tokens, a.n_heads, a.n_kv_heads, a.n_cells, a.width, n_threads, step);
        }
        sheily::start_backend();
        return attend(instruction_set(kernel), a, n_threads);
    });
}

} // extern "C"
