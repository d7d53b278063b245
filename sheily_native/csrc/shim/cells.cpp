// The KV cells of a context's sequences: counted, cut, shared.
#include "shim/context.h"

#include <algorithm>

using sheily::Change;
using sheily::check_sequence;
using sheily::fail;
using sheily::guarded;
using sheily::memory_of;
using sheily::valid_sequence;

extern "C" {

int32_t sn_kv_length(const sn_context *context, int32_t sequence) {
    return valid_sequence(context, sequence) ? context->length[sequence] : -1;
}

int sn_kv_truncate(sn_context *context, int32_t sequence, int32_t length) {
    return guarded([&] {
        if (const int status = check_sequence(context, sequence)) {
            return status;
        }
        if (length < 0 || length > context->length[sequence]) {
            return fail(SN_INVALID_ARGUMENT, "sequence %d has %d cells and cannot be cut to %d",
                        sequence, context->length[sequence], length);
        }
        Change change(context);
        if (!llama_memory_seq_rm(memory_of(context), sequence, length, -1)) {
            return fail(SN_INTERNAL, "this model's memory cannot be cut at a position");
        }
        context->length[sequence] = length;
        change.made();
        return static_cast<int>(SN_OK);
    });
}

int sn_kv_share(sn_context *context, int32_t from, int32_t to, int32_t begin, int32_t end) {
    return guarded([&] {
        if (!valid_sequence(context, from) || !valid_sequence(context, to) || from == to) {
            return fail(SN_INVALID_ARGUMENT,
                        "sequence %d cannot share with %d: two of 0 to %d are wanted", from, to,
                        context->n_seq_max - 1);
        }
        if (begin < 0 || begin > end || end > context->length[from] ||
            begin > context->length[to]) {
            return fail(SN_INVALID_ARGUMENT,
                        "cells %d to %d of sequence %d, which has %d, cannot be shared with "
                        "sequence %d, which has %d",
                        begin, end, from, context->length[from], to, context->length[to]);
        }
        if (begin == end) {
            return static_cast<int>(SN_OK);
        }
        Change change(context);
        llama_memory_t memory = memory_of(context);
        if (!llama_memory_seq_rm(memory, to, begin, end)) {
            return fail(SN_INTERNAL, "this model's memory cannot be cut at a position");
        }
        sheily::test_throw("share");
        llama_memory_seq_cp(memory, from, to, begin, end);
        context->length[to] = std::max(context->length[to], end);
        change.made();
        return static_cast<int>(SN_OK);
    });
}

void sn_kv_clear(sn_context *context) {
    llama_memory_clear(memory_of(context), false);
    std::fill(context->length.begin(), context->length.end(), 0);
}

} // extern "C"
