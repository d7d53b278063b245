"""Drafts change how fast tokens come, never which, nor the distribution of those drawn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sheily_native import Context, Entry, Model, Sampler, SamplingParams

PROMPT = [128000, 9906, 11, 1917, 0, 358, 1097]
N_DRAWS = 4000
TOP_K = 6


def probabilities(context: Context, tokens: list[int]) -> dict[int, float]:
    """The exact distribution of the next token at temperature 1, of the TOP_K best."""
    context.clear()
    context.step([Entry(0, tokens, logits=True)])
    logits = context.logits(0).astype(np.float64)
    best = np.argsort(-logits)[:TOP_K]
    weights = np.exp(logits[best] - logits[best].max())
    return dict(zip(best.tolist(), (weights / weights.sum()).tolist(), strict=True))


def chi_square(counts: dict[int, int], expected: dict[int, float]) -> float:
    n = sum(counts.values())
    assert set(counts) <= set(expected)
    return sum(
        (counts.get(token, 0) - n * chance) ** 2 / (n * chance)
        for token, chance in expected.items()
    )


@pytest.mark.parametrize("likely", [True, False])
def test_drawn_tokens_have_the_model_s_distribution_behind_any_draft(
    tiny: Model, likely: bool
) -> None:
    with Context(tiny, n_ctx=512, n_threads=1) as context:
        first = probabilities(context, PROMPT)
        by_chance = sorted(first, key=first.__getitem__)
        draft = [by_chance[-1 if likely else 0]]
        second = probabilities(context, PROMPT + draft)
        draft.append(max(second, key=second.__getitem__))

        context.clear()
        context.step([Entry(0, PROMPT[:-1])])
        counts: tuple[dict[int, int], dict[int, int]] = ({}, {})
        n_accepted = 0
        for seed in range(N_DRAWS):
            params = SamplingParams(temperature=1.0, top_k=TOP_K, seed=seed)
            with Sampler(tiny.info.n_vocab, params) as sampler:
                [sampled] = context.step([Entry(0, PROMPT[-1:], sampler=sampler, drafts=draft)])
            assert sampled is not None
            assert context.length(0) == len(PROMPT) + len(sampled.tokens) - 1
            context.truncate(0, len(PROMPT) - 1)
            for count, token in zip(counts, sampled.tokens, strict=False):
                count[token] = count.get(token, 0) + 1
            n_accepted += sampled.tokens[0] == draft[0]
    # 5 degrees of freedom: more than 22 comes once in 2,000 times, and seeds are fixed.
    assert chi_square(counts[0], first) < 22
    assert sum(counts[1].values()) == n_accepted > 100
    assert chi_square(counts[1], second) < 22


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_text_is_the_same_with_and_without_drafts(tiny: Model, temperature: float) -> None:
    params = SamplingParams(temperature=temperature, seed=5)
    texts: list[list[int]] = []
    for n_draft in (0, 1, 4):
        with (
            Context(tiny, n_ctx=512, n_threads=1) as context,
            Sampler(tiny.info.n_vocab, params) as sampler,
        ):
            given, text = PROMPT, list[int]()
            while len(text) < 40:
                known = texts[0][len(text) : len(text) + n_draft] if texts else []
                # Every other draft is spoilt, so that cells are rolled back too.
                drafts = [t + (i == 2) * (len(text) % 2) for i, t in enumerate(known)]
                [sampled] = context.step([Entry(0, given, sampler=sampler, drafts=drafts)])
                assert sampled is not None
                text += sampled.tokens
                given = sampled.tokens[-1:]
            texts.append(text[:40])
    assert all(one == other for one, other in itertools.pairwise(texts))
