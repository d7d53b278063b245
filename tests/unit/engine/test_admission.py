"""What a command becomes before it reaches the engine thread: nothing native is needed for that."""

from __future__ import annotations

import json
import queue
from typing import Any

import msgspec
import pytest

from sheily_server.engine.admission import MOST_TOKENIZED, TRIES, Admission, Job
from sheily_server.engine.grammar.blame import Fault
from sheily_server.engine.grammar.compiler import Verdict
from sheily_server.engine.grammar.trials import Done, Trials
from sheily_server.engine.kvcache.answer_ids import AnswerIds
from sheily_server.engine.lanes import Lanes
from sheily_server.engine.reading import MOST_OF_A_SLICE, SHORT
from sheily_server.engine.vitals import Vitals
from sheily_server.protocol.commands import (
    Bias,
    Detokenize,
    Grammar,
    Sampling,
    Segment,
    Start,
    Submit,
    Tokenize,
)
from sheily_server.protocol.events import (
    Admitted,
    Detokenized,
    Refused,
    RequestEvent,
    RequestFailed,
    Tokenized,
    TooLong,
)
from sheily_server.templates.lark import json_term
from tests.support.fake_tokenizer import Letters

CONTEXT = 20
PATIENCE_S = 100


class Verdicts(Trials):
    """Takes every grammar but those that say `bad` at once; says nothing of those that say `slow`,
    and that the process ended to those that say `fatal`. `faults` are those of bad ones, in
    turn."""

    def __init__(self) -> None:
        self.faults: list[list[Fault]] = []
        self.asked: list[tuple[Grammar, str]] = []
        self.waiting: dict[int, Done] = {}

    def ask(self, id: int, grammar: Grammar, caller: str, done: Done) -> None:
        self.asked.append((grammar, caller))
        if "slow" in grammar.lark:
            self.waiting[id] = done
        elif "fatal" in grammar.lark:
            done(None)
        elif "killed" in grammar.lark:
            done(Verdict(id=1, failure="was killed"))
        elif "bad" in grammar.lark:
            faults = self.faults.pop(0) if self.faults else []
            done(Verdict(id=1, problem="bad is not good", param=grammar.param, faults=faults))
        else:
            done(
                Verdict(
                    id=1,
                    problem=None,
                    param=grammar.param,
                    compile_s=0.5,
                    mask_s=0.25,
                    n_bytes=1000,
                )
            )

    def forget(self, id: int) -> None:
        self.waiting.pop(id, None)


Found = tuple[RequestEvent, "Job | None"]


class Desk:
    """An admission, and what it answers."""

    def __init__(self, answers: AnswerIds | None = None, speculation: bool = True) -> None:
        start = Start(
            model_path="",
            context_size=CONTEXT,
            parallel=4,
            threads=1,
            log_level="info",
            speculation=speculation,
        )
        self.trials = Verdicts()
        self.found: queue.SimpleQueue[Found] = queue.SimpleQueue()
        self.admission = Admission(
            tokenizer=Letters(),
            lanes=Lanes(Vitals()),
            trials=self.trials,
            answers=AnswerIds(1000) if answers is None else answers,
            start=start,
            answer=lambda event, job: self.found.put((event, job)),
        )

    def answer(self, command: Submit | Tokenize | Detokenize) -> Found:
        self.admission.take(command)
        return self.next()

    def next(self) -> Found:
        """Of a long text the answer comes from another thread."""
        return self.found.get(timeout=PATIENCE_S)


SEGMENTS = [Segment("<|x|>", True), Segment("abcd", False)]
PLAIN = Submit(
    id=5,
    segments=SEGMENTS,
    sampling=Sampling(),
    max_tokens=7,
    stop=[],
    deadline=100.0,
    arrived=50.0,
    scope="me",
)


def plain(**fields: object) -> Submit:
    return msgspec.structs.replace(PLAIN, **fields)


def answer(desk: Desk | None = None, **fields: object) -> Found:
    return (desk or Desk()).answer(plain(**fields))


def job_of(desk: Desk | None = None, **fields: object) -> Job:
    event, job = answer(desk, **fields)
    assert event == Admitted(5, 5)
    assert job is not None
    return job


def test_what_fits_is_admitted() -> None:
    job = job_of()
    (sequence,) = job.sequences
    assert (job.id, sequence.prompt, sequence.max_tokens) == (5, [1, *b"abcd"], 7)
    assert (job.cost, job.visible, sequence.held) == (None, frozenset(), False)
    assert (job.submit.deadline, job.submit.arrived) == (100.0, PLAIN.arrived)
    assert list(job.before) == [1]


