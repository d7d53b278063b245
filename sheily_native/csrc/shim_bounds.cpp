// What this machine can do at most: bytes read from memory and 8-bit multiply-adds, a second.
#include "shim.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <thread>

using sheily::fail;
using sheily::guarded;
using Clock = std::chrono::steady_clock;

namespace {

double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

// The seconds until all threads have done their part.
double timed(int32_t n_threads, const std::function<void(int32_t)> &part) {
    const Clock::time_point begin = Clock::now();
    std::vector<std::thread> others;
    for (int32_t i = 1; i < n_threads; i++) {
        others.emplace_back(part, i);
    }
    part(0);
    for (std::thread &thread : others) {
        thread.join();
    }
    return seconds_since(begin);
}

// One load from every cache line, none waiting for another.
uint64_t read_lines(const uint64_t *words, size_t n_words) {
    uint64_t sums[8] = {};
    for (size_t i = 0; i + 64 <= n_words; i += 64) {
        for (size_t line = 0; line < 8; line++) {
            sums[line] ^= words[i + 8 * line];
        }
    }
    uint64_t all = 0;
    for (const uint64_t sum : sums) {
        all ^= sum;
    }
    return all;
}

} // namespace

extern "C" {

int sn_measure_bandwidth(int32_t n_threads, uint64_t n_bytes, double seconds,
                         double *bytes_a_second) {
    return guarded([&] {
        if (n_threads < 1 || n_bytes < 1u << 20) {
            return fail(SN_INVALID_ARGUMENT, "at least a thread and a megabyte are needed");
        }
        const size_t n_words = n_bytes / sizeof(uint64_t) / n_threads;
        std::vector<std::vector<uint64_t>> parts(n_threads);
        timed(n_threads, [&](int32_t i) { parts[i].assign(n_words, i + 1); });
        volatile uint64_t sink = 0;
        double best = 0;
        const Clock::time_point begin = Clock::now();
        do {
            const double taken =
                timed(n_threads, [&](int32_t i) { sink = read_lines(parts[i].data(), n_words); });
            best = std::max(best, n_words * sizeof(uint64_t) * n_threads / taken);
        } while (seconds_since(begin) < seconds);
        *bytes_a_second = best;
        return static_cast<int>(SN_OK);
    });
}

int sn_measure_peak(int32_t kernel, int32_t n_threads, double seconds,
                    double *multiply_adds_a_second) {
    return guarded([&] {
        if (n_threads < 1 || !sn_kernel_runs_here(kernel)) {
            return fail(SN_INVALID_ARGUMENT, "this CPU has no kernel %d", kernel);
        }
        const sheily::q8_0::Kernel &measured = *sheily::q8_0::KERNELS[kernel];
        constexpr int64_t TURNS = 1 << 20;
        double best = 0;
        const Clock::time_point begin = Clock::now();
        do {
            std::vector<int64_t> done(n_threads);
            const double taken =
                timed(n_threads, [&](int32_t i) { done[i] = measured.peak(TURNS); });
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
