// Models: loading, metadata, tokenizing.
#include "shim/shim.h"

#include "kernels/ggml/repack_buffer.h"
#include "shim/switched.h"

#include <algorithm>

using sheily::fail;
using sheily::guarded;

namespace {

bool on_progress(float fraction, void *data) {
    auto *progress = static_cast<sn_progress *>(data);
    progress->fraction = fraction;
    sheily::test_hold_load(fraction, progress->cancelled);
    return !progress->cancelled;
}

int32_t token_or_none(llama_token token) {
    return token == LLAMA_TOKEN_NULL ? -1 : token;
}

} // namespace

extern "C" {

int sn_progress_new(sn_progress **out) {
    return guarded([&] {
        *out = nullptr;
        *out = new sn_progress();
        return static_cast<int>(SN_OK);
    });
}

void sn_progress_free(sn_progress *progress) {
    delete progress;
}

float sn_progress_fraction(const sn_progress *progress) {
    return progress->fraction;
}

void sn_progress_cancel(sn_progress *progress) {
    progress->cancelled = true;
}

int sn_model_load(const char *path, const sn_model_params *params, sn_progress *progress,
                  sn_model **out) {
    return guarded([&] {
        *out = nullptr;
        sheily::start_backend();
        sheily::take_logged_errors();
        const sheily::KernelChoice chosen = params->use_extra_buffers
                                                ? sheily::choose_kernel(params->kernel)
                                                : sheily::KernelChoice{nullptr, -1, nullptr};
        const sheily::Switched<sheily::exchange_repacking> repacking(sheily::Repacking{
            chosen.weights, params->use_mmap != 0, std::max(params->n_threads, 1)});
        auto loaded = std::make_unique<sn_model>();
        llama_model_params native = llama_model_default_params();
        native.n_gpu_layers = 0;
        native.load_mode = params->use_mmap ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
        native.use_extra_bufts = params->use_extra_buffers != 0;
        native.vocab_only = params->vocab_only != 0;
        native.progress_callback = on_progress;
        native.progress_callback_user_data = progress;
        loaded->model.reset(llama_model_load_from_file(path, native));
        if (loaded->model == nullptr) {
            if (progress->cancelled) {
                return fail(SN_ABORTED, "loading %s was cancelled", path);
            }
            return fail(SN_LOAD_FAILED, "%s", sheily::take_logged_errors().c_str());
        }
        sheily::test_throw("model");
        loaded->vocab = llama_model_get_vocab(loaded->model.get());
        loaded->n_vocab = llama_vocab_n_tokens(loaded->vocab);
        loaded->kernel = chosen.number;
        loaded->attention = chosen.attention;
        progress->fraction = 1.0f;
        *out = loaded.release();
        return static_cast<int>(SN_OK);
    });
}

void sn_model_free(sn_model *model) {
    delete model;
}

void sn_model_info_get(const sn_model *model, sn_model_info *info) {
    *info = {};
    info->n_vocab = model->n_vocab;
    info->n_ctx_train = llama_model_n_ctx_train(model->model.get());
    info->n_embd = llama_model_n_embd(model->model.get());
    info->n_layer = llama_model_n_layer(model->model.get());
    if (info->n_layer >
        0) { // llama.cpp asserts that there is a layer 0: a bare vocabulary has none
        info->n_head = llama_model_n_head(model->model.get());
        info->n_head_kv = llama_model_n_head_kv(model->model.get());
    }
    info->token_bos = token_or_none(llama_vocab_bos(model->vocab));
    info->token_eos = token_or_none(llama_vocab_eos(model->vocab));
    info->token_eot = token_or_none(llama_vocab_eot(model->vocab));
    info->add_bos = llama_vocab_get_add_bos(model->vocab);
    info->has_decoder =
        llama_model_has_decoder(model->model.get()) && !llama_model_has_encoder(model->model.get());
    info->is_recurrent =
        llama_model_is_recurrent(model->model.get()) || llama_model_is_hybrid(model->model.get());
    info->n_params = llama_model_n_params(model->model.get());
    info->n_bytes = llama_model_size(model->model.get());
    info->kernel = model->kernel;
}

int32_t sn_model_metadata_count(const sn_model *model) {
    return llama_model_meta_count(model->model.get());
}

int32_t sn_model_metadata_key(const sn_model *model, int32_t i, char *buffer, int32_t size) {
    return llama_model_meta_key_by_index(model->model.get(), i, buffer, static_cast<size_t>(size));
}

int32_t sn_model_metadata_value(const sn_model *model, int32_t i, char *buffer, int32_t size) {
    return llama_model_meta_val_str_by_index(model->model.get(), i, buffer,
                                             static_cast<size_t>(size));
}

int sn_tokenize(const sn_model *model, const char *text, int32_t n_bytes, int32_t special,
                int32_t *tokens, int32_t capacity, int32_t *count) {
    return guarded([&] {
        *count = 0;
        if (n_bytes < 0 || capacity < 0) {
            return fail(SN_INVALID_ARGUMENT, "a negative size");
        }
        const int32_t n =
            llama_tokenize(model->vocab, text, n_bytes, tokens, capacity, false, special != 0);
        if (n == INT32_MIN) {
            return fail(SN_INVALID_ARGUMENT, "the text has more tokens than a 32-bit count holds");
        }
        *count = n < 0 ? -n : n;
        return n < 0 ? fail(SN_BUFFER_TOO_SMALL, "%d tokens do not fit into %d", -n, capacity)
                     : static_cast<int>(SN_OK);
    });
}

int sn_piece(const sn_model *model, int32_t token, int32_t special, char *buffer, int32_t size,
             int32_t *count) {
    return guarded([&] {
        *count = 0;
        if (token < 0 || token >= model->n_vocab) {
            return fail(SN_INVALID_ARGUMENT, "token %d is outside the vocabulary of %d", token,
                        model->n_vocab);
        }
        const int32_t n = llama_token_to_piece(model->vocab, token, buffer, size, 0, special != 0);
        *count = n < 0 ? -n : n;
        return n < 0 ? fail(SN_BUFFER_TOO_SMALL, "%d bytes do not fit into %d", -n, size)
                     : static_cast<int>(SN_OK);
    });
}

int32_t sn_is_end(const sn_model *model, int32_t token) {
    return token >= 0 && token < model->n_vocab && llama_vocab_is_eog(model->vocab, token);
}

int32_t sn_is_control(const sn_model *model, int32_t token) {
    return token >= 0 && token < model->n_vocab && llama_vocab_is_control(model->vocab, token);
}

int32_t sn_is_user_defined(const sn_model *model, int32_t token) {
    return token >= 0 && token < model->n_vocab &&
           (llama_vocab_get_attr(model->vocab, token) & LLAMA_TOKEN_ATTR_USER_DEFINED) != 0;
}

} // extern "C"
