// Errors, logs and the start of llama.cpp; knows no model.
#include "shim/shim.h"

#include "kernels/ggml/repack_buffer.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace sheily {
namespace {

thread_local char last_error[1024];     // not a string: there may be no memory for one
thread_local std::string logged_errors; // what llama.cpp logged as errors while this thread loads
std::atomic<int32_t> log_level{2};
std::atomic<int32_t> last_level{GGML_LOG_LEVEL_NONE};

int32_t rank(ggml_log_level level) {
    switch (level) {
    case GGML_LOG_LEVEL_ERROR:
        return 1;
    case GGML_LOG_LEVEL_WARN:
        return 2;
    case GGML_LOG_LEVEL_INFO:
        return 3;
    default:
        return 4;
    }
}

// Writes one line for each message: "<E|W|I|D> llama: text". A piece that continues a line has the
// level of that line; llama.cpp uses such pieces for progress dots and tables alone.
void log_line(ggml_log_level level, const char *text) {
    if (level == GGML_LOG_LEVEL_CONT) {
        level = static_cast<ggml_log_level>(last_level.load());
    } else {
        last_level = level;
    }
    std::string line(text);
    while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) {
        line.pop_back();
    }
    if (line.empty() || line.find_first_not_of('.') == std::string::npos) {
        return;
    }
    if (level == GGML_LOG_LEVEL_ERROR) {
        logged_errors = logged_errors.empty() ? line : logged_errors; // the first is the reason
    }
    if (rank(level) <= log_level) {
        fprintf(stderr, "%c llama: %s\n", " EWID"[rank(level)], line.c_str());
    }
}

void on_log(ggml_log_level level, const char *text, void *) {
    try {
        log_line(level, text);
    } catch (const std::bad_alloc &) { // must not get into ggml's C code, nor end a load
    }
}

// ggml calls abort() after this: the sentence is all that the process leaves behind.
void on_abort(const char *message) {
    fprintf(stderr, "F ggml: %s\n", message);
    fflush(stderr);
}

} // namespace

int fail(int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_error, sizeof(last_error), format, arguments);
    va_end(arguments);
    return status;
}

void start_backend() {
    static std::once_flag once;
    std::call_once(once, [] {
        // Without this ggml's abort starts a debugger, when there is one, and waits for it.
        setenv("GGML_NO_BACKTRACE", "1", 0);
        ggml_set_abort_callback(on_abort);
        llama_log_set(on_log, nullptr);
        register_repack_buffer();
        llama_backend_init();
    });
}

std::string take_logged_errors() {
    std::string errors;
    errors.swap(logged_errors);
    return errors.empty() ? "llama.cpp gave no reason" : errors;
}

} // namespace sheily

extern "C" {

const char *sn_last_error(void) {
    return sheily::last_error;
}

void sn_set_log_level(int32_t level) {
    sheily::log_level = level;
}

} // extern "C"
