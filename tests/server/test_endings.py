"""How a request ends, as its client, the log and the metrics have it."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from sheily_server.api.openai_chat import encode as completion
from sheily_server.web import app
from sheily_server.web import server as http_server
from tests.server.conftest import Serve
from tests.server.test_metrics import scrape
from tests.support import serving
from tests.support.serving import Server, read_until
from tests.support.waiting import WAIT, until

pytestmark = pytest.mark.http

COMPLETIONS = "/v1/chat/completions"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The log's lines on requests, without their ids."""
    caplog.set_level("INFO")

    def lines() -> list[str]:
        texts = [record.getMessage() for record in caplog.records]
        return [text.split(" ", 1)[1] for text in texts if re.match(r"req_[0-9a-f]{16} \d", text)]

    return lines


Log = Callable[[], list[str]]


def environment(gone: Callable[[], bool], text: str, **fields: Any) -> dict[str, Any]:
    """What waitress gives the app for a completion."""
    body = json.dumps(serving.completion(text, **fields)).encode()
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": COMPLETIONS,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/json",
        "HTTP_HOST": "localhost",
        "waitress.client_disconnected": gone,
    }


def ask(server: Server, gone: Callable[[], bool], text: str, **fields: Any) -> Iterator[bytes]:
    chunks: Any = server.app(environment(gone, text, **fields), lambda status, headers: None)
    try:
        yield from chunks
    finally:
        chunks.close()


def test_a_stream_that_is_left_is_no_200(serve: Serve, log: Log) -> None:
    server = serve()
    server.wait_for("ready")
    with server.opened("slow 1000000 0.002", stream=True) as connection:
        read_until(connection, b"w3 ")
    (line,) = until(log)
    assert re.fullmatch(r"499 prompt=\d+ \(client gone\)", line)
    assert scrape(server).requests()[COMPLETIONS, "client_gone"] == 1


@pytest.mark.parametrize("n_read", [1, 2, 3])
def test_a_stream_that_is_closed_at_any_event(serve: Serve, log: Log, n_read: int) -> None:
    server = serve()
    server.wait_for("ready")
    chunks = ask(server, lambda: False, "one two", stream=True)
    for _ in range(n_read):
        assert next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    (line,) = log()
    assert line.startswith("499 ")
    assert server.health()["active_requests"] == 0


@pytest.mark.parametrize(
    ("order", "status", "outcome"),
    [
        ("fail engine_error", 500, "error"),
        ("fail timeout", 504, "timeout"),
        ("crash", 503, "engine_crashed"),
    ],
)
def test_a_stream_that_ends_in_an_error_has_its_status(
    serve: Serve, log: Log, order: str, status: int, outcome: str
) -> None:
    server = serve()
    server.wait_for("ready")
    assert "error" in server.complete(order, stream=True).events()[-1]
    (line,) = until(log)
    assert line.startswith(f"{status} ")
    until(lambda: scrape(server).requests().get((COMPLETIONS, outcome)) == 1)


def test_a_whole_answer_that_nobody_takes_is_no_200(serve: Serve, log: Log) -> None:
    """The client leaves when the answer is there, and was not handed over."""
    server = serve()
    server.wait_for("ready")
    gone = threading.Event()
    whole = completion.whole

    def leave(*arguments: Any) -> Any:
        gone.set()
        return whole(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completion, "whole", leave)
        list(ask(server, gone.is_set, "one two"))
    (line,) = log()
    assert line == "499 (client gone)"
    counted = scrape(server).requests()
    assert counted[COMPLETIONS, "client_gone"] == 1
    assert (COMPLETIONS, "ok") not in counted


@pytest.mark.parametrize("method", ["first", "of", "last"])
def test_an_error_of_ours_in_a_stream(
    serve: Serve,
    log: Log,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    def fail(*_: Any) -> Any:
        raise KeyError("a mistake")

    server = serve()
    server.wait_for("ready")
    monkeypatch.setattr(completion.Chunks, method, fail)
    answer = server.complete("one two", stream=True)
    *_, last = answer.events()
    request_id = answer.headers["x-request-id"]
    assert last["error"] == {
        "message": f"The server made an error; its log has it under {request_id}.",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }
    (line,) = until(log)
    assert re.fullmatch(r"500 prompt=.* \(internal_error\)", line)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.getMessage() == f"{request_id} failed"
    until(lambda: scrape(server).requests().get((COMPLETIONS, "error")) == 1)
    assert server.health()["active_requests"] == 0


def test_requests_that_are_being_read_leave_threads_for_health(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there are threads, and more, whose reading takes for ever."""
    server = serve(parallel=1, queue=0, background=0)
    server.wait_for("ready")
    going_on = threading.Event()
    reading: list[int] = []

    def begin(*_: Any) -> Any:
        reading.append(1)
        going_on.wait(WAIT)
        raise KeyError("no more")

    monkeypatch.setattr(server.app._chat, "begin", begin)
    try:
        with ExitStack() as stack:
            for _ in range(3 * (1 + http_server.SPARE_THREADS)):
                stack.enter_context(server.opened("hi"))
            until(lambda: len(reading) == 1 + app.SPARE_POSTS)
            for path in ("/livez", "/health", "/metrics"):
                assert server.get(path).status == 200
            assert server.complete("hi").error()["code"] == "queue_full"
            going_on.set()
    finally:
        going_on.set()
    until(lambda: server.app._posts.unused)
