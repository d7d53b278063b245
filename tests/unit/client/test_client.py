"""LLMClient against a scripted server on the loopback, which also answers wrongly on demand."""

from __future__ import annotations

import ast
import shlex
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from sheily_server import client as client_module
from sheily_server.client import (
    BadRequestError,
    LLMAPIError,
    LLMClient,
    LLMConnectionError,
    LLMProtocolError,
    LLMTimeoutError,
    RateLimitedError,
    Reply,
    ServerError,
)
from tests.support.fake_server import (
    WAIT,
    FakeServer,
    Handler,
    Script,
    Seen,
    answer,
    completion,
    raw,
)

# chat


def test_chat_returns_the_answer(server: FakeServer, client: LLMClient) -> None:
    server.script = answer(200, completion("Hola, ¿qué tal? 🙂"))
    reply = client.chat([{"role": "user", "content": "hi"}], max_tokens=5, temperature=0)
    assert reply == Reply(
        text="Hola, ¿qué tal? 🙂",
        finish_reason="stop",
        usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        raw=completion("Hola, ¿qué tal? 🙂"),
    )
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
    assert seen.headers["content-type"] == "application/json"
    assert "authorization" not in seen.headers
    assert seen.json() == {
        "messages": [{"role": "user", "content": "hi"}],
        "stream": False,
        "max_tokens": 5,
        "temperature": 0,
    }


def test_a_string_is_a_user_message(server: FakeServer, client: LLMClient) -> None:
    server.script = answer(200, completion("ok"))
    client.chat("héllo 🙂")
    assert server.seen[0].json()["messages"] == [{"role": "user", "content": "héllo 🙂"}]


@pytest.mark.parametrize("prediction", ["Sí.", {"type": "content", "content": "Sí."}])
def test_a_prediction_may_be_a_string(
    server: FakeServer, client: LLMClient, prediction: str | dict[str, str]
) -> None:
    server.script = answer(200, completion("ok"))
    options = {"prediction": prediction}
    client.chat("x", **options)
    assert server.seen[0].json()["prediction"] == {"type": "content", "content": "Sí."}
    assert options == {"prediction": prediction}
    client.chat("x", prediction=None)
    assert server.seen[1].json()["prediction"] is None


def test_a_tool_call_has_no_text(server: FakeServer, client: LLMClient) -> None:
    server.script = answer(200, completion(None))
    assert client.chat("x").text == ""


def test_the_answer_may_have_no_usage(server: FakeServer, client: LLMClient) -> None:
    body = completion("x")
    del body["usage"]
    server.script = answer(200, body)
    assert client.chat("x").usage == {}


def test_the_key_is_sent_as_utf_8(server: FakeServer) -> None:
    server.script = answer(200, completion("ok"))
    LLMClient(server.url, api_key="clé").chat("x")
    assert server.seen[0].headers["authorization"].encode("latin-1").decode() == "Bearer clé"


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_base_url_with_and_without_v1(server: FakeServer, suffix: str) -> None:
    server.script = answer(200, completion("ok"))
    LLMClient(server.url + suffix).chat("x")
    assert server.seen[0].path == "/v1/chat/completions"


def test_base_url_with_a_path(server: FakeServer) -> None:
    server.script = answer(200, completion("ok"))
    LLMClient(server.url + "/llm/v1").chat("x")
    assert server.seen[0].path == "/llm/v1/chat/completions"


@pytest.mark.parametrize(
    "base_url",
    ["127.0.0.1:8005", "ftp://x", "http://", "http://x:port", "http://x?y=1", "http://u:p@x"],
)
def test_bad_base_urls_are_refused(base_url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the port's message is urllib's
        LLMClient(base_url)


def test_bad_arguments_are_refused() -> None:
    for timeout in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            LLMClient(timeout=timeout)
    with pytest.raises(ValueError, match="api_key") as caught:
        LLMClient(api_key="secret\r\nX: y")
    assert "secret" not in str(caught.value)


def test_bad_requests_are_refused_before_they_are_sent(
    server: FakeServer, client: LLMClient
) -> None:
    with pytest.raises(ValueError, match="stream"):
        client.chat("x", stream=True)
    with pytest.raises(ValueError, match="stream"):
        client.stream("x", stream=False)
    with pytest.raises(ValueError, match="JSON compliant"):
        client.chat("x", temperature=float("nan"))
    with pytest.raises(TypeError):
        client.chat("x", user=object())
    assert server.seen == []


# errors of the server


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, LLMAPIError),
        (413, LLMAPIError),
        (429, RateLimitedError),
        (500, ServerError),
        (503, ServerError),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_error_objects_become_exceptions(
    server: FakeServer, client: LLMClient, status: int, kind: type[LLMAPIError], streamed: bool
) -> None:
    error = {"message": "No.", "type": "t", "param": "messages[0]", "code": "c"}
    server.script = answer(status, {"error": error}, Retry_After="7", X_Request_Id="req-1")
    with pytest.raises(LLMAPIError) as caught:
        _call(client, streamed)
    assert type(caught.value) is kind
    found = caught.value
    assert (found.status, found.message, found.type) == (status, "No.", "t")
    assert (found.param, found.code) == ("messages[0]", "c")
    assert (found.request_id, found.retry_after) == ("req-1", 7.0)
    assert str(found) == f"No. [HTTP {status}, c]"
    assert len(server.seen) == 1


