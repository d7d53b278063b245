"""The engine thread with a model that says what it is told: who waits for whom, what an answer ends
with, and what the usage says of drafts."""

from __future__ import annotations

import array
import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import msgspec
import pytest

from sheily_native import NativeError
from sheily_server.engine import worker
from sheily_server.engine.admission import Job
from sheily_server.engine.disk.tier import Tier
from sheily_server.engine.grammar.compiler import Verdict
from sheily_server.engine.grammar.follower import Follower
from sheily_server.engine.inbox import Inbox, Indexed
from sheily_server.engine.kvcache.answer_ids import AnswerIds
from sheily_server.engine.runner import Output, Runner
from sheily_server.engine.scheduling.scheduler import Plan, Scheduler
from sheily_server.engine.scheduling.sequence import TokenSequence
from sheily_server.engine.vitals import Vitals
from sheily_server.engine.worker import Engine
from sheily_server.protocol.channel import Channel
from sheily_server.protocol.commands import Cancel, Grammar, Sampling, Segment, Submit
from sheily_server.protocol.events import (
    ChoiceFinished,
    Event,
    Finished,
    Prefilled,
    Prompted,
    PromptToken,
    RequestFailed,
    Started,
    Text,
    TokenLogprob,
)
from tests.support.fake_grammars import Path, Paths
from tests.support.fake_tokenizer import Letters
from tests.support.waiting import until

PATIENCE_S = 100
CONTEXT = 400
END = 1


