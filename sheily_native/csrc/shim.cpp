// The only file that includes llama.h: checks what llama.cpp would assert, and turns everything
// that can go wrong into a status and a sentence.
#include "llama.h"
#include "sampler.h"

extern "C" {
#include "api.h"
}

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

struct sn_model {
    llama_model *model;
    const llama_vocab *vocab;
    int32_t n_vocab;
};

struct sn_context {
    llama_context *context;
    const llama_vocab *vocab;
    int32_t n_vocab;
    int32_t n_batch;
    int32_t n_seq_max;
    int32_t n_outputs_max;
    uint64_t kv_bytes;
    std::vector<int32_t> length; // KV cells of each sequence: position 0 to length - 1
    std::vector<int8_t> has_logits;
    std::atomic<bool> aborted{false};
    std::atomic<int64_t> heartbeat{0};
};

struct sn_sampler {
    sheily::Sampler sampler;
};

namespace {

constexpr int32_t MAX_TOP_LOGPROBS = 20;
constexpr int32_t MAX_SEQUENCES = 256; // LLAMA_MAX_SEQ

thread_local std::string last_error;
thread_local std::string logged_errors; // what llama.cpp logged as errors while this thread loads
std::atomic<int32_t> log_level{2};
std::atomic<int32_t> last_level{GGML_LOG_LEVEL_NONE};

int fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
int fail(int status, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    last_error = text;
    return status;
}

// Runs `body` and turns C++ exceptions, which must not cross into Python, into statuses.
template <typename Body> int guarded(Body body) {
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

int32_t rank(ggml_log_level level) {
    switch (level) {
    case GGML_LOG_LEVEL_ERROR:
        return 1;
    case GGML_LOG_LEVEL_WARN:
        return 2;
    case GGML_LOG_LEVEL_INFO:
        return 3;
    default:
        return 4;
    }
}

// One line for each message: "<E|W|I|D> llama: text". Pieces that continue a line are dropped with
// it or follow it; llama.cpp uses them for progress dots and tables alone.
void on_log(ggml_log_level level, const char *text, void *) {
    if (level == GGML_LOG_LEVEL_CONT) {
        level = static_cast<ggml_log_level>(last_level.load());
    } else {
        last_level = level;
    }
    std::string line(text);
    while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) {
        line.pop_back();
    }
    if (line.empty() || line.find_first_not_of('.') == std::string::npos) {
        return;
    }
    if (level == GGML_LOG_LEVEL_ERROR) {
        logged_errors += logged_errors.empty() ? line : "; " + line;
    }
    if (rank(level) <= log_level) {
        fprintf(stderr, "%c llama: %s\n", " EWID"[rank(level)], line.c_str());
    }
}

// ggml calls abort() after this: the sentence is what is left of the process.
void on_abort(const char *message) {
    fprintf(stderr, "F ggml: %s\n", message);
    fflush(stderr);
}

bool on_progress(float fraction, void *data) {
    auto *progress = static_cast<sn_progress *>(data);
    progress->fraction = fraction;
    return progress->cancel == 0;
}

int64_t now_ns() {
    using namespace std::chrono;
    return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

bool on_compute(void *data) {
    auto *context = static_cast<sn_context *>(data);
    context->heartbeat.store(now_ns(), std::memory_order_relaxed);
    return context->aborted.load(std::memory_order_relaxed);
}

void start_backend() {
    static std::once_flag once;
    std::call_once(once, [] {
        // Without this ggml's abort starts a debugger, when there is one, and waits for it.
        setenv("GGML_NO_BACKTRACE", "1", 0);
        ggml_set_abort_callback(on_abort);
        llama_log_set(on_log, nullptr);
        llama_backend_init();
    });
}

int32_t token_or_none(llama_token token) {
    return token == LLAMA_TOKEN_NULL ? -1 : token;
}

bool valid_sequence(const sn_context *context, int32_t sequence) {
    return sequence >= 0 && sequence < context->n_seq_max;
}

// Positions may have been left half way by a step that failed: ask what is there.
void resync(sn_context *context) {
    llama_memory_t memory = llama_get_memory(context->context);
    for (int32_t sequence = 0; sequence < context->n_seq_max; sequence++) {
        context->length[sequence] = llama_memory_seq_pos_max(memory, sequence) + 1;
    }
}

int check_tokens(const sn_context *context, const sn_step *step) {
    if (step->n_tokens < 1 || step->n_tokens > context->n_batch) {
        return fail(SN_INVALID_ARGUMENT, "a step takes 1 to %d tokens, not %d", context->n_batch,
                    step->n_tokens);
    }
    for (int32_t i = 0; i < step->n_tokens; i++) {
        if (step->tokens[i] < 0 || step->tokens[i] >= context->n_vocab) {
            return fail(SN_INVALID_ARGUMENT, "token %d is outside the vocabulary of %d",
                        step->tokens[i], context->n_vocab);
        }
        if (!valid_sequence(context, step->sequences[i])) {
            return fail(SN_INVALID_ARGUMENT, "sequence %d is not in 0 to %d", step->sequences[i],
                        context->n_seq_max - 1);
        }
    }
    return SN_OK;
}

int check_row(const sn_context *context, const sn_step *step, const sn_row &row) {
    const int32_t last = row.index + row.n_draft;
    if (row.index < 0 || row.n_draft < 0 || row.n_draft >= step->n_tokens ||
        last >= step->n_tokens) {
        return fail(SN_INVALID_ARGUMENT,
                    "a row names token %d with %d drafts in a step of %d tokens", row.index,
                    row.n_draft, step->n_tokens);
    }
    if (row.top_logprobs < -1 || row.top_logprobs > MAX_TOP_LOGPROBS) {
        return fail(SN_INVALID_ARGUMENT, "top_logprobs is %d, not in -1 to %d", row.top_logprobs,
                    MAX_TOP_LOGPROBS);
    }
    if (row.sampler == nullptr) {
        return row.n_draft == 0 ? SN_OK
                                : fail(SN_INVALID_ARGUMENT, "a row with drafts has no sampler");
    }
    if (row.sampler->sampler.n_vocab() != context->n_vocab) {
        return fail(SN_INVALID_ARGUMENT, "the sampler is for a vocabulary of %d, the model has %d",
                    row.sampler->sampler.n_vocab(), context->n_vocab);
    }
    for (int32_t i = row.index; i < step->n_tokens; i++) {
        const bool same = step->sequences[i] == step->sequences[row.index];
        if (same != (i <= last)) {
            return fail(SN_INVALID_ARGUMENT,
                        "a sampled row must be the last of its sequence, followed by its drafts");
        }
    }
    return SN_OK;
}

// Marks the tokens whose logits are wanted, and checks that each is wanted once.
int mark_outputs(sn_context *context, const sn_step *step) {
    context->has_logits.assign(static_cast<size_t>(context->n_batch), 0);
    int32_t n_outputs = 0;
    for (int32_t r = 0; r < step->n_rows; r++) {
        const sn_row &row = step->rows[r];
        if (const int status = check_row(context, step, row)) {
            return status;
        }
        for (int32_t i = row.index; i <= row.index + row.n_draft; i++) {
            if (context->has_logits[i]) {
                return fail(SN_INVALID_ARGUMENT, "token %d is in two rows", i);
            }
            context->has_logits[i] = 1;
            n_outputs++;
        }
    }
    if (n_outputs > context->n_outputs_max) {
        return fail(SN_INVALID_ARGUMENT, "%d logits rows are wanted, the context has room for %d",
                    n_outputs, context->n_outputs_max);
    }
    return SN_OK;
}

int decode(sn_context *context, const sn_step *step) {
    std::vector<int32_t> next = context->length;
    std::vector<llama_pos> positions(step->n_tokens);
    std::vector<int32_t> n_sequences(step->n_tokens, 1);
    std::vector<llama_seq_id *> sequences(step->n_tokens);
    for (int32_t i = 0; i < step->n_tokens; i++) {
        positions[i] = next[step->sequences[i]]++;
        sequences[i] = const_cast<llama_seq_id *>(step->sequences + i);
    }
    llama_batch batch = {};
    batch.n_tokens = step->n_tokens;
    batch.token = const_cast<llama_token *>(step->tokens);
    batch.pos = positions.data();
    batch.n_seq_id = n_sequences.data();
    batch.seq_id = sequences.data();
    batch.logits = context->has_logits.data();

    context->heartbeat = now_ns();
    const int32_t result = llama_decode(context->context, batch);
    context->heartbeat = 0;
    if (result == 0) {
        context->length = next;
        return SN_OK;
    }
    std::fill(context->has_logits.begin(), context->has_logits.end(), 0);
    if (result == 1) {
        return fail(SN_KV_FULL, "the KV cache has no room for %d more tokens", step->n_tokens);
    }
    resync(context);
    if (result == 2) {
        return fail(SN_ABORTED, "the step was aborted");
    }
    return fail(SN_DECODE_FAILED, "llama_decode failed with code %d", result);
}

void write_logprobs(const float *logits, int32_t n_vocab, int32_t token, int32_t n_top,
                    sn_sampled *out) {
    std::vector<sheily::Logprob> top;
    out->logprobs[out->n_tokens] = sheily::logprobs(logits, n_vocab, token, n_top, top).value;
    for (size_t i = 0; i < top.size(); i++) {
        const size_t at = static_cast<size_t>(out->n_tokens) * n_top + i;
        out->top_tokens[at] = top[i].token;
        out->top_logprobs[at] = top[i].value;
    }
}

void sample_one(sheily::Sampler &sampler, const float *logits, const uint32_t *mask, int32_t n_top,
                sn_sampled *out) {
    const int32_t token = sampler.sample(logits, mask);
    if (n_top >= 0) {
        write_logprobs(logits, sampler.n_vocab(), token, n_top, out);
    }
    out->tokens[out->n_tokens++] = token;
}

int sample_row(sn_context *context, const sn_step *step, const sn_row &row, sn_sampled *out) {
    out->n_tokens = 0;
    if (row.sampler == nullptr) {
        return SN_OK;
    }
    const size_t mask_words = (static_cast<size_t>(context->n_vocab) + 31) / 32;
    for (int32_t k = 0; k <= row.n_draft; k++) {
        const float *logits = llama_get_logits_ith(context->context, row.index + k);
        if (logits == nullptr) {
            return fail(SN_INTERNAL, "llama.cpp gave no logits for token %d", row.index + k);
        }
        const uint32_t *mask = row.mask == nullptr ? nullptr : row.mask + k * mask_words;
        sample_one(row.sampler->sampler, logits, mask, row.top_logprobs, out);
        if (k == row.n_draft || out->tokens[k] != step->tokens[row.index + k + 1]) {
            break;
        }
    }
    const int32_t rejected = row.n_draft + 1 - out->n_tokens;
    if (rejected > 0) {
        const int32_t sequence = step->sequences[row.index];
        return sn_kv_truncate(context, sequence, context->length[sequence] - rejected);
    }
    return SN_OK;
}

} // namespace

extern "C" {

const char *sn_last_error(void) {
    return last_error.c_str();
}

const char *sn_llama_version(void) {
    return llama_version();
}

const char *sn_system_info(void) {
    start_backend();
    return llama_print_system_info();
}

void sn_set_log_level(int32_t level) {
    log_level = level;
}

int sn_model_load(const char *path, const sn_model_params *params, sn_progress *progress,
                  sn_model **out) {
    return guarded([&] {
        *out = nullptr;
        start_backend();
        logged_errors.clear();
        llama_model_params native = llama_model_default_params();
        native.n_gpu_layers = 0;
        native.load_mode = params->use_mmap ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
        native.use_extra_bufts = params->use_extra_buffers != 0;
        native.vocab_only = params->vocab_only != 0;
        native.progress_callback = on_progress;
        native.progress_callback_user_data = progress;
        llama_model *model = llama_model_load_from_file(path, native);
        if (model == nullptr) {
            if (progress->cancel != 0) {
                return fail(SN_ABORTED, "loading %s was cancelled", path);
            }
            return fail(SN_LOAD_FAILED, "%s",
                        logged_errors.empty() ? "llama.cpp gave no reason" : logged_errors.c_str());
        }
        const llama_vocab *vocab = llama_model_get_vocab(model);
        *out = new sn_model{model, vocab, llama_vocab_n_tokens(vocab)};
        progress->fraction = 1.0f;
        return static_cast<int>(SN_OK);
    });
}

void sn_model_free(sn_model *model) {
    if (model != nullptr) {
        llama_model_free(model->model);
        delete model;
    }
}

void sn_model_info_get(const sn_model *model, sn_model_info *info) {
    *info = {};
    info->n_vocab = model->n_vocab;
    info->n_ctx_train = llama_model_n_ctx_train(model->model);
    info->n_embd = llama_model_n_embd(model->model);
    info->n_layer = llama_model_n_layer(model->model);
    if (info->n_layer >
        0) { // llama.cpp asserts that there is a layer 0, which a bare vocabulary has not
        info->n_head = llama_model_n_head(model->model);
        info->n_head_kv = llama_model_n_head_kv(model->model);
    }
    info->token_bos = token_or_none(llama_vocab_bos(model->vocab));
    info->token_eos = token_or_none(llama_vocab_eos(model->vocab));
    info->token_eot = token_or_none(llama_vocab_eot(model->vocab));
    info->add_bos = llama_vocab_get_add_bos(model->vocab);
    info->has_decoder =
        llama_model_has_decoder(model->model) && !llama_model_has_encoder(model->model);
    info->is_recurrent =
        llama_model_is_recurrent(model->model) || llama_model_is_hybrid(model->model);
    info->n_params = llama_model_n_params(model->model);
    info->n_bytes = llama_model_size(model->model);
}

int32_t sn_model_metadata_count(const sn_model *model) {
    return llama_model_meta_count(model->model);
}

int32_t sn_model_metadata_key(const sn_model *model, int32_t i, char *buffer, int32_t size) {
    return llama_model_meta_key_by_index(model->model, i, buffer, static_cast<size_t>(size));
}

int32_t sn_model_metadata_value(const sn_model *model, int32_t i, char *buffer, int32_t size) {
    return llama_model_meta_val_str_by_index(model->model, i, buffer, static_cast<size_t>(size));
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

int sn_sampler_new(int32_t n_vocab, const sn_sampling *params, const int32_t *prompt,
                   int32_t n_prompt, sn_sampler **out) {
    return guarded([&] {
        *out = nullptr;
        sheily::SamplingParams native = {params->temperature,
                                         params->top_k,
                                         params->top_p,
                                         params->min_p,
                                         params->repeat_penalty,
                                         params->frequency_penalty,
                                         params->presence_penalty,
                                         params->seed,
                                         {}};
        for (int32_t i = 0; i < params->n_bias; i++) {
            native.bias.push_back({params->bias_tokens[i], params->bias_values[i]});
        }
        *out = new sn_sampler{sheily::Sampler(n_vocab, std::move(native), prompt, n_prompt)};
        return static_cast<int>(SN_OK);
    });
}

void sn_sampler_free(sn_sampler *sampler) {
    delete sampler;
}

int sn_sampler_sample(sn_sampler *sampler, const float *logits, const uint32_t *mask,
                      int32_t top_logprobs, sn_sampled *sampled) {
    return guarded([&] {
        sampled->n_tokens = 0;
        if (top_logprobs < -1 || top_logprobs > MAX_TOP_LOGPROBS) {
            return fail(SN_INVALID_ARGUMENT, "top_logprobs is %d, not in -1 to %d", top_logprobs,
                        MAX_TOP_LOGPROBS);
        }
        sample_one(sampler->sampler, logits, mask, top_logprobs, sampled);
        return static_cast<int>(SN_OK);
    });
}

int sn_context_new(sn_model *model, const sn_context_params *params, sn_context **out) {
    return guarded([&] {
        *out = nullptr;
        if (params->n_seq_max < 1 || params->n_seq_max > MAX_SEQUENCES) {
            return fail(SN_INVALID_ARGUMENT, "n_seq_max is %d, not in 1 to %d", params->n_seq_max,
                        MAX_SEQUENCES);
        }
        if (params->n_ctx < 1 || params->n_batch < 1 || params->n_ubatch < 1 ||
            params->n_outputs_max < 1 || params->n_threads < 1 || params->n_threads_batch < 1) {
            return fail(SN_INVALID_ARGUMENT,
                        "n_ctx, n_batch, n_ubatch, n_outputs_max and the threads must be positive");
        }
        if (llama_model_n_layer(model->model) < 1) {
            return fail(SN_INVALID_ARGUMENT, "the model was loaded with its vocabulary alone");
        }
        auto context = std::make_unique<sn_context>();
        llama_context_params native = llama_context_default_params();
        native.n_ctx = static_cast<uint32_t>(params->n_ctx);
        native.n_batch = static_cast<uint32_t>(params->n_batch);
        native.n_ubatch = static_cast<uint32_t>(std::min(params->n_ubatch, params->n_batch));
        native.n_seq_max = static_cast<uint32_t>(params->n_seq_max);
        native.n_outputs_max =
            static_cast<uint32_t>(std::min(params->n_outputs_max, params->n_batch));
        native.n_threads = params->n_threads;
        native.n_threads_batch = params->n_threads_batch;
        native.flash_attn_type = static_cast<llama_flash_attn_type>(params->flash_attention);
        native.type_k = params->kv_type == 1 ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
        native.type_v = native.type_k;
        native.kv_unified = true;
        native.no_perf = true;
        native.abort_callback = on_compute;
        native.abort_callback_data = context.get();
        logged_errors.clear();
        context->context = llama_init_from_model(model->model, native);
        if (context->context == nullptr) {
            return fail(SN_OUT_OF_MEMORY, "no context of %d cells: %s", params->n_ctx,
                        logged_errors.empty() ? "llama.cpp gave no reason" : logged_errors.c_str());
        }
        const uint64_t row = static_cast<uint64_t>(llama_model_n_embd(model->model)) /
                             static_cast<uint64_t>(std::max(llama_model_n_head(model->model), 1)) *
                             static_cast<uint64_t>(llama_model_n_head_kv(model->model));
        context->vocab = model->vocab;
        context->n_vocab = model->n_vocab;
        context->n_batch = static_cast<int32_t>(llama_n_batch(context->context));
        context->n_seq_max = params->n_seq_max;
        context->n_outputs_max = static_cast<int32_t>(native.n_outputs_max);
        context->kv_bytes = 2 * static_cast<uint64_t>(llama_model_n_layer(model->model)) *
                            llama_n_ctx(context->context) *
                            ggml_row_size(native.type_k, static_cast<int64_t>(row));
        context->length.assign(static_cast<size_t>(params->n_seq_max), 0);
        context->has_logits.assign(static_cast<size_t>(context->n_batch), 0);
        *out = context.release();
        return static_cast<int>(SN_OK);
    });
}

void sn_context_free(sn_context *context) {
    if (context != nullptr) {
        llama_free(context->context);
        delete context;
    }
}

void sn_context_info_get(const sn_context *context, sn_context_info *info) {
    *info = {static_cast<int32_t>(llama_n_ctx(context->context)), context->n_batch,
             context->n_seq_max, context->n_outputs_max, context->kv_bytes};
}

int sn_context_step(sn_context *context, const sn_step *step) {
    return guarded([&] {
        if (const int status = check_tokens(context, step)) {
            return status;
        }
        if (const int status = mark_outputs(context, step)) {
            return status;
        }
        if (const int status = decode(context, step)) {
            return status;
        }
        for (int32_t r = 0; r < step->n_rows; r++) {
            if (const int status = sample_row(context, step, step->rows[r], &step->sampled[r])) {
                return status;
            }
        }
        return static_cast<int>(SN_OK);
    });
}

const float *sn_context_logits(sn_context *context, int32_t index) {
    if (index < 0 || index >= context->n_batch ||
        !context->has_logits[static_cast<size_t>(index)]) {
        return nullptr;
    }
    return llama_get_logits_ith(context->context, index);
}

int32_t sn_kv_length(const sn_context *context, int32_t sequence) {
    return valid_sequence(context, sequence) ? context->length[sequence] : -1;
}

int sn_kv_truncate(sn_context *context, int32_t sequence, int32_t length) {
    return guarded([&] {
        if (!valid_sequence(context, sequence)) {
            return fail(SN_INVALID_ARGUMENT, "sequence %d is not in 0 to %d", sequence,
                        context->n_seq_max - 1);
        }
        if (length < 0 || length > context->length[sequence]) {
            return fail(SN_INVALID_ARGUMENT, "sequence %d has %d cells and cannot be cut to %d",
                        sequence, context->length[sequence], length);
        }
        if (!llama_memory_seq_rm(llama_get_memory(context->context), sequence, length, -1)) {
            return fail(SN_INTERNAL, "this model's memory cannot be cut at a position");
        }
        context->length[sequence] = length;
        return static_cast<int>(SN_OK);
    });
}

int sn_kv_copy(sn_context *context, int32_t from, int32_t to, int32_t length) {
    return guarded([&] {
        if (!valid_sequence(context, from) || !valid_sequence(context, to) || from == to) {
            return fail(SN_INVALID_ARGUMENT,
                        "cannot copy sequence %d to %d: two of 0 to %d are wanted", from, to,
                        context->n_seq_max - 1);
        }
        if (length < 0 || length > context->length[from]) {
            return fail(SN_INVALID_ARGUMENT, "sequence %d has %d cells, %d are to be copied", from,
                        context->length[from], length);
        }
        llama_memory_t memory = llama_get_memory(context->context);
        llama_memory_seq_rm(memory, to, -1, -1);
        if (length > 0) {
            llama_memory_seq_cp(memory, from, to, 0, length);
        }
        context->length[to] = length;
        return static_cast<int>(SN_OK);
    });
}

void sn_kv_clear(sn_context *context) {
    llama_memory_clear(llama_get_memory(context->context), false);
    std::fill(context->length.begin(), context->length.end(), 0);
}

void sn_context_abort(sn_context *context, int32_t on) {
    context->aborted = on != 0;
}

int64_t sn_context_heartbeat(const sn_context *context) {
    return context->heartbeat;
}

} // extern "C"
