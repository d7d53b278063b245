// A failed allocation that the tests ask for by an environment variable. It is in the library of
// the target _native_hooks alone; in every other build this is an empty function.
#pragma once

#ifdef SHEILY_TEST_HOOKS

#include <cstdlib>
#include <cstring>
#include <new>

namespace sheily {

// Called where something was made that a throw must not leave behind: throws as an allocation does
// that fails there, where the test names this place.
inline void test_throw(const char *place) {
    const char *wanted = std::getenv("SHEILY_TEST_THROW");
    if (wanted != nullptr && std::strcmp(wanted, place) == 0) {
        throw std::bad_alloc();
    }
}

} // namespace sheily

#else

namespace sheily {

inline void test_throw(const char *) {}

} // namespace sheily

#endif
