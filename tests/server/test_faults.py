"""Clients that go away, engines that die or hang, and more requests than there is room for."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from sheily_server.chat import chat
from sheily_server.web import app
from tests.server.conftest import Serve
from tests.support.serving import Answer, Server, completion, read_until
from tests.support.waiting import WAIT, until

pytestmark = pytest.mark.http

COMPLETIONS = "/v1/chat/completions"
ENDLESS = "slow 1000000 0.002"


def reset(connection: socket.socket) -> None:
    """Closes with RST instead of FIN, as a process that dies may."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def idle(server: Server) -> None:
    """Returns once the server counts no request."""
    health = server.health()
    while health["active_requests"]:
        health = server.health()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("order", ["hang-early", "hang", "hang-late", ENDLESS])
def test_a_client_that_goes_away_frees_its_slot(serve: Serve, order: str, stream: bool) -> None:
    server = serve(parallel=1, queue=0)
    server.wait_for("ready")
    for n, leave in enumerate((socket.socket.close, reset), 1):
        with server.opened(order, stream=stream) as connection:
            server.wait_for_engine("submit", 2 * n - 1)
            if stream and order != "hang-early":
                read_until(connection, b"assistant")
            leave(connection)
        server.wait_for_engine("cancel", n)
        idle(server)
        assert server.complete("next").status == 200


@pytest.mark.parametrize("n_chunks", [1, 2, 3])
def test_a_stream_that_is_closed_early_frees_its_slot(server: Server, n_chunks: int) -> None:
    """After any of its chunks: what waitress does when it cannot write one."""
    n_cancels = len(server.engine_lines("cancel"))
    body = json.dumps(completion(ENDLESS, stream=True)).encode()
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/v1/chat/completions",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/json",
        "HTTP_HOST": "localhost",
    }
    chunks: Any = iter(server.app(environ, lambda status, headers: None))
    for _ in range(n_chunks):
        assert next(chunks)
    chunks.close()
    server.wait_for_engine("cancel", n_cancels + 1)
    assert server.health()["active_requests"] == 0


def test_one_client_that_goes_leaves_the_others_alone(serve: Serve) -> None:
    server = serve()
    server.wait_for("ready")
    answers: list[Answer] = []
    patient = threading.Thread(target=lambda: answers.append(server.complete("slow 100 0.005")))
    patient.start()
    server.wait_for_engine("submit 1")
    with server.opened(ENDLESS, stream=True) as connection:
        read_until(connection, b"w3 ")
    server.wait_for_engine("cancel 2")
    patient.join()
    assert answers[0].status == 200
    assert answers[0].json()["usage"]["completion_tokens"] == 100
    assert server.engine_lines("cancel") == ["cancel 2"]


def test_a_full_queue_is_told_at_once(serve: Serve) -> None:
    server = serve(parallel=2, queue=1)
    server.wait_for("ready")
    with server.opened("hang"), server.opened("hang", stream=True), server.opened("hang-early"):
        server.wait_for_engine("submit", 3)
        for answer in (
            server.complete("hi"),
            server.complete("hi", stream=True),
            server.simple(message="hi"),
        ):
            assert answer.status == 429
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            error = answer.error()
            assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
        assert server.get("/health").status == 200
        assert len(server.engine_lines("submit")) == 3
    server.wait_for_engine("cancel", 3)
    assert server.complete("hi").status == 200


def test_a_full_queue_is_told_before_any_work(serve: Serve) -> None:
    """However much was asked for: the engine hears nothing of it, and nobody waits."""
    server = serve(parallel=1, queue=1)
    server.wait_for("ready")
    with server.opened("hang"), server.opened("hang-early"):
        server.wait_for_engine("submit", 2)
        lines = server.engine_lines("")
        long = "word " * 500_000
        for answer in (
            *(server.complete("slow 100 1", max_tokens=100) for _ in range(50)),
            server.complete(long, truncation="trim"),
            server.complete("hi", response_format={"type": "json_object"}),
            server.ask("POST", "/v1/tokenize", {"text": long}),
            server.ask("POST", "/v1/detokenize", {"tokens": [1] * 1000}),
        ):
            assert answer.status == 429
            assert int(answer.headers["retry-after"]) >= 1
        assert server.engine_lines("") == lines
        assert server.health()["active_requests"] == 2


def test_when_to_come_back_goes_by_how_long_requests_take(serve: Serve) -> None:
    server = serve(parallel=1, queue=4)
    server.wait_for("ready")

    def seconds() -> int:
        n = len(server.engine_lines("submit"))
        with contextlib.ExitStack() as stack:
            for i in range(5):
                stack.enter_context(server.opened("hang"))
                server.wait_for_engine("submit", n + i + 1)
            found = int(server.complete("hi").headers["retry-after"])
        idle(server)
        return found

    unmeasured = seconds()
    for _ in range(10):
        assert server.complete("hi").status == 200
    assert unmeasured == 5  # a second for each of those before
    quick = seconds()
    assert quick < unmeasured
    for _ in range(3):
        assert server.complete("slow 1 3").status == 200
    assert seconds() > quick