class Script(Runner):
    """Says behind a prompt what is written for its first token."""

    def __init__(self, says: dict[str, str]) -> None:
        self.says = {ord(first): [*map(ord, text), END] for first, text in says.items()}
        self.followers: dict[int, Follower | None] = {}
        self.n_steps = 0
        self.fails_at: int | None = None
        self.before: dict[int, Callable[[], None]] = {}
        """What happens before a step, by the number of the step."""

    def start(
        self,
        id: int,
        sampling: Sampling,
        prompt: Sequence[int],
        follower: Follower | None,
        top_logprobs: int | None,
        scores: bool = False,
    ) -> None:
        self.followers[id] = follower

    def end(self, id: int) -> None:
        self.followers.pop(id, None)

    def clear(self) -> None:
        pass

    def step(self, plan: Plan) -> list[list[Output]]:
        self.n_steps += 1
        if self.n_steps in self.before:
            self.before[self.n_steps]()
        if self.n_steps == self.fails_at:
            raise NativeError("it broke")
        outputs: list[list[Output]] = []
        for work in plan.work:
            if work.targets:
                logprobs = [
                    TokenLogprob(chr(one).encode(), -float(one), []) for one in work.targets
                ]
                outputs.append([Output(one.piece[0], one) for one in logprobs])
                continue
            outputs.append([])
            said = self.says[work.sequence.prompt[0]][len(work.sequence.generated) :]
            for token, draft in zip(said, [*work.drafts, None], strict=False):
                if not work.samples:
                    break
                follower = self.followers[work.sequence.id]
                if follower is not None:
                    assert follower.mask[token // 32] >> token % 32 & 1
                    follower.take(token)
                outputs[-1].append(Output(token))
                if token != draft:
                    break
        return outputs


class Steady(Scheduler):
    """Takes the steps to be as long as those of a model on a quiet machine are."""

    def commit(self, plan: Plan, sampled: Sequence[Sequence[int]], seconds: float) -> None:
        n = sum(len(work.tokens) + len(work.drafts) for work in plan.work)
        super().commit(plan, sampled, 0.1 + 0.002 * n)


class OneCopy:
    """A disk tier that puts off one copy for as long as answers stream."""

    def __init__(self) -> None:
        self.copied = threading.Event()
        self.has_put_off = False

    def work(self, streaming: bool) -> None:
        if self.has_put_off and not streaming:
            self.copied.set()
        self.has_put_off = streaming and not self.copied.is_set()

    def begin(self, sequences: Sequence[TokenSequence], root: bytes) -> None:
        pass

    def started(self, sequence: TokenSequence) -> None:
        pass

    ended = started

    def finished(self, tokens: list[int], root: bytes, owner: str, note: object) -> None:
        pass

    def flush(self) -> None:
        pass


def is_same(event: Event, wanted: Event | type[Event]) -> bool:
    """However many tokens a text has."""
    if isinstance(wanted, type):
        return isinstance(event, wanted)
    if isinstance(event, Text) and isinstance(wanted, Text):
        return msgspec.structs.replace(event, n_tokens=wanted.n_tokens) == wanted
    return event == wanted


class Running:
    """An engine at work, and the server process's end of its channel."""

    def __init__(
        self,
        says: dict[str, str],
        paths: dict[str, Path],
        n_slots: int = 3,
        tier: OneCopy | None = None,
    ) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(PATIENCE_S)
        self.channel = Channel(self._ours)
        self.inbox: Inbox = queue.SimpleQueue()
        self.runner = Script(says)
        self.answers = AnswerIds(1000)
        self.grammars = Paths(paths)
        self.scheduler = Steady(n_slots=n_slots, context_size=CONTEXT, n_sequences=n_slots + 4)
        self.vitals = Vitals()
        self.events: list[Event] = []
        engine = Engine(
            channel=Channel(theirs),
            tokenizer=Letters(),
            runner=self.runner,
            scheduler=self.scheduler,
            answers=self.answers,
            grammars=self.grammars,
            inbox=self.inbox,
            vitals=self.vitals,
            tier=cast(Tier | None, tier),
        )

        def run() -> None:
            with theirs, contextlib.suppress(OSError):
                engine.run()

        self._thread = threading.Thread(target=run, name="engine")
        self._thread.start()

    def until(self, *last: Event | type[Event]) -> list[Event]:
        """The events up to those that are waited for, all of this call."""
        wanted = list(last)
        found: list[Event] = []
        while wanted:
            events = self.channel.receive_events()
            assert events is not None, f"the engine ended; waited for {wanted}"
            found += events
            for event in events:
                for one in wanted:
                    if is_same(event, one):
                        wanted.remove(one)
                        break
        self.events += found
        return found

    def ended(self, *ids: int) -> dict[int, Finished | RequestFailed]:
        """The last events of these requests."""
        known: dict[int, Finished | RequestFailed] = {}
        while not set(ids) <= set(known):
            events = self.channel.receive_events()
            assert events is not None, f"the engine ended; {known}"
            self.events += events
            known |= {
                event.id: event
                for event in self.events
                if isinstance(event, Finished | RequestFailed)
            }
        return known

    def text(self, id: int, choice: int = 0) -> str:
        found = [event for event in self.events if isinstance(event, Text)]
        return "".join(event.text for event in found if (event.id, event.choice) == (id, choice))

    def reasons(self, id: int) -> list[str]:
        found = [event for event in self.events if isinstance(event, ChoiceFinished)]
        return [event.reason for event in found if event.id == id]

    def close(self) -> None:
        self._ours.close()
        self.inbox.put(job(0, next(map(chr, self.runner.says))))  # whose first event finds nobody
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


def job(
    id: int,
    prompt: str,
    *,
    n: int = 1,
    max_tokens: int = 200,
    stop: Sequence[str] = (),
    grammar: str | None = None,
    prediction: str | None = None,
    seconds: float = 1e6,
    scope: str = "",
) -> Job:
    """An admitted request; `prediction` None: nothing is drafted."""
    now = time.monotonic()
    submit = Submit(
        id=id,
        segments=[Segment(prompt[1:], False)],
        sampling=Sampling(),
        max_tokens=max_tokens,
        stop=list(stop),
        deadline=now + seconds,
        n=n,
        grammar=None if grammar is None else Grammar(grammar, "response_format"),
        arrived=now,
        scope=scope,
    )
    tokens = list(map(ord, prompt))
    return Job(
        submit=submit,
        sequences=[
            TokenSequence(0, tokens, max_tokens, held=grammar is not None) for _ in range(n)
        ],
        before=array.array("i", tokens[:1]),
        cost=None if grammar is None else Verdict(id=1, n_bytes=1234),
        prediction=None if prediction is None else array.array("i", map(ord, prediction)),
    )


def path_of(text: str, *gates: int, fails: int | None = None) -> Path:
    """The grammar that allows this text alone, and then the answer's end."""
    return Path(list(map(ord, text)), {number: threading.Event() for number in gates}, fails)


@contextlib.contextmanager
def running(
    says: dict[str, str], *, n_slots: int = 3, tier: OneCopy | None = None, **paths: Path
) -> Iterator[Running]:
    engine = Running(says, paths, n_slots, tier)
    try:
        yield engine
    finally:
        for path in paths.values():
            for gate in path.gates.values():
                gate.set()
        engine.close()


SAYS = {"a": "the first answer", "b": "another one, which is longer than the first", "c": "short"}


def test_answers_side_by_side() -> None:
    with running(SAYS) as engine:
        for id, prompt in enumerate("abc", 1):
            engine.inbox.put(job(id, prompt))
        ended = engine.ended(1, 2, 3)
        for id, prompt in enumerate("abc", 1):
            assert engine.text(id) == SAYS[prompt]
            assert engine.reasons(id) == ["stop"]
            last = ended[id]
            assert isinstance(last, Finished)
            assert last.completion_tokens == len(SAYS[prompt]) + 1  # with the token that ends it
        assert engine.scheduler.idle


# --- grammars -------------------------------------------------------------------------------------


def test_a_mask_that_is_not_there_holds_up_its_own_answer_alone() -> None:
    slow = path_of(SAYS["a"], 5)
    with running(SAYS, slow=slow) as engine:
        engine.inbox.put(job(1, "a", grammar="slow"))
        engine.until(Text(1, 0, "f"))  # the last one before the mask that does not come
        engine.inbox.put(job(2, "b"))
        engine.ended(2)
        assert engine.text(2) == SAYS["b"]
        assert engine.text(1) == SAYS["a"][:5]
        slow.gates[5].set()
        assert isinstance(engine.ended(1)[1], Finished)
        assert engine.text(1) == SAYS["a"]
        assert engine.reasons(1) == ["stop"]


def test_a_grammar_that_takes_long_to_compile_holds_up_its_own_answer_alone() -> None:
    slow = path_of(SAYS["a"], 0)
    with running(SAYS, slow=slow) as engine:
        engine.inbox.put(job(1, "a long prompt, most of which is computed", grammar="slow"))
        engine.until(Started(1, 0))
        engine.inbox.put(job(2, "b"))
        engine.ended(2)
        assert engine.text(1) == ""
        slow.gates[0].set()
        engine.ended(1)
        assert engine.text(1) == SAYS["a"]


def test_a_grammar_that_cannot_be_followed_fails_its_own_request_alone() -> None:
    with running(SAYS, bad=path_of(SAYS["a"], fails=4)) as engine:
        engine.inbox.put(job(2, "b"))
        engine.inbox.put(job(1, "a", grammar="bad", n=2))
        last = engine.ended(1, 2)
        assert last[1] == RequestFailed(1, "schema_too_complex", "too many states")
        assert isinstance(last[2], Finished)
        assert engine.text(2) == SAYS["b"]
        assert engine.runner.followers == {}


def test_a_mask_that_never_comes_ends_with_the_deadline() -> None:
    never = path_of(SAYS["a"], 0)
    late = path_of(SAYS["a"], 3)
    with running(SAYS, never=never, late=late) as engine:
        engine.inbox.put(job(1, "a", grammar="never", seconds=0.5))
        last = engine.ended(1)[1]
        assert isinstance(last, RequestFailed)
        assert last.code == "timeout"
        begun = job(2, "a", grammar="late")
        engine.inbox.put(begun)
        engine.until(Text(2, 0, "e"))  # the last one before the mask that does not come
        begun.submit = msgspec.structs.replace(begun.submit, deadline=0)
        assert isinstance(engine.ended(2)[2], Finished)
        assert ChoiceFinished(id=2, choice=0, reason="length", timed_out=True) in engine.events
        assert engine.text(2) == SAYS["a"][:3]


def late(request: Job) -> Callable[[], None]:
    """Lets a request's deadline pass, as during a long step."""

    def pass_by() -> None:
        request.submit = msgspec.structs.replace(request.submit, deadline=0)

    return pass_by


@pytest.mark.parametrize("n", [1, 2])
def test_a_first_token_that_comes_after_the_deadline_is_none(n: int) -> None:
    """Else the same timeout would be an error before a step and an answer of one token after it."""
    with running(SAYS) as engine:
        request = job(1, "a", n=n)
        engine.runner.before[1] = late(request)
        engine.inbox.put(request)
        assert engine.ended(1)[1] == RequestFailed(
            1, "timeout", "the deadline passed before the first token"
        )
        assert engine.text(1) == ""
        assert engine.reasons(1) == []
        engine.inbox.put(job(2, "c"))
        engine.ended(2)
        assert engine.text(2) == SAYS["c"]


def test_an_answer_that_began_before_the_deadline_keeps_its_text() -> None:
    with running(SAYS) as engine:
        request = job(1, "a")
        engine.runner.before[3] = late(request)
        engine.inbox.put(request)
        assert isinstance(engine.ended(1)[1], Finished)
        assert ChoiceFinished(id=1, choice=0, reason="length", timed_out=True) in engine.events
        assert engine.text(1) == SAYS["a"][:3]


def test_who_is_held_can_be_cancelled() -> None:
    slow = path_of(SAYS["a"], 2)
    with running(SAYS, slow=slow) as engine:
        engine.inbox.put(job(1, "a", grammar="slow"))
        engine.until(Text(1, 0, "h"))
        engine.inbox.put(Cancel(1))
        engine.inbox.put(job(2, "b"))
        engine.ended(2)
        assert not engine.reasons(1)
        assert engine.scheduler.idle


def test_an_answer_is_whole_where_its_grammar_ends() -> None:
    """Whatever the model would say next: no token of an end is sampled."""
    with running(SAYS, part=path_of(SAYS["b"][:7])) as engine:
        engine.inbox.put(job(1, "b", grammar="part"))
        last = engine.ended(1)[1]
        assert isinstance(last, Finished)
        assert last.completion_tokens == 7
        assert engine.text(1) == SAYS["b"][:7]
        assert engine.reasons(1) == ["stop"]


@pytest.mark.parametrize(("max_tokens", "reason"), [(6, "length"), (7, "stop")])
def test_an_answer_that_is_whole_with_its_last_token_has_stopped(
    max_tokens: int, reason: str
) -> None:
    with running(SAYS, part=path_of(SAYS["b"][:7])) as engine:
        engine.inbox.put(job(1, "b", grammar="part", max_tokens=max_tokens))
        engine.ended(1)
        assert engine.reasons(1) == [reason]
        assert engine.text(1) == SAYS["b"][:max_tokens]


def test_each_choice_follows_the_grammar_for_itself() -> None:
    with running(SAYS, one=path_of(SAYS["a"])) as engine:
        engine.inbox.put(job(1, "a", grammar="one", n=3))
        last = engine.ended(1)[1]
        assert isinstance(last, Finished)
        assert last.completion_tokens == 3 * len(SAYS["a"])
        assert {engine.text(1, choice) for choice in range(3)} == {SAYS["a"]}
        assert engine.grammars.compiled == [("one", 1234)] * 3


def test_what_waits_for_a_slot_has_neither_a_grammar_nor_an_index() -> None:
    hold = path_of(SAYS["a"], 3)
    with running(SAYS, hold=hold, one=path_of(SAYS["b"])) as engine:
        engine.inbox.put(job(1, "a", grammar="hold", n=3))
        engine.until(*[Started(1, choice) for choice in range(3)])
        waiting = [job(2, "b", grammar="one"), job(3, "c", prediction="short")]
        for one in waiting:
            engine.inbox.put(one)
        engine.inbox.put(Cancel(4))  # when this is taken, so are those before it
        until(engine.inbox.empty)
        assert [name for name, _ in engine.grammars.compiled] == ["hold"] * 3
        assert [one.sequences[0].drafter for one in waiting] == [None, None]
        hold.gates[3].set()
        engine.ended(1, 2, 3)
        assert engine.grammars.compiled[-1] == ("one", 1234)


def test_the_times_of_several_choices_are_those_of_the_first_that_began() -> None:
    """Of four there is one slot at first, beside two others."""
    hold = path_of(SAYS["a"], 3)
    with running(SAYS, hold=hold) as engine:
        began = time.monotonic()
        engine.inbox.put(job(1, "a", grammar="hold", n=2))
        engine.until(Started(1, 0), Started(1, 1))
        engine.inbox.put(job(2, "b", n=4))
        engine.until(Started(2, 0))
        engine.until(ChoiceFinished(id=2, choice=0, reason="stop", timed_out=False))
        hold.gates[3].set()
        last = engine.ended(1, 2)[2]
        elapsed = time.monotonic() - began
        assert isinstance(last, Finished)
        times = (last.queued_s, last.prefill_s, last.decode_s)
        assert all(seconds >= 0 for seconds in times)
        assert sum(times) <= elapsed


# --- drafts ---------------------------------------------------------------------------------------

LINE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .:;,-_+*#"


def drafted(said: str, **fields: str | int | Sequence[str]) -> tuple[Finished, Running]:
    with running({"Q": said}) as engine:
        engine.inbox.put(job(1, "Q", **fields))  # type: ignore[arg-type]
        last = engine.ended(1)[1]
    assert isinstance(last, Finished)
    return last, engine


def consistent(last: Finished) -> None:
    assert last.accepted_prediction_tokens <= last.accepted_tokens <= last.drafted_tokens
    assert last.accepted_tokens <= last.completion_tokens
    assert last.rejected_prediction_tokens >= 0
    n_predicted = last.accepted_prediction_tokens + last.rejected_prediction_tokens
    assert n_predicted <= last.drafted_tokens


def test_a_prediction_saves_steps() -> None:
    last, engine = drafted(LINE, prediction=LINE)
    consistent(last)
    assert engine.text(1) == LINE
    assert last.completion_tokens == len(LINE) + 1
    assert last.accepted_prediction_tokens == last.accepted_tokens > 40
    assert engine.runner.n_steps < len(LINE) / 2


@pytest.mark.parametrize("at", [0, 1, 5, 20, 40, 60])
def test_what_a_stop_string_cuts_off_is_not_accepted(at: int) -> None:
    """A stop string in the middle of a draft: the rest of the draft is no part of the answer."""
    last, engine = drafted(LINE, prediction=LINE, stop=[LINE[at : at + 3]])
    consistent(last)
    assert engine.text(1) == LINE[:at]
    stop = LINE[at : at + 3]
    end = ChoiceFinished(id=1, choice=0, reason="stop", timed_out=False, stop=stop)
    assert end in engine.events
    assert last.completion_tokens == at + 3
    assert last.accepted_prediction_tokens <= at + 3
    n_predicted = last.accepted_prediction_tokens + last.rejected_prediction_tokens
    assert n_predicted == last.drafted_tokens
    # The stop string ended a draft that went on behind it, and was right.
    assert last.rejected_prediction_tokens > 0


def test_a_wrong_prediction_is_counted_as_such() -> None:
    last, engine = drafted(LINE, prediction=LINE[:1] + LINE[::-1])
    consistent(last)
    assert engine.text(1) == LINE
    assert last.accepted_prediction_tokens == 0
    assert last.rejected_prediction_tokens > 0


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 17, 64, 65])
def test_drafts_stay_inside_the_answer(max_tokens: int) -> None:
    last, engine = drafted(LINE, prediction=LINE, max_tokens=max_tokens)
    consistent(last)
    assert engine.text(1) == LINE[:max_tokens]
    assert last.completion_tokens == max_tokens
    assert last.rejected_prediction_tokens == 0


