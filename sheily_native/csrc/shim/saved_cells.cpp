// The KV cells of a part of a sequence as bytes, and back. The format is llama.cpp's state of one
// sequence; what it would not notice in bytes that are wrong is checked here first.
#include "shim/context.h"

#include <algorithm>
#include <cstring>

using sheily::Change;
using sheily::check_sequence;
using sheily::fail;
using sheily::guarded;
using sheily::memory_of;

namespace {

// llama_context::state_seq_write_data() and llama_kv_cache::state_write(), of a cache whose V is
// not transposed: magic, sequence, streams, cells; position, sequences, sequence of each cell;
// transposed, layers, two rotations; type and size of a row, and the rows, of K and V of each
// layer.
constexpr uint64_t HEAD = 4 * sizeof(uint32_t);
constexpr uint64_t META_A_CELL = 3 * sizeof(uint32_t);
constexpr uint64_t DATA_HEAD = 4 * sizeof(uint32_t);
constexpr uint64_t LAYER_HEAD = sizeof(int32_t) + sizeof(uint64_t);

uint64_t saved_size(const sn_context *context, int32_t n_cells) {
    const uint64_t n = static_cast<uint64_t>(n_cells);
    const uint64_t a_cell = context->kv_bytes / llama_n_ctx(context->context.get());
    const uint64_t n_layers =
        static_cast<uint64_t>(llama_model_n_layer(llama_get_model(context->context.get())));
    return HEAD + DATA_HEAD + 2 * n_layers * LAYER_HEAD + n * (META_A_CELL + a_cell);
}

uint32_t number_at(const uint8_t *data) {
    uint32_t number = 0;
    std::memcpy(&number, data, sizeof(number));
    return number;
}

// Whether the bytes are those of one cell each at the positions [begin, end), in any order.
bool is_whole(const sn_context *context, int32_t begin, int32_t end, const uint8_t *data,
              uint64_t size) {
    const int32_t n = end - begin;
    if (size != saved_size(context, n) || number_at(data + 8) != 1 ||
        number_at(data + 12) != static_cast<uint32_t>(n)) {
        return false;
    }
    std::vector<bool> seen(static_cast<size_t>(n), false);
    for (int32_t i = 0; i < n; i++) {
        const uint8_t *cell = data + HEAD + static_cast<uint64_t>(i) * META_A_CELL;
        const int64_t place = static_cast<int64_t>(static_cast<int32_t>(number_at(cell))) - begin;
        if (place < 0 || place >= n || seen[static_cast<size_t>(place)] ||
            number_at(cell + 4) != 1) {
            return false;
        }
        seen[static_cast<size_t>(place)] = true;
    }
    const uint8_t *transposed = data + HEAD + static_cast<uint64_t>(n) * META_A_CELL;
    return number_at(transposed) == 0;
}

// A sequence that has cells only inside a call.
class Scratch {
  public:
    Scratch(sn_context *context, int32_t sequence) : context_(context), sequence_(sequence) {
        empty();
    }
    ~Scratch() { empty(); }
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;

  private:
    void empty() {
        llama_memory_seq_rm(memory_of(context_), sequence_, -1, -1);
        context_->length[sequence_] = 0;
    }

    sn_context *context_;
    int32_t sequence_;
};

int check(const sn_context *context, int32_t sequence, int32_t scratch, int32_t begin,
          int32_t end) {
    if (const int status = check_sequence(context, sequence)) {
        return status;
    }
    if (const int status = check_sequence(context, scratch)) {
        return status;
    }
    if (sequence == scratch || context->length[scratch] != 0) {
        return fail(SN_INVALID_ARGUMENT, "sequence %d is not an empty one beside %d", scratch,
                    sequence);
    }
    if (begin < 0 || begin >= end ||
        static_cast<uint32_t>(end) > llama_n_ctx(context->context.get())) {
        return fail(SN_INVALID_ARGUMENT, "%d to %d is not a range of cells", begin, end);
    }
    return SN_OK;
}

} // namespace

extern "C" {

uint64_t sn_kv_saved_size(const sn_context *context, int32_t n_cells) {
    return n_cells < 1 ? 0 : saved_size(context, n_cells);
}

int sn_kv_save(sn_context *context, int32_t sequence, int32_t scratch, int32_t begin, int32_t end,
               uint8_t *out, uint64_t size) {
    return guarded([&] {
        if (const int status = check(context, sequence, scratch, begin, end)) {
            return status;
        }
        if (end > context->length[sequence] || size != saved_size(context, end - begin)) {
            return fail(SN_INVALID_ARGUMENT,
                        "cells %d to %d of sequence %d, which has %d, do not go into %llu bytes",
                        begin, end, sequence, context->length[sequence],
                        static_cast<unsigned long long>(size));
        }
        const Scratch empty_at_last(context, scratch);
        llama_memory_seq_cp(memory_of(context), sequence, scratch, begin, end);
        sheily::take_logged_errors();
        const size_t written = llama_state_seq_get_data(context->context.get(), out, size, scratch);
        if (written != size || !is_whole(context, begin, end, out, size)) {
            return fail(SN_INTERNAL, "this model's cells cannot be saved: %s",
                        sheily::take_logged_errors().c_str());
        }
        return static_cast<int>(SN_OK);
    });
}

int sn_kv_load(sn_context *context, int32_t sequence, int32_t scratch, int32_t begin, int32_t end,
               const uint8_t *data, uint64_t size) {
    return guarded([&] {
        if (const int status = check(context, sequence, scratch, begin, end)) {
            return status;
        }
        const int32_t length = context->length[sequence];
        if (length < begin || length >= end) {
            return fail(SN_INVALID_ARGUMENT,
                        "cells %d to %d do not go on where sequence %d ends, at %d", begin, end,
                        sequence, length);
        }
        if (!is_whole(context, begin, end, data, size)) {
            return fail(SN_INVALID_ARGUMENT, "%llu bytes are not those of cells %d to %d",
                        static_cast<unsigned long long>(size), begin, end);
        }
        Change change(context);
        const Scratch empty_at_last(context, scratch);
        sheily::take_logged_errors();
        if (llama_state_seq_set_data(context->context.get(), data, size, scratch) != size) {
            return fail(SN_KV_FULL, "cells %d to %d cannot be loaded: %s", begin, end,
                        sheily::take_logged_errors().c_str());
        }
        sheily::test_throw("load");
        llama_memory_seq_cp(memory_of(context), scratch, sequence, length, end);
        context->length[sequence] = end;
        change.made();
        return static_cast<int>(SN_OK);
    });
}

} // extern "C"
