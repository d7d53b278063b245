// Faults that the tests ask for by environment variables. They are in the library of the target
// _native_hooks alone; in every other build this is an empty function.
#pragma once

#ifdef SHEILY_TEST_HOOKS

#include "ggml.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

namespace sheily {

inline int test_number(const char *variable) {
    const char *text = std::getenv(variable);
    return text == nullptr ? 0 : std::atoi(text);
}

// Called inside each step, behind the last sign of life before the step computes: the N-th one, of
// all contexts together, aborts as an assertion of ggml does, or never comes back.
inline void test_fault() {
    static std::atomic<int> n_steps{0};
    const int step = ++n_steps;
    if (step == test_number("SHEILY_TEST_ABORT_AFTER")) {
        GGML_ABORT("a test wants step %d to abort", step);
    }
    while (step == test_number("SHEILY_TEST_HANG_AFTER")) {
        std::this_thread::sleep_for(std::chrono::seconds(1));
    }
}

} // namespace sheily

#else

namespace sheily {

inline void test_fault() {}

} // namespace sheily

#endif
