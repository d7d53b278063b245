"""A stream with the same words over and over, beside hostile requests of other callers, on the real
server with a real model. An input is a volley: the JSON of some requests that are sent at once."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from sheily_server.config import Config
from tests.robustness.faults.report import percentile
from tests.robustness.fuzz import bodies, hostile, json_schemas
from tests.robustness.fuzz.running import HangError, Target, UnplannedError
from tests.support import models
from tests.support.at_once import at_once
from tests.support.real_server import RealServer

SIZE = 5
"""Requests of a volley."""
PARALLEL, QUEUE = 4, 16
SETTINGS: dict[str, Any] = {
    "context_size": 2048,
    "max_tokens": 128,
    "parallel": PARALLEL,
    "queue": QUEUE,
    "timeout": 300,
    "drain_timeout": 1,
}
VICTIM, ORDINARY, OTHERS = "victim", "ordinary", ("other-1", "other-2", "other-3")
"""Keys, by which the server tells callers apart."""
DOCUMENTED = {200, 400, 404, 413, 429}
WAIT_S = 100.0
FARTHEST, MOST_MEAN, ENOUGH = 1.5, 0.25, 50
"""How far a log-probability may be from what it was behind the same text, and so many of them on
average. 0.7 and 0.1 were seen."""
MOST_KNOWN = 100
"""Answers of the victim that later ones are compared with."""
MOST_RATIO = 1.1 * Config().stream_slowdown
"""Of the time between two chunks that 1 % are longer than, beside ordinary and hostile requests."""
LEAST_GAPS = 1000
_MIB = 1 << 20

Json = dict[str, Any]


class Hostile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request. In its body `{"repeated": text, "times": n}` stands for a long text; `raw` is a
    body that is no JSON, as Latin-1. It is sent so many `times` at once, to its end or the `share`
    of it, and left after so many seconds, if it is."""

    kind: str
    path: str
    body: Any = None
    raw: str | None = None
    times: int = 1
    share: float = 1.0
    leaves_s: float | None = None
    caller: str = OTHERS[0]

    def data(self) -> bytes:
        if self.raw is not None:
            return self.raw.encode("latin-1")
        return json.dumps(_expanded(self.body)).encode()


def _expanded(part: Any) -> Any:
    if isinstance(part, dict):
        if set(part) == {"repeated", "times"}:
            return part["repeated"] * part["times"]
        return {key: _expanded(value) for key, value in part.items()}
    return [_expanded(value) for value in part] if isinstance(part, list) else part


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    model = models.SMOLLM2 if models.SMOLLM2.exists() else models.tiny_llama3()
    keys = ",".join((VICTIM, ORDINARY, *OTHERS))
    with RealServer(model, api_key=keys, **SETTINGS) as server:
        server.wait_for_state("ready")
        checker = _Checker(server)
        try:
            yield Target(make, checker.check, WAIT_S, checker.seen)
        finally:
            checker.stop()


