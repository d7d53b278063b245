"""What the server does with bad input and bad senders; SECURITY.md has a row for each."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import Any

import pytest

from sheily_server.api import nesting
from sheily_server.api.openai_chat import decode
from sheily_server.api.openai_chat import protocol as openai
from sheily_server.api.tokens import MAX_DETOKENIZED
from sheily_server.chat import grammar as schemas
from sheily_server.keys import KeyFile
from sheily_server.templates.registry import UnknownPromptFormatError, recognize
from sheily_server.web import listener as listener_module
from sheily_server.web import server as http_server
from sheily_server.web.app import MAX_BODY_BYTES
from sheily_server.web.parsing import MAX_HEAD_BYTES
from tests.server.conftest import Serve, make
from tests.support.serving import Answer, Server, completion, read_until
from tests.support.waiting import WAIT, until

pytestmark = pytest.mark.http

COMPLETIONS = "/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    COMPLETIONS: completion("hi"),
    "/chat": {"message": "hi"},
    "/tokenize": {"text": "hi"},
    "/detokenize": {"tokens": [104]},
}
METHODS = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"]


@pytest.fixture(autouse=True)
def unharmed(server: Server) -> Iterator[None]:
    """Whatever was sent: the engine was not restarted, nothing runs on, and requests are served."""
    yield
    until(lambda: server.health()["active_requests"] == 0)
    assert server.health()["engine_restarts"] == 0
    assert server.complete("still here").status == 200


def refused(
    answer: Answer, status: int, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    assert answer.status == status, answer.body[:300]
    error = answer.error()
    assert error["type"] == "invalid_request_error"
    assert (code or error["code"], error["param"]) == (error["code"], param)
    return error


# --- the API has no native knobs ------------------------------------------------------------------


KNOBS = [
    "id_slot",
    "n_discard",
    "n_keep",
    "cache_prompt",
    "samplers",
    "lora",
    "mmproj",
    "chat_template",
    "model_path",
    "__class__",
    "",
]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = make(tmp_path_factory.mktemp("strict"), strict="on")
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.stop()


def without_chance(answer: Answer) -> Any:
    """What an answer says, less what differs between two answers to one request."""
    body = answer.json()
    for name in ("id", "created", "timings", "sheily"):
        body.pop(name, None)
    return body


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("field", KNOBS)
def test_native_knobs_are_unknown_fields(server: Server, path: str, field: str) -> None:
    plain = server.ask("POST", path, BODIES[path])
    answer = server.ask("POST", path, {**BODIES[path], field: 1})
    assert (plain.status, answer.status) == (200, 200)
    assert answer.json()["sheily"]["ignored"] == [field]
    assert without_chance(answer) == without_chance(plain)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("field", [*KNOBS, "store"])
def test_strictly_read_they_are_refused(strict: Server, path: str, field: str) -> None:
    answer = strict.ask("POST", path, {**BODIES[path], field: 1})
    code = "unsupported_parameter" if field == "store" else "unknown_parameter"
    refused(answer, 400, code, field)
    assert strict.ask("POST", path, BODIES[path]).json().get("sheily") == {}


# --- sizes ----------------------------------------------------------------------------------------


def padded(n_bytes: int) -> bytes:
    """A request with a body of so many bytes, most of them blanks."""
    body = json.dumps({"message": "hi"}).encode()
    return body + b" " * (n_bytes - len(body))


def test_a_body_of_4_mib_and_one_byte_more(server: Server) -> None:
    assert server.ask("POST", "/chat", padded(MAX_BODY_BYTES)).status == 200
    for n_bytes in (MAX_BODY_BYTES + 1, 3 * MAX_BODY_BYTES):
        refused(server.ask("POST", "/chat", padded(n_bytes)), 413, "request_too_large")


HEAD = (
    b"POST /chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\n"
)


def chunked(*chunks: bytes) -> bytes:
    """A whole request whose body comes in chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body