def _call(client: LLMClient, streamed: bool) -> None:
    if streamed:
        list(client.stream("x"))
    else:
        client.chat("x")


@pytest.mark.parametrize("header", [None, "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "-1", "²"])
def test_a_retry_after_that_is_no_number_is_none(
    server: FakeServer, client: LLMClient, header: str | None
) -> None:
    headers = {} if header is None else {"Retry_After": header}
    server.script = answer(429, {"error": {"message": "full"}}, **headers)
    with pytest.raises(RateLimitedError) as caught:
        client.chat("x")
    assert caught.value.retry_after is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<h1>Bad gateway</h1>", "<h1>Bad gateway</h1>"),
        (b"", "Bad Gateway"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b'{"error": "plain text"}', "plain text"),
        (b'{"error": null}', "an error without a message: None"),
        (b'{"detail": "x"}', "an error without a message: None"),
        (b"[]", "[]"),
    ],
)
def test_errors_of_other_forms_keep_their_status(
    server: FakeServer, client: LLMClient, body: bytes, message: str
) -> None:
    server.script = answer(502, body)
    with pytest.raises(ServerError) as caught:
        client.chat("x")
    assert (caught.value.status, caught.value.message) == (502, message)


def test_a_body_refused_unread_still_gives_the_answer(
    server: FakeServer, client: LLMClient
) -> None:
    server.leave_bodies_unread = True
    server.script = answer(413, {"error": {"message": "too large", "code": "body_too_large"}})
    with pytest.raises(LLMAPIError) as caught:
        client.chat("x" * 8_000_000)
    assert (caught.value.status, caught.value.code) == (413, "body_too_large")


# answers that are no answers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[]",
        b"null",
        b'"text"',
        b"\xff",
        b"[" * 100_000,
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": 5}',
        b'{"choices": [{"message": "text"}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'{"choices": [{"message": {"content": "x"}, "finish_reason": {}}]}',
        b'{"choices": [{"message": {"content": "x"}}], "usage": 5}',
    ],
)
def test_answers_of_another_form_are_protocol_errors(
    server: FakeServer, client: LLMClient, body: bytes
) -> None:
    server.script = answer(200, body)
    with pytest.raises(LLMProtocolError):
        client.chat("x")


@pytest.mark.parametrize("streamed", [False, True])
def test_redirects_are_not_followed(server: FakeServer, client: LLMClient, streamed: bool) -> None:
    server.script = answer(302, b"", Location="/elsewhere")
    with pytest.raises(LLMProtocolError, match="302"):
        _call(client, streamed)
    assert len(server.seen) == 1


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 abc OK\r\n\r\n"])
def test_another_protocol_is_a_protocol_error(
    server: FakeServer, client: LLMClient, data: bytes
) -> None:
    server.script = raw(data)
    with pytest.raises(LLMProtocolError, match="does not speak HTTP"):
        client.chat("x")


# connections


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(LLMConnectionError) as caught:
            LLMClient(f"http://127.0.0.1:{port}").chat("x")
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert f"`{shlex.join([sys.executable, '-m', 'sheily_server'])}`" in str(caught.value)


def test_an_ipv6_address_is_named_in_brackets() -> None:
    with pytest.raises(LLMConnectionError, match=r"\[::1\]:1 "):
        LLMClient("http://[::1]:1").health_check()


def test_https_to_a_server_without_tls(server: FakeServer) -> None:
    secure = LLMClient(server.url.replace("http:", "https:"), timeout=WAIT)
    with pytest.raises(LLMConnectionError):
        secure.chat("x")


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"])
def test_a_hangup_before_the_answer_is_complete(
    server: FakeServer, client: LLMClient, data: bytes
) -> None:
    server.script = raw(data)
    with pytest.raises(LLMConnectionError, match="hung up"):
        client.chat("x")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\n: a\n",
    ],
)
def test_silence_is_a_timeout(server: FakeServer, data: bytes, streamed: bool) -> None:
    def silent(handler: Handler) -> None:
        handler.wfile.write(data)
        handler.wait_for_hangup()

    server.script = silent
    with pytest.raises(LLMTimeoutError, match="silent"):
        _call(LLMClient(server.url, timeout=0.1), streamed)


# health


@pytest.mark.parametrize("status", [200, 503])
def test_health_is_the_body_whatever_the_status(
    server: FakeServer, client: LLMClient, status: int
) -> None:
    server.script = answer(status, {"state": "loading", "fraction": 0.5})
    assert client.health_check() == {"state": "loading", "fraction": 0.5}
    assert (server.seen[0].method, server.seen[0].path) == ("GET", "/health")