class _Checker:
    def __init__(self, server: RealServer) -> None:
        self._server = server
        self._engine = server.engine_pid()
        self._statuses: Counter[str] = Counter()
        self._n = 0
        self._ordinary: list[float] = []
        self._hostile: list[float] = []
        self._victim = _Victim(server)

    def stop(self) -> None:
        self._victim.stop()

    def seen(self) -> Json:
        ordinary, hostile = (percentile(of or [0.0], 99) for of in (self._ordinary, self._hostile))
        ratio = hostile / ordinary if ordinary else math.nan
        enough = min(len(self._ordinary), len(self._hostile)) >= LEAST_GAPS
        return {
            "requests": self._n,
            "statuses": dict(self._statuses.most_common()),
            "victim": self._victim.seen(),
            "gaps": [len(self._ordinary), len(self._hostile)],
            "gap_p99_ms": [round(1000 * ordinary, 1), round(1000 * hostile, 1)],
            "gap_max_ms": [
                round(1000 * max(gaps, default=0)) for gaps in (self._ordinary, self._hostile)
            ],
            "gap_p99_ratio": round(ratio, 2),
            "over": [f"gap_p99_ratio > {MOST_RATIO}"] if enough and ratio > MOST_RATIO else [],
        }

    def check(self, data: bytes) -> str:
        volley = msgspec.json.decode(data, type=list[Hostile])
        self._ordinary += self._victim.gaps_during(
            lambda: at_once([self._ordinary_stream] * (PARALLEL - 1))
        )
        sent = [
            _Sent(self._server, one, body)
            for one in volley
            for body in [one.data()]
            for _ in range(one.times)
        ]
        self._n += len(sent)
        self._hostile += self._victim.gaps_during(lambda: at_once([one.run for one in sent]))
        self._statuses.update(f"{one.asked.kind} {one.outcome}" for one in sent)
        self._same_engine()
        for problem in self._victim.problems():
            raise AssertionError(problem)
        for one in sent:
            if one.outcome == "no answer":
                raise HangError(f"{one.asked.kind}: no answer in {WAIT_S} s: {one.problem}")
            if one.problem:
                raise UnplannedError(f"{one.asked.kind}: {one.outcome}: {one.problem}")
        return "answered"

    def _same_engine(self) -> None:
        before, self._engine = self._engine, self._server.engine_pid()
        assert self._engine == before, f"the engine is another one: {self._server.log[-2000:]}"
        assert self._server.health()["engine_restarts"] == 0, self._server.log[-2000:]

    def _ordinary_stream(self) -> None:
        body = {
            "messages": [{"role": "user", "content": f"A story about {time.monotonic()}, please."}],
            "max_tokens": 40,
            "stream": True,
        }
        _Sent(self._server, Hostile("ordinary", bodies.CHAT, caller=ORDINARY), _json(body)).run()


class _Sent:
    """A request on a connection of its own, and what came of it."""

    def __init__(self, server: RealServer, asked: Hostile, body: bytes) -> None:
        self.asked = asked
        self.outcome = "no answer"
        self.problem = ""
        self._connection = server.connection(WAIT_S)
        self._body = body

    def run(self) -> None:
        try:
            self._exchange()
        except (OSError, http.client.HTTPException) as error:
            self.problem = repr(error)
        finally:
            self._connection.close()

    def _exchange(self) -> None:
        asked, connection = self.asked, self._connection
        left = asked.share < 1 or asked.leaves_s is not None
        connection.putrequest("POST", asked.path)
        for name, value in _headers(asked.caller).items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(self._body)))
        # It may answer and close before all of it is sent.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.endheaders(self._body[: int(asked.share * len(self._body))])
        if not left:
            response = connection.getresponse()
            self._judge(response.status, response.read())
            return
        assert connection.sock is not None
        end = time.monotonic() + (asked.leaves_s or 0)
        while (seconds := end - time.monotonic()) > 0:
            connection.sock.settimeout(seconds)
            with contextlib.suppress(TimeoutError):
                if not connection.sock.recv(65536):
                    break
        self.outcome = "left"

    def _judge(self, status: int, answer: bytes) -> None:
        self.outcome = str(status)
        if status not in DOCUMENTED:
            self.problem = answer[-500:].decode("utf-8", "replace")
        elif status == 200 and answer.startswith((b"data: ", b": ")):
            last = answer.rstrip().rpartition(b"\n")[2]
            self.outcome = "streamed"
            if last != b"data: [DONE]":
                self.outcome = "stream with an error"
                if b'"schema_too_complex"' not in last:
                    self.problem = last[-500:].decode("utf-8", "replace")


# --- the victim -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Token:
    """A token of an answer, with the log-probabilities that the server told, and when it came."""

    piece: bytes
    logprob: float
    top: dict[bytes, float]
    at: float


