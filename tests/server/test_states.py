"""What every route says while there is no model to ask: loading, failed, restarting."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.conftest import Serve
from tests.support.fake_engine import LOAD_FAILURE, LOAD_LAST_WORDS
from tests.support.serving import Answer, Server
from tests.support.waiting import until

pytestmark = pytest.mark.http


def chat_answers(server: Server) -> list[Answer]:
    """Both chat routes, and the stream."""
    return [
        server.complete("hi"),
        server.complete("hi", stream=True),
        server.simple(message="hi"),
    ]


def test_while_the_model_loads(serve: Serve, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    server = serve("--gate", str(gate))
    until(lambda: server.health()["progress"] == 0.25)
    answer = server.get("/health")
    assert answer.status == 503
    health = answer.json()
    assert (health["status"], health["state"]) == ("unavailable", "loading")
    assert health["reason"] is None
    assert server.get("/v1/models").status == 200
    for answer in chat_answers(server):
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "x-should-retry" not in answer.headers
        error = answer.error()
        assert (error["type"], error["code"]) == ("server_error", "loading")
        assert "25 %" in error["message"]
    gate.touch()
    server.wait_for("ready")
    assert server.get("/health").status == 200
    assert [answer.status for answer in chat_answers(server)] == [200, 200, 200]


def test_bad_input_is_bad_input_in_every_state(serve: Serve) -> None:
    server = serve(missing=True)
    server.wait_for("failed")
    assert server.ask("POST", "/chat", b"{").status == 400
    assert server.complete("hi", temperature=5).status == 400
    assert server.complete("hi", model="gpt-4o").status == 404
    assert server.get("/nowhere").status == 404


def test_without_the_models_file(serve: Serve) -> None:
    server = serve(missing=True)
    server.wait_for("failed")
    path = str(server.config.model_path)
    assert path.startswith("/")
    answer = server.get("/health")
    assert answer.status == 503
    health = answer.json()
    assert (health["status"], health["state"]) == ("unavailable", "failed")
    assert health["model_path"] == path
    assert path in health["reason"]
    for answer in chat_answers(server):
        assert answer.status == 500
        assert answer.headers["x-should-retry"] == "false"
        assert "retry-after" not in answer.headers
        error = answer.error()
        assert (error["type"], error["code"]) == ("server_error", "model_unavailable")
        assert error["param"] is None
        assert path in error["message"]
    assert server.engine_lines("") == []  # no other model is ever used instead


def test_a_model_that_cannot_be_loaded(serve: Serve) -> None:
    server = serve("--load", "fail")
    assert server.wait_for("failed")["reason"] == LOAD_FAILURE
    assert server.get("/health").status == 503
    for answer in chat_answers(server):
        assert answer.status == 500
        assert answer.headers["x-should-retry"] == "false"
        assert answer.error()["message"] == LOAD_FAILURE


@pytest.mark.parametrize(("way", "words"), [("crash", "SIGSEGV"), ("exit", LOAD_LAST_WORDS)])
def test_an_engine_that_dies_while_loading_is_given_up(serve: Serve, way: str, words: str) -> None:
    server = serve("--load", way)
    reason = server.wait_for("failed")["reason"]
    assert "5 times in a row" in reason
    assert words in reason
    assert len(server.engine_lines("start")) == 5
    for answer in chat_answers(server):
        assert answer.status == 500
        assert answer.headers["x-should-retry"] == "false"
        assert answer.error()["message"] == reason


def test_while_the_engine_restarts(serve: Serve, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    server = serve("--gate", str(gate))
    server.wait_for("ready")
    gate.unlink()
    assert server.complete("crash").error()["code"] == "engine_crashed"
    answer = server.get("/health")
    assert answer.status == 503
    health = answer.json()
    assert (health["status"], health["state"]) == ("unavailable", "restarting")
    assert "SIGKILL" in health["reason"]
    assert health["engine_restarts"] == 1
    assert 0.0 <= health["progress"] < 1.0
    for answer in chat_answers(server):
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.error()["code"] == "restarting"
    gate.touch()
    assert server.wait_for("ready")["reason"] is None
    assert [answer.status for answer in chat_answers(server)] == [200, 200, 200]
