#include "sampler/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace sheily {
namespace {

constexpr int32_t LANES = 16;
constexpr int32_t BLOCK = 256;
constexpr float MINUS_INFINITY = -std::numeric_limits<float>::infinity();

// Buffers of one float a token. A thread samples one row at a time, so its rows share them.
thread_local std::vector<float> logits_scratch;
thread_local std::vector<float> weight_scratch;

struct Candidate {
    float weight;
    int32_t token;
};

// Heavier first, lower token first among equals: the same order on every run.
bool before(const Candidate &a, const Candidate &b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
}

// LANES independent maxima: a form that compilers turn into vector instructions without
// -ffast-math.
float maximum(const float *x, int32_t n) {
    float lane[LANES];
    std::fill(lane, lane + LANES, MINUS_INFINITY);
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int32_t j = 0; j < LANES; j++) {
            lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
        }
    }
    float best = *std::max_element(lane, lane + LANES);
    for (; i < n; i++) {
        best = x[i] > best ? x[i] : best;
    }
    return best;
}

// e^x for x <= 0 with a relative error under 2e-7, without branches: 2^n times a polynomial for
// 2^f, |f| <= 1/2 (Taylor's of degree 7). Below -87 the result is 0, as softmax weights may be.
inline float exp_nonpositive(float x) {
    const float y = x * 1.44269504088896341f;
    const float n = std::nearbyint(y > -126.0f ? y : -126.0f);
    const float f = (y > -126.0f ? y : -126.0f) - n;
    float p = 1.5252734e-5f;
    p = p * f + 1.5403530e-4f;
    p = p * f + 1.3333558e-3f;
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, sizeof(scale));
    return x > -87.0f ? p * scale : 0.0f;
}

// weight[i] = exp((x[i] - top) * scale). Returns the sum of all, added block by block in double.
double softmax_weights(const float *x, int32_t n, float top, float scale, float *weight) {
    double total = 0.0;
    int32_t i = 0;
    while (i < n) {
        float lane[LANES] = {};
        const int32_t end = std::min(i + BLOCK, n);
        for (; i + LANES <= end; i += LANES) {
            for (int32_t j = 0; j < LANES; j++) {
                weight[i + j] = exp_nonpositive((x[i + j] - top) * scale);
                lane[j] += weight[i + j];
            }
        }
        for (; i < end; i++) {
            weight[i] = exp_nonpositive((x[i] - top) * scale);
            lane[0] += weight[i];
        }
        for (float sum : lane) {
            total += sum;
        }
    }
    return total;
}

void require(bool ok, const char *what) {
    if (!ok) {
        throw std::invalid_argument(what);
    }
}

// The k heaviest, in order. A heap whose top is the lightest kept, so most tokens cost one compare.
std::vector<Candidate> heaviest(const float *weight, int32_t n, int32_t k) {
    std::vector<Candidate> kept;
    kept.reserve(static_cast<size_t>(k));
    for (int32_t token = 0; token < n; token++) {
        const Candidate candidate = {weight[token], token};
        if (static_cast<int32_t>(kept.size()) < k) {
            kept.push_back(candidate);
            std::push_heap(kept.begin(), kept.end(), before);
        } else if (before(candidate, kept.front())) {
            std::pop_heap(kept.begin(), kept.end(), before);
            kept.back() = candidate;
            std::push_heap(kept.begin(), kept.end(), before);
        }
    }
    std::sort_heap(kept.begin(), kept.end(), before);
    return kept;
}

// Cuts sorted candidates behind the first place where their sum reaches `mass`; false if it does
// not.
bool cut_at_mass(std::vector<Candidate> &sorted, double mass) {
    double sum = 0.0;
    for (size_t i = 0; i < sorted.size(); i++) {
        sum += sorted[i].weight;
        if (sum >= mass) {
            sorted.resize(i + 1);
            return true;
        }
    }
    return false;
}

// The smallest set of the heaviest tokens whose sum reaches `mass`, less those lighter than
// `least`. Nearly always a few hundred tokens hold it, so only tokens above a falling limit are
// sorted.
std::vector<Candidate> nucleus(const float *weight, int32_t n, double mass, float least) {
    constexpr float NOTHING_LEFT = 1e-38f; // a lighter weight is 0
    std::vector<Candidate> sorted;
    for (float limit = 1e-3f;; limit *= 0.1f) {
        limit = std::max({limit, least, NOTHING_LEFT});
        sorted.clear();
        for (int32_t token = 0; token < n; token++) {
            if (weight[token] >= limit) {
                sorted.push_back({weight[token], token});
            }
        }
        std::sort(sorted.begin(), sorted.end(), before);
        if (cut_at_mass(sorted, mass) || limit <= least || limit <= NOTHING_LEFT) {
            return sorted;
        }
    }
}