def test_health_of_something_else(server: FakeServer, client: LLMClient) -> None:
    server.script = answer(404, b"not here")
    with pytest.raises(LLMProtocolError, match="404"):
        client.health_check()


# process_pipeline


def pipeline_script(context_size: int) -> Script:
    """A server whose tokens are the words of what it is asked to count."""

    def script(handler: Handler) -> None:
        seen = handler.request_seen
        if seen.path == "/health":
            answer(200, {"state": "ready", "context_size": context_size})(handler)
        elif seen.path == "/tokenize":
            body = seen.json()
            texts = [body.get("text") or "", *(m["content"] for m in body.get("messages", []))]
            answer(200, {"count": sum(len(text.split()) for text in texts)})(handler)
        else:
            answer(200, completion("Madrid"))(handler)

    return script


def _asked(server: FakeServer) -> Seen:
    """The one request for an answer."""
    (seen,) = [seen for seen in server.seen if seen.path == "/v1/chat/completions"]
    return seen


def _system_and_user(server: FakeServer) -> tuple[str, str]:
    system, user = _asked(server).json()["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    return system["content"], user["content"]


def test_pipeline_numbers_its_documents(server: FakeServer, client: LLMClient) -> None:
    server.script = pipeline_script(4096)
    reply = client.process_pipeline("¿Capital?", ["Uno.", "  \n", "Dos. "], max_tokens=9)
    assert reply.text == "Madrid"
    assert (reply.used, reply.left_out) == ((0, 2), ())
    system, user = _system_and_user(server)
    assert system.endswith("\n\nDocument 1:\nUno.\n\nDocument 2:\nDos.")
    assert "from nothing else" in system
    assert "language of the question" in system
    assert user == "¿Capital?"
    assert _asked(server).json()["max_tokens"] == 9


def test_pipeline_takes_one_text(server: FakeServer, client: LLMClient) -> None:
    server.script = pipeline_script(4096)
    client.process_pipeline("q", "Only this.")
    assert _system_and_user(server)[0].endswith("\n\nDocument 1:\nOnly this.")


@pytest.mark.parametrize("context", ["", [], [" "], ()])
def test_pipeline_says_that_there_are_no_documents(
    server: FakeServer, client: LLMClient, context: str | Sequence[str]
) -> None:
    server.script = pipeline_script(4096)
    reply = client.process_pipeline("q", context)
    assert (reply.used, reply.left_out) == ((), ())
    assert "There are no documents" in _system_and_user(server)[0]


def test_pipeline_leaves_out_whole_documents(server: FakeServer, client: LLMClient) -> None:
    server.script = pipeline_script(400)
    documents = ["a " * 100, "b " * 300, "c " * 50]
    reply = client.process_pipeline("q", documents, max_tokens=100)
    assert (reply.used, reply.left_out) == ((0, 2), (1,))
    system, _ = _system_and_user(server)
    assert "Document 2:\nc" in system
    assert "b" not in system.split("Document 1:")[1]


@pytest.mark.parametrize(("room", "used"), [(300, ()), (250, (0,)), (None, (0, 1))])
def test_pipeline_keeps_room_for_the_answer(
    server: FakeServer, client: LLMClient, room: int | None, used: tuple[int, ...]
) -> None:
    server.script = pipeline_script(400)
    options = {} if room is None else {"max_completion_tokens": room}
    documents = ["a " * 90, "b " * 90]
    if used:
        assert client.process_pipeline("q", documents, **options).used == used
    else:
        with pytest.raises(ValueError, match="fits"):
            client.process_pipeline("q", documents, **options)


@pytest.mark.parametrize("query", ["", " \n\t"])
def test_pipeline_refuses_an_empty_query(server: FakeServer, client: LLMClient, query: str) -> None:
    with pytest.raises(ValueError, match="query"):
        client.process_pipeline(query, "text")
    assert server.seen == []


def test_pipeline_refuses_documents_that_are_no_text(client: LLMClient) -> None:
    with pytest.raises(TypeError, match="context"):
        client.process_pipeline("q", cast("list[str]", [b"bytes"]))


# the whole


def test_threads_share_a_client(server: FakeServer, client: LLMClient) -> None:
    def echo(handler: Handler) -> None:
        answer(200, completion(handler.request_seen.json()["messages"][0]["content"]))(handler)

    server.script = echo
    replies: dict[str, list[str]] = {}

    def call(name: str) -> None:
        replies[name] = [client.chat(f"{name} {number}").text for number in range(10)]

    threads = [threading.Thread(target=call, args=(f"thread {place}",)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len(replies) == 8
    for name, texts in replies.items():
        assert texts == [f"{name} {number}" for number in range(10)]


def test_it_imports_the_standard_library_alone() -> None:
    files = list(Path(client_module.__file__).parent.glob("*.py"))
    assert len(files) > 5
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8")))]
    for node in nodes:
        roots = []
        if isinstance(node, ast.Import):
            roots = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1
            roots = [] if node.level else [(node.module or "").partition(".")[0]]
        assert set(roots) <= sys.stdlib_module_names