def test_a_chunked_body_of_4_mib_and_one_byte_more(server: Server) -> None:
    assert server.raw(chunked(padded(MAX_BODY_BYTES))).status == 200
    half = padded(MAX_BODY_BYTES)
    refused(server.raw(chunked(half, b" ")), 413, "request_too_large")


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
def test_a_huge_length_is_refused_before_the_body_comes(server: Server, expect: bytes) -> None:
    for length in (4 * MAX_BODY_BYTES, 2**40, 10**300):
        head = HEAD + expect + b"Content-Length: %d\r\n\r\n" % length
        refused(server.raw(head), 413, "request_too_large")


def test_a_chunked_body_without_an_end_is_cut_off(server: Server) -> None:
    """The answer may be lost on its way to one who still sends; what counts is the end."""
    megabyte = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    with connect(server) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(ConnectionError):
            connection.sendall(megabyte * 100)


@pytest.mark.parametrize(
    "between", [b"0" * 10**6, b"1;" + b"x" * 10**6, b"0\r\nx: " + b"y" * 10**6]
)
def test_what_is_between_chunks_is_bounded(server: Server, between: bytes) -> None:
    with connect(server) as connection:
        try:
            connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + between)
            first = connection.recv(100)
        except ConnectionError:
            return
        assert first == b"" or first.startswith(b"HTTP/1.1 400 ")


def test_a_prompt_over_the_context(server: Server) -> None:
    answer = server.complete("too-long 300 1")
    refused(answer, 400, "context_length_exceeded", "messages")


