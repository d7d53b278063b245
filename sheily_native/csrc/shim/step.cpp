// A step: one batch over many sequences, the verification of drafts, and sampling. Everything that
// llama.cpp would assert is checked here before it gets there.
#include "shim/context.h"

#include "kernels/ggml/attention_op.h"
#include "shim/switched.h"

#include <algorithm>

using sheily::Change;
using sheily::fail;
using sheily::guarded;
using sheily::now_ns;

namespace {

// The marks of the tokens with logits; all are taken away unless computed() is called.
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

// Signs of life are expected from here to the end of the scope.
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
        if (const int status = sheily::check_sequence(context, step->sequences[i])) {
            return status;
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
    if (const int status = sheily::check_top_logprobs(row.top_logprobs)) {
        return status;
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

// Marks the tokens whose logits are wanted, and checks that no two rows want the same.
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

} // extern "C"
