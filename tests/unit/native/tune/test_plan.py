"""What the tuner tries, and how it decides."""

from __future__ import annotations

import pytest

from sheily_native.tune.plan import (
    ANSWER,
    CHUNKS,
    DEFAULT,
    MAX_STEP_S,
    NOISE,
    PROMPT,
    STAGES,
    Figures,
    Machine,
    Settings,
    check_candidates,
    choose,
    chunk_candidates,
    is_hopeless,
    kernel_candidates,
    kernels_to_try,
    kv_candidates,
    thread_candidates,
)

MACHINE = Machine(n_threads=2, kernels=["avx2", "off"])
OTHER = Settings(kernel="avx2")


def figures(seconds: float) -> Figures:
    """A request that takes so long, half of it each part."""
    return Figures(PROMPT / (seconds / 2), ANSWER / (seconds / 2))


def test_a_request_is_a_prompt_and_an_answer() -> None:
    assert Figures(PROMPT / 4, ANSWER / 16).seconds == 20
    assert Figures(PROMPT / 4, None).seconds == 4


def test_the_better_of_two_timings_is_taken_part_by_part() -> None:
    assert Figures(10, 2).best(Figures(9, 3)) == Figures(10, 3)
    assert Figures(10, None).best(Figures(11, None)) == Figures(11, None)


@pytest.mark.parametrize(
    ("gain", "winner"),
    [(-0.5, DEFAULT), (0, DEFAULT), (NOISE - 1e-6, DEFAULT), (NOISE + 1e-6, OTHER), (0.5, OTHER)],
)
def test_the_default_stays_unless_another_is_faster_by_more_than_the_noise(
    gain: float, winner: Settings
) -> None:
    assert choose(DEFAULT, {DEFAULT: figures(1), OTHER: figures(1 - gain)}) == winner


def test_of_several_the_fastest_wins() -> None:
    slow, fast = Settings(threads=3), Settings(threads=2)
    timed = {DEFAULT: figures(10), slow: figures(9), fast: figures(8)}
    assert choose(DEFAULT, timed) == fast
    assert choose(slow, timed) == fast


def test_nothing_beats_what_was_not_timed() -> None:
    assert choose(DEFAULT, {OTHER: figures(1)}) == DEFAULT
    assert choose(DEFAULT, {}) == DEFAULT


def test_a_step_that_callers_would_wait_for_is_not_chosen() -> None:
    long = Settings(chunk=512)
    at_limit = 512 / MAX_STEP_S
    assert choose(DEFAULT, {DEFAULT: Figures(50, None), long: Figures(at_limit, None)}) == long
    assert choose(DEFAULT, {DEFAULT: Figures(50, None), long: Figures(at_limit - 1, None)}) == (
        DEFAULT
    )


def test_the_default_chunk_and_smaller_ones_may_be_slow() -> None:
    small = Settings(chunk=64)
    assert choose(DEFAULT, {DEFAULT: Figures(1, None), small: Figures(2, None)}) == small
    big = Settings(chunk=512)  # what is compared with is never ruled out
    assert choose(big, {big: Figures(1, None), small: Figures(1, None)}) == big


def test_the_hopeless_are_those_far_behind_the_best() -> None:
    timed = {DEFAULT: figures(10), OTHER: figures(10.9), Settings(threads=1): figures(11.1)}
    assert [is_hopeless(settings, timed) for settings in timed] == [False, False, True]
    assert not is_hopeless(Settings(threads=9), timed)


def test_kernels_are_tried_with_the_default_last() -> None:
    assert kernel_candidates(DEFAULT, MACHINE) == [
        Settings(kernel="off"),
        Settings(kernel="avx2"),
        DEFAULT,
    ]


def test_blas_is_tried_with_long_steps_and_our_kernels_off() -> None:
    found = kernel_candidates(DEFAULT, Machine(2, ["avx2", "off"], blas=True))
    assert found[:2] == [Settings(kernel="off", chunk=512), Settings(kernel="off")]
    assert found[-1] == DEFAULT


@pytest.mark.parametrize(
    ("n", "counts"),
    [(1, []), (2, [1]), (3, [2, 1]), (4, [3, 2]), (8, [7, 6, 4]), (24, [23, 18, 12])],
)
def test_thread_counts(n: int, counts: list[int]) -> None:
    found = thread_candidates(DEFAULT, Machine(n, []))
    assert found == [DEFAULT, *(Settings(threads=count) for count in counts)]


@pytest.mark.parametrize("best", [DEFAULT, Settings(chunk=512, kv_type="q8_0")])
def test_a_stage_varies_its_setting_alone_and_has_the_best_so_far(best: Settings) -> None:
    for stage, name in zip(STAGES, ("kernel", "threads", "chunk", "kv_type"), strict=True):
        found = stage.candidates(best, MACHINE)
        assert found.count(best) == 1
        assert len(set(found)) == len(found)
        for other in set(found) - {best}:
            names = [n for n in Settings.__slots__ if getattr(other, n) != getattr(best, n)]
            assert names == [name]


def test_chunks_and_kv_types() -> None:
    assert [found.chunk for found in chunk_candidates(DEFAULT, MACHINE)] == [128, 32, 64, 256, 512]
    assert {found.chunk for found in chunk_candidates(Settings(chunk=512), MACHINE)} == set(CHUNKS)
    assert [found.kv_type for found in kv_candidates(DEFAULT, MACHINE)] == ["f16", "q8_0"]


def test_what_was_found_is_checked_against_the_defaults() -> None:
    assert check_candidates(OTHER, MACHINE) == [OTHER, DEFAULT]


def test_all_kernels_but_the_automatic_one_are_tried() -> None:
    usable = ["avx512_vnni", "avx2"]
    assert kernels_to_try(None, usable, "avx512_vnni") == ["avx2", "off"]
    assert kernels_to_try(None, usable, "off") == ["avx512_vnni", "avx2"]
    assert kernels_to_try(None, [], "off") == []


def test_kernels_that_hardly_apply_are_not_tried_unless_asked_for() -> None:
    usable = ["avx512_vnni", "avx512vl_vnni", "avx2"]
    assert kernels_to_try(None, usable, "avx512_vnni", for_weights=False) == ["off"]
    assert kernels_to_try(["avx2"], usable, "avx512_vnni", for_weights=False) == ["avx2"]


def test_kernels_that_were_asked_for() -> None:
    usable = ["avx512_vnni", "avx2"]
    assert kernels_to_try(["avx2", "auto", "avx512_vnni", "avx2"], usable, "avx512_vnni") == [
        "avx2"
    ]
    with pytest.raises(ValueError, match=r"cannot run the kernel 'amx'; it can run avx2, off"):
        kernels_to_try(["off", "amx"], ["avx2"], "avx2")
