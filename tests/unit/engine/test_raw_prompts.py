"""Raw prompts on their way to sequences: BOS, markers, bounds, and what is refused."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest

from sheily_server.engine import raw_prompts
from sheily_server.engine.admission import Admission, Job
from sheily_server.engine.kvcache.answer_ids import AnswerIds
from sheily_server.engine.lanes import Lanes, Text
from sheily_server.engine.markers import Markers
from sheily_server.engine.reading import SHORT
from sheily_server.engine.vitals import Vitals
from sheily_server.protocol.commands import RawPrompt, Sampling, Start, Submit
from sheily_server.protocol.events import Admitted, Refused, RequestEvent, TooLong
from tests.support.fake_tokenizer import Letters
from tests.unit.engine.test_admission import Verdicts

CONTEXT = 20
BOS = 2
PATIENCE_S = 100


class WithBOS(Letters):
    """One whose prompts begin with a token."""

    @property
    def bos(self) -> int | None:
        return BOS


class Seen(Lanes):
    """Remembers how the text was handed over."""

    def __init__(self) -> None:
        super().__init__(Vitals())
        self.handed: list[tuple[bool, int]] = []

    def read(self, text: Text) -> None:
        self.handed.append((text.is_short, text.bytes_left))
        super().read(text)


def answer(
    *prompts: RawPrompt,
    tokenizer: Letters | None = None,
    lanes: Lanes | None = None,
    **fields: Any,
) -> tuple[RequestEvent, Job | None]:
    found: queue.SimpleQueue[tuple[RequestEvent, Job | None]] = queue.SimpleQueue()
    start = Start(model_path="", context_size=CONTEXT, parallel=4, threads=1, log_level="info")
    admission = Admission(
        tokenizer=tokenizer or Letters(),
        lanes=lanes or Lanes(Vitals()),
        trials=Verdicts(),
        answers=AnswerIds(1000),
        start=start,
        answer=lambda event, job: found.put((event, job)),
    )
    wanted: dict[str, Any] = {"max_tokens": 3, "sampling": Sampling()} | fields
    submit = Submit(id=5, segments=[], prompts=list(prompts), stop=[], deadline=1e9, **wanted)
    admission.take(submit)
    return found.get(timeout=PATIENCE_S)


def job_of(*prompts: RawPrompt, tokenizer: Letters | None = None, **fields: Any) -> Job:
    event, job = answer(*prompts, tokenizer=tokenizer, **fields)
    assert isinstance(event, Admitted), event
    assert job is not None
    return job


@pytest.mark.parametrize(
    ("prompt", "ids", "adds"),
    [
        (RawPrompt(text="ab"), [BOS, *b"ab"], True),
        (RawPrompt(ids=[7, 8]), [BOS, 7, 8], True),
        (RawPrompt(ids=[BOS, 8]), [BOS, 8], False),
        (RawPrompt(text=chr(BOS) + "a"), [BOS, *b"a"], False),
        (RawPrompt(text=""), [BOS], True),
        (RawPrompt(text="<|x|>a"), [BOS, *b"<|x|>a"], True),
        (RawPrompt(text="<|x|>a<|x|>", markers=True), [BOS, 1, *b"a", 1], True),
    ],
)
def test_a_prompt_begins_with_bos_once(prompt: RawPrompt, ids: list[int], adds: bool) -> None:
    job = job_of(prompt, tokenizer=WithBOS())
    [sequence] = job.sequences
    assert sequence.prompt == ids
    assert job.n_hidden(0) == adds


def test_a_vocabulary_without_bos_gets_none() -> None:
    job = job_of(RawPrompt(text="ab"))
    assert job.sequences[0].prompt == list(b"ab")
    assert job.n_hidden(0) == 0


def test_every_prompt_has_its_choices() -> None:
    prompts = RawPrompt(text="ab"), RawPrompt(ids=[7, BOS]), RawPrompt(ids=[BOS])
    job = job_of(*prompts, tokenizer=WithBOS(), n=2, sampling=Sampling(seed=3))
    assert [one.prompt for one in job.sequences[::2]] == [[BOS, 97, 98], [BOS, 7, BOS], [BOS]]
    assert [one.prompt for one in job.sequences[1::2]] == [one.prompt for one in job.firsts]
    assert [job.n_hidden(i) for i in range(6)] == [1, 1, 1, 1, 0, 0]
    assert job.admitted() == Admitted(5, 7, longest=3)
    assert job.submit.prompts == []
    seeds = [job.sampling(i).seed for i in range(6)]
    assert seeds[:2] == seeds[2:4] == seeds[4:]  # as if each prompt were alone
    assert seeds[0] != seeds[1]


def test_nothing_is_drafted_for_several_prompts() -> None:
    assert job_of(RawPrompt(text="ab")).prediction is not None
    assert job_of(RawPrompt(text="ab"), RawPrompt(text="c")).prediction is None


def test_a_prompt_without_an_answer_may_fill_the_context() -> None:
    prompt = RawPrompt(ids=[7] * CONTEXT)
    [sequence] = job_of(prompt, max_tokens=0, room=0, scores=True).sequences
    assert (sequence.max_tokens, sequence.held, sequence.scores) == (0, True, True)
    assert answer(prompt)[0] == TooLong(id=5, prompt_tokens=CONTEXT, room=1, place="prompt")


@pytest.mark.parametrize(
    ("prompts", "event"),
    [
        (
            [RawPrompt(ids=[7, 1000])],
            Refused(5, "prompt", "1000 is not a token of this model, which has 1000."),
        ),
        (
            [RawPrompt(text="a"), RawPrompt(ids=[-1], place="prompt[1]")],
            Refused(5, "prompt[1]", "-1 is not a token of this model, which has 1000."),
        ),
        (
            [RawPrompt(text="a"), RawPrompt(text="b" * 30, place="prompt[1]")],
            TooLong(id=5, prompt_tokens=30, room=1, place="prompt[1]"),
        ),
        (
            [RawPrompt(text="b " * SHORT, place="prompt[0]")],
            TooLong(id=5, prompt_tokens=SHORT // 2, room=1, at_least=True, place="prompt[0]"),
        ),
    ],
)
def test_what_is_not_admitted(prompts: list[RawPrompt], event: RequestEvent) -> None:
    assert answer(*prompts) == (event, None)


def test_an_empty_prompt_needs_a_vocabulary_that_begins_it() -> None:
    event, _ = answer(RawPrompt(text=""))
    assert isinstance(event, Refused)
    assert event.param == "prompt"


def test_markers_alone_can_be_too_many() -> None:
    """The search ends when they are, however long the text is."""

    class Few(Markers):
        n = 0

        def split(self, text: str) -> Iterator[tuple[str, int | None]]:
            for part in super().split(text):
                self.n += 1
                yield part

    tokenizer = Letters()
    tokenizer.markers = few = Few({"<|x|>": 1})
    event, _ = answer(RawPrompt(text="<|x|>" * SHORT, markers=True), tokenizer=tokenizer)
    assert isinstance(event, TooLong)
    assert few.n <= CONTEXT + 1


def test_several_prompts_have_a_bound_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_prompts, "MOST_SCORED", 10)
    monkeypatch.setattr(raw_prompts, "MOST_TOKENS", 17)
    six = RawPrompt(text="abcdef")
    assert isinstance(answer(six, six)[0], Admitted)
    assert isinstance(answer(RawPrompt(text="abcdefghijklm"), scores=True)[0], Admitted)
    for event, _ in (
        answer(six, six, scores=True),
        answer(six, n=2, scores=True),
        answer(six, six, six),
    ):
        assert isinstance(event, Refused)
        assert event.param == "prompt"


def test_many_short_texts_together_are_no_short_text() -> None:
    """They are read where long texts are, so that other requests do not wait for them."""
    for n in (SHORT // 8, SHORT // 8 + 1):
        lanes = Seen()
        event, _ = answer(*[RawPrompt(text="a b " * 2)] * n, lanes=lanes)
        assert event == Admitted(5, 8 * n, longest=8)
        assert lanes.handed == [(8 * n <= SHORT, 8 * n)]
