"""Asks any server with OpenAI's chat route for a streamed answer, and reads what came and when.

Knows nothing of which server it is, nor of what is compared.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from benchmarks.common.report import BenchmarkError
from benchmarks.serve.report import Answer

TIMEOUT_S = 3600.0
BURST_S = 0.001
"""Pieces that come sooner than this after another are of the same step: no gap is between them."""
_CONNECT_TIMEOUT_S = 30.0
_FULL = 429
_HEADERS = {"Content-Type": "application/json"}

Address = tuple[str, int]
Message = dict[str, str]
Arrival = tuple[float, bytes]
"""Bytes of a response's body, and the time when they came."""


class RefusedError(BenchmarkError):
    """The server has no place for a request now."""


class Ask(msgspec.Struct, frozen=True):
    """A request: its messages, the tokens of the answer, and fields beside the usual ones."""

    messages: list[Message]
    n_tokens: int
    fields: dict[str, Any] = {}

    def body(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON of the request; `extra` is what this server alone is told."""
        return {
            "messages": self.messages,
            "temperature": 0,
            "max_tokens": self.n_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            **extra,
            **self.fields,
        }


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def events(arrivals: Iterable[Arrival]) -> Iterator[tuple[float, dict[str, Any]]]:
    """The JSON of the server-sent events, each with the time when its line was whole.

    >>> list(events([(1.0, b'data: {"a"'), (2.0, b': 1}\\r\\n\\r\\n: ping\\n\\ndata: [DONE]\\n')]))
    [(2.0, {'a': 1})]
    """
    rest = b""
    for time_, data in arrivals:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                yield time_, json.loads(line.removeprefix(b"data: "))


def read_answer(sent: float, arrivals: Iterable[Arrival], n_tokens: int) -> Answer:
    """What a stream says. Raises BenchmarkError when the server failed on the way.

    A chunk with a role alone is no text. Where there is no usage, an answer that ended at its limit
    has the tokens that were asked for, and another as many as it had pieces of text.
    """
    times: list[float] = []
    pieces: list[str] = []
    usage: dict[str, Any] = {}
    timings: dict[str, Any] = {}
    done, finish = sent, None
    for time_, event in events(arrivals):
        if "error" in event:
            raise BenchmarkError(f"the server failed on the way: {event['error']}")
        usage = event.get("usage") or usage
        timings = event.get("timings") or timings
        for choice in event.get("choices", ()):
            delta = choice.get("delta") or {}
            if text := delta.get("reasoning_content") or delta.get("content"):
                pieces.append(text)
                if not times or time_ - times[-1] > BURST_S:
                    times.append(time_)
                done = time_
            if choice.get("finish_reason") is not None:
                finish, done = choice["finish_reason"], time_
    counted = n_tokens if finish == "length" else len(pieces)
    got = usage.get("completion_tokens", counted)
    details = usage.get("completion_tokens_details") or {}
    return Answer(
        sent=sent,
        times=times,
        done=done,
        n_tokens=got,
        text="".join(pieces),
        whole=got == n_tokens,
        prompt_tokens=usage.get("prompt_tokens"),
        computed_tokens=_computed(usage, timings),
        accepted_tokens=details.get("accepted_prediction_tokens"),
        rejected_tokens=details.get("rejected_prediction_tokens"),
    )


def _computed(usage: Mapping[str, Any], timings: Mapping[str, Any]) -> int | None:
    """Prompt tokens that were computed: llama-server counts them, we count the others."""
    if "prompt_n" in timings:
        return int(timings["prompt_n"])
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return None if cached is None else int(usage["prompt_tokens"] - cached)


class Stream(threading.Thread):
    """One request on its way. Daemonic, so that an interrupted benchmark need not wait for it."""

    def __init__(
        self,
        address: Address,
        ask: Ask,
        extra: Mapping[str, Any],
        start: threading.Barrier | None = None,
    ) -> None:
        """With `start` the request is sent when all that wait there have connected."""
        super().__init__(daemon=True)
        self._address = address
        self._ask = ask
        self._body = json.dumps(ask.body(extra))
        self._start_together = start
        self._sent = 0.0
        self._arrivals: list[Arrival] = []
        self._stopped = threading.Event()
        self._error: BenchmarkError | None = None
        self.start()

    @property
    def n_arrivals(self) -> int:
        """How many times something has come until now."""
        return len(self._arrivals)

    def stop(self) -> None:
        """Ends the answer with what comes next, by closing the connection."""
        self._stopped.set()

    def arrivals(self) -> tuple[float, list[Arrival]]:
        """Waits for the end; when the request was sent, and what came. Raises BenchmarkError."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._sent, self._arrivals

    def result(self) -> Answer:
        """Waits for the end. Raises BenchmarkError."""
        # Parsed here and not as it comes: that would take time from the server on a small machine.
        return read_answer(*self.arrivals(), self._ask.n_tokens)

    def run(self) -> None:
        try:
            self._run()
        except BenchmarkError as error:
            self._error = error
        except (OSError, http.client.HTTPException, threading.BrokenBarrierError) as error:
            self._error = BenchmarkError(f"a request failed: {error!r}")

    def _run(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
        try:
            connection.connect()
            if self._start_together is not None:
                self._start_together.wait(_CONNECT_TIMEOUT_S)
            self._sent = time.monotonic()
            connection.request("POST", "/v1/chat/completions", self._body, _HEADERS)
            response = connection.getresponse()
            if response.status != 200:
                words = response.read().decode("utf-8", "replace")
                kind = RefusedError if response.status == _FULL else BenchmarkError
                raise kind(f"the server answered {response.status}: {words}")
            while not self._stopped.is_set() and (data := response.read1(1 << 16)):
                self._arrivals.append((time.monotonic(), data))
        finally:
            connection.close()


def ask_all(address: Address, asks: Sequence[Ask], extra: Mapping[str, Any]) -> list[Answer]:
    """The answers to requests that are sent at once, in their order. Raises BenchmarkError."""
    start = threading.Barrier(len(asks))
    streams = [Stream(address, ask, extra, start) for ask in asks]
    return [stream.result() for stream in streams]