def test_several_choices_are_counted_together() -> None:
    last, engine = drafted(LINE, prediction=LINE, n=3, stop=[LINE[50:53]])
    consistent(last)
    assert last.completion_tokens == 3 * 53
    assert {engine.text(1, choice) for choice in range(3)} == {LINE[:50]}


def test_without_speculation_nothing_is_drafted() -> None:
    last, engine = drafted(LINE * 2)
    assert (last.drafted_tokens, last.accepted_tokens) == (0, 0)
    assert engine.runner.n_steps == len(LINE * 2) + 1


def test_a_repetition_is_drafted_and_is_no_prediction() -> None:
    last, engine = drafted(LINE * 4, prediction="", max_tokens=300)
    consistent(last)
    assert engine.text(1) == LINE * 4
    assert last.accepted_tokens > 100
    assert (last.accepted_prediction_tokens, last.rejected_prediction_tokens) == (0, 0)


def test_long_texts_are_made_ready_beside_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MOST_AT_ONCE", 0)
    entered, enough = threading.Event(), threading.Event()
    indexed = worker._indexed

    def slowly(job: Job) -> Indexed:
        entered.set()
        assert enough.wait(PATIENCE_S)
        return indexed(job)

    monkeypatch.setattr(worker, "_indexed", slowly)
    with running({"Q": LINE * 4, "b": SAYS["b"]}) as engine:
        engine.inbox.put(job(1, "Q", prediction=LINE * 4, max_tokens=300))
        assert entered.wait(PATIENCE_S)
        engine.until(Text(1, 0, LINE[10]))  # the answer goes on meanwhile
        enough.set()
        last = engine.ended(1)[1]
        assert isinstance(last, Finished)
        consistent(last)
        assert engine.text(1) == LINE * 4
        # What had been asked for when the request was gone is of no use to anybody.
        enough.clear()
        entered.clear()
        engine.inbox.put(job(2, "Q", prediction=LINE))
        assert entered.wait(PATIENCE_S)
        engine.inbox.put(Cancel(2))
        engine.inbox.put(job(3, "b"))
        engine.ended(3)
        enough.set()


