"""GET /metrics and GET /livez: exact counts, bounded labels, the engine's state at that moment."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sheily_server.backend.process import is_stopped
from sheily_server.chat import chat
from sheily_server.metrics import CONTENT_TYPE
from tests.server.conftest import Serve
from tests.support.serving import Answer, Server, completion, read_until
from tests.support.waiting import until

pytestmark = pytest.mark.http

COMPLETIONS = "/v1/chat/completions"


@dataclass
class Scrape:
    """One answer of /metrics: values by name and labels, and each family's type."""

    values: dict[tuple[str, frozenset[tuple[str, str]]], float]
    types: dict[str, str]

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.values.get((f"sheily_{name}", frozenset(labels.items())))

    def requests(self) -> dict[tuple[str, str], float]:
        """How many there were of each route and outcome."""
        found = {}
        for (name, labels), value in self.values.items():
            if name == "sheily_requests_total":
                by_label = dict(labels)
                found[by_label["route"], by_label["outcome"]] = value
        return found

    def state(self) -> list[str]:
        """The states that are 1."""
        return [
            dict(labels)["state"]
            for (name, labels), value in self.values.items()
            if name == "sheily_engine_state" and value == 1
        ]


def scrape(server: Server, **headers: str) -> Scrape:
    answer = server.get("/metrics", **headers)
    assert (answer.status, answer.headers["content-type"]) == (200, CONTENT_TYPE)
    families = list(text_string_to_metric_families(answer.body.decode()))
    samples = [sample for family in families for sample in family.samples]
    values = {(s.name, frozenset(s.labels.items())): s.value for s in samples}
    assert len(values) == len(samples)
    assert all(family.name.startswith("sheily_") and family.documentation for family in families)
    return Scrape(values, {family.name: family.type for family in families})


def test_a_new_server(serve: Serve) -> None:
    server = serve()
    server.wait_for("ready")
    found = scrape(server)
    assert set(found.requests()) <= {("/health", "ok"), ("/health", "unavailable")}
    assert found("requests_running") == found("requests_queued") == 0
    assert found("first_token_seconds_count") == found("token_gap_seconds_count") == 0
    for kind in ("prompt", "cached", "generated", "drafted", "accepted"):
        assert found(f"{kind}_tokens_total") == 0
    assert found("timed_out_answers_total") == 0
    assert not [name for name, _ in found.values if name.endswith("_created")]
    assert found.types["sheily_requests"] == "counter"
    assert found.types["sheily_engine_restarts"] == "counter"
    assert found.types["sheily_kv_cells_used"] == "gauge"
    assert found.types["sheily_token_gap_seconds"] == "histogram"


def test_tokens_and_times_are_counted_exactly(serve: Serve) -> None:
    server = serve()
    server.wait_for("ready")
    answers = [
        server.complete("one two three", prediction={"type": "content", "content": "one two 4"}),
        server.complete("each", n=2),
        server.simple(message="one"),
    ]
    usages = [answer.json()["usage"] for answer in answers]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    usages.append(server.complete("one two three four", **options).events()[-2]["usage"])
    found = scrape(server)
    assert found("prompt_tokens_total") == sum(usage["prompt_tokens"] for usage in usages)
    assert found("generated_tokens_total") == 3 + 4 + 1 + 4
    assert found("cached_tokens_total") == 4
    assert (found("drafted_tokens_total"), found("accepted_tokens_total")) == (3, 2)
    assert found("first_token_seconds_count") == 4
    # Between the tokens of each answer: a choice of its own is one.
    assert found("token_gap_seconds_count") == 2 + 2 + 0 + 3
    counted = found.requests()
    assert (counted[COMPLETIONS, "ok"], counted["/chat", "ok"]) == (3, 1)


