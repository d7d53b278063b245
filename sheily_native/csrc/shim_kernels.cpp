// The Q8_0 kernels by number and name, and one product alone, for tests.
#include "shim.h"

#include "kernels/repack_buffer.h"

#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml-cpu.h"

#include <cstring>

using sheily::fail;
using sheily::guarded;
using sheily::q8_0::Kernel;
using sheily::q8_0::KERNELS;

namespace {

const Kernel *kernel_at(int32_t number) {
    return number >= 0 && number < sn_kernel_count() ? KERNELS[number] : nullptr;
}

// The buffer type that a kernel's weights live in; llama.cpp's own for the stock one.
ggml_backend_buffer_type_t buffer_type_of(const Kernel *kernel) {
    return kernel == nullptr ? ggml_backend_cpu_buffer_type() : sheily::repack_buffer_type();
}

int multiply(const Kernel *kernel, const uint8_t *weights, int64_t n_rows, int64_t n_columns,
             const float *tokens, int64_t n_tokens, int32_t n_threads, float *out) {
    const ggml_init_params sizes = {8 * ggml_tensor_overhead(), nullptr, true};
    const ggml_context_ptr weights_context(ggml_init(sizes));
    ggml_tensor *w = ggml_new_tensor_2d(weights_context.get(), GGML_TYPE_Q8_0, n_columns, n_rows);
    sheily::set_repacking({kernel, false, n_threads});
    const ggml_backend_buffer_ptr weights_buffer(
        ggml_backend_alloc_ctx_tensors_from_buft(weights_context.get(), buffer_type_of(kernel)));
    if (weights_buffer != nullptr) {
        ggml_backend_tensor_set(w, weights, 0, ggml_nbytes(w));
    }
    sheily::set_repacking({nullptr, false, 1});

    const ggml_init_params graph_sizes = {8 * ggml_tensor_overhead() + ggml_graph_overhead(),
                                          nullptr, true};
    const ggml_context_ptr context(ggml_init(graph_sizes));
    ggml_tensor *x = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, n_columns, n_tokens);
    ggml_tensor *product = ggml_mul_mat(context.get(), w, x);
    ggml_cgraph *graph = ggml_new_graph(context.get());
    ggml_build_forward_expand(graph, product);
    const ggml_backend_buffer_ptr buffer(
        ggml_backend_alloc_ctx_tensors_from_buft(context.get(), ggml_backend_cpu_buffer_type()));
    const ggml_backend_ptr backend(ggml_backend_cpu_init());
    if (weights_buffer == nullptr || buffer == nullptr || backend == nullptr) {
        throw std::bad_alloc();
    }
    ggml_backend_cpu_set_n_threads(backend.get(), n_threads);
    std::memcpy(x->data, tokens, ggml_nbytes(x));
    if (ggml_backend_graph_compute(backend.get(), graph) != GGML_STATUS_SUCCESS) {
        return fail(SN_INTERNAL, "the product could not be computed");
    }
    std::memcpy(out, product->data, ggml_nbytes(product));
    return SN_OK;
}

} // namespace

namespace sheily {

KernelChoice choose_kernel(const char *name) {
    const bool automatic = std::strcmp(name, "auto") == 0;
    if (std::strcmp(name, "off") == 0 || (automatic && stock_is_better())) {
        return {nullptr, -1};
    }
    std::string known;
    for (int32_t i = 0; i < sn_kernel_count(); i++) {
        const bool runs = q8_0::runs_here(*KERNELS[i]);
        if (automatic ? runs : std::strcmp(name, KERNELS[i]->name) == 0) {
            if (!runs) {
                throw std::invalid_argument(std::string("this CPU cannot run the kernel ") + name);
            }
            return {KERNELS[i], i};
        }
        known += std::string(", ") + KERNELS[i]->name;
    }
    if (automatic) {
        return {nullptr, -1};
    }
    throw std::invalid_argument(std::string("there is no kernel ") + name +
                                "; known are auto, off" + known);
}

} // namespace sheily

extern "C" {

int32_t sn_kernel_count(void) {
    int32_t count = 0;
    while (KERNELS[count] != nullptr) {
        count++;
    }
    return count;
}

const char *sn_kernel_name(int32_t kernel) {
    return kernel_at(kernel) == nullptr ? nullptr : KERNELS[kernel]->name;
}

int32_t sn_kernel_runs_here(int32_t kernel) {
    return kernel_at(kernel) != nullptr && sheily::q8_0::runs_here(*KERNELS[kernel]);
}

int sn_kernel_multiply(int32_t kernel, const uint8_t *weights, int64_t n_rows, int64_t n_columns,
                       const float *tokens, int64_t n_tokens, int32_t n_threads, float *out) {
    return guarded([&] {
        if (kernel != -1 && !sn_kernel_runs_here(kernel)) {
            return fail(SN_INVALID_ARGUMENT, "this CPU has no kernel %d", kernel);
        }
        const bool stock = kernel == -1;
        if (n_rows < 1 || n_columns < 1 || n_tokens < 1 || n_threads < 1 ||
            n_columns % sheily::q8_0::BLOCK != 0 || (!stock && n_rows % sheily::q8_0::GROUP != 0)) {
            return fail(SN_INVALID_ARGUMENT,
                        "%lld x %lld weights for %lld tokens on %d threads: columns come in "
                        "blocks of 32, a kernel's rows in groups of 16",
                        static_cast<long long>(n_rows), static_cast<long long>(n_columns),
                        static_cast<long long>(n_tokens), n_threads);
        }
        sheily::start_backend();
        return multiply(kernel_at(kernel), weights, n_rows, n_columns, tokens, n_tokens, n_threads,
                        out);
    });
}

} // extern "C"