def test_of_a_prompt_s_text_the_last_segment_is_kept() -> None:
    assert job_of(prediction="xyz").submit == plain(segments=SEGMENTS[1:])


@pytest.mark.parametrize(("max_tokens", "expected"), [(10, 10), (99, 15), (15, 15), (1, 1)])
def test_the_length_of_an_answer(max_tokens: int, expected: int) -> None:
    (sequence,) = job_of(max_tokens=max_tokens).sequences
    assert sequence.max_tokens == expected


@pytest.mark.parametrize(
    ("n_text", "room", "event"),
    [
        (18, 1, Admitted(5, 19)),
        (18, 2, TooLong(id=5, prompt_tokens=19, room=2)),
        (19, 1, TooLong(id=5, prompt_tokens=20, room=1)),
        (500, 7, TooLong(id=5, prompt_tokens=501, room=7)),
        (SHORT - 5, 7, TooLong(id=5, prompt_tokens=SHORT - 4, room=7)),
        (
            SHORT + 1,
            7,
            TooLong(id=5, prompt_tokens=(SHORT + 6) // 4, room=7, at_least=True),
        ),
    ],
)
def test_what_does_not_fit(n_text: int, room: int, event: RequestEvent) -> None:
    """A short text is counted to its end. Of a long one it is told what is known so far."""
    segments = [Segment("<|x|>", True), Segment("a" * n_text, False)]
    found, job = answer(segments=segments, room=room)
    assert found == event
    assert (job is None) == isinstance(event, TooLong)


@pytest.mark.parametrize("segments", [[], [Segment("", False)]])
def test_a_prompt_without_tokens_is_refused(segments: list[Segment]) -> None:
    event, job = answer(segments=segments)
    assert isinstance(event, Refused)
    assert (event.param, job) == ("messages", None)


def test_every_choice_has_a_sequence_of_its_own() -> None:
    desk = Desk()
    job = job_of(desk, n=3, grammar=Grammar("good", "p"))
    assert len({id(sequence) for sequence in job.sequences}) == 3
    assert len({id(sequence.generated) for sequence in job.sequences}) == 3
    assert desk.trials.asked == [(Grammar("good", "p"), "me")]


def test_a_sequence_with_a_grammar_waits_for_its_first_mask() -> None:
    job = job_of(n=2, grammar=Grammar("good", "p"))
    assert [sequence.held for sequence in job.sequences] == [True, True]
    assert job.cost == Verdict(
        id=1, problem=None, param="p", compile_s=0.5, mask_s=0.25, n_bytes=1000
    )


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
    event, job = answer(sampling=Sampling(logit_bias=Bias.of({5: 1.0, token: 1.0})))
    assert isinstance(event, Refused)
    assert event.param == "logit_bias"
    assert str(token) in event.message
    assert "1000" in event.message
    assert job is None


def test_a_bias_on_the_first_and_the_last_token() -> None:
    job_of(sampling=Sampling(logit_bias=Bias.of({0: 1.0, 999: 1.0})))


def test_a_bias_by_texts_is_one_by_their_tokens() -> None:
    sampling = Sampling(logit_bias=Bias.of({5: 1.0, ord("a"): 2.0}))
    job = job_of(sampling=sampling, bias_texts={"ab": -100.0, "bc": 3.0, "<|x|>": 4.0})
    letters = {ord("a"): -100.0, ord("b"): 3.0, ord("c"): 3.0} | dict.fromkeys(
        map(ord, "<|x>"), 4.0
    )
    assert job.submit.sampling.logit_bias == Bias.of({5: 1.0} | letters)
    assert job.submit.bias_texts == {}


def test_a_grammar_that_cannot_be_honoured() -> None:
    event, job = answer(n=2, grammar=Grammar("bad", "response_format"))
    assert event == Refused(
        5, "response_format", "response_format cannot be honoured: bad is not good."
    )
    assert job is None


def test_when_the_compilers_process_ended_one_request_fails() -> None:
    event, job = answer(grammar=Grammar("fatal", "response_format"))
    assert isinstance(event, RequestFailed)
    assert event.code == "engine_error"
    assert job is None


def test_when_a_trial_was_killed_one_request_fails() -> None:
    event, job = answer(grammar=Grammar("killed", "response_format"))
    message = "the process that tried the grammar was killed"
    assert event == RequestFailed(5, "engine_error", message)
    assert job is None


def test_what_is_too_long_is_not_compiled() -> None:
    desk = Desk()
    event, _ = answer(desk, room=100, grammar=Grammar("good", "p"))
    assert isinstance(event, TooLong)
    assert desk.trials.asked == []


def test_others_are_answered_while_a_grammar_is_tried() -> None:
    desk = Desk()
    desk.admission.take(plain(id=1, grammar=Grammar("slow", "p")))
    event, job = desk.answer(plain(id=2))
    assert (event, job is None) == (Admitted(2, 5), False)
    desk.trials.waiting[1](Verdict(id=1))
    event, job = desk.next()
    assert (event, job is None) == (Admitted(1, 5), False)


def loose(**places: Any) -> Grammar:
    """A grammar whose schemas may be relaxed; a schema with `bad` in it cannot be honoured."""
    lark = "\n".join(f"{place}: {json_term(schema)}" for place, schema in places.items())
    texts = {place: json.dumps(schema) for place, schema in places.items()}
    return Grammar(lark, "p", texts, loose=[*places], relaxed=["before"])


def test_a_grammar_is_relaxed_until_it_can_be_honoured() -> None:
    desk = Desk()
    grammar = loose(s={"type": "object", "a": "bad", "b": 1, "c": "bad"})
    desk.trials.faults = [[Fault("s", ["a"])], [Fault("s", ["c"])]]
    event, job = answer(desk, grammar=grammar)
    assert event == Admitted(5, 5, ["before", "s.a", "s.c"])
    assert job is not None
    assert job.submit.grammar is not None
    assert job.submit.grammar.schemas == {"s": json.dumps({"type": "object", "b": 1})}
    assert job.submit.grammar.lark == f"s: {json_term({'type': 'object', 'b': 1})}"
    assert [caller for _, caller in desk.trials.asked] == ["me"] * 3


def test_at_last_only_types_are_left() -> None:
    desk = Desk()
    object_of_bad = {"type": "object", "a": "bad", "b": "bad", "c": "bad", "d": 1}
    desk.trials.faults = [[Fault("s", ["a"])], [Fault("s", ["b"])], [Fault("s", ["c"])]]
    event, job = answer(desk, grammar=loose(s=object_of_bad, t={"enum": ["x"]}))
    assert event == Admitted(5, 5, ["before", "s.a", "s.b", "s", "t"])
    assert job is not None
    assert job.submit.grammar is not None
    assert job.submit.grammar.schemas == {"s": '{"type": "object"}', "t": "{}"}
    assert len(desk.trials.asked) == TRIES + 2


def test_where_no_part_is_to_blame_all_of_them_go() -> None:
    desk = Desk()
    event, _ = answer(desk, grammar=loose(s={"a": "bad"}, t={"b": 1}))
    assert event == Admitted(5, 5, ["before", "s", "t"])
    assert len(desk.trials.asked) == 2


@pytest.mark.parametrize("faults", [[], [[Fault("s", ["a"])]], [[Fault("t", ["a"])]]])
def test_what_cannot_go_is_refused(faults: list[list[Fault]]) -> None:
    desk = Desk()
    desk.trials.faults = faults
    grammar = loose(s={"a": 1}, t={"a": "bad"})
    event, job = answer(desk, grammar=msgspec.structs.replace(grammar, loose=["s"]))
    assert event == Refused(5, "p", "p cannot be honoured: bad is not good.")
    assert job is None
    assert len(desk.trials.asked) <= 3


def test_what_was_cancelled_is_not_tried_again() -> None:
    desk = Desk()
    desk.admission.take(plain(id=1, grammar=loose(slow={"a": "bad"})))
    done = desk.trials.waiting[1]
    desk.admission.cancel(1)
    done(Verdict(id=1, problem="bad is not good", param="p"))
    assert (desk.found.empty(), len(desk.trials.asked)) == (True, 1)


def test_what_was_cancelled_has_no_answer() -> None:
    desk = Desk()
    desk.admission.take(plain(id=1, grammar=Grammar("slow", "p")))
    done = desk.trials.waiting[1]
    assert desk.admission.cancel(1)
    assert not desk.trials.waiting
    done(Verdict(id=1))
    assert desk.found.empty()
    assert desk.answer(plain(id=2))[0] == Admitted(2, 5)
    assert not desk.admission.cancel(2)  # what was answered is the engine thread's to cancel
    assert not desk.admission.cancel(3)


def test_control_tokens_that_are_shown() -> None:
    assert job_of(visible=["<|x|>", "<|not there|>"]).visible == {1}


def test_text_to_tokens() -> None:
    segments = [Segment("<|x|>", True), Segment("aé", False)]
    assert Desk().answer(Tokenize(3, segments)) == (
        Tokenized(3, [1, 97, 233], [b"<|x|>", b"a", "é".encode()]),
        None,
    )
    assert Desk().answer(Tokenize(3, [])) == (Tokenized(3, [], []), None)


def test_a_long_text_to_tokens() -> None:
    text = "abc " * 10_000
    tokens = list(map(ord, text))
    found, _ = Desk().answer(Tokenize(3, [Segment(text, False)]))
    assert found == Tokenized(3, tokens, [chr(token).encode() for token in tokens])


@pytest.mark.parametrize(
    ("segments", "param"),
    [
        ([Segment("a " * MOST_TOKENIZED, False)], "text"),
        ([Segment("<|x|>", True), Segment("a " * MOST_TOKENIZED, False)], "messages"),
    ],
)
def test_a_text_with_more_tokens_than_are_told(segments: list[Segment], param: str) -> None:
    event, _ = Desk().answer(Tokenize(3, segments))
    assert isinstance(event, Refused)
    assert event.param == param
    assert str(MOST_TOKENIZED) in event.message


@pytest.mark.parametrize(
    ("command", "param"),
    [
        (plain(segments=[Segment("a" * (MOST_OF_A_SLICE + 1), False)]), "messages"),
        (plain(prediction="a" * (MOST_OF_A_SLICE + 1)), "prediction"),
        (Tokenize(5, [Segment("a" * (MOST_OF_A_SLICE + 1), False)]), "text"),
    ],
    ids=["messages", "prediction", "text"],
)
def test_a_text_that_cannot_be_cut_has_a_limit(
    command: Submit | Tokenize, param: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Letters, "least_tokens", lambda self, n_counted: 0)
    event, job = Desk().answer(command)
    assert isinstance(event, Refused)
    assert (event.param, job) == (param, None)
    assert str(MOST_OF_A_SLICE) in event.message


def test_tokens_to_text() -> None:
    assert Desk().answer(Detokenize(3, [1, 97, 233])) == (Detokenized(3, "<|x|>aé"), None)
    assert Desk().answer(Detokenize(3, [])) == (Detokenized(3, ""), None)
    event, job = Desk().answer(Detokenize(3, [97, 1000]))
    assert event == Refused(3, "tokens", "1000 is not a token.")
    assert job is None


def test_a_failure_of_the_library_fails_one_request() -> None:
    desk = Desk()
    event, job = answer(desk, segments=[Segment("broken", False)])
    assert event == RequestFailed(5, "engine_error", "it broke")
    assert job is None
    job_of(desk)


def test_an_answer_of_before_keeps_the_ids_it_was_generated_with() -> None:
    answers = AnswerIds(1000)
    answers.remember("me", [1], "abcd", [97, 500, 501])
    _, job = answer(Desk(answers))
    assert job is not None
    assert job.sequences[0].prompt == [1, 97, 500, 501]


@pytest.mark.parametrize(("scope", "before"), [("you", [1]), ("", [1]), ("me", [1, 1]), ("me", [])])
def test_an_answer_elsewhere_changes_nothing(scope: str, before: list[int]) -> None:
    answers = AnswerIds(1000)
    answers.remember(scope, before, "abcd", [97, 500, 501])
    assert job_of(Desk(answers)).sequences[0].prompt == [1, *b"abcd"]


def test_a_prediction_is_read() -> None:
    assert list(job_of(prediction="xyz").prediction or ()) == list(b"xyz")


def test_without_a_prediction_drafts_come_from_the_prompt_alone() -> None:
    prediction = job_of().prediction
    assert prediction is not None
    assert not prediction


def test_a_prediction_that_was_an_answer_has_its_ids() -> None:
    answers = AnswerIds(1000)
    answers.remember("me", [1], "abcdxyz", [97, 98, 99, 100, 500, 501])
    assert list(job_of(Desk(answers), prediction="xyz").prediction or ()) == [500, 501]


def test_a_prediction_that_was_another_caller_s_answer_is_read_as_any_text() -> None:
    answers = AnswerIds(1000)
    answers.remember("you", [1], "abcdxyz", [97, 98, 99, 100, 500, 501])
    assert list(job_of(Desk(answers), prediction="xyz").prediction or ()) == list(b"xyz")


def test_nothing_is_drafted_under_a_grammar_or_when_it_is_switched_off() -> None:
    assert job_of(grammar=Grammar("start: /a/", "response_format")).prediction is None
    assert job_of(Desk(speculation=False)).prediction is None
    assert job_of(Desk(speculation=False), prediction="xyz").prediction is None
