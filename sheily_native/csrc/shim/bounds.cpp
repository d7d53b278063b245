// Measures the limits of this machine: bytes read from memory and 8-bit multiply-adds, a second.
#include "shim/shim.h"

#include "kernels/registry.h"
#include "threads.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>

#if defined(__linux__)
#include <sys/mman.h>
#endif

using sheily::fail;
using sheily::guarded;
using Clock = std::chrono::steady_clock;

namespace {

double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Returns the seconds until all threads have done their part.
template <typename Part> double timed(int32_t n_threads, const Part &part) {
    const Clock::time_point begin = Clock::now();
    sheily::on_threads(n_threads, part);
    return seconds_since(begin);
}

struct Free {
    void operator()(uint64_t *words) const { std::free(words); }
};
using Words = std::unique_ptr<uint64_t, Free>;

// Allocates large pages where the system has them, as for the weights.
Words allocate(size_t n_words) {
    constexpr size_t LARGE_PAGE = 2u << 20;
    const size_t bytes = (n_words * sizeof(uint64_t) + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
    void *memory = std::aligned_alloc(LARGE_PAGE, bytes);
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
#if defined(__linux__)
    madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return Words(static_cast<uint64_t *>(memory));
}

// Loads once from every cache line; no load waits for another. With `ahead`, lines so many bytes
// further on are prefetched into the second-level cache, which some machines need for full speed.
uint64_t read_lines(const uint64_t *words, size_t n_words, size_t ahead) {
    constexpr size_t LINE = 64 / sizeof(uint64_t);
    uint64_t sums[8] = {};
    for (size_t i = 0; i + 8 * LINE <= n_words; i += 8 * LINE) {
        for (size_t line = 0; line < 8; line++) {
            if (ahead != 0) {
                __builtin_prefetch(words + i + line * LINE + ahead / sizeof(uint64_t), 0, 2);
            }
            sums[line] ^= words[i + line * LINE];
        }
    }
    uint64_t all = 0;
    for (const uint64_t sum : sums) {
        all ^= sum;
    }
    return all;
}

constexpr size_t AHEADS[] = {0, 2048, 4096, 8192};

} // namespace

extern "C" {

int sn_measure_bandwidth(int32_t n_threads, uint64_t n_bytes, double seconds,
                         double *bytes_a_second) {
    return guarded([&] {
        if (n_threads < 1 || n_bytes < 1u << 20) {
            return fail(SN_INVALID_ARGUMENT, "at least a thread and a megabyte are needed");
        }
        const size_t n_words = n_bytes / sizeof(uint64_t) / n_threads / 64 * 64;
        std::vector<Words> parts;
        for (int32_t i = 0; i < n_threads; i++) {
            parts.push_back(allocate(n_words));
        }
        timed(n_threads,
              [&](int32_t i) { std::fill_n(parts[i].get(), n_words, static_cast<uint64_t>(i)); });
        std::atomic<uint64_t> sink{0}; // or the compiler would leave out the reads
        double best = 0;
        const Clock::time_point begin = Clock::now();
        do {
            for (const size_t ahead : AHEADS) {
                const double taken = timed(n_threads, [&](int32_t i) {
                    sink ^= read_lines(parts[i].get(), n_words, ahead);
                });
                best = std::max(best, n_words * sizeof(uint64_t) * n_threads / taken);
            }
        } while (seconds_since(begin) < seconds);
        *bytes_a_second = best;
        return static_cast<int>(SN_OK);
    });
}

int sn_measure_peak(int32_t kernel, int32_t n_threads, double seconds,
                    double *multiply_adds_a_second) {
    return guarded([&] {
        if (const int status = sheily::check_kernel(kernel)) {
            return status;
        }
        if (n_threads < 1) {
            return fail(SN_INVALID_ARGUMENT, "at least one thread is needed, not %d", n_threads);
        }
        const auto peak = sheily::instruction_set(kernel)->peak;
        constexpr int64_t TURNS = 1 << 20;
        double best = 0;
        const Clock::time_point begin = Clock::now();
        do {
            std::vector<int64_t> done(n_threads);
            const double taken = timed(n_threads, [&](int32_t i) { done[i] = peak(TURNS); });
            int64_t all = 0;
            for (const int64_t n : done) {
                all += n;
            }
            best = std::max(best, all / taken);
        } while (seconds_since(begin) < seconds);
        *multiply_adds_a_second = best;
        return static_cast<int>(SN_OK);
    });
}

} // extern "C"
