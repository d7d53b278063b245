// Samplers: the C side of sampler.h.
#include "shim/shim.h"

#include <utility>

using sheily::guarded;

namespace {

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

} // namespace

namespace sheily {

int check_top_logprobs(int32_t n) {
    constexpr int32_t MOST = 20;
    return n >= -1 && n <= MOST
               ? static_cast<int>(SN_OK)
               : fail(SN_INVALID_ARGUMENT, "top_logprobs is %d, not in -1 to %d", n, MOST);
}

void sample_one(Sampler &sampler, const float *logits, const uint32_t *mask, int32_t n_top,
                sn_sampled *out) {
    const int32_t token = sampler.sample(logits, mask);
    if (n_top >= 0) {
        write_logprobs(logits, sampler.n_vocab(), token, n_top, out);
    }
    out->tokens[out->n_tokens++] = token;
}

} // namespace sheily

extern "C" {

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
        if (const int status = sheily::check_top_logprobs(top_logprobs)) {
            return status;
        }
        sheily::sample_one(sampler->sampler, logits, mask, top_logprobs, sampled);
        return static_cast<int>(SN_OK);
    });
}

} // extern "C"
