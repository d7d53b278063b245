"""A person who asks now and then while a script floods the server with short requests.

    python -m benchmarks.fairness

The person's first tokens are measured alone, and then beside the flood, whose requests come from
another address and are sent again where the server had no place for them.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tqdm import tqdm

from benchmarks.common import own
from benchmarks.common.arguments import above, at_least
from benchmarks.common.own import Findings, asked, spreads
from benchmarks.common.report import BenchmarkError
from benchmarks.serve.client import TIMEOUT_S, Address, Ask, RefusedError, Stream, ask_all, user
from benchmarks.serve.contestants import IGNORE_EOS, Server, ours_with
from benchmarks.serve.report import percentile
from benchmarks.serve.texts import sized
from benchmarks.serve.token_counter import Count, token_counter

NAME = "benchmarks.fairness"
FLOOD = 500
EVERY_S = 5.0
ASKS_ALONE = 20
ASKED = 2.0
PROMPT_TOKENS, ANSWER_TOKENS = 100, 16
FLOOD_PROMPT_TOKENS, FLOOD_ANSWER_TOKENS = 40, 32
PROXY, FROM_FLOOD = "127.0.0.1", "192.0.2.1"
"""The server trusts this machine as a proxy: all its programs would be one client."""
_MOST_PAUSE_S = 5.0
_REFUSED_PAUSE_S = 0.5
_FEW_TOKENS = 4
_STACK = 256 << 10


class Flood:
    """So many requests at once, each sent again until it is answered. Daemonic threads, so that
    an interrupted benchmark need not wait for them."""

    def __init__(self, address: Address, texts: list[str]) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.outcomes: Counter[str] = Counter()
        """How often the server answered with which status, or not at all."""
        self._threads = [
            threading.Thread(target=self._one, args=(text,), daemon=True) for text in texts
        ]
        for thread in self._threads:
            thread.start()

    @property
    def goes_on(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Nothing is sent again from now on; waits for what is under way."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _one(self, text: str) -> None:
        body = json.dumps(Ask([user(text)], FLOOD_ANSWER_TOKENS).body(IGNORE_EOS))
        while not self._stopped.is_set():
            outcome, pause_s = self._send(body)
            with self._lock:
                self.outcomes[outcome] += 1
            if outcome == "200":
                return
            self._stopped.wait(min(pause_s, _MOST_PAUSE_S))

    def _send(self, body: str) -> tuple[str, float]:
        """The status, and the seconds that the server wants us to wait."""
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
        try:
            headers = {"Content-Type": "application/json", "X-Forwarded-For": FROM_FLOOD}
            connection.request("POST", "/v1/chat/completions", body, headers)
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__, 1.0
        finally:
            connection.close()
        whole = response.status != 200 or b'data: {"error"' not in data
        status = str(response.status) if whole else "error in the stream"
        return status, float(response.headers.get("Retry-After", 1))


def measure(model: Path, n_flood: int, n_alone: int, every_s: float) -> Findings:
    """Raises BenchmarkError, also where a request of the person's is refused."""
    choose = random.Random(n_flood)
    threading.stack_size(_STACK)
    with (
        Server(ours_with(model, trusted_proxies=PROXY)) as server,
        token_counter(model) as count_tokens,
    ):
        address = server.address
        warm_up = Ask([user("Good morning.")], _FEW_TOKENS)
        ask_all(address, [warm_up], IGNORE_EOS)
        persons = _Person(address, count_tokens, choose, every_s)
        alone = [persons.ask() for _ in tqdm(range(n_alone), desc="alone", disable=None)]
        texts = [
            sized(choose, count_tokens, FLOOD_PROMPT_TOKENS, "Say more.") for _ in range(n_flood)
        ]
        flood = Flood(address, texts)
        persons.wait()  # the flood is there before the person is
        beside: list[Visit] = []
        with tqdm(desc="beside the flood", disable=None, leave=False) as bar:
            while flood.goes_on:
                beside.append(persons.ask())
                bar.update()
        flood.stop()
    return _findings(alone, beside, flood.outcomes)


@dataclass(frozen=True, slots=True)
class Visit:
    """What one question came to: seconds to its first token, and how often it was refused before
    there was a place for it."""

    first_s: float
    gaps_s: list[float]
    refused: int


class _Person:
    """Asks something new at regular times, whether the answer before has come early or late."""

    def __init__(
        self, address: Address, count_tokens: Count, choose: random.Random, every_s: float
    ) -> None:
        self._address = address
        self._count_tokens = count_tokens
        self._choose = choose
        self._every_s = every_s
        self._next = time.monotonic()

    def wait(self) -> None:
        """Until it is time to ask."""
        now = time.monotonic()
        time.sleep(max(0.0, self._next - now))
        self._next = max(self._next, now) + self._every_s

    def ask(self) -> Visit:
        text = sized(self._choose, self._count_tokens, PROMPT_TOKENS, "What do you think of this?")
        ask = Ask([user(text)], ANSWER_TOKENS)
        self.wait()
        began = time.monotonic()
        for refused in count():
            try:
                answer = Stream(self._address, ask, IGNORE_EOS).result()
            except RefusedError:
                time.sleep(_REFUSED_PAUSE_S)
            else:
                return Visit(answer.sent - began + answer.first_s, answer.gaps_s, refused)
        raise AssertionError  # count() has no end


def _findings(alone: list[Visit], beside: list[Visit], outcomes: Counter[str]) -> Findings:
    if not beside:
        raise BenchmarkError("the flood was over before the person could ask; --flood more")
    gaps = [gap for visit in beside for gap in visit.gaps_s]
    step_s = percentile(gaps, 0.5) if gaps else 0.0
    figures: dict[str, list[float]] = {}
    p95: list[float] = []
    for name, visits in (("alone", alone), ("beside the flood", beside)):
        firsts = [visit.first_s for visit in visits]
        p95.append(percentile(firsts, 0.95))
        figures[f"the person's first token, {name}, s"] = firsts
        figures[f"its 95th percentile, {name}, s"] = [p95[-1]]
    figures["a step beside the flood, s"] = [step_s]
    told = ", ".join(f"{outcome}: {times:,}" for outcome, times in sorted(outcomes.items()))
    verdicts = [
        asked(
            "the person's first token p95 less a step, over that alone",
            *(ASKED, [(p95[1] - step_s) / p95[0]]),
        ),
        asked("times that the person was refused", 0, [sum(visit.refused for visit in beside)]),
    ]
    return Findings(
        spreads(figures),
        verdicts,
        [f"what the flood was answered: {told}", f"the person asked {len(beside)} times beside it"],
    )


def main(arguments: list[str] | None = None) -> int:
    """Run `python -m benchmarks.fairness`; the exit status is 1 when nothing could be measured."""
    text = "A person's first token while a script floods the server, over that without the flood."
    parser = own.parser(NAME, text)
    add = parser.add_argument
    add("--flood", type=at_least(1), default=FLOOD, help=f"requests of the flood ({FLOOD})")
    help_ = f"times that the person asks alone ({ASKS_ALONE})"
    add("--alone", type=at_least(1), default=ASKS_ALONE, help=help_)
    add("--every", type=above(0), default=EVERY_S, help=f"seconds between asks ({EVERY_S:g})")
    options = parser.parse_args(arguments)
    return own.finish(
        NAME,
        options,
        lambda model: measure(model, options.flood, options.alone, options.every),
    )


if __name__ == "__main__":
    raise SystemExit(main())