def test_a_crash_in_the_middle_of_a_stream(serve: Serve) -> None:
    server = serve()
    server.wait_for("ready")
    answer = server.complete("crash", stream=True)
    assert answer.status == 200
    *chunks, last = answer.events()
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", "last"]
    assert set(last) == {"error"}
    error = last["error"]
    assert (error["type"], error["param"], error["code"]) == (
        "server_error",
        None,
        "engine_crashed",
    )
    assert "SIGKILL" in error["message"]
    server.wait_for("ready")
    assert server.health()["engine_restarts"] == 1
    assert server.complete("and on").status == 200


@pytest.mark.parametrize("order", ["crash", "crash-early", "exit 1 bang", "nonsense", "close"])
def test_a_crash_under_a_request_that_is_not_streamed(serve: Serve, order: str) -> None:
    server = serve()
    server.wait_for("ready")
    answer = server.complete(order)
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.error()["code"] == "engine_crashed"
    server.wait_for("ready")
    assert server.simple(message="and on").status == 200


def test_a_crash_before_a_stream_began_is_a_status(serve: Serve) -> None:
    server = serve()
    server.wait_for("ready")
    answer = server.complete("crash-early", stream=True)
    assert (answer.status, answer.error()["code"]) == (503, "engine_crashed")


def test_a_crash_fails_all_that_was_in_flight(serve: Serve) -> None:
    server = serve()
    server.wait_for("ready")
    with server.opened("hang-late", stream=True) as streamed, server.opened("hang") as waiting:
        read_until(streamed, b"once")
        server.wait_for_engine("submit", 2)
        assert server.complete("crash").status == 503
        data = read_until(streamed, b"engine_crashed")
        assert b"[DONE]" not in data
        assert read_until(waiting, b"engine_crashed").startswith(b"HTTP/1.1 503")
    server.wait_for("ready")
    assert server.health()["active_requests"] == 0


def test_five_crashes_in_a_row(serve: Serve) -> None:
    server = serve()
    for crash in range(5):
        server.wait_for("ready")
        assert server.complete("crash").status == 503
        assert server.health()["engine_restarts"] == crash + 1
    assert "5 times in a row" in server.wait_for("failed")["reason"]
    answer = server.complete("hi")
    assert (answer.status, answer.headers["x-should-retry"]) == (500, "false")


def client(server: Server) -> OpenAI:
    """As patient as a test has to be: the engine may take long to be there again."""
    url = f"http://127.0.0.1:{server.port}/v1"
    return OpenAI(base_url=url, api_key="none", max_retries=100, timeout=WAIT)


def said(client: OpenAI, text: str, **fields: Any) -> str:
    """What the official client makes of a completion, which it asks for again as it is told."""
    messages: Any = [{"role": "user", "content": text}]
    answer = client.chat.completions.create(model="", messages=messages, **fields)
    return answer.choices[0].message.content or ""


def test_a_client_that_asks_again_for_what_kills_the_engine_is_told_to_stop(serve: Serve) -> None:
    server = serve()
    with client(server) as openai:
        with pytest.raises(BadRequestError) as caught:
            said(openai, "abort")
        assert caught.value.code == "request_crashes_engine"
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert server.health()["engine_restarts"] == 3
        for _ in range(3):
            with pytest.raises(BadRequestError):
                said(openai, "abort")
        assert said(openai, "and on") == "and on"
    assert server.health()["engine_restarts"] == 3
    assert server.health()["active_requests"] == 0


