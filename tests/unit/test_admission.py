"""What a command becomes before it reaches the engine thread: nothing native is needed for that."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from sheily_native import InvalidArgumentError, NativeError
from sheily_server.engine.admission import Admission, Job
from sheily_server.engine.answers import Answers
from sheily_server.engine.constraint import Constraint, ConstraintError, Grammars
from sheily_server.engine.messages import (
    Admitted,
    Detokenize,
    Detokenized,
    Grammar,
    Refused,
    RequestEvent,
    RequestFailed,
    Sampling,
    Start,
    Submit,
    Tokenize,
    Tokenized,
    TooLong,
)
from sheily_server.engine.runner import Tokenizer
from sheily_server.prompts.message import Segment

CONTEXT = 20


class Letters(Tokenizer):
    """Each character is the token of its number, a marker is 1; up to 1000."""

    def __init__(self) -> None:
        pass

    @property
    def n_vocab(self) -> int:
        return 1000

    @property
    def ends(self) -> frozenset[int]:
        return frozenset([1])

    def encode(
        self,
        segments: Sequence[Segment],
        known: Callable[[str], Sequence[int] | None] = lambda text: None,
    ) -> list[int]:
        if any(segment.text == "broken" for segment in segments):
            raise NativeError("it broke")
        return [
            token
            for segment in segments
            for token in (
                [1] if segment.special else known(segment.text) or self.encode_text(segment.text)
            )
        ]

    def encode_text(self, text: str) -> list[int]:
        return list(map(ord, text))

    def name(self, token: int) -> bytes:
        if token >= self.n_vocab:
            raise InvalidArgumentError(f"{token} is no token")
        return b"<|x|>" if token == 1 else chr(token).encode()

    def control_token(self, text: str) -> int | None:
        return 1 if text == "<|x|>" else None


class Compiler(Grammars):
    """Takes every grammar but those that say `bad`."""

    def __init__(self) -> None:
        self.n_compiled = 0

    def compile(self, grammar: Grammar) -> Constraint:
        if "bad" in grammar.lark:
            raise ConstraintError("bad is not good")
        self.n_compiled += 1
        return Constraint.__new__(Constraint)


def admission(
    compiler: Grammars | None = None, answers: Answers | None = None, speculation: bool = True
) -> Admission:
    start = Start("", CONTEXT, 4, 1, "info", speculation=speculation)
    return Admission(Letters(), compiler or Compiler(), answers or Answers(1000), start)


SEGMENTS = [Segment("<|x|>", True), Segment("abcd", False)]
PLAIN = Submit(5, SEGMENTS, Sampling(), 7, 10, [], 100.0, arrived=50.0)


def answer(compiler: Grammars | None = None, **fields: object) -> tuple[RequestEvent, Job | None]:
    return admission(compiler).answer(msgspec.structs.replace(PLAIN, **fields))


def job_of(compiler: Grammars | None = None, **fields: object) -> Job:
    event, job = answer(compiler, **fields)
    assert event == Admitted(5, 5)
    assert job is not None
    return job


def test_what_fits_is_admitted() -> None:
    job = job_of()
    (sequence,) = job.sequences
    assert (job.id, sequence.prompt, sequence.max_tokens) == (5, [1, *b"abcd"], 7)
    assert (job.constraints, job.visible) == ([], frozenset())
    assert (job.deadline, job.arrived) == (100.0, PLAIN.arrived)


@pytest.mark.parametrize(
    ("max_tokens", "cap", "expected"), [(None, 10, 10), (None, 99, 15), (15, 10, 15), (1, 10, 1)]
)
def test_the_length_of_an_answer(max_tokens: int | None, cap: int, expected: int) -> None:
    (sequence,) = job_of(max_tokens=max_tokens, max_tokens_cap=cap).sequences
    assert sequence.max_tokens == expected


@pytest.mark.parametrize(
    ("n_text", "max_tokens", "event"),
    [
        (18, 1, Admitted(5, 19)),
        (18, 2, TooLong(5, 19, 2)),
        (18, None, Admitted(5, 19)),
        (19, None, TooLong(5, 20, 1)),
        (500, 7, TooLong(5, 501, 7)),
    ],
)
def test_what_does_not_fit(n_text: int, max_tokens: int | None, event: RequestEvent) -> None:
    segments = [Segment("<|x|>", True), Segment("a" * n_text, False)]
    found, job = answer(segments=segments, max_tokens=max_tokens)
    assert found == event
    assert (job is None) == isinstance(event, TooLong)


def test_every_choice_has_a_sequence_of_its_own() -> None:
    compiler = Compiler()
    job = job_of(compiler, n=3, grammar=Grammar("good", "p"))
    assert len({id(sequence) for sequence in job.sequences}) == 3
    assert len({id(sequence.generated) for sequence in job.sequences}) == 3
    assert len({id(constraint) for constraint in job.constraints}) == 3
    assert compiler.n_compiled == 3


def test_every_choice_has_a_seed_of_its_own() -> None:
    for seed in (0, -1, 2**63 - 1, -(2**63)):
        job = job_of(n=4, sampling=Sampling(seed=seed))
        seeds = [job.sampling(i).seed for i in range(4)]
        assert seeds[0] == seed
        assert len({s % 2**64 for s in seeds if s is not None}) == 4
    free = job_of(n=4)
    assert [free.sampling(i).seed for i in range(4)] == [None] * 4


@pytest.mark.parametrize("token", [-1, 1000, 2**31])
def test_a_bias_on_a_token_that_is_none(token: int) -> None:
    event, job = answer(sampling=Sampling(logit_bias={5: 1.0, token: 1.0}))
    assert isinstance(event, Refused)
    assert event.param == "logit_bias"
    assert str(token) in event.message
    assert "1000" in event.message
    assert job is None


def test_a_bias_on_the_first_and_the_last_token() -> None:
    job_of(sampling=Sampling(logit_bias={0: 1.0, 999: 1.0}))


def test_a_grammar_that_cannot_be_honoured() -> None:
    event, job = answer(n=2, grammar=Grammar("bad", "response_format"))
    assert event == Refused(5, "response_format", "The schema cannot be honoured: bad is not good.")
    assert job is None


def test_what_is_too_long_is_not_compiled() -> None:
    compiler = Compiler()
    answer(compiler, max_tokens=100, grammar=Grammar("good", "p"))
    assert compiler.n_compiled == 0


def test_control_tokens_that_are_shown() -> None:
    assert job_of(visible=["<|x|>", "<|not there|>"]).visible == {1}


def test_text_to_tokens() -> None:
    segments = [Segment("<|x|>", True), Segment("aé", False)]
    assert admission().answer(Tokenize(3, segments)) == (
        Tokenized(3, [1, 97, 233], [b"<|x|>", b"a", "é".encode()]),
        None,
    )
    assert admission().answer(Tokenize(3, [])) == (Tokenized(3, [], []), None)


def test_tokens_to_text() -> None:
    assert admission().answer(Detokenize(3, [1, 97, 233])) == (Detokenized(3, "<|x|>aé"), None)
    assert admission().answer(Detokenize(3, [])) == (Detokenized(3, ""), None)
    event, job = admission().answer(Detokenize(3, [97, 1000]))
    assert event == Refused(3, "tokens", "1000 is no token.")
    assert job is None


def test_a_failure_of_the_library_fails_one_request() -> None:
    event, job = answer(segments=[Segment("broken", False)])
    assert event == RequestFailed(5, "engine_error", "it broke")
    assert job is None


def test_an_answer_of_before_keeps_the_ids_it_was_generated_with() -> None:
    answers = Answers(1000)
    answers.remember("abcd", [97, 500, 501])
    _, job = admission(answers=answers).answer(PLAIN)
    assert job is not None
    assert job.sequences[0].prompt == [1, 97, 500, 501]


def test_a_prediction_is_what_is_drafted_first() -> None:
    [sequence] = job_of(prediction="xyz").sequences
    assert sequence.drafter is not None
    assert sequence.drafter.propose(8, lambda n: 0.1 * n) == [ord("x"), ord("y"), ord("z")]


def test_a_prediction_that_was_an_answer_has_its_ids() -> None:
    answers = Answers(1000)
    answers.remember("abcdxyz", [97, 98, 99, 100, 500, 501])
    _, job = admission(answers=answers).answer(msgspec.structs.replace(PLAIN, prediction="xyz"))
    assert job is not None
    assert job.sequences[0].drafter is not None
    assert job.sequences[0].drafter.propose(8, lambda n: 0.1 * n) == [500, 501]


def test_each_choice_drafts_for_itself() -> None:
    first, second = job_of(n=2, prediction="xyz").sequences
    assert first.drafter is not None
    assert second.drafter is not None
    first.drafter.take([ord("x")], 0)
    assert second.drafter.propose(8, lambda n: 0.1 * n) == [ord("x"), ord("y"), ord("z")]


def test_nothing_is_drafted_under_a_grammar_or_when_it_is_switched_off() -> None:
    assert job_of(grammar=Grammar("start: /a/", "response_format")).sequences[0].drafter is None
    _, job = admission(speculation=False).answer(PLAIN)
    assert job is not None
    assert job.sequences[0].drafter is None