uint64_t mix(uint64_t x) { // the finalizer of splitmix64 (Steele, Lea, Flood 2014)
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

// The randomness of one draw: an independent uniform number for each token.
struct Noise {
    uint32_t low;
    uint32_t high;
};

inline uint32_t scramble(uint32_t h) { // the finalizer of MurmurHash3 (Appleby, public domain)
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    h = (h ^ (h >> 13)) * 0xc2b2ae35u;
    return h ^ (h >> 16);
}

// -log(1 - v) for v in [0, 1]: a standard exponential variate when v is uniform. Near 0, where the
// winners of a race are decided, it keeps the full relative precision of v. Relative error < 3e-6.
inline float exponential(float v) {
    float series = 1.0f / 9.0f; // v + v^2 / 2 + v^3 / 3 + ...
    series = series * v + 1.0f / 8.0f;
    series = series * v + 1.0f / 7.0f;
    series = series * v + 1.0f / 6.0f;
    series = series * v + 1.0f / 5.0f;
    series = series * v + 1.0f / 4.0f;
    series = series * v + 1.0f / 3.0f;
    series = series * v + 1.0f / 2.0f;
    series = series * v + 1.0f;

    // Elsewhere 1 - v = 2^e * m with m in [1, 2), and log(m) = 2 atanh((m - 1) / (m + 1)).
    const float u = 1.0f - v;
    uint32_t bits;
    std::memcpy(&bits, &u, sizeof(bits));
    const float e = static_cast<float>(static_cast<int32_t>(bits >> 23) - 127);
    bits = (bits & 0x007fffffu) | 0x3f800000u;
    float m;
    std::memcpy(&m, &bits, sizeof(m));
    const float t = (m - 1.0f) / (m + 1.0f);
    const float t2 = t * t;
    float log_m = 2.0f / 9.0f;
    log_m = log_m * t2 + 2.0f / 7.0f;
    log_m = log_m * t2 + 2.0f / 5.0f;
    log_m = log_m * t2 + 2.0f / 3.0f;
    log_m = (log_m * t2 + 2.0f) * t;
    return v < 0.2f ? series * v : -(e * 0.693147181f + log_m);
}

// When each token arrives in a race in which it arrives at rate `weight`: token i is the first with
// probability weight_i / sum, and the winner changes only if two arrivals are closer than the
// weights' errors. That is what makes a seed hold when a batch changes the last bits of the logits.
inline float arrival(Noise noise, int32_t token, float weight) {
    const uint32_t h = scramble(scramble(static_cast<uint32_t>(token) ^ noise.low) + noise.high);
    const float v = (static_cast<float>(h) + 0.5f) * 0x1.0p-32f;
    return exponential(v) / weight;
}

int32_t race(const std::vector<Candidate> &candidates, Noise noise) {
    Candidate winner = {std::numeric_limits<float>::infinity(), candidates.front().token};
    for (const Candidate &candidate : candidates) {
        const float time = arrival(noise, candidate.token, candidate.weight);
        if (time < winner.weight) {
            winner = {time, candidate.token};
        }
    }
    return winner.token;
}

// Among all tokens, LANES at a time; tokens of weight 0 never arrive.
int32_t race(float *weight, int32_t n, Noise noise) {
    for (int32_t token = 0; token < n; token++) {
        weight[token] = -arrival(noise, token, weight[token]);
    }
    return static_cast<int32_t>(std::find(weight, weight + n, maximum(weight, n)) - weight);
}

} // namespace

Sampler::Sampler(int32_t n_vocab, SamplingParams params, const int32_t *prompt, int32_t n_prompt)
    : n_vocab_(n_vocab), params_(std::move(params)) {
    require(n_vocab > 0, "n_vocab must be positive");
    require(std::isfinite(params_.temperature) && params_.temperature >= 0.0f,
            "temperature must be finite and >= 0");
    require(params_.top_k >= 0, "top_k must be >= 0 (0: off)");
    require(params_.top_p > 0.0f && params_.top_p <= 1.0f, "top_p must be in (0, 1]");
    require(params_.min_p >= 0.0f && params_.min_p <= 1.0f, "min_p must be in [0, 1]");
    require(std::isfinite(params_.repeat_penalty) && params_.repeat_penalty > 0.0f,
            "repeat_penalty must be > 0");
    require(std::isfinite(params_.frequency_penalty), "frequency_penalty must be finite");
    require(std::isfinite(params_.presence_penalty), "presence_penalty must be finite");
    for (const Bias &bias : params_.bias) {
        require(bias.token >= 0 && bias.token < n_vocab,
                "a logit bias names a token outside the vocabulary");
        require(!std::isnan(bias.value), "a logit bias is not a number");
    }
    if (params_.repeat_penalty != 1.0f) {
        for (int32_t i = 0; i < n_prompt; i++) {
            require(prompt[i] >= 0 && prompt[i] < n_vocab,
                    "a prompt token is outside the vocabulary");
            seen_.insert(prompt[i]);
        }
    }
}