def test_who_is_there_when_others_kill_the_engine_is_answered(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are suspects themselves after two deaths, go alone, and are none any more."""
    monkeypatch.setattr(OpenAI, "_calculate_retry_timeout", lambda *_, **__: 0.05)
    server = serve(parallel=4, queue=20)
    ends: dict[str, str] = {}

    def ask(text: str) -> None:
        with client(server) as openai:
            try:
                ends[text] = said(openai, text)
            except BadRequestError as error:
                ends[text] = str(error.code)

    innocent = [f"slow {n} 0.2" for n in (3, 4, 5)]
    killing = ["abort one", "segv two"]
    threads = [
        threading.Thread(target=ask, args=(text,), daemon=True) for text in innocent + killing
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    answers = {"slow 3 0.2": "w0 w1 w2 ", "slow 4 0.2": "w0 w1 w2 w3 "}
    answers["slow 5 0.2"] = "w0 w1 w2 w3 w4 "
    assert ends == answers | dict.fromkeys(killing, "request_crashes_engine")
    server.wait_for("ready")


def test_what_kills_the_engine_in_a_stream(serve: Serve) -> None:
    server = serve()
    codes = []
    for _ in range(3):
        server.wait_for("ready")
        answer = server.complete("abort", stream=True)
        codes.append(answer.events()[-1]["error"]["code"])
    assert codes == ["engine_crashed", "engine_crashed", "request_crashes_engine"]
    server.wait_for("ready")
    answer = server.complete("abort", stream=True)
    assert (answer.status, answer.error()["code"]) == (400, "request_crashes_engine")


def test_a_request_that_is_changed_is_another(serve: Serve) -> None:
    server = serve()
    for code in ("engine_crashed", "engine_crashed", *["request_crashes_engine"] * 2):
        server.wait_for("ready")
        assert server.complete("abort", temperature=0.5).error()["code"] == code
    server.wait_for("ready")
    assert server.complete("abort", temperature=0.6).error()["code"] == "engine_crashed"
    server.wait_for("ready")
    assert server.complete("hi", temperature=0.5).status == 200
    counted = server.get("/metrics").body.decode()
    assert f'outcome="invalid",route="{COMPLETIONS}"}} 2.0' in counted


@pytest.mark.parametrize(("code", "status"), [("engine_error", 500), ("timeout", 504)])
def test_failures_of_one_request(server: Server, code: str, status: int) -> None:
    for order in (f"fail {code}", f"fail-early {code}"):
        answer = server.complete(order)
        assert answer.status == status
        assert answer.error()["code"] == code
    answer = server.complete(f"fail-early {code}", stream=True)
    assert (answer.status, answer.error()["code"]) == (status, code)
    answer = server.complete(f"fail {code}", stream=True)
    assert answer.status == 200
    first, last = answer.events()
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert last["error"]["code"] == code
    assert server.simple(message=f"fail {code}").status == status
    assert server.health()["engine_restarts"] == 0


ASKED: dict[str, Callable[[str], dict[str, Any]]] = {
    "/v1/chat/completions": lambda order: {"messages": [{"role": "user", "content": order}]},
    "/v1/completions": lambda order: {"prompt": order},
    "/v1/responses": lambda order: {"input": order},
    "/v1/messages": lambda order: {
        "max_tokens": 9,
        "messages": [{"role": "user", "content": order}],
    },
    "/chat": lambda order: {"message": order},
}


@pytest.mark.parametrize("path", ASKED)
def test_a_deadline_is_the_same_to_every_dialect(server: Server, path: str) -> None:
    """Without a token in time a 504, or the last event of a stream that has begun; with one, a 200
    with what there is, which says so."""
    for order, status in (("fail timeout", 504), ("fail-early timeout", 504), ("timed-out", 200)):
        answer = server.ask("POST", path, ASKED[path](order))
        assert answer.status == status, order
        if status == 504:
            assert answer.json()["error"]["code"] == "timeout"
            assert answer.headers["x-should-retry"] == "false"
        else:
            assert answer.json()["sheily"]["timed_out"] is True
    if path != "/chat":
        asked = ASKED[path]("fail timeout") | {"stream": True}
        streamed = server.ask("POST", path, asked)
        assert streamed.status == 200
        assert b"(LLM_TIMEOUT)" in streamed.body.strip().rpartition(b"\ndata: ")[2]


@pytest.mark.parametrize("order", ["hang-early", "hang", "hang-late"])
def test_an_engine_that_hangs_is_not_waited_for_beyond_the_deadline(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setattr(chat, "ENGINE_GRACE_S", 0.05)
    server = serve(timeout=0.1)
    server.wait_for("ready")
    answer = server.complete(order)
    assert answer.status == 504
    assert answer.headers["x-should-retry"] == "false"
    error = answer.error()
    assert error["code"] == "timeout"
    assert "LLM_TIMEOUT" in error["message"]
    streamed = server.complete(order, stream=True)
    if streamed.status == 504:  # nothing had come before the deadline
        assert streamed.error()["code"] == "timeout"
    else:
        assert order != "hang-early"
        assert streamed.events()[-1]["error"]["code"] == "timeout"
    idle(server)
    until(lambda: server.complete("next").status == 200)


def test_large_bodies_together_are_bounded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than memory was counted for get a 429, and small ones go on."""
    monkeypatch.setattr(app, "LARGE_BODIES", 1)
    monkeypatch.setattr(app, "MAX_BODY_BYTES", 200_000)
    server = serve(parallel=2, context_size=1_000_000, max_tokens=10)
    server.wait_for("ready")
    large = "x " * 60_000
    with server.opened(f"hang {large}"):
        server.wait_for_engine("submit", 1)
        for _ in range(2):
            answer = server.complete(large)
            assert (answer.status, answer.error()["code"]) == (429, "queue_full")
        assert server.complete("small").status == 200
    idle(server)
    assert server.complete(large).status == 200