# --- what is left of an answer --------------------------------------------------------------------


def test_the_ids_of_an_answer_are_kept_for_its_caller_and_its_place() -> None:
    with running({"Q": "said"}) as engine:
        engine.inbox.put(job(1, "Q: ", scope="me"))
        engine.ended(1)
        text = ": said"
        ids = list(map(ord, text))
        assert engine.answers.ids("me", [ord("Q")], text) == ids
        assert engine.answers.ids("you", [ord("Q")], text) is None
        assert engine.answers.ids("", [ord("Q")], text) is None
        assert engine.answers.ids("me", [ord("R")], text) is None
        assert engine.answers.ids("me", [], text) is None


def test_the_ids_of_a_text_that_was_cut_off_are_not_kept() -> None:
    with running({"Q": "said STOP"}) as engine:
        engine.inbox.put(job(1, "Q", scope="me", stop=["STOP"]))
        engine.ended(1)
        for text in ("said ", "said STOP"):
            assert engine.answers.ids("me", [ord("Q")], text) is None


def test_a_step_that_fails_fails_what_runs_and_nothing_after_it() -> None:
    with running(SAYS) as engine:
        engine.runner.fails_at = 5
        engine.inbox.put(job(1, "a"))
        engine.inbox.put(job(2, "b", n=2))
        last = engine.ended(1, 2)
        assert {last[1], last[2]} == {
            RequestFailed(1, "engine_error", "it broke"),
            RequestFailed(2, "engine_error", "it broke"),
        }
        engine.inbox.put(job(3, "b"))
        assert isinstance(engine.ended(3)[3], Finished)
        assert engine.text(3) == SAYS["b"]


