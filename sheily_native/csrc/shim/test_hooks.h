// Faults that the tests ask for by environment variables. They are in the library of the target
// _native_hooks alone; in every other build these are empty functions.
#pragma once

#include "test_throw.h"

#include <atomic>

#ifdef SHEILY_TEST_HOOKS

#include "kernels/ggml/attention_op.h"
#include "kernels/ggml/repack_buffer.h"

#include "ggml.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace sheily {

inline int test_number(const char *variable) {
    const char *text = std::getenv(variable);
    return text == nullptr ? 0 : std::atoi(text);
}

// Whether the test wants the fault now: it has made the file that the variable names. The file is
// removed, so that only one step takes the order for its own.
inline bool test_ordered(const char *variable) {
    const char *path = std::getenv(variable);
    return path != nullptr && std::remove(path) == 0;
}

// Called inside each step, behind the last sign of life before the step computes: it aborts as an
// assertion of ggml does, or never comes back.
inline void test_fault() {
    if (test_ordered("SHEILY_TEST_ABORT")) {
        GGML_ABORT("a test wants this step to abort");
    }
    for (bool hangs = test_ordered("SHEILY_TEST_HANG"); hangs;) {
        std::this_thread::sleep_for(std::chrono::seconds(1));
    }
}

// Names what a call has left set on its thread, where later ones would find it; null if nothing.
inline const char *test_left() {
    const attention::Kernel *attention = exchange_attention(nullptr);
    const Repacking repacking = exchange_repacking({nullptr, false, 1});
    return attention != nullptr ? "attention" : repacking.set != nullptr ? "repacking" : nullptr;
}

// Holds a load that has begun until it is cancelled.
inline void test_hold_load(float fraction, const std::atomic<bool> &cancelled) {
    while (test_number("SHEILY_TEST_HOLD_LOAD") != 0 && fraction > 0.0f && !cancelled) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

} // namespace sheily

#else

namespace sheily {

inline void test_fault() {}
inline const char *test_left() {
    return nullptr;
}
inline void test_hold_load(float, const std::atomic<bool> &) {}

} // namespace sheily

#endif