_ALWAYS: Json = {
    "messages": [
        {"role": "system", "content": "You tell stories."},
        {"role": "user", "content": "Tell me how the lighthouse in the bay came to be built."},
    ],
    "stream": True,
    "max_tokens": 100,
    "ignore_eos": True,
    "logprobs": True,
    "top_logprobs": 5,
}
_WAYS: tuple[Json, ...] = (
    {"temperature": 0},
    {"temperature": 0.8, "seed": 7},
)


@dataclass
class _Found:
    """What the victim has seen so far."""

    answers: int = 0
    parted: int = 0
    busy: int = 0
    farthest: float = 0.0
    mean: float = 0.0
    gaps: list[tuple[float, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class _Victim:
    """Asks for the same answers over and over, on a thread, and compares each with the first."""

    def __init__(self, server: RealServer) -> None:
        self._server = server
        self._found = _Found()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._known = [[self._needed(way)] for way in _WAYS]
        for way, known in zip(_WAYS, self._known, strict=True):
            self._compare(way, known, self._needed(way))
        self._thread = threading.Thread(target=self._run, name="victim", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def seen(self) -> Json:
        with self._lock:
            found = self._found
            return {
                "answers": found.answers,
                "parted": found.parted,
                "queue was full": found.busy,
                "logprob farthest": round(found.farthest, 3),
                "logprobs on average": round(found.mean, 3),
            }

    def gaps_during(self, work: Callable[[], object]) -> list[float]:
        """Seconds between one chunk and the next, of those that came meanwhile."""
        with self._lock:
            self._found.gaps.clear()
        began = time.monotonic()
        work()
        ended = time.monotonic()
        with self._lock:
            return [gap for at, gap in self._found.gaps if began <= at - gap and at <= ended]

    def problems(self) -> list[str]:
        with self._lock:
            problems, self._found.problems = self._found.problems, []
        return problems

    def _run(self) -> None:
        i = 0
        while not self._stopped.is_set():
            way, known = _WAYS[i % len(_WAYS)], self._known[i % len(_WAYS)]
            i += 1
            try:
                answer = self._answer(way)
                if answer is not None:
                    self._compare(way, known, answer)
            except Exception as error:  # whatever it is, it is what the run looks for
                with self._lock:
                    self._found.problems.append(f"the victim: {type(error).__name__}: {error}")
                time.sleep(0.2)

    def _needed(self, way: Json) -> list[Token]:
        answer = self._answer(way)
        assert answer is not None
        return answer

    def _answer(self, way: Json) -> list[Token] | None:
        """The tokens of an answer, as far as it came before the end of all; None where the queue
        was full."""
        connection = self._server.connection(WAIT_S)
        with contextlib.closing(connection):
            connection.request("POST", bodies.CHAT, _json(_ALWAYS | way), _headers(VICTIM))
            response = connection.getresponse()
            if response.status == 429:
                with self._lock:
                    self._found.busy += 1
                time.sleep(0.05)
                return None
            assert response.status == 200, (response.status, response.read())
            return self._tokens(response)

    def _tokens(self, response: http.client.HTTPResponse) -> list[Token]:
        tokens: list[Token] = []
        before: float | None = None
        while not self._stopped.is_set():
            line = response.readline()
            assert line, "a stream without its end"
            if not line.startswith(b"data: "):
                continue
            if line.startswith(b"data: [DONE]"):
                return tokens
            chunk = json.loads(line[6:])
            assert "choices" in chunk, chunk
            logprobs = chunk["choices"][0].get("logprobs")
            if not logprobs or not logprobs["content"]:
                continue
            now = time.monotonic()
            tokens += [_token(one, now) for one in logprobs["content"]]
            if before is not None:
                with self._lock:
                    self._found.gaps.append((now, now - before))
            before = now
        return []

    def _compare(self, way: Json, known: list[list[Token]], found: list[Token]) -> None:
        """With the one of the answers so far that it goes along with for longest. One that parts
        is known from then on."""
        if self._stopped.is_set():
            return
        reference = max(known, key=lambda one: _n_common(one, found))
        result = compared(reference, found, way["temperature"] == 0)
        if result.parted and not result.problem and len(known) < MOST_KNOWN:
            known.append(found)
        with self._lock:
            self._found.answers += 1
            self._found.parted += result.parted
            self._found.farthest = max(self._found.farthest, result.farthest)
            self._found.mean = max(self._found.mean, result.mean)
            if result.problem:
                self._found.problems.append(f"the victim's text at {way}: {result.problem}")


def _n_common(one: Sequence[Token], other: Sequence[Token]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a.piece != b.piece), min(len(one), len(other)))


def _token(logprob: Json, at: float) -> Token:
    top = {bytes(one["bytes"]): one["logprob"] for one in logprob["top_logprobs"]}
    return Token(bytes(logprob["bytes"]), logprob["logprob"], top, at)


@dataclass(frozen=True)
class Comparison:
    """`parted`: the texts are different. How far log-probabilities are from what they were behind
    the same text: the farthest, and all on average. `problem`: what is wrong, if anything is."""

    parted: bool
    farthest: float
    mean: float
    problem: str = ""


def compared(reference: Sequence[Token], found: Sequence[Token], greedy: bool) -> Comparison:
    """An answer with an earlier one.

    A batch makes sums in another order, so all log-probabilities move a little, and texts part: a
    greedy one where another token is the best now, one with a seed where two tokens win the same
    draw nearly. Another's cells, or a mask or bias of another, move them far.
    """
    moves: list[float] = []
    for i, (one, other) in enumerate(zip(reference, found, strict=False)):
        now = other.top | {other.piece: other.logprob}
        before = one.top | {one.piece: one.logprob}
        moves += [abs(now[piece] - before[piece]) for piece in before.keys() & now.keys()]
        said = b"".join(token.piece for token in found[: i + 1])
        result = _moved(moves, one.piece != other.piece, f"at token {i} of {said!r}")
        if result.problem or result.parted:
            if greedy and other.logprob < max(now.values()):
                return replace(result, problem=f"not the best token: {i} of {said!r}")
            return result
    problem = "" if len(reference) == len(found) else f"{len(found)} tokens, not {len(reference)}"
    return replace(_moved(moves, False, "at the end"), problem=problem)


def _moved(moves: Sequence[float], parted: bool, where: str) -> Comparison:
    farthest, mean = max(moves, default=0.0), sum(moves) / max(len(moves), 1)
    problem = ""
    if farthest > FARTHEST or (len(moves) >= ENOUGH and mean > MOST_MEAN):
        problem = f"log-probabilities are {farthest:.2f} off, {mean:.2f} on average, {where}"
    return Comparison(parted, farthest, mean, problem)


def _headers(caller: str) -> dict[str, str]:
    return {"Content-Type": "application/json", "Authorization": f"Bearer {caller}"}


def _json(body: Json) -> bytes:
    return json.dumps(body).encode()


# --- inputs ---------------------------------------------------------------------------------------


def make(random: Random) -> bytes:
    return msgspec.json.encode([_hostile(random) for _ in range(SIZE)])


def _hostile(random: Random) -> Hostile:
    kind = random.choice(list(_KINDS))
    found = _KINDS[kind](random)
    fields: Json = {"caller": random.choice(OTHERS)}
    chance = random.random()
    if chance < 0.2:
        fields["leaves_s"] = round(random.choice((0.0, 0.05, 0.5, 3.0)) * random.random(), 3)
    elif chance < 0.3:
        fields["share"] = round(random.random(), 3)
        fields["leaves_s"] = random.choice((0.0, 0.1, 2.0))
    if isinstance(found, Hostile):
        return msgspec.structs.replace(found, kind=kind, **fields)
    return Hostile(kind, bodies.CHAT, found, **fields)


def _chat(random: Random, text: Any = "Go on.", **fields: Any) -> Json:
    body = {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": random.choice((1, 8, 32, 100)),
        "stream": random.random() < 0.5,
    }
    return body | fields


def _repeated(text: str, n_bytes: int) -> Json:
    return {"repeated": text, "times": n_bytes // len(text.encode())}


def _long_text(random: Random) -> Json:
    unit = random.choice(
        ("la casa es azul. ", "x", "xylophon", "漢字", " ", "\n", "é", "😀", "a\nb", "<|im_end|>")
    )
    return _repeated(unit, random.choice((4 * _MIB - 2000, 4 * _MIB, _MIB, 200_000)))


def _format(schema: Any) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}


def _grammar(random: Random) -> Json:
    return _chat(random, response_format=_format(hostile.schema(random)), n=random.choice((1, 4)))


def _ordinary_grammar(random: Random) -> Json:
    return _chat(random, response_format=_format(json_schemas.schema(random, 2)))


def _tokenize(random: Random) -> Hostile:
    return Hostile("", random.choice(("/tokenize", "/v1/tokenize")), {"text": _long_text(random)})


def _detokenize(random: Random) -> Hostile:
    n = random.choice((1000, 100_000, 262_144))
    return Hostile("", "/detokenize", {"tokens": [random.randrange(49_152)] * n})


def _text(random: Random) -> Json:
    return _chat(random, _long_text(random))


def _trim(random: Random) -> Json:
    return _chat(random, _long_text(random), truncation="trim")


def _history(random: Random) -> Json:
    roles = ("user", "assistant")
    n = random.choice((10, 200, 1001))
    text = _repeated("The sea was calm. ", random.choice((40, 1000, 4000)))
    messages = [{"role": roles[i % 2], "content": text} for i in range(n | 1)]
    return _chat(random, messages=messages, truncation=random.choice(("trim", "error")))


def _choices(random: Random) -> Json:
    return _chat(random, n=random.choice((2, 4, 5, 32, 128)), temperature=2)


def _prediction(random: Random) -> Json:
    text = random.choice((_repeated("The sea was calm. ", 256_000), _repeated("xyz", 255_000)))
    return _chat(random, "The sea", prediction={"type": "content", "content": text})


def _sampling(random: Random) -> Json:
    bias = {
        str(random.randrange(49_152)): random.choice((-100, 100, 5))
        for _ in range(random.choice((1, 300, 100_000)))
    }
    return _chat(
        random,
        logit_bias=bias,
        temperature=random.choice((0, 2)),
        top_p=random.choice((1, 1e-6)),
        min_p=random.choice((0, 1)),
        top_k=random.choice((0, 1_000_000)),
        repeat_penalty=random.choice((0.01, 10)),
        frequency_penalty=random.choice((-2, 2)),
        presence_penalty=random.choice((-2, 2)),
        ignore_eos=random.random() < 0.5,
    )


def _stops(random: Random) -> Json:
    stops = [letter * random.choice((1, 127, 128)) for letter in random.sample(" aeé\n😀", k=4)]
    return _chat(random, "Say aaaaaaaaaaaa for ever.", stop=stops)


def _logprobs(random: Random) -> Json:
    return _chat(random, logprobs=True, top_logprobs=20, n=random.choice((1, 4)))


def _queued(random: Random) -> Hostile:
    body = _chat(random, max_tokens=random.choice((1, 8)))
    return Hostile("", bodies.CHAT, body, times=random.choice((6, 12, 24)))


def _body(random: Random) -> Hostile:
    head, _, body = bodies.make(random, []).partition(b"\n")
    path = head.decode("latin-1").removeprefix("POST ")
    return Hostile("", path, raw=body.decode("latin-1"))


_KINDS: dict[str, Callable[[Random], Json | Hostile]] = {
    "grammar": _grammar,
    "grammar again": _grammar,
    "ordinary grammar": _ordinary_grammar,
    "tokenize": _tokenize,
    "detokenize": _detokenize,
    "text": _text,
    "trim": _trim,
    "history": _history,
    "choices": _choices,
    "prediction": _prediction,
    "sampling": _sampling,
    "stops": _stops,
    "logprobs": _logprobs,
    "queued": _queued,
    "body": _body,
}