def test_what_was_put_off_while_an_answer_streamed_is_done_behind_it() -> None:
    tier = OneCopy()
    with running(SAYS, tier=tier) as engine:
        engine.inbox.put(job(1, "a"))
        engine.ended(1)
        assert tier.copied.wait(PATIENCE_S)  # and not with the next request


def test_how_far_a_prompt_is() -> None:
    """Told by who asks for it, until the first token."""
    says = {"p": "yes"}
    prompt = "p" + "x" * 240
    with running(says) as engine:
        asked = job(1, prompt, max_tokens=5)
        asked.submit = msgspec.structs.replace(asked.submit, progress=True)
        engine.inbox.put(asked)
        engine.ended(1)
        told = [event for event in engine.events if isinstance(event, Prefilled)]
        assert [event.id for event in told] == [1] * len(told)
        counts = [event.computed_tokens for event in told]
        assert counts == sorted(set(counts))
        assert 0 < counts[0] < len(prompt)
        assert told[-1].cached_tokens == 0
        engine.inbox.put(job(2, prompt, max_tokens=5))
        engine.ended(2)
        assert [event for event in engine.events if isinstance(event, Prefilled)] == told


def test_texts_say_how_many_tokens_there_are() -> None:
    with running(SAYS) as engine:
        engine.inbox.put(job(1, "a"))
        engine.ended(1)
        texts = [event for event in engine.events if isinstance(event, Text)]
        assert [event.n_tokens for event in texts] == [*range(1, len(SAYS["a"]) + 1)]