def test_one_too_many_of_each(server: Server) -> None:
    user = {"role": "user", "content": "hi"}
    tool = {"type": "function", "function": {"name": "f"}}
    for field, value in {
        "n": server.config.parallel + 1,
        "stop": ["a"] * (openai.MAX_STOPS + 1),
        "logit_bias": {str(token): 1 for token in range(openai.MAX_LOGIT_BIAS + 1)},
        "messages": [user] * (openai.MAX_MESSAGES + 1),
        "tools": [tool] * (openai.MAX_TOOLS + 1),
        "top_logprobs": openai.MAX_TOP_LOGPROBS + 1,
    }.items():
        body = completion("hi", logprobs=True) | {field: value}
        refused(server.ask("POST", COMPLETIONS, body), 400, "invalid_value", field)
    for text in ("x" * (decode.MAX_STOP_BYTES + 1), "é" * (decode.MAX_STOP_BYTES // 2 + 1)):
        refused(server.complete("hi", stop=["a", text]), 400, "invalid_value", "stop[1]")
    tokens = [104] * (MAX_DETOKENIZED + 1)
    answer = server.ask("POST", "/detokenize", {"tokens": tokens})
    refused(answer, 400, "invalid_value", "tokens")


def test_as_many_of_each_as_there_may_be(server: Server) -> None:
    answer = server.complete(
        "hi",
        n=server.config.parallel,
        stop=["x" * decode.MAX_STOP_BYTES] * openai.MAX_STOPS,
        logit_bias={str(token): 1 for token in range(openai.MAX_LOGIT_BIAS)},
        max_tokens=server.config.max_tokens,
        logprobs=True,
        top_logprobs=openai.MAX_TOP_LOGPROBS,
    )
    assert answer.status == 200
    messages = [{"role": "user", "content": "hi"}] * openai.MAX_MESSAGES
    assert server.ask("POST", COMPLETIONS, {"messages": messages}).status == 200


@pytest.mark.parametrize("token", [-1, 999, 2**31, 2**70, 1.5, "1", None, True])
def test_tokens_that_are_none(server: Server, token: Any) -> None:
    """999 is the fake engine's first that is none."""
    answer = server.ask("POST", "/detokenize", {"tokens": [104, token]})
    assert answer.status == 400
    assert answer.error()["param"] in ("tokens", "tokens[1]")


@pytest.mark.parametrize("token", ["-1", "+1", "9" * 11, "9" * 5000])
def test_a_bias_on_what_is_no_token(server: Server, token: str) -> None:
    refused(server.complete("hi", logit_bias={token: 1}), 400, "invalid_type", "logit_bias")


# --- schemas --------------------------------------------------------------------------------------


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


SCHEMAS: dict[str, dict[str, Any]] = {
    "deep": deep(schemas.MAX_DEPTH + 1),
    "far too deep": deep(900),
    "large": {"description": "x" * schemas.MAX_BYTES},
    "wide": {"anyOf": [{} for _ in range(schemas.MAX_NODES)]},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_strict_schemas_that_are_too_large(server: Server, name: str) -> None:
    schema = SCHEMAS[name]
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    answer = server.complete("hi", response_format=form)
    refused(answer, 400, "invalid_value", "response_format.json_schema.schema")
    function = {"name": "f", "parameters": {"type": "object", **schema}, "strict": True}
    answer = server.complete("hi", tools=[{"type": "function", "function": function}])
    refused(answer, 400, "invalid_value", "tools[0].function.parameters")


@pytest.mark.parametrize("name", SCHEMAS)
def test_other_schemas_that_are_too_large_are_left_out(server: Server, name: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMAS[name]}}
    answer = server.complete("hi", response_format=form)
    assert answer.status == 200
    assert answer.json()["sheily"]["relaxed"] == ["response_format.json_schema.schema"]


def test_what_was_left_out_of_schemas_is_named_up_to_a_number(server: Server) -> None:
    schema = {"properties": {f"{i}" * 30: {"format": "odd"} for i in range(1000, 1400)}}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    told = server.complete("hi", response_format=form).json()["sheily"]["relaxed"]
    assert (len(told), told[-1]) == (schemas.MOST_NAMED + 1, "300 more")
    assert max(map(len, told)) < 200


def test_a_function_that_does_not_bind_may_not_be_too_deep_either(server: Server) -> None:
    """It is written into the prompt."""
    for depth in (nesting.MAX_NESTING + 1, 900):
        function = {"name": "f", "parameters": deep(depth)}
        fields = {"tools": [{"type": "function", "function": function}]}
        for path in (COMPLETIONS, "/tokenize"):
            answer = server.ask(
                "POST", path, {"messages": BODIES[COMPLETIONS]["messages"], **fields}
            )
            refused(answer, 400, "invalid_value", "tools[0].function.parameters")


# --- JSON -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_without_an_end(server: Server, number: str) -> None:
    body = json.dumps(completion("hi", temperature="?")).replace('"?"', number)
    refused(server.ask("POST", COMPLETIONS, body.encode()), 400, "invalid_json", "temperature")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", "hot"),
        ("temperature", True),
        ("max_tokens", 1.5),
        ("stream", 1),
        ("stop", 5),
        ("logit_bias", 5),
        ("seed", "1"),
        ("messages", {}),
        ("tools", "f"),
        ("n", None),
    ],
)
def test_wrong_types(server: Server, field: str, value: Any) -> None:
    answer = server.ask("POST", COMPLETIONS, completion("hi") | {field: value})
    if value is None:
        assert answer.status == 200  # as left out
    else:
        refused(answer, 400, "invalid_type", field)


