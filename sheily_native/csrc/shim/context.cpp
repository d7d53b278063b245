// Contexts: one step over many sequences, and the KV cells behind them. Everything that llama.cpp
// would assert is checked here before it gets there.
#include "shim/shim.h"

#include "kernels/ggml/attention_op.h"
#include "shim/switched.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>

using sheily::fail;
using sheily::guarded;

namespace {

constexpr int32_t MAX_SEQUENCES = 256; // LLAMA_MAX_SEQ

int64_t now_ns() {
    using namespace std::chrono;
    return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

bool on_compute(void *data) {
    auto *context = static_cast<sn_context *>(data);
    context->heartbeat.store(now_ns(), std::memory_order_relaxed);
    return context->aborted.load(std::memory_order_relaxed);
}

bool valid_sequence(const sn_context *context, int32_t sequence) {
    return sequence >= 0 && sequence < context->n_seq_max;
}

// A head's width; the file says it where it is not what the embedding's width and heads give.
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

llama_memory_t memory_of(const sn_context *context) {
    return llama_get_memory(context->context.get());
}

// Positions may have been left half way by a change that failed: asks what is there, unless it is
// told that the change was made.
class Change {
  public:
    explicit Change(sn_context *context) : context_(context) {}
    ~Change() {
        for (int32_t sequence = 0; !made_ && sequence < context_->n_seq_max; sequence++) {
            context_->length[sequence] =
                llama_memory_seq_pos_max(memory_of(context_), sequence) + 1;
        }
    }
    Change(const Change &) = delete;
    Change &operator=(const Change &) = delete;

    void made() { made_ = true; }

  private:
    sn_context *context_;
    bool made_ = false;
};

// The marks of the tokens with logits; none is left where none were computed.
class Outputs {
  public:
    explicit Outputs(sn_context *context) : context_(context) {}
    ~Outputs() {
        if (!computed_) {
            std::fill(context_->has_logits.begin(), context_->has_logits.end(), 0);
        }
    }
    Outputs(const Outputs &) = delete;
    Outputs &operator=(const Outputs &) = delete;

    void computed() { computed_ = true; }

  private:
    sn_context *context_;
    bool computed_ = false;
};

// Signs of life are expected until the end of the scope.
class Living {
  public:
    explicit Living(sn_context *context) : context_(context) { context->heartbeat = now_ns(); }
    ~Living() { context_->heartbeat = 0; }
    Living(const Living &) = delete;
    Living &operator=(const Living &) = delete;

  private:
    sn_context *context_;
};

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
    if (row.top_logprobs < -1 || row.top_logprobs > sheily::MAX_TOP_LOGPROBS) {
        return fail(SN_INVALID_ARGUMENT, "top_logprobs is %d, not in -1 to %d", row.top_logprobs,
                    sheily::MAX_TOP_LOGPROBS);
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

int32_t compute(sn_context *context, const llama_batch &batch) {
    const Living living(context);
    const sheily::Switched<sheily::exchange_attention> attention(context->attention);
    sheily::test_fault();
    sheily::test_throw("decode");
    return llama_decode(context->context.get(), batch);
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

    Change change(context);
    switch (const int32_t result = compute(context, batch)) {
    case 0:
        context->length.swap(next);
        change.made();
        return SN_OK;
    case 1:
        return fail(SN_KV_FULL, "the KV cache has no room for %d more tokens", step->n_tokens);
    case 2:
        return fail(SN_ABORTED, "the step was aborted");
    default:
        return fail(SN_DECODE_FAILED, "llama_decode failed with code %d", result);
    }
}

int sample_row(sn_context *context, const sn_step *step, const sn_row &row, sn_sampled *out) {
    out->n_tokens = 0;
    if (row.sampler == nullptr) {
        return SN_OK;
    }
    const size_t mask_words = (static_cast<size_t>(context->n_vocab) + 31) / 32;
    for (int32_t k = 0; k <= row.n_draft; k++) {
        const float *logits = llama_get_logits_ith(context->context.get(), row.index + k);
        if (logits == nullptr) {
            return fail(SN_INTERNAL, "llama.cpp gave no logits for token %d", row.index + k);
        }
        const uint32_t *mask = row.mask == nullptr ? nullptr : row.mask + k * mask_words;
        sheily::sample_one(row.sampler->sampler, logits, mask, row.top_logprobs, out);
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
        native.n_threads_batch = params->n_threads_batch;
        native.flash_attn_type = static_cast<llama_flash_attn_type>(params->flash_attention);
        native.type_k = params->kv_type == 1 ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
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
        context->vocab = model->vocab;
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

int sn_context_step(sn_context *context, const sn_step *step) {
    return guarded([&] {
        if (const int status = check_tokens(context, step)) {
            return status;
        }
        Outputs outputs(context);
        if (const int status = mark_outputs(context, step)) {
            return status;
        }
        if (const int status = decode(context, step)) {
            return status;
        }
        outputs.computed();
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
    return llama_get_logits_ith(context->context.get(), index);
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
        Change change(context);
        if (!llama_memory_seq_rm(memory_of(context), sequence, length, -1)) {
            return fail(SN_INTERNAL, "this model's memory cannot be cut at a position");
        }
        context->length[sequence] = length;
        change.made();
        return static_cast<int>(SN_OK);
    });
}

int sn_kv_share(sn_context *context, int32_t from, int32_t to, int32_t begin, int32_t end) {
    return guarded([&] {
        if (!valid_sequence(context, from) || !valid_sequence(context, to) || from == to) {
            return fail(SN_INVALID_ARGUMENT,
                        "sequence %d cannot share with %d: two of 0 to %d are wanted", from, to,
                        context->n_seq_max - 1);
        }
        if (begin < 0 || begin > end || end > context->length[from] ||
            begin > context->length[to]) {
            return fail(SN_INVALID_ARGUMENT,
                        "cells %d to %d of sequence %d, which has %d, cannot be shared with "
                        "sequence %d, which has %d",
                        begin, end, from, context->length[from], to, context->length[to]);
        }
        if (begin == end) {
            return static_cast<int>(SN_OK);
        }
        Change change(context);
        llama_memory_t memory = memory_of(context);
        if (!llama_memory_seq_rm(memory, to, begin, end)) {
            return fail(SN_INTERNAL, "this model's memory cannot be cut at a position");
        }
        sheily::test_throw("share");
        llama_memory_seq_cp(memory, from, to, begin, end);
        context->length[to] = std::max(context->length[to], end);
        change.made();
        return static_cast<int>(SN_OK);
    });
}

void sn_kv_clear(sn_context *context) {
    llama_memory_clear(memory_of(context), false);
    std::fill(context->length.begin(), context->length.end(), 0);
}

void sn_context_abort(sn_context *context, int32_t on) {
    context->aborted = on != 0;
}

int64_t sn_context_heartbeat(const sn_context *context) {
    return context->heartbeat;
}

} // extern "C"
