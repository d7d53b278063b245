"""Ten times as many requests as the server can answer: it refuses at once what it cannot take, and
answers as many as without that."""

from __future__ import annotations

import http.client
import math
import threading
import time
from collections import Counter
from random import Random

from tests.robustness.faults.report import amount, decide, note, percentile
from tests.robustness.faults.requests import active, body, connect
from tests.support import models
from tests.support.real_server import RealServer
from tests.support.waiting import until

MOST_REFUSAL_S, MOST_HEALTH_S, LEAST_GOODPUT = 0.1, 0.05, 0.95
N_CLIENTS = 8
FACTOR = 10
LEAST_PEAK_A_S = 2.0
"""What the overload is a multiple of where a machine has answered less than that: so slow a one
would get too few requests to refuse any."""
WARM_UP_S = 2.0
HEALTH_EVERY_S = 0.1
_HEADERS = {"Content-Type": "application/json"}


class Load:
    """Requests of one size, and when and how they ended."""

    def __init__(self, server: RealServer) -> None:
        self._server = server
        self._lock = threading.Lock()
        self.answered: list[float] = []
        self.refusals: list[float] = []
        self.others: Counter[str] = Counter()

    def one(self, number: int) -> None:
        data = body(f"Number {number}: tell a story.", max_tokens=48, ignore_eos=True)
        began = time.monotonic()
        connection = connect(self._server)
        try:
            connection.request("POST", "/v1/chat/completions", data, _HEADERS)
            response = connection.getresponse()
            response.read()
            outcome = str(response.status)
            if response.status == 429 and not int(response.headers["Retry-After"]) >= 1:
                outcome = "429 without Retry-After"
        except (OSError, http.client.HTTPException) as error:
            outcome = repr(error)
        finally:
            connection.close()
        now = time.monotonic()
        with self._lock:
            if outcome == "200":
                self.answered.append(now)
            elif outcome == "429":
                self.refusals.append(now - began)
            else:
                self.others[outcome] += 1

    def rate(self, begin: float, end: float) -> float:
        """Answers a second between two moments."""
        return sum(begin <= at < end for at in self.answered) / (end - begin)


def test_ten_times_too_many_requests() -> None:
    rounds, seconds = amount(1, 6), amount(6, 20)
    peaks: list[float] = []
    goodputs: list[float] = []
    health: list[float] = []
    refusals: list[float] = []
    with RealServer(models.smollm2(), context_size=512, queue=8, drain_timeout=1) as server:
        server.wait_for_state("ready")
        # In turns, as a machine is not always as fast.
        for number in range(rounds):
            peaks.append(_peak(server, seconds))
            until(lambda: active(server) == 0)
            rate = FACTOR * max(peaks[-1], LEAST_PEAK_A_S)
            load, goodput = _overloaded(server, rate, seconds, number, health)
            until(lambda: active(server) == 0)
            goodputs.append(goodput)
            refusals += load.refusals
            assert load.others == {}, load.others
            assert load.refusals, f"none was refused at {rate:.2f} a second"
        assert server.health()["engine_restarts"] == 0
    found = {
        "refusal_p99_s": percentile(refusals, 99),
        "health_p99_s": percentile(health, 99),
        "peak_a_s": sum(peaks) / rounds,
        "goodput_a_s": sum(goodputs) / rounds,
        "goodput_of_peak": sum(goodputs) / (sum(peaks) or math.inf),
        "refused": len(refusals),
    }
    limit = (
        f"429 p99 {1000 * MOST_REFUSAL_S:g} ms, health p99 {1000 * MOST_HEALTH_S:g} ms, "
        f"goodput {LEAST_GOODPUT:.0%} of peak"
    )
    note(f"overload, {rounds * seconds} s", FACTOR, limit, **found)
    decide(
        found["refusal_p99_s"] <= MOST_REFUSAL_S
        and found["health_p99_s"] <= MOST_HEALTH_S
        and found["goodput_of_peak"] >= LEAST_GOODPUT,
        f"{found}",
    )


def _peak(server: RealServer, seconds: float) -> float:
    """Answers a second when there is always one waiting, and no more than that."""
    load = Load(server)
    over = threading.Event()

    def client(number: int) -> None:
        while not over.is_set():
            load.one(number)
            number += N_CLIENTS

    threads = [threading.Thread(target=client, args=(i,)) for i in range(N_CLIENTS)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    time.sleep(WARM_UP_S + seconds)
    over.set()
    for thread in threads:
        thread.join()
    assert load.others == {}, load.others
    assert not load.refusals
    return load.rate(began + WARM_UP_S, began + WARM_UP_S + seconds)


def _overloaded(
    server: RealServer, rate: float, seconds: float, seed: int, health: list[float]
) -> tuple[Load, float]:
    """Requests that come at random moments, so many a second, whatever becomes of them; how many
    are answered a second. Adds how long /health took to `health`."""
    load = Load(server)
    random = Random(seed)
    over = threading.Event()

    def look() -> None:
        while not over.wait(HEALTH_EVERY_S):
            began = time.monotonic()
            assert server.health()["state"] == "ready"
            health.append(time.monotonic() - began)

    looking = threading.Thread(target=look)
    looking.start()
    threads: list[threading.Thread] = []
    began = at = time.monotonic()
    number = 10**6
    while at < began + WARM_UP_S + seconds:
        at += random.expovariate(rate)
        time.sleep(max(at - time.monotonic(), 0.0))
        threads = [thread for thread in threads if thread.is_alive()]
        threads.append(threading.Thread(target=load.one, args=(number,)))
        threads[-1].start()
        number += 1
    over.set()
    looking.join()
    for thread in threads:
        thread.join()
    goodput = load.rate(began + WARM_UP_S, began + WARM_UP_S + seconds)
    return load, goodput
