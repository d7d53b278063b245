// Choosing a token from a row of logits; knows nothing of models or of the KV cache.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace sheily {

struct Bias {
    int32_t token;
    float value;
};

struct SamplingParams {
    float temperature;
    int32_t top_k;
    float top_p;
    float min_p;
    float repeat_penalty;
    float frequency_penalty;
    float presence_penalty;
    uint64_t seed;
    std::vector<Bias> bias;
};

struct Logprob {
    int32_t token;
    float value; // natural logarithm
};

// The sampler of one sequence. Its only state is which tokens the sequence has seen and how many
// were drawn: the i-th draw is a pure function of (seed, i, logits), so a sequence gets the same
// tokens alone or in a batch, with or without drafts, as far as its logits are the same.
class Sampler {
  public:
    // Throws std::invalid_argument when a parameter is out of range.
    Sampler(int32_t n_vocab, SamplingParams params, const int32_t *prompt, int32_t n_prompt);

    // Draws a token from `logits` (n_vocab floats) and records it as generated. A null mask allows
    // every token. Throws std::runtime_error when no token has a finite logit.
    int32_t sample(const float *logits, const uint32_t *mask);

    int32_t n_vocab() const { return n_vocab_; }

  private:
    const float *adjusted(const float *logits, const uint32_t *mask);
    int32_t draw(const float *logits);

    int32_t n_vocab_;
    SamplingParams params_;
    uint64_t n_drawn_ = 0;
    std::unordered_map<int32_t, int32_t> generated_; // token -> how often
    std::unordered_set<int32_t> seen_; // prompt and generated; kept for repeat_penalty alone
};

// The log-probability of `token` in softmax(logits), and the `n_top` most probable tokens, best
// first.
Logprob logprobs(const float *logits, int32_t n_vocab, int32_t token, int32_t n_top,
                 std::vector<Logprob> &top);

} // namespace sheily
