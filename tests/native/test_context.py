"""Steps over many sequences on a tiny model: the same logits however a prompt is cut or batched."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sheily_native import (
    AbortedError,
    ClosedError,
    Context,
    Entry,
    InvalidArgumentError,
    KVFullError,
    Model,
    Sampler,
    SamplingParams,
    WrongThreadError,
)

# Batched, cached and single runs sum in different orders, so logits agree within this and not to
# the bit; the tiny model's logits are of the order of 1. docs/architecture.md says it too.
TOLERANCE = 2e-2
GREEDY = SamplingParams(temperature=0)
PROMPT = [791, 6864, 315, 18157, 374, 264, 3363, 430, 527, 1690, 922]

Row = npt.NDArray[np.float32]


@pytest.fixture
def context(tiny: Model) -> Iterator[Context]:
    with Context(tiny, n_ctx=1024, n_seq_max=4, n_batch=64, n_ubatch=64, n_threads=2) as context:
        yield context


@pytest.fixture
def greedy(tiny: Model) -> Iterator[Sampler]:
    with Sampler(tiny.info.n_vocab, GREEDY) as sampler:
        yield sampler


def logits_after(context: Context, sequence: int, tokens: list[int]) -> Row:
    context.step([Entry(sequence, tokens, logits=True)])
    row: Row = context.logits(0).copy()
    return row


def generate(context: Context, sequence: int, tokens: list[int], n: int) -> list[int]:
    with Sampler(context.model.info.n_vocab, GREEDY) as sampler:
        out: list[int] = []
        while len(out) < n:
            [sampled] = context.step([Entry(sequence, tokens, sampler=sampler)])
            assert sampled is not None
            tokens = sampled.tokens
            out += tokens
        return out


def test_a_prompt_in_chunks_gives_the_logits_of_a_whole_one(context: Context) -> None:
    whole = logits_after(context, 0, PROMPT)
    for cut in range(1, len(PROMPT)):
        context.truncate(1, 0)
        context.step([Entry(1, PROMPT[:cut])])
        np.testing.assert_allclose(logits_after(context, 1, PROMPT[cut:]), whole, atol=TOLERANCE)


def test_sequences_in_one_batch_do_not_see_each_other(context: Context) -> None:
    alone = [logits_after(context, 0, PROMPT), logits_after(context, 1, PROMPT[::-1])]
    context.clear()
    context.step([Entry(2, PROMPT, logits=True), Entry(3, PROMPT[::-1], logits=True)])
    for entry in (0, 1):
        np.testing.assert_allclose(context.logits(entry), alone[entry], atol=TOLERANCE)
    assert np.abs(alone[0] - alone[1]).max() > 10 * TOLERANCE


def test_a_shared_prefix_is_as_good_as_a_computed_one(context: Context) -> None:
    wanted = logits_after(context, 0, PROMPT)
    context.share(0, 1, 0, 6)
    assert context.length(1) == 6
    np.testing.assert_allclose(logits_after(context, 1, PROMPT[6:]), wanted, atol=TOLERANCE)
    context.truncate(0, 0)  # the shared cells stay with sequence 1
    assert context.length(1) == len(PROMPT)
    context.truncate(1, 6)
    np.testing.assert_allclose(logits_after(context, 1, PROMPT[6:]), wanted, atol=TOLERANCE)


def test_shared_cells_take_the_place_of_equal_ones_in_the_middle(context: Context) -> None:
    wanted = logits_after(context, 0, PROMPT)
    for i in (1, 2):  # other logits, since nothing is kept of those above
        context.step([Entry(i, PROMPT[:-1])])
    context.share(1, 2, 2, 6)
    assert context.length(2) == len(PROMPT) - 1
    context.truncate(1, 0)
    np.testing.assert_allclose(logits_after(context, 2, PROMPT[-1:]), wanted, atol=TOLERANCE)


def test_a_shared_cell_is_free_when_nobody_has_it(tiny: Model) -> None:
    with Context(tiny, n_ctx=256, n_seq_max=3, n_batch=200, n_threads=1) as context:
        context.step([Entry(0, [1] * 200)])
        context.share(0, 1, 0, 150)
        context.share(0, 2, 0, 150)
        context.truncate(0, 0)
        context.truncate(1, 100)
        with pytest.raises(KVFullError):
            context.step([Entry(0, [1] * 107)])
        context.step([Entry(0, [1] * 106)])
        context.truncate(2, 100)
        context.step([Entry(1, [1] * 50)])


def step_for_ever(context: Context) -> None:
    while True:
        context.clear()
        context.step([Entry(0, [1] * context.n_batch)])


def test_truncating_goes_back_in_time(context: Context, greedy: Sampler) -> None:
    wanted = logits_after(context, 0, PROMPT)
    generate(context, 0, [1], 5)
    context.truncate(0, len(PROMPT) - 1)
    np.testing.assert_allclose(logits_after(context, 0, PROMPT[-1:]), wanted, atol=TOLERANCE)


def test_right_drafts_are_taken_in_one_step(context: Context, tiny: Model) -> None:
    wanted = generate(context, 0, PROMPT, 6)
    with Sampler(tiny.info.n_vocab, GREEDY) as sampler:
        [sampled] = context.step([Entry(1, PROMPT, sampler=sampler, drafts=wanted[:5])])
    assert sampled is not None
    assert sampled.tokens == wanted
    assert context.length(1) == len(PROMPT) + 5


@given(n_right=st.integers(0, 4), n_wrong=st.integers(1, 4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_a_wrong_draft_ends_the_step_and_leaves_no_cells(
    context: Context, tiny: Model, n_right: int, n_wrong: int
) -> None:
    context.clear()
    wanted = generate(context, 0, PROMPT, 6)
    drafts = wanted[:n_right] + [(wanted[n_right] + 1) % 1000] * n_wrong
    with Sampler(tiny.info.n_vocab, GREEDY) as sampler:
        [sampled] = context.step([Entry(1, PROMPT, sampler=sampler, drafts=drafts, top_logprobs=1)])
    assert sampled is not None
    assert sampled.tokens == wanted[: n_right + 1]
    assert context.length(1) == len(PROMPT) + n_right
    assert sampled.logprobs is not None
    assert [logprob.top[0][0] for logprob in sampled.logprobs] == sampled.tokens
    assert generate(context, 1, wanted[n_right : n_right + 1], 2) == generate(
        context, 2, PROMPT + wanted[: n_right + 1], 2
    )


def test_a_mask_for_each_drafted_row(context: Context, tiny: Model, greedy: Sampler) -> None:
    words = (tiny.info.n_vocab + 31) // 32
    mask = np.zeros((3, words), dtype=np.uint32)
    for row, token in enumerate((40, 50, 60)):
        mask[row, token // 32] = 1 << (token % 32)
    entry = Entry(0, PROMPT, sampler=greedy, drafts=[40, 50], mask=mask)
    [sampled] = context.step([entry])
    assert sampled is not None
    assert sampled.tokens == [40, 50, 60]


def test_a_seeded_sequence_draws_the_same_alone_and_in_a_batch(
    context: Context, tiny: Model
) -> None:
    params = SamplingParams(temperature=1.0, top_k=20, seed=11)

    def run(others: list[Entry]) -> list[int]:
        context.clear()
        tokens, out = PROMPT, []
        with Sampler(tiny.info.n_vocab, params) as sampler:
            for _ in range(12):
                sampled = context.step([*others, Entry(0, tokens, sampler=sampler)])[-1]
                assert sampled is not None
                tokens = sampled.tokens
                out += tokens
        return out

    with Sampler(tiny.info.n_vocab, GREEDY) as other:
        assert run([]) == run([Entry(1, [7], sampler=other), Entry(2, [8, 9])])


def test_logprobs_are_those_of_the_logits(context: Context, greedy: Sampler) -> None:
    logits = logits_after(context, 0, PROMPT).astype(np.float64)
    [sampled] = context.step([Entry(1, PROMPT, sampler=greedy, top_logprobs=5)])
    assert sampled is not None
    assert sampled.logprobs is not None
    logprobs = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
    for token, value in sampled.logprobs[0].top:
        assert value == pytest.approx(logprobs[token], abs=TOLERANCE)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([Entry(0, [])], "no tokens"),
        ([], "1 to 64 tokens"),
        ([Entry(0, [1] * 65)], "1 to 64 tokens"),
        ([Entry(0, [-1])], "vocabulary"),
        ([Entry(0, [128_256])], "vocabulary"),
        ([Entry(0, [2**40])], "32 bits"),
        ([Entry(4, [1])], "sequence 4"),
        ([Entry(-1, [1])], "sequence -1"),
    ],
)
def test_a_bad_step_changes_nothing(context: Context, entries: list[Entry], message: str) -> None:
    context.step([Entry(0, PROMPT)])
    with pytest.raises(InvalidArgumentError, match=message):
        context.step(entries)
    assert context.length(0) == len(PROMPT)
    assert len(generate(context, 0, [5], 2)) == 2


def test_drafts_need_a_sampler() -> None:
    with pytest.raises(InvalidArgumentError, match="sampler"):
        Entry(0, [1], drafts=[2])


def test_too_many_logits_rows_are_refused(tiny: Model, greedy: Sampler) -> None:
    with (
        Context(tiny, n_ctx=256, n_outputs_max=2, n_threads=1) as context,
        pytest.raises(InvalidArgumentError, match="room for 2"),
    ):
        context.step([Entry(0, PROMPT, sampler=greedy, drafts=[1, 2])])


def test_more_sequences_than_logits_rows(tiny: Model, greedy: Sampler) -> None:
    with Context(tiny, n_ctx=256, n_seq_max=9, n_batch=4, n_outputs_max=1, n_threads=1) as context:
        context.step([Entry(8, [1, 2], sampler=greedy)])
        assert context.length(8) == 2


def test_top_logprobs_out_of_range(context: Context, greedy: Sampler) -> None:
    with pytest.raises(InvalidArgumentError, match="top_logprobs"):
        context.step([Entry(0, PROMPT, sampler=greedy, top_logprobs=21)])


def test_a_full_cache_computes_nothing(tiny: Model) -> None:
    with Context(tiny, n_ctx=256, n_seq_max=2, n_batch=200, n_threads=1) as context:
        context.step([Entry(0, [1] * 200)])
        with pytest.raises(KVFullError, match="100 more tokens"):
            context.step([Entry(1, [1] * 100)])
        assert (context.length(0), context.length(1)) == (200, 0)
        context.truncate(0, 0)
        context.step([Entry(1, [1] * 100)])


def test_logits_that_were_not_asked_for(context: Context) -> None:
    context.step([Entry(0, PROMPT), Entry(1, PROMPT, logits=True)])
    assert context.logits(1).shape == (context.model.info.n_vocab,)
    for entry in (0, 2):
        with pytest.raises(InvalidArgumentError, match="no logits"):
            context.logits(entry)


@pytest.mark.parametrize(("sequence", "length"), [(0, -1), (0, 99), (9, 0), (-1, 0)])
def test_truncating_what_is_not_there(context: Context, sequence: int, length: int) -> None:
    context.step([Entry(0, PROMPT)])
    with pytest.raises(InvalidArgumentError):
        context.truncate(sequence, length)


@pytest.mark.parametrize(
    ("source", "target", "begin", "end"),
    [(0, 0, 0, 1), (0, 9, 0, 1), (0, 1, 0, 99), (0, 1, 1, 2), (0, 1, -1, 2), (0, 1, 2, 1)],
)
def test_sharing_what_is_not_there(
    context: Context, source: int, target: int, begin: int, end: int
) -> None:
    context.step([Entry(0, PROMPT)])
    with pytest.raises(InvalidArgumentError, match="share"):
        context.share(source, target, begin, end)
    assert context.length(1) == 0


def test_abort_stops_a_step_from_another_thread(tiny: Model) -> None:
    with Context(tiny, n_ctx=8192, n_batch=4096, n_ubatch=4096, n_threads=1) as context:
        assert context.heartbeat == 0
        beats: list[int] = []

        def abort() -> None:
            while not beats or beats[-1] == 0:
                beats.append(context.heartbeat)
            context.abort()

        thread = threading.Thread(target=abort)
        thread.start()
        with pytest.raises(AbortedError):
            step_for_ever(context)
        thread.join()
        assert 0 < beats[-1] <= time.monotonic_ns()
        context.abort(False)
        context.clear()
        context.step([Entry(0, [1])])


def test_another_thread_may_not_use_a_context(context: Context) -> None:
    errors: list[Exception] = []

    def use() -> None:
        try:
            context.length(0)
        except WrongThreadError as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(errors) == 1


def test_closed_handles(tiny: Model) -> None:
    context = Context(tiny, n_ctx=256, n_threads=1)
    sampler = Sampler(tiny.info.n_vocab, GREEDY)
    for handle in (context, sampler):
        handle.close()
        handle.close()
    with pytest.raises(ClosedError):
        context.step([Entry(0, [1])])
    with pytest.raises(ClosedError):
        sampler.sample(np.zeros(tiny.info.n_vocab, dtype=np.float32))


@pytest.mark.parametrize(
    "arguments",
    [{"n_seq_max": 0}, {"n_seq_max": 257}, {"n_ctx": 0}, {"n_batch": -1}, {"n_threads": 0}],
)
def test_contexts_that_cannot_be(tiny: Model, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        Context(tiny, **arguments)


def test_a_bare_vocabulary_has_no_context(vocabulary: Model) -> None:
    with pytest.raises(InvalidArgumentError, match="vocabulary alone"):
        Context(vocabulary)


def test_q8_0_cells_take_about_half(tiny: Model) -> None:
    with (
        Context(tiny, n_ctx=512, n_threads=1) as f16,
        Context(tiny, n_ctx=512, n_threads=1, kv_type="q8_0", flash_attention=True) as q8_0,
    ):
        assert q8_0.kv_bytes == pytest.approx(f16.kv_bytes * 34 / 64, rel=0.01)
        assert len(generate(q8_0, 0, PROMPT, 3)) == 3