def test_gaps_and_first_tokens_take_the_time_they_take(serve: Serve) -> None:
    server = serve()
    server.wait_for("ready")
    began = time.monotonic()
    assert server.complete("slow 4 0.08").status == 200
    elapsed = time.monotonic() - began
    found = scrape(server)
    first, gaps = found("first_token_seconds_sum"), found("token_gap_seconds_sum")
    assert first is not None
    assert first >= 0.08
    assert gaps is not None
    assert 0 < gaps <= elapsed - first
    assert found("token_gap_seconds_bucket", le="60.0") == 3
    assert found("first_token_seconds_bucket", le="+Inf") == 1


@pytest.mark.parametrize("stream", [False, True])
def test_each_outcome(serve: Serve, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    monkeypatch.setattr(chat, "ENGINE_GRACE_S", 0.05)
    server = serve()
    server.wait_for("ready")
    for text, fields in (
        ("hi", {}),
        ("hi", {"temperature": 9}),
        ("hi", {"model": "gpt-4o"}),
        ("too-long 300 1", {}),
        ("fail engine_error", {}),
        ("fail timeout", {}),
        ("timed-out", {}),
    ):
        server.complete(text, stream=stream, **fields)
    with monkeypatch.context() as hurry:
        hurry.setattr(server.app._chat._waiting, "_config", replace(server.config, timeout=0.1))
        server.complete("hang-late", stream=stream)
    server.complete("crash", stream=stream)
    found = scrape(server)
    counted = {
        outcome: value
        for (route, outcome), value in found.requests().items()
        if route == COMPLETIONS
    }
    assert counted == {"ok": 2, "invalid": 3, "error": 1, "timeout": 2, "engine_crashed": 1}
    assert found("timed_out_answers_total") == 1
    server.wait_for("ready")
    assert scrape(server)("engine_restarts_total") == 1


def test_requests_that_found_the_queue_full(serve: Serve) -> None:
    server = serve(parallel=1, queue=0)
    server.wait_for("ready")
    with server.opened("hang"):
        server.wait_for_engine("submit")
        for stream in (False, True):
            assert server.complete("hi", stream=stream).status == 429
        assert server.ask("POST", "/v1/tokenize", {"text": "hi"}).status == 429
        counted = scrape(server).requests()
        assert counted[COMPLETIONS, "queue_full"] == 2
        assert counted["/v1/tokenize", "queue_full"] == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_is_counted_once(serve: Serve, stream: bool) -> None:
    server = serve()
    server.wait_for("ready")
    with server.opened("hang-late", stream=stream) as connection:
        server.wait_for_engine("submit")
        if stream:
            read_until(connection, b"once")
    until(lambda: (COMPLETIONS, "client_gone") in scrape(server).requests())
    counted = scrape(server).requests()
    assert [value for (route, _), value in counted.items() if route == COMPLETIONS] == [1]


def test_without_a_model(serve: Serve) -> None:
    server = serve(missing=True)
    server.wait_for("failed")
    assert server.complete("hi").status == server.complete("hi", stream=True).status == 500
    found = scrape(server)
    assert found.requests()[COMPLETIONS, "unavailable"] == 2
    assert found.state() == ["failed"]
    for name in (
        "engine_load_seconds",
        "engine_last_step_age_seconds",
        "kv_cells",
        "kv_cells_used",
    ):
        assert found(name) is None
    builds = [dict(labels) for name, labels in found.values if name == "sheily_build_info"]
    assert [build["fingerprint"] for build in builds] == [""]


def test_labels_are_bounded(serve: Serve) -> None:
    """Nothing that a client makes up becomes a label; both names of a route are one."""
    server = serve()
    server.wait_for("ready")
    for i in range(20):
        server.get(f"/nowhere/{i}")
        server.get(f"/v1/models/{i}")
        server.ask("DELETE", f"/{i}")
    server.get("/chat")
    server.get("/v1/models/fake-model")
    server.get("/models/fake-model.gguf")
    for path in (COMPLETIONS, COMPLETIONS.removeprefix("/v1")):
        assert server.ask("POST", path, completion("hi")).status == 200
    server.ask("OPTIONS", "/chat")
    counted = scrape(server).requests()
    assert {route for route, _ in counted} == {"other", "/health", "/v1/models/{id}", COMPLETIONS}
    assert counted["other", "invalid"] == 41
    assert counted["/v1/models/{id}", "invalid"] == 20
    assert counted["/v1/models/{id}", "ok"] == 2
    assert counted[COMPLETIONS, "ok"] == 2
    before = counted.get(("/metrics", "ok"), 0)
    assert scrape(server).requests()["/metrics", "ok"] == before + 1


def test_with_a_key(serve: Serve) -> None:
    """Metrics need it, and tell of those who had none; the probes do not."""
    server = serve(api_key=("secret",))
    server.wait_for("ready")
    for path in ("/livez", "/health"):
        assert server.get(path).status == 200
    assert server.get("/metrics").status == server.complete("hi").status == 401
    counted = scrape(server, Authorization="Bearer secret").requests()
    assert counted["other", "unauthorized"] == 2


def test_the_engine_at_that_moment(serve: Serve) -> None:
    server = serve(parallel=1, queue=3)
    server.wait_for("ready")
    until(lambda: scrape(server)("kv_cells_used") is not None)
    with server.opened("hang"), server.opened("wait"), server.opened("wait", stream=True):
        until(lambda: scrape(server)("requests_running") == 1)
        server.wait_for_engine("submit", 3)
        found = scrape(server)
        assert (found("requests_running"), found("requests_queued")) == (1, 2)
        assert (found("answers_running"), found("answers_queued")) == (1, 2)
        health = server.health()
        assert (health["active_requests"], health["queued"]) == (3, 2)
        assert (health["answers_running"], health["answers_queued"]) == (1, 2)
    assert found.state() == ["ready"]
    assert (found("kv_cells_used"), found("kv_cells_cached")) == (5, 7)
    assert (health["kv_cells_used"], health["kv_cells_cached"]) == (5, 7)
    assert health["kv_cells"] == found("kv_cells")
    load_s, age_s = found("engine_load_seconds"), found("engine_last_step_age_seconds")
    assert load_s is not None
    assert 0 < load_s < 60
    assert age_s is not None
    assert 0 <= age_s < 60
    builds = [dict(labels) for name, labels in found.values if name == "sheily_build_info"]
    assert [build["fingerprint"] for build in builds] == ["fp_fake"]
    assert builds[0]["version"]


def test_scrapes_at_once_with_requests(serve: Serve) -> None:
    server = serve(parallel=4, queue=16)
    server.wait_for("ready")
    answers: list[Answer] = []

    def ask() -> None:
        answers.extend(server.complete("slow 10 0.001") for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        scrape(server)
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [200] * 30
    found = scrape(server)
    assert found.requests()[COMPLETIONS, "ok"] == 30
    assert found("generated_tokens_total") == 300
    assert found("token_gap_seconds_count") == 270


# /livez, /health


def test_the_process_lives_in_every_state(serve: Serve, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    server = serve("--gate", str(gate))
    states = []
    for _ in range(2):
        states.append(server.health()["state"])
        answer = server.get("/livez")
        assert (answer.status, answer.json()) == (200, {"status": "ok"})
        gate.touch()
        server.wait_for("ready")
    assert states == ["loading", "ready"]
    assert server.ask("HEAD", "/livez").status == 200
    assert server.ask("POST", "/livez").status == 405


def test_the_process_lives_without_a_model(serve: Serve) -> None:
    server = serve(missing=True)
    server.wait_for("failed")
    assert server.get("/health").status == 503
    assert server.get("/livez").status == 200


def test_probes_and_metrics_do_not_wait_for_a_stopped_engine(serve: Serve) -> None:
    """Nor do clients that leave, whose requests it cannot be told of."""
    server = serve(parallel=20, queue=20, hang_timeout=1000.0)
    server.wait_for("ready")
    pid = server.engine_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            for _ in range(30):
                stack.enter_context(server.opened("x " * 20_000))
            until(lambda: server.health()["active_requests"] == 30)
        for path in ("/livez", "/health", "/metrics") * 3:
            assert server.get(path).status == 200
        until(lambda: server.health()["active_requests"] == 0)
        assert is_stopped(pid)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert server.complete("hi").status == 200