// Returns the row itself if nothing changes it, else a changed copy.
const float *Sampler::adjusted(const float *logits, const uint32_t *mask) {
    const bool counted = params_.frequency_penalty != 0.0f || params_.presence_penalty != 0.0f;
    if (mask == nullptr && params_.bias.empty() && !(counted && !generated_.empty()) &&
        seen_.empty()) {
        return logits;
    }
    logits_scratch.assign(logits, logits + n_vocab_);
    float *row = logits_scratch.data();
    for (int32_t token : seen_) {
        row[token] = row[token] > 0.0f ? row[token] / params_.repeat_penalty
                                       : row[token] * params_.repeat_penalty;
    }
    if (counted) {
        for (const auto &[token, count] : generated_) {
            row[token] -=
                params_.frequency_penalty * static_cast<float>(count) + params_.presence_penalty;
        }
    }
    for (const Bias &bias : params_.bias) {
        row[bias.token] += bias.value;
    }
    if (mask != nullptr) {
        for (int32_t token = 0; token < n_vocab_; token++) {
            const bool allowed = (mask[token / 32] >> (token % 32)) & 1u;
            row[token] = allowed ? row[token] : MINUS_INFINITY;
        }
    }
    return row;
}

int32_t Sampler::draw(const float *logits) {
    const float top = maximum(logits, n_vocab_);
    if (!std::isfinite(top)) {
        throw std::runtime_error("no token has a finite logit");
    }
    if (params_.temperature == 0.0f) {
        return static_cast<int32_t>(std::find(logits, logits + n_vocab_, top) - logits);
    }
    weight_scratch.resize(static_cast<size_t>(n_vocab_));
    float *weight = weight_scratch.data();
    // A temperature near zero makes 1 / temperature infinite, and 0 * infinity not a number.
    const float scale = std::min(1.0f / params_.temperature, 1e30f);
    const double total = softmax_weights(logits, n_vocab_, top, scale, weight);
    if (!std::isfinite(total)) {
        throw std::runtime_error("the logits are not numbers");
    }
    const uint64_t bits = mix(mix(params_.seed) + (n_drawn_ + 1) * 0x9e3779b97f4a7c15ULL);
    const Noise noise = {static_cast<uint32_t>(bits), static_cast<uint32_t>(bits >> 32)};

    const bool limited = params_.top_k > 0 && params_.top_k < n_vocab_;
    if (!limited && params_.top_p >= 1.0f && params_.min_p <= 0.0f) {
        return race(weight, n_vocab_, noise);
    }
    std::vector<Candidate> candidates;
    if (limited) {
        candidates = heaviest(weight, n_vocab_, params_.top_k);
        double kept = 0.0;
        for (const Candidate &candidate : candidates) {
            kept += candidate.weight;
        }
        if (params_.top_p < 1.0f) {
            cut_at_mass(candidates, params_.top_p * kept);
        }
        while (candidates.size() > 1 && candidates.back().weight < params_.min_p) {
            candidates.pop_back(); // the heaviest weighs 1, so min_p needs no scaling
        }
    } else {
        const double mass =
            params_.top_p < 1.0f ? params_.top_p * total : std::numeric_limits<double>::infinity();
        candidates = nucleus(weight, n_vocab_, mass, params_.min_p);
    }
    return race(candidates, noise);
}

int32_t Sampler::sample(const float *logits, const uint32_t *mask) {
    const int32_t token = draw(adjusted(logits, mask));
    n_drawn_++;
    if (params_.frequency_penalty != 0.0f || params_.presence_penalty != 0.0f) {
        generated_[token]++;
    }
    if (params_.repeat_penalty != 1.0f) {
        seen_.insert(token);
    }
    return token;
}

Logprob logprobs(const float *logits, int32_t n_vocab, int32_t token, int32_t n_top,
                 std::vector<Logprob> &top) {
    const float best = maximum(logits, n_vocab);
    weight_scratch.resize(static_cast<size_t>(n_vocab));
    const double total = softmax_weights(logits, n_vocab, best, 1.0f, weight_scratch.data());
    const double log_total = std::log(total) + best;
    top.clear();
    if (n_top > 0) {
        for (const Candidate &candidate : heaviest(logits, n_vocab, std::min(n_top, n_vocab))) {
            top.push_back({candidate.token, static_cast<float>(candidate.weight - log_total)});
        }
    }
    return {token, static_cast<float>(logits[token] - log_total)};
}

} // namespace sheily
