"""The sampler against a plain numpy reference of the same definitions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_native import InvalidArgumentError, NativeError, Sampler, SamplingParams

Logits = npt.NDArray[np.float32]
N = 300


def row(seed: int, n: int = N, scale: float = 3.0) -> Logits:
    return (np.random.default_rng(seed).standard_normal(n) * scale).astype(np.float32)


def mask_of(allowed: list[int], n: int = N) -> npt.NDArray[np.uint32]:
    words = np.zeros((n + 31) // 32, dtype=np.uint32)
    for token in allowed:
        words[token // 32] |= np.uint32(1 << (token % 32))
    return words


def distribution(logits: Logits, p: SamplingParams) -> npt.NDArray[np.float64]:
    """The probabilities that temperature, top_k, top_p and min_p leave, in that order."""
    x = logits.astype(np.float64) / p.temperature
    weight = np.exp(x - x.max())
    order = np.argsort(-weight, kind="stable")
    if p.top_k:
        weight[order[p.top_k :]] = 0
    if p.top_p < 1:
        mass = np.cumsum(weight[order])
        weight[order[np.searchsorted(mass, p.top_p * weight.sum()) + 1 :]] = 0
    weight[weight < p.min_p * weight.max()] = 0
    probabilities: npt.NDArray[np.float64] = weight / weight.sum()
    return probabilities


def draws(logits: Logits, params: SamplingParams, n: int) -> list[int]:
    with Sampler(len(logits), params) as sampler:
        return [sampler.sample(logits).tokens[0] for _ in range(n)]


@given(st.integers(0, 10_000), st.integers(1, 1000))
def test_greedy_takes_the_best(seed: int, n: int) -> None:
    logits = row(seed, n)
    assert draws(logits, SamplingParams(temperature=0), 2) == [int(np.argmax(logits))] * 2


def test_greedy_takes_the_lowest_id_among_equals() -> None:
    logits = np.zeros(N, dtype=np.float32)
    logits[[17, 40, 299]] = 1
    assert draws(logits, SamplingParams(temperature=0), 1) == [17]


PARAMS = [
    SamplingParams(temperature=1.0, seed=1),
    SamplingParams(temperature=0.5, seed=2),
    SamplingParams(temperature=2.0, top_k=5, seed=3),
    SamplingParams(temperature=1.0, top_p=0.7, seed=4),
    SamplingParams(temperature=1.0, min_p=0.05, seed=5),
    SamplingParams(temperature=1.5, top_k=50, top_p=0.9, min_p=0.02, seed=6),
    SamplingParams(temperature=1.0, top_p=0.9999999, seed=7),
]


@pytest.mark.parametrize("params", PARAMS)
def test_frequencies_are_those_of_the_distribution(params: SamplingParams) -> None:
    logits, n = row(7), 20_000
    wanted = distribution(logits, params)
    counts = np.bincount(draws(logits, params, n), minlength=N)
    assert not counts[wanted == 0].any()
    # A chi-square over tokens expected five times or more, the rest in one cell; with a fixed seed
    # this is one number, far from the limit, not a matter of luck.
    expected = wanted * n
    common = expected >= 5
    observed = np.append(counts[common], counts[~common].sum())
    expected = np.append(expected[common], expected[~common].sum())
    kept = expected > 0
    chi2 = (((observed - expected) ** 2)[kept] / expected[kept]).sum()
    freedom = kept.sum() - 1
    assert chi2 < freedom + 4 * np.sqrt(2 * max(freedom, 1)) + 8


@given(
    seed=st.integers(0, 1000),
    temperature=st.floats(0.05, 3),
    top_k=st.integers(0, 40),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 0.5),
)
def test_only_tokens_that_the_limits_leave_are_drawn(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    params = SamplingParams(temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    logits = row(seed)
    wanted = distribution(logits, params)
    # float32 and float64 may disagree on a token whose weight lies right at a limit.
    loose = distribution(
        logits,
        SamplingParams(
            temperature, top_k=top_k, top_p=min(1.0, top_p * 1.0001), min_p=min_p * 0.9999
        ),
    )
    assert all(wanted[token] > 0 or loose[token] > 0 for token in draws(logits, params, 20))


def test_the_same_seed_gives_the_same_tokens() -> None:
    logits = row(1)
    params = SamplingParams(temperature=1.3, seed=-5)
    assert draws(logits, params, 50) == draws(logits, params, 50)
    other = SamplingParams(temperature=1.3, seed=-6)
    assert draws(logits, params, 50) != draws(logits, other, 50)


def test_no_seed_is_a_new_one_each_time() -> None:
    logits = np.zeros(N, dtype=np.float32)
    assert draws(logits, SamplingParams(temperature=1), 20) != draws(
        logits, SamplingParams(temperature=1), 20
    )


def test_penalties_count_what_was_generated() -> None:
    logits = np.zeros(4, dtype=np.float32)
    logits[:3] = [1.0, 0.9, 0.5]
    with Sampler(4, SamplingParams(temperature=0, frequency_penalty=0.15)) as sampler:
        tokens = [sampler.sample(logits).tokens[0] for _ in range(8)]
    counts: Counter[int] = Counter()
    for token in tokens:
        wanted = [float(logits[i]) - 0.15 * counts[i] for i in range(4)]
        assert token == int(np.argmax(wanted))
        counts[token] += 1
    assert len(counts) > 1


def test_a_presence_penalty_counts_once() -> None:
    logits = np.array([1.0, 0.9, 0.0], dtype=np.float32)
    assert draws(logits, SamplingParams(temperature=0, presence_penalty=0.3), 4) == [0, 1, 0, 0]


def test_a_repeat_penalty_sees_the_prompt() -> None:
    logits = np.array([2.0, 1.9, -1.0], dtype=np.float32)
    params = SamplingParams(temperature=0, repeat_penalty=1.5)
    with Sampler(3, params, prompt=[0]) as sampler:
        assert [sampler.sample(logits).tokens[0] for _ in range(2)] == [1, 0]


def test_bias_and_mask() -> None:
    logits = row(3)
    biased = SamplingParams(temperature=0, logit_bias={5: 1000.0, 6: float("-inf")})
    assert draws(logits, biased, 1) == [5]
    everywhere = np.where(np.arange(N) == 7, 0, -100).astype(np.float32)
    arrays = SamplingParams(temperature=0, logit_bias=(np.arange(N, dtype=np.int32), everywhere))
    assert draws(logits, arrays, 2) == [7, 7]
    nothing = np.array([], np.int32), np.array([], np.float32)
    assert draws(logits, SamplingParams(temperature=0, logit_bias=nothing), 1) == draws(
        logits, SamplingParams(temperature=0), 1
    )
    with Sampler(N, SamplingParams(temperature=1, seed=1)) as sampler:
        mask = mask_of([7, 31, 32, 299])
        tokens = {sampler.sample(logits * 0, mask=mask).tokens[0] for _ in range(200)}
    assert tokens == {7, 31, 32, 299}


def test_a_mask_that_allows_nothing_is_an_error() -> None:
    with (
        Sampler(N, SamplingParams(temperature=0)) as sampler,
        pytest.raises(NativeError, match="finite"),
    ):
        sampler.sample(row(1), mask=mask_of([]))


def test_logits_that_are_no_numbers_are_an_error() -> None:
    with Sampler(N, SamplingParams(temperature=1)) as sampler, pytest.raises(NativeError):
        sampler.sample(np.full(N, np.nan, dtype=np.float32))


@given(st.integers(0, 1000), st.integers(0, 20), st.floats(0, 2))
def test_logprobs_are_the_models_own(seed: int, top: int, temperature: float) -> None:
    logits = row(seed)
    params = SamplingParams(temperature, seed=seed, frequency_penalty=0.5)
    with Sampler(N, params) as sampler:
        for _ in range(3):
            [logprob] = sampler.sample(logits, top_logprobs=top).logprobs or []
            x = logits.astype(np.float64)
            reference = x - x.max() - np.log(np.exp(x - x.max()).sum())
            assert logprob.logprob == pytest.approx(reference[logprob.token], abs=1e-5)
            best = np.argsort(-logits, kind="stable")[:top]
            assert [token for token, _ in logprob.top] == best.tolist()
            assert [value for _, value in logprob.top] == pytest.approx(reference[best], abs=1e-5)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        (SamplingParams(temperature=-0.1), "temperature"),
        (SamplingParams(temperature=float("nan")), "temperature"),
        (SamplingParams(top_p=0), "top_p"),
        (SamplingParams(top_p=1.1), "top_p"),
        (SamplingParams(min_p=-1), "min_p"),
        (SamplingParams(top_k=-1), "top_k"),
        (SamplingParams(repeat_penalty=0), "repeat_penalty"),
        (SamplingParams(frequency_penalty=float("inf")), "frequency_penalty"),
        (SamplingParams(presence_penalty=float("nan")), "presence_penalty"),
        (SamplingParams(logit_bias={N: 1.0}), "bias"),
        (SamplingParams(logit_bias={-1: 1.0}), "bias"),
    ],
)
def test_parameters_out_of_range(params: SamplingParams, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=name):
        Sampler(N, params)


def test_rows_and_masks_of_a_wrong_shape() -> None:
    with Sampler(N, SamplingParams()) as sampler:
        with pytest.raises(ValueError, match="float32"):
            sampler.sample(np.zeros(N - 1, dtype=np.float32))
        with pytest.raises(ValueError, match="mask"):
            sampler.sample(row(1), mask=np.zeros(3, dtype=np.uint32))


def test_a_very_small_temperature_is_greedy_in_effect() -> None:
    logits = row(5)
    assert (
        draws(logits, SamplingParams(temperature=1e-40, seed=1), 5) == [int(np.argmax(logits))] * 5
    )


def test_a_vocabulary_of_llamas_size() -> None:
    logits = row(11, 128_256)
    params = SamplingParams(temperature=1.0, top_p=0.95, seed=3)
    wanted = distribution(logits, SamplingParams(temperature=1.0, top_p=0.951))
    assert all(wanted[token] > 0 for token in draws(logits, params, 30))
