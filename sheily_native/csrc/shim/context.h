// What the files about contexts share: sequences and their cells.
#pragma once

#include "shim/shim.h"

namespace sheily {

inline bool valid_sequence(const sn_context *context, int32_t sequence) {
    return sequence >= 0 && sequence < context->n_seq_max;
}

inline int check_sequence(const sn_context *context, int32_t sequence) {
    return valid_sequence(context, sequence)
               ? static_cast<int>(SN_OK)
               : fail(SN_INVALID_ARGUMENT, "sequence %d is not in 0 to %d", sequence,
                      context->n_seq_max - 1);
}

inline llama_memory_t memory_of(const sn_context *context) {
    return llama_get_memory(context->context.get());
}

// Nanoseconds of the monotonic clock.
int64_t now_ns();

// A change of the cells. A change that failed may have been made in part: unless made() is called,
// the lengths of all sequences are read from llama.cpp again.
class Change {
  public:
    explicit Change(sn_context *context) : context_(context) {}
    ~Change() {
        for (int32_t sequence = 0; !made_ && sequence < context_->n_seq_max; sequence++) {
            context_->length[sequence] =
                llama_memory_seq_pos_max(memory_of(context_), sequence) + 1;
        }
    }
    Change(const Change &) = delete;
    Change &operator=(const Change &) = delete;

    void made() { made_ = true; }

  private:
    sn_context *context_;
    bool made_ = false;
};

} // namespace sheily
