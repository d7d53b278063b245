"""Cells that were saved as bytes and loaded again, into the same context and another one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from sheily_native import Context, Entry, InvalidArgumentError, KVFullError, Model
from sheily_native.context import KVType
from tests.native.test_context import PROMPT, TOLERANCE, generate, logits_after

SCRATCH = 3
TEXT = [PROMPT[i % len(PROMPT)] + i for i in range(60)]


@pytest.fixture(params=["f16", "q8_0"])
def context(tiny: Model, request: pytest.FixtureRequest) -> Iterator[Context]:
    with new(tiny, request.param) as context:
        yield context


def new(tiny: Model, kv_type: KVType = "f16", n_ctx: int = 512) -> Context:
    return Context(
        tiny, n_ctx=n_ctx, n_seq_max=4, n_batch=64, n_ubatch=64, n_threads=2, kv_type=kv_type
    )


def saved(context: Context, sequence: int, begin: int, end: int) -> npt.NDArray[np.uint8]:
    out = np.zeros(context.saved_size(end - begin), np.uint8)
    context.save(sequence, begin, end, out, scratch=SCRATCH)
    return out


def test_loaded_cells_are_as_good_as_computed_ones(context: Context) -> None:
    expected = logits_after(context, 0, TEXT)
    blocks = [saved(context, 0, 0, 32), saved(context, 0, 32, 59)]
    context.clear()
    context.load(0, 0, 32, blocks[0], scratch=SCRATCH)
    context.load(0, 32, 59, blocks[1], scratch=SCRATCH)
    assert context.length(0) == 59
    assert context.length(SCRATCH) == 0
    loaded = logits_after(context, 0, TEXT[59:])
    np.testing.assert_allclose(loaded, expected, atol=TOLERANCE)


def test_loading_goes_on_where_the_sequence_ends(context: Context) -> None:
    expected = logits_after(context, 0, TEXT)
    block = saved(context, 0, 20, 59)
    context.truncate(0, 45)
    context.load(0, 20, 59, block, scratch=SCRATCH)
    assert context.length(0) == 59
    np.testing.assert_allclose(logits_after(context, 0, TEXT[59:]), expected, atol=TOLERANCE)


def test_cells_anywhere_in_the_cache_are_saved_in_the_order_of_any(context: Context) -> None:
    """What others leave has holes, so that positions do not follow each other."""
    for i in range(40):
        context.step([_entry(1, [TEXT[i]]), _entry(2, [TEXT[-i - 1]])])
    context.truncate(2, 0)
    expected = logits_after(context, 0, TEXT)
    block = saved(context, 0, 0, 59)
    context.truncate(0, 0)
    context.truncate(1, 10)
    context.load(0, 0, 59, block, scratch=SCRATCH)
    np.testing.assert_allclose(logits_after(context, 0, TEXT[59:]), expected, atol=TOLERANCE)


def test_another_context_goes_on_with_the_same_text(tiny: Model, context: Context) -> None:
    generate(context, 0, TEXT, 1)
    block = saved(context, 0, 0, len(TEXT))
    expected = generate(context, 0, [TEXT[0]], 8)
    kv_type: KVType = "f16" if context.kv_bytes == new(tiny).kv_bytes else "q8_0"
    with new(tiny, kv_type) as other:
        other.load(0, 0, len(TEXT), block, scratch=SCRATCH)
        assert generate(other, 0, [TEXT[0]], 8) == expected


def test_bytes_that_are_wrong_are_refused_and_change_nothing(tiny: Model) -> None:
    with new(tiny) as context:
        expected = logits_after(context, 0, TEXT)
        block = saved(context, 0, 0, 59)
        context.truncate(0, 0)
        with new(tiny, "q8_0") as other:
            logits_after(other, 0, TEXT)
            foreign = saved(other, 0, 0, 59)
        for wrong in (block[:-1], block[:10], block[:0], np.zeros_like(block), foreign):
            with pytest.raises(InvalidArgumentError):
                context.load(0, 0, 59, wrong, scratch=SCRATCH)
        with pytest.raises(InvalidArgumentError):  # at other positions
            context.load(0, 1, 60, block, scratch=SCRATCH)
        for at in (8, 12, 16, 20, 16 + 59 * 12):
            wrong = block.copy()
            wrong[at] ^= 1
            with pytest.raises(InvalidArgumentError):
                context.load(0, 0, 59, wrong, scratch=SCRATCH)
        wrong = block.copy()  # what llama.cpp itself finds, in the middle of its work
        wrong[16 + 59 * 12 + 4] ^= 1
        with pytest.raises(KVFullError):
            context.load(0, 0, 59, wrong, scratch=SCRATCH)
        assert [context.length(sequence) for sequence in range(4)] == [0] * 4
        context.load(0, 0, 59, block, scratch=SCRATCH)
        np.testing.assert_allclose(logits_after(context, 0, TEXT[59:]), expected, atol=TOLERANCE)


def test_a_full_cache_takes_no_cells(tiny: Model) -> None:
    with new(tiny, n_ctx=256) as context:
        logits_after(context, 0, TEXT)
        block = saved(context, 0, 0, 60)
        for _ in range(3):
            context.step([_entry(1, TEXT)])
        with pytest.raises(KVFullError):
            context.load(2, 0, 60, block, scratch=SCRATCH)
        assert [context.length(sequence) for sequence in range(4)] == [60, 180, 0, 0]
        context.truncate(0, 0)
        context.load(2, 0, 60, block, scratch=SCRATCH)
        assert context.length(2) == 60


@pytest.mark.parametrize(
    ("sequence", "begin", "end", "scratch"),
    [(0, 0, 61, 3), (0, -1, 10, 3), (0, 5, 5, 3), (4, 0, 10, 3), (0, 0, 10, 0), (0, 0, 10, 1)],
)
def test_cells_that_are_not_there_are_not_saved(
    context: Context, sequence: int, begin: int, end: int, scratch: int
) -> None:
    context.step([_entry(0, TEXT), _entry(1, [1])])
    out = np.zeros(max(context.saved_size(end - begin), 1), np.uint8)
    with pytest.raises(InvalidArgumentError):
        context.save(sequence, begin, end, out, scratch=scratch)
    assert context.length(0) == 60


def _entry(sequence: int, tokens: list[int]) -> Entry:
    return Entry(sequence, tokens)