NO_JSON = {
    "deep": b"[" * 100_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"messages":' * 100_000,
    "lone surrogate": b'{"message": "\\ud800"}',
    "surrogates the wrong way round": b'{"message": "\\udc00\\ud800"}',
    "UTF-16": json.dumps({"message": "hi"}).encode("utf-16"),
    "UTF-32": json.dumps({"message": "hi"}).encode("utf-32-le"),
    "invalid UTF-8": b'{"message": "\xff"}',
    "a surrogate in UTF-8": b'{"message": "\xed\xa0\x80"}',
    "an overlong slash": b'{"message": "\xc0\xaf"}',
    "byte order mark": b'\xef\xbb\xbf{"message": "hi"}',
    "two values": b'{"message": "hi"}{"message": "hi"}',
    "nothing": b"",
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", NO_JSON)
def test_what_is_no_json(server: Server, path: str, name: str) -> None:
    refused(server.ask("POST", path, NO_JSON[name]), 400, "invalid_json")


def test_arguments_of_a_call_that_are_too_deep(server: Server) -> None:
    for depth in (nesting.MAX_NESTING + 1, 500, 900, 100_000):
        arguments = '{"a":' * depth + "1" + "}" * depth
        call = {"id": "1", "function": {"name": "f", "arguments": arguments}}
        messages = [{"role": "assistant", "tool_calls": [call]}]
        answer = server.ask("POST", COMPLETIONS, {"messages": messages})
        refused(answer, 400, "invalid_value", "messages[0].tool_calls[0].function.arguments")


# --- templates ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    [
        "{{ cycler.__init__.__globals__.os.popen('touch /tmp/owned').read() }}",
        "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
        "{% for i in range(10**9) %}{{ i }}{% endfor %}<|im_start|><|im_end|>",
        "{{ '<|im_start|>' * 10**10 }}",
    ],
)
def test_a_hostile_template_is_compared_and_never_run(template: str) -> None:
    with pytest.raises(UnknownPromptFormatError):
        recognize({"tokenizer.chat_template": template})


# --- names, types of bodies, pages ----------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ["/health", "/livez", "/v1/models", "/chat", "/nowhere"])
def test_a_foreign_host_on_every_method(server: Server, method: str, path: str) -> None:
    for host in ("evil.example", f"evil.example:{server.port}", "localhost.evil.example", ""):
        answer = server.ask(method, path, headers={"Host": host})
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers
        if method != "HEAD":
            refused(answer, 403, "host_not_allowed")


def test_a_request_without_a_host(server: Server) -> None:
    for version in (b"1.0", b"1.1"):
        answer = server.raw(b"GET /health HTTP/%s\r\nConnection: close\r\n\r\n" % version)
        refused(answer, 403, "host_not_allowed")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.1.2.3:8005", "[::1]"]
)
def test_loopback_hosts(server: Server, host: str) -> None:
    assert server.get("/health", Host=host).status == 200


def test_allowed_hosts(serve: Serve) -> None:
    server = serve(allowed_hosts=("llm.example.org",))
    assert server.get("/livez", Host="llm.example.org:443").status == 200
    assert server.get("/livez", Host="localhost").status == 200
    assert server.get("/livez", Host="example.org").status == 403


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "",
    ],
)
def test_a_body_that_is_not_said_to_be_json(server: Server, path: str, content_type: str) -> None:
    answer = server.ask("POST", path, BODIES[path], {"Content-Type": content_type})
    refused(answer, 415, "unsupported_media_type")


def test_a_body_of_no_type(server: Server) -> None:
    head = HEAD.replace(b"Content-Type: application/json\r\n", b"")
    refused(server.raw(head + b"Content-Length: 2\r\n\r\n{}"), 415, "unsupported_media_type")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_a_compressed_body(server: Server, encoding: str) -> None:
    answer = server.ask("POST", "/chat", b"x" * 100, {"Content-Encoding": encoding})
    refused(answer, 415, "unsupported_media_type")


FOREIGN_ORIGINS = ["https://evil.example", "null", "*", "file://", "http://localhost.evil.example"]


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_foreign_page(server: Server, method: str, origin: str) -> None:
    for path in ("/health", "/chat", "/nowhere"):
        answer = server.ask(method, path, b"{}", {"Origin": origin})
        assert "access-control-allow-origin" not in answer.headers
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["vary"] == "Origin"


