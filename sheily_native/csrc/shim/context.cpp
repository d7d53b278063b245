// Contexts: made, described and freed; aborting a step, and its signs of life.
#include "shim/context.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>

using sheily::fail;
using sheily::guarded;

namespace {

constexpr int32_t MAX_SEQUENCES = 256; // LLAMA_MAX_SEQ

bool on_compute(void *data) {
    auto *context = static_cast<sn_context *>(data);
    context->heartbeat.store(sheily::now_ns(), std::memory_order_relaxed);
    return context->aborted.load(std::memory_order_relaxed);
}

// A head's width: the file's key_length, or else the embedding's width over the heads.
int64_t head_size(const llama_model *model) {
    char name[128];
    char value[32];
    if (llama_model_meta_val_str(model, "general.architecture", name, sizeof(name)) > 0) {
        const std::string key = std::string(name) + ".attention.key_length";
        if (llama_model_meta_val_str(model, key.c_str(), value, sizeof(value)) > 0) {
            return std::atoll(value);
        }
    }
    return llama_model_n_embd(model) / std::max(llama_model_n_head(model), 1);
}

// K and V of all layers for one token.
uint64_t bytes_a_cell(const llama_model *model, ggml_type type) {
    const int64_t row = head_size(model) * llama_model_n_head_kv(model);
    const uint64_t layers = static_cast<uint64_t>(llama_model_n_layer(model));
    return 2 * layers * ggml_row_size(type, row);
}

} // namespace

namespace sheily {

int64_t now_ns() {
    using namespace std::chrono;
    return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

} // namespace sheily

extern "C" {

int sn_context_new(sn_model *model, const sn_context_params *params, sn_context **out) {
    return guarded([&] {
        *out = nullptr;
        if (params->n_seq_max < 1 || params->n_seq_max > MAX_SEQUENCES) {
            return fail(SN_INVALID_ARGUMENT, "n_seq_max is %d, not in 1 to %d", params->n_seq_max,
                        MAX_SEQUENCES);
        }
        if (params->n_ctx < 1 || params->n_batch < 1 || params->n_ubatch < 1 ||
            params->n_outputs_max < 1 || params->n_threads < 1) {
            return fail(SN_INVALID_ARGUMENT,
                        "n_ctx, n_batch, n_ubatch, n_outputs_max and the threads must be positive");
        }
        if (llama_model_n_layer(model->model.get()) < 1) {
            return fail(SN_INVALID_ARGUMENT, "the model was loaded with its vocabulary alone");
        }
        auto context = std::make_unique<sn_context>();
        llama_context_params native = llama_context_default_params();
        native.n_ctx = static_cast<uint32_t>(params->n_ctx);
        native.n_batch = static_cast<uint32_t>(params->n_batch);
        native.n_ubatch = static_cast<uint32_t>(std::min(params->n_ubatch, params->n_batch));
        native.n_seq_max = static_cast<uint32_t>(params->n_seq_max);
        const int32_t n_outputs_max = std::min(params->n_outputs_max, params->n_batch);
        // llama.cpp keeps a row for each sequence, and asserts that there are so many.
        native.n_outputs_max = static_cast<uint32_t>(std::max(n_outputs_max, params->n_seq_max));
        native.n_threads = params->n_threads;
        native.n_threads_batch = params->n_threads;
        native.flash_attn_type = static_cast<llama_flash_attn_type>(params->flash_attention);
        native.type_k = params->kv_type == SN_KV_Q8_0 ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
        native.type_v = native.type_k;
        native.kv_unified = true;
        native.no_perf = true;
        native.abort_callback = on_compute;
        native.abort_callback_data = context.get();
        sheily::take_logged_errors();
        context->context.reset(llama_init_from_model(model->model.get(), native));
        if (context->context == nullptr) {
            return fail(SN_OUT_OF_MEMORY, "no context of %d cells: %s", params->n_ctx,
                        sheily::take_logged_errors().c_str());
        }
        sheily::test_throw("context");
        context->attention = model->attention;
        context->n_vocab = model->n_vocab;
        context->n_batch = static_cast<int32_t>(llama_n_batch(context->context.get()));
        context->n_seq_max = params->n_seq_max;
        context->n_outputs_max = n_outputs_max;
        context->kv_bytes = static_cast<uint64_t>(llama_n_ctx(context->context.get())) *
                            bytes_a_cell(model->model.get(), native.type_k);
        context->length.assign(static_cast<size_t>(params->n_seq_max), 0);
        context->has_logits.assign(static_cast<size_t>(context->n_batch), 0);
        *out = context.release();
        return static_cast<int>(SN_OK);
    });
}

void sn_context_free(sn_context *context) {
    delete context;
}

void sn_context_info_get(const sn_context *context, sn_context_info *info) {
    *info = {static_cast<int32_t>(llama_n_ctx(context->context.get())), context->n_batch,
             context->n_seq_max, context->n_outputs_max, context->kv_bytes};
}

void sn_context_abort(sn_context *context, int32_t on) {
    context->aborted = on != 0;
}

int64_t sn_context_heartbeat(const sn_context *context) {
    return context->heartbeat;
}

} // extern "C"
