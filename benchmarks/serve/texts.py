"""What the servers are asked: texts, conversations and times of arrival, the same for a seed.

Knows nothing of servers; the caller counts the tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from benchmarks.common.words import WORDS

LONG_TOKENS = 435
VERY_LONG_TOKENS = 1000
N_TURNS = 4
N_CLIENTS = 8
N_STREAMS = 4
SYSTEM_WORDS = 300
COPY_WORDS = 150
N_RANDOM_ANSWERS = 3
N_COUPLES = 3
"""Texts that a server with speculation and one without are both asked for, of a kind."""

Counter = Callable[[str], int]
"""The tokens of the whole prompt with this user message."""

_STORY = "Write a long story with all of these words."
_SUMMARY = "Which of these words are about nature?"
_COPY = "Repeat the following text word for word, and write nothing else.\n\n"
_SYSTEM = "You are the keeper of these words, and answer with some of them:"
_VERBS = ("stood behind", "was seen from", "belonged to", "came before", "looked like")
_QUESTIONS = (
    "Which word is the first one?",
    "Name three of the words.",
    "What can be eaten?",
    "Which words are about water?",
    "Is there an animal?",
    "Which word do you like?",
    "Write a short poem.",
    "What is the last word?",
)


class Plan(msgspec.Struct, frozen=True):
    """The texts of one round; no two of them begin alike, so that no cache helps by chance."""

    single: str
    long_prompt: str
    turns: list[str]
    clients: list[str]
    system: str
    questions: list[str]
    copies: list[str]
    predicted: list[str]
    random_answers: list[str]
    streams: list[str]
    very_long_prompt: str


class Visit(msgspec.Struct, frozen=True):
    """Somebody who comes at `at_s` and says each of `turns` behind the answer to the one before;
    every answer has `n_tokens`."""

    at_s: float
    turns: list[str]
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of visit: how often of all, its user messages by tokens, and the answers' tokens."""

    share: float
    prompt_tokens: tuple[int, ...]
    answer_tokens: int


KINDS = (
    Kind(0.5, (60,), 32),
    Kind(0.25, (400,), 48),
    Kind(0.25, (120, 60, 60), 24),
)


def write_plan(seed: int, count: Counter, prompt_tokens: int) -> Plan:
    """The texts of a round. `prompt_tokens` are those of a short prompt."""
    choose = random.Random(seed)

    def short() -> str:
        return sized(choose, count, prompt_tokens, _STORY)

    def copy() -> str:
        return _COPY + prose(choose, COPY_WORDS)

    return Plan(
        single=short(),
        long_prompt=sized(choose, count, LONG_TOKENS, _SUMMARY),
        turns=[
            sized(choose, count, 4 * prompt_tokens, _SUMMARY),
            *(short() for _ in range(N_TURNS - 1)),
        ],
        clients=[short() for _ in range(N_CLIENTS)],
        system=f"{' '.join(choose.choices(WORDS, k=SYSTEM_WORDS))}. {_SYSTEM}",
        questions=choose.sample(_QUESTIONS, k=N_CLIENTS),
        copies=[copy() for _ in range(N_COUPLES)],
        predicted=[short() for _ in range(N_COUPLES)],
        random_answers=[short() for _ in range(N_RANDOM_ANSWERS)],
        streams=[short() for _ in range(N_STREAMS)],
        very_long_prompt=sized(choose, count, VERY_LONG_TOKENS, _SUMMARY),
    )


def sized(choose: random.Random, count: Counter, n_tokens: int, request: str) -> str:
    """Random words and a request behind them, so many that the prompt has `n_tokens`, or one or two
    more where words are several tokens."""
    words = [choose.choice(WORDS)]
    while True:
        message = f"{' '.join(words)}. {request}"
        missing = n_tokens - count(message)
        if missing <= 0:
            return message
        words += choose.choices(WORDS, k=max(1, missing // 3))


def prose(choose: random.Random, n_words: int) -> str:
    """Sentences that a model can repeat, `n_words` or a few more; no two of them are the same."""
    sentences: dict[str, None] = {}
    total = 0
    while total < n_words:
        one, other, third = choose.sample(WORDS, k=3)
        sentence = f"The {one} {choose.choice(_VERBS)} the {other} and the {third}."
        if sentence not in sentences:
            sentences[sentence] = None
            total += len(sentence.split())
    return " ".join(sentences)


def mean_tokens(kinds: Sequence[Kind] = KINDS) -> float:
    """Tokens of all the answers of a visit, on average."""
    return sum(kind.share * kind.answer_tokens * len(kind.prompt_tokens) for kind in kinds)


def visits(seed: int, rate: float, seconds: float, count: Counter) -> list[Visit]:
    """Poisson arrivals: `rate` a second for `seconds`, and at least one.

    Times and kinds do not depend on how tokens are counted.
    """
    arrivals, words = random.Random(seed), random.Random(f"words {seed}")
    found: list[Visit] = []
    at_s = min(arrivals.expovariate(rate), seconds)
    while at_s < seconds or not found:
        (kind,) = arrivals.choices(KINDS, [kind.share for kind in KINDS])
        turns = [sized(words, count, n_tokens, _STORY) for n_tokens in kind.prompt_tokens]
        found.append(Visit(at_s, turns, kind.answer_tokens))
        at_s += arrivals.expovariate(rate)
    return found
