// The same work on several threads, one of which is the caller's.
#pragma once

#include "test_throw.h"

#include <cstdint>
#include <thread>
#include <vector>

namespace sheily {

// Calls part(0) to part(n - 1), each on a thread of its own, part(0) on this one; part must not
// throw. Returns when all have ended. If a thread cannot be started, it waits for those that were,
// and throws std::system_error.
template <typename Part> void on_threads(int32_t n, const Part &part) {
    struct Joined {
        std::vector<std::thread> threads;
        ~Joined() {
            for (std::thread &thread : threads) {
                thread.join();
            }
        }
    } others;
    others.threads.reserve(static_cast<size_t>(n));
    for (int32_t i = 1; i < n; i++) {
        others.threads.emplace_back([&part, i] { part(i); });
        test_throw("thread");
    }
    part(0);
}

} // namespace sheily