# --- raw prompts ----------------------------------------------------------------------------------


def raw(
    id: int,
    *prompts: str,
    n: int = 1,
    max_tokens: int = 200,
    echo: bool = True,
    scores: bool = False,
    adds_bos: bool = False,
    seconds: float = 1e6,
) -> Job:
    """An admitted request with raw prompts."""
    made = job(id, prompts[0], n=n, seconds=seconds)
    submit = msgspec.structs.replace(
        made.submit, segments=[], echo=echo, scores=scores, max_tokens=max_tokens
    )
    sequences = [
        TokenSequence(0, list(map(ord, prompt)), max_tokens, scores=scores, held=not max_tokens)
        for prompt in prompts
        for _ in range(n)
    ]
    return Job(submit=submit, sequences=sequences, adds_bos=[adds_bos] * len(prompts))


def told(engine: Running, id: int, choice: int = 0) -> list[PromptToken]:
    """The tokens of a choice's prompt, all of them before its text."""
    events = [e for e in engine.events if isinstance(e, Prompted | Text) and e.id == id]
    own = [event for event in events if event.choice == choice]
    kinds = [isinstance(event, Text) for event in own]
    assert kinds == sorted(kinds)
    return [token for event in own if isinstance(event, Prompted) for token in event.tokens]


def scored(text: str) -> list[PromptToken]:
    others = [PromptToken(each.encode(), -float(ord(each))) for each in text[1:]]
    return [PromptToken(text[0].encode()), *others]


