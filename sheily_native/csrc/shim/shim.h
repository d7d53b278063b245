// What the parts of the shim share: the handles behind api.h's pointers, and how errors get out.
// Each part checks what llama.cpp would assert before it gets there.
#pragma once

#include "kernels/isa.h"
#include "llama.h"
#include "sampler/sampler.h"
#include "shim/test_hooks.h"

extern "C" {
#include "api.h"
}

#include <atomic>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

struct sn_progress {
    std::atomic<float> fraction{0.0f};
    std::atomic<bool> cancelled{false};
};

struct sn_model {
    struct Free {
        void operator()(llama_model *model) const { llama_model_free(model); }
    };
    std::unique_ptr<llama_model, Free> model;
    const llama_vocab *vocab = nullptr;
    int32_t n_vocab = 0;
    int32_t kernel = -1;
    const sheily::attention::Kernel *attention = nullptr; // null: the stock one
};

struct sn_context {
    const sheily::attention::Kernel *attention = nullptr;
    int32_t n_vocab = 0;
    int32_t n_batch = 0;
    int32_t n_seq_max = 0;
    int32_t n_outputs_max = 0;
    uint64_t kv_bytes = 0;
    std::vector<int32_t> length; // KV cells of each sequence: position 0 to length - 1
    std::vector<int8_t> has_logits;
    std::atomic<bool> aborted{false};
    std::atomic<int64_t> heartbeat{0};

    struct Free {
        void operator()(llama_context *context) const { llama_free(context); }
    };
    std::unique_ptr<llama_context, Free> context; // freed first: it reads the two above
};

struct sn_sampler {
    sheily::Sampler sampler;
};

namespace sheily {

// Leaves a sentence for sn_last_error() and returns `status`.
int fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

template <typename Body> int caught(Body body) {
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return fail(SN_OUT_OF_MEMORY, "out of memory");
    } catch (const std::invalid_argument &error) {
        return fail(SN_INVALID_ARGUMENT, "%s", error.what());
    } catch (const std::exception &error) {
        return fail(SN_INTERNAL, "%s", error.what());
    } catch (...) {
        return fail(SN_INTERNAL, "an unknown C++ exception");
    }
}

// Runs `body` and turns C++ exceptions, which must not cross into Python, into statuses.
template <typename Body> int guarded(Body body) {
    const int status = caught(body);
    const char *left = test_left();
    return left == nullptr ? status : fail(SN_INTERNAL, "the call has left its %s set", left);
}

struct KernelChoice {
    const InstructionSet *weights;      // whose kernels multiply weights; null: the stock ones do
    int32_t number;                     // of `weights`, -1 for null
    const attention::Kernel *attention; // null: the stock one; may be ours with stock products
};

// Returns what a name, "auto" or "off" stands for. Throws std::invalid_argument for a name that is
// not known, or an instruction set that this CPU cannot run.
KernelChoice choose_kernel(const char *name);

// Starts llama.cpp, once a process: from here on its logs and aborts come to us.
void start_backend();

// Returns the first error that llama.cpp logged on this thread since the last call; a sentence that
// says so where there was none.
std::string take_logged_errors();

int check_top_logprobs(int32_t n);

// Fails for a kernel that is not built in, or that this CPU cannot run.
int check_kernel(int32_t number);

// Samples a row and appends the token, with its logprobs where n_top >= 0, to `out`.
void sample_one(Sampler &sampler, const float *logits, const uint32_t *mask, int32_t n_top,
                sn_sampled *out);

} // namespace sheily