def test_configured_pages_with_keys(serve: Serve) -> None:
    page = "https://dash.example.org"
    server = serve(cors_origins=(page,), api_key=("k",))
    asked = {"Origin": page, "Access-Control-Request-Method": "POST"}
    assert server.ask("OPTIONS", "/chat", headers=asked).status == 204
    for authorization, status in (("Bearer k", 200), ("Bearer x", 401)):
        answer = server.get("/v1/models", Origin=page, Authorization=authorization)
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == page
        assert "access-control-allow-credentials" not in answer.headers
    for origin in (*FOREIGN_ORIGINS, "http://localhost:3000"):
        answer = server.get("/v1/models", Origin=origin, Authorization="Bearer k")
        assert "access-control-allow-origin" not in answer.headers


# --- keys -----------------------------------------------------------------------------------------

EVERYTHING = [
    ("GET", "/v1/models"),
    ("GET", "/models/fake-model"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
    ("DELETE", "/chat"),
    *(("POST", path) for path in BODIES),
]


WRONG_KEYS: list[dict[str, str]] = [
    {},
    *(
        {"Authorization": wrong}
        for wrong in ("Bearer", "Bearer wrong", "Basic first-secret", "Bearer clé", "Bearer \xff")
    ),
    *({"X-Api-Key": wrong} for wrong in ("", "wrong", "Bearer first-secret", "clé", "\xff")),
    {"X-Api-Key": "wrong", "Authorization": "Bearer first-secret"},
]
RIGHT_KEYS = [
    {"Authorization": "Bearer first-secret"},
    {"Authorization": "Bearer second-secret"},
    {"X-Api-Key": "first-secret"},
    {"x-api-key": " second-secret "},
    {"X-Api-Key": "first-secret", "Authorization": "Bearer wrong"},
    {"X-Api-Key": "", "Authorization": "Bearer first-secret"},
]


def test_keys(serve: Serve, caplog: pytest.LogCaptureFixture, tmp_path: Any) -> None:
    caplog.set_level("DEBUG")
    file = KeyFile(tmp_path / "keys", ("second-secret",), open_to_others=False)
    server = serve(api_key=("first-secret",), api_key_file=file)
    server.wait_for("ready")  # by /health, without a key
    assert server.get("/livez").status == 200
    assert server.ask("HEAD", "/health").status == 200
    assert server.ask("OPTIONS", "/chat").status == 204
    for method, path in EVERYTHING:
        for headers in WRONG_KEYS:
            answer = server.ask(method, path, BODIES.get(path), headers)
            refused(answer, 401, "invalid_api_key")
            assert answer.headers["www-authenticate"] == "Bearer"
        for headers in RIGHT_KEYS:
            answer = server.ask(method, path, BODIES.get(path), headers)
            assert answer.status in (200, 404, 405)
            assert b"-secret" not in answer.body
    assert b"-secret" not in server.get("/health").body
    assert "-secret" not in repr(server.config)
    assert "-secret" not in caplog.text
    assert not any("-secret" in line for line in server.engine_lines(""))


def test_a_key_that_nobody_asked_for(server: Server) -> None:
    for key in ("Bearer none", "Bearer clé", "x"):
        assert server.get("/v1/models", Authorization=key).status == 200
        assert server.ask("GET", "/v1/models", headers={"X-Api-Key": key}).status == 200


# --- broken HTTP ----------------------------------------------------------------------------------

POST = b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BROKEN: dict[str, tuple[int, bytes]] = {
    "two lengths": (400, POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x"),
    "two equal lengths": (400, POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
    "negative length": (400, POST + b"Content-Length: -1\r\n\r\n"),
    "signed length": (400, POST + b"Content-Length: +2\r\n\r\n{}"),
    "length of digits": (400, POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"),
    "no number": (400, POST + b"Content-Length: two\r\n\r\n{}"),
    "length and chunks": (
        400,
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ),
    "chunks in HTTP/1.0": (
        400,
        POST.replace(b"1.1", b"1.0")
        + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ),
    "another encoding": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "an unknown encoding": (501, POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "a hidden encoding": (400, POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    "bad chunk size": (400, POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    "negative chunk size": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n"),
    "unterminated chunk": (400, POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n"),
    "blank before a colon": (400, b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n"),
    "folded at the start": (400, b"GET / HTTP/1.1\r\n folded\r\nHost: localhost\r\n\r\n"),
    "bare line feed": (400, b"GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n"),
    "NUL in a header": (400, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \0\r\n\r\n"),
    "no method": (400, b"/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "small letters": (400, b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "broken address": (400, b"GET http://[::1/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "a head of 20 KiB": (
        431,
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_480 + b"\r\n\r\n",
    ),
    "a head of 20 KiB without an end": (431, b"GET /health HTTP/1.1\r\nX: " + b"x" * 20_480),
    "an address of 20 KiB": (431, b"GET /" + b"x" * 20_480 + b" HTTP/1.1\r\n\r\n"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_http(server: Server, name: str) -> None:
    """Each answer is JSON and the last of its connection: nothing behind it is taken for a
    request."""
    status, data = BROKEN[name]
    smuggled = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(data + (b"" if name.endswith("end") else smuggled))
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = response.read()
        assert response.status == status, body
        assert response.getheader("Content-Type") == "application/json"
        error = json.loads(body)["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", None)
        assert error["code"] in ("invalid_http", "headers_too_large", "not_implemented")
        with suppress(ConnectionResetError):
            assert connection.recv(100) == b""


def test_a_head_just_small_enough(server: Server) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: %s\r\n\r\n"
    filling = b"x" * (MAX_HEAD_BYTES - len(head) - 1)
    assert server.raw(head % filling).status == 200


def test_a_get_that_expects_to_go_on_is_answered(server: Server) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n"
    assert server.raw(head).status == 200


def test_a_post_that_expects_to_go_on(server: Server) -> None:
    body = b'{"message": "hi"}'
    with connect(server) as connection:
        length = b"Content-Length: %d\r\n" % len(body)
        connection.sendall(HEAD + length + b"Expect: 100-continue\r\n\r\n")
        assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")


# --- routes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/v1", "/v2/models", "/../etc/passwd", "/%2e%2e/health", "/health%00", "/slots"],
)
def test_unknown_routes(server: Server, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        refused(server.ask(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/health"), ("GET", "/chat"), ("PUT", COMPLETIONS), ("TRACE", "/v1/models")],
)
def test_wrong_methods(server: Server, method: str, path: str) -> None:
    assert "allow" in server.ask(method, path).headers
    refused(server.ask(method, path), 405, "method_not_allowed")


# --- slow senders, slow readers, crowds -----------------------------------------------------------


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)


def ended(connection: socket.socket) -> bool:
    """Whether the server has closed, seen without waiting."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ",
        POST + b"Content-Length: 100000\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n",
    ],
    ids=["head", "body", "chunk"],
)
def test_a_slow_sender_is_closed_however_often_it_sends(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    monkeypatch.setattr(listener_module, "REQUEST_S", 1.0)
    server = serve()
    server.wait_for("ready")
    began = time.monotonic()
    with connect(server) as connection:
        connection.sendall(beginning)
        while not ended(connection):
            assert time.monotonic() - began < WAIT
            time.sleep(0.02)
            with suppress(BlockingIOError, ConnectionError):
                connection.sendall(b"x")
        assert time.monotonic() - began >= 1.0
    assert server.complete("hi").status == 200


def test_many_slow_senders_keep_no_thread(serve: Serve) -> None:
    server = serve(parallel=1, queue=0)
    server.wait_for("ready")
    with ExitStack() as stack:
        for _ in range(2 * (1 + http_server.SPARE_THREADS)):
            stack.enter_context(connect(server)).sendall(POST + b"Content-Length: 100\r\n\r\n{")
        assert server.get("/health").status == 200
        assert server.complete("hi").status == 200


def test_a_request_may_wait_behind_a_long_one(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a client has begun to send while its answer is being made has its time later."""
    monkeypatch.setattr(listener_module, "REQUEST_S", 0.5)
    server = serve()
    server.wait_for("ready")
    body = json.dumps(completion("slow 60 0.05")).encode()
    asked = POST.replace(b"/chat", COMPLETIONS.encode()) + b"Content-Length: %d\r\n\r\n" % len(body)
    with connect(server) as connection:
        connection.sendall(asked + body + b"GET /livez HT")
        first = read_until(connection, b"sheily")
        assert first.startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"TP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1 200 " in read_until(connection, b'{"status":"ok"}')


def test_an_idle_connection_is_closed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "IDLE_S", 0.5)
    server = serve()
    with connect(server) as asked_nothing, connect(server) as asked_once:
        asked_once.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read_until(asked_once, b"ok")
        assert not ended(asked_once)
        until(lambda: ended(asked_nothing) and ended(asked_once))


def test_a_slow_reader_holds_neither_slot_nor_thread(serve: Serve) -> None:
    server = serve(parallel=1, queue=0, context_size=100_000, max_tokens=50_000)
    server.wait_for("ready")
    with server.opened("slow 20000 0", stream=True, max_tokens=20_000) as connection:
        server.wait_for_engine("submit 1")
        until(lambda: server.health()["active_requests"] == 0)
        dispatcher = server._server.task_dispatcher
        until(lambda: dispatcher.active_count == 0)
        assert server.complete("next").status == 200
        assert b"[DONE]" in read_until(connection, b"[DONE]")


def test_a_reader_that_reads_nothing_is_closed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once more waits for it than the server keeps, its thread waits, but not for ever."""
    monkeypatch.setattr(listener_module, "IDLE_S", 1.0)
    server = serve(parallel=1, queue=0, context_size=1_000_000, max_tokens=500_000)
    server._server.adj.outbuf_high_watermark = 100_000
    server.wait_for("ready")
    with server.opened("slow 1000000 0", stream=True):
        server.wait_for_engine("cancel 1")
        until(lambda: server._server.task_dispatcher.active_count == 0)
        assert server.complete("next").status == 200


def test_health_answers_at_once_while_everything_is_taken(serve: Serve) -> None:
    server = serve(parallel=2, queue=4)
    server.wait_for("ready")
    with ExitStack() as stack:
        for i in range(6):
            stack.enter_context(server.opened("hang", stream=i % 2 == 0))
        server.wait_for_engine("submit", 6)
        for _ in range(20):
            assert server.get("/health").status == 200
            assert server.complete("one more").status == 429
        assert server.health()["active_requests"] == 6


def test_where_every_connection_is_taken_idle_ones_make_room(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "CONNECTIONS", 10)
    monkeypatch.setattr(listener_module, "CROWDED_S", 0.5)
    server = serve()
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(server))
        assert server.get("/livez").status == 200


def test_a_server_that_stood_still_blames_nobody() -> None:
    """As when the machine slept: every connection looks as if nothing had come for long."""
    closed: list[int] = []
    channel = SimpleNamespace(
        last_activity=0.0,
        requests=[],
        request=None,
        total_outbufs_len=0,
        will_close=False,
        close_soon=lambda: closed.append(1),
    )
    listener = SimpleNamespace(active_channels={1: channel}, in_connection_overflow=False)
    for now in (0.0, 1.0, 1000.0, 1001.0, -500.0, -499.0):
        listener_module.close_overdue(listener, now)
    assert not closed
    assert channel.last_activity == -500.0
    for second in range(int(listener_module.IDLE_S) + 2):
        listener_module.close_overdue(listener, -498.0 + second)
    assert closed