def test_a_prompt_is_told_before_its_answer() -> None:
    with running(SAYS) as engine:
        engine.inbox.put(raw(1, "abc", "b", n=2))
        last = engine.ended(1)[1]
        for choice, prompt in enumerate(["abc", "abc", "b", "b"]):
            assert told(engine, 1, choice) == [PromptToken(each.encode()) for each in prompt]
            assert engine.text(1, choice) == SAYS[prompt[0]]
        assert isinstance(last, Finished)
        assert last.prompt_tokens == 4


def test_the_log_probabilities_of_a_prompt_come_before_its_answer() -> None:
    prompt = "a" + "xyz" * 50
    with running(SAYS) as engine:
        engine.inbox.put(raw(1, prompt, scores=True))
        engine.inbox.put(raw(2, prompt, scores=True))  # nothing of it comes from the cache
        for id, last in engine.ended(1, 2).items():
            assert told(engine, id) == scored(prompt)
            assert engine.text(id) == SAYS["a"]
            assert isinstance(last, Finished)
            assert last.cached_tokens == 0


def test_a_token_that_is_not_in_the_request_is_not_told() -> None:
    with running(SAYS) as engine:
        engine.inbox.put(raw(1, "abc", scores=True, adds_bos=True))
        engine.inbox.put(raw(2, "abc", adds_bos=True))
        engine.inbox.put(raw(3, "a", adds_bos=True))
        engine.ended(1, 2, 3)
        assert told(engine, 1) == scored("abc")[1:]
        assert told(engine, 2) == [PromptToken(b"b"), PromptToken(b"c")]
        assert told(engine, 3) == []


@pytest.mark.parametrize("scores", [True, False])
def test_nothing_is_generated_where_no_token_is_wanted(scores: bool) -> None:
    with running(SAYS) as engine:
        engine.inbox.put(raw(1, "abc", "b", "cab", max_tokens=0, scores=scores))
        last = engine.ended(1)[1]
        assert isinstance(last, Finished)
        assert last.completion_tokens == 0
        assert min(last.queued_s, last.prefill_s, last.decode_s) >= 0
        assert engine.reasons(1) == ["length"] * 3
        for choice, prompt in enumerate(["abc", "b", "cab"]):
            whole = [PromptToken(each.encode()) for each in prompt]
            assert told(engine, 1, choice) == (scored(prompt) if scores else whole)
        assert engine.scheduler.idle


def test_a_grammar_makes_nobody_generate_where_no_token_is_wanted() -> None:
    with running(SAYS, any=path_of(SAYS["a"])) as engine:
        request = raw(1, "abc", max_tokens=0, scores=True)
        grammar = job(1, "a", grammar="any")
        request.submit = msgspec.structs.replace(request.submit, grammar=grammar.submit.grammar)
        request.cost = grammar.cost
        engine.inbox.put(request)
        engine.ended(1)
        assert told(engine, 1) == scored("abc")
        assert engine.text(1) == ""


def test_hundreds_of_prompts_without_work_end_at_once() -> None:
    with running(SAYS) as engine:
        engine.inbox.put(raw(1, *["a"] * 500, max_tokens=0))
        engine.ended(1)
        assert engine.reasons(1) == ["length"] * 500
        assert engine.runner.n_steps == 0


def test_other_requests_come_before_the_rest_of_many_prompts() -> None:
    with running(SAYS, n_slots=2) as engine:
        engine.runner.before[3] = lambda: engine.inbox.put(job(2, "c"))
        engine.inbox.put(raw(1, *["b"] * 20, echo=False))
        engine.ended(2)
        started = [event.id for event in engine.events if isinstance(event, Started)]
        assert started == [1, 1, 2, 1]
        engine.ended(1)
        assert all(engine.text(1, choice) == SAYS["b"] for choice in range(20))


def test_many_prompts_are_cancelled_together() -> None:
    with running(SAYS, n_slots=2) as engine:
        engine.runner.before[3] = lambda: engine.inbox.put(Cancel(1))
        engine.runner.before[4] = lambda: engine.inbox.put(job(2, "c"))
        engine.inbox.put(raw(1, *["b"] * 20, echo=False))
        engine.inbox.put(job(3, "a"))
        engine.ended(2, 3)
        assert engine.scheduler.idle
        assert {event.choice for event in engine.events if isinstance(event, Started)} == {0, 1}


def test_half_of_a_prompt_s_log_probabilities_are_no_answer() -> None:
    """The sum over them would be taken for that over all."""
    with running(SAYS, n_slots=1) as engine:
        request = raw(1, "c", "b" * 300, max_tokens=0, scores=True, seconds=0.5)
        engine.runner.before[2] = lambda: time.sleep(
            max(0.0, request.submit.deadline - time.monotonic())
        )
        engine.inbox.put(request)
        assert engine.ended(1)[1] == RequestFailed(
            1, "timeout", "the deadline passed before the first token"
        )


def test_the_ids_of_an_answer_to_a_raw_prompt_are_not_remembered() -> None:
    with running(SAYS) as engine:
        engine.inbox.put(raw(1, "abc"))
        engine.ended(1)
        assert engine.answers.ids("", [], "abc" + SAYS["a"]) is None
