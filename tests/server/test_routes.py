"""Every route's status, headers and body, for good and for bad requests."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from sheily_server.backend.sampling import OPENAI
from tests.server.conftest import Serve
from tests.support.models import EMPTY_GGUF
from tests.support.serving import Server, completion
from tests.support.waiting import WAIT, until

pytestmark = pytest.mark.http

CHAT_ROUTES = ["/v1/chat/completions", "/chat"]
OPENAI_SAMPLING = {
    **OPENAI,
    "sources": dict.fromkeys(OPENAI, "openai"),
    "unused": [],
}


def test_health(server: Server) -> None:
    until(lambda: server.health()["kv_cells_used"] is not None)
    answer = server.get("/health")
    assert answer.status == 200
    health = answer.json()
    assert 0 <= health.pop("last_step_age_s") < 60
    assert health == {
        "status": "ok",
        "state": "ready",
        "model": "fake-model",
        "model_path": str(server.config.model_path),
        "context_size": 256,
        "reason": None,
        "progress": None,
        "parallel": 16,
        "queue": 64,
        "active_requests": 0,
        "queued": 0,
        "answers_running": 0,
        "answers_queued": 0,
        "engine_restarts": 0,
        "kv_cells": 0,
        "kv_cells_used": 5,
        "kv_cells_cached": 7,
        "kernel": None,
        "store": "memory",
        "cache_disk": None,
        "tokens_per_second": 0.0,
        "sampling": OPENAI_SAMPLING,
    }


def test_models(server: Server) -> None:
    answer = server.get("/v1/models")
    assert answer.status == 200
    body = answer.json()
    assert body["object"] == "list"
    (model,) = body["data"]
    assert isinstance(model.pop("created"), int)
    assert model == {
        "id": "fake-model",
        "object": "model",
        "owned_by": "local",
        "context_size": 256,
        "quantization": None,
        "parameters": 0,
        "bytes": len(EMPTY_GGUF),
        "sampling": OPENAI_SAMPLING,
    }


def test_facts_of_the_model_s_file(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "some.gguf"
    key = b"general.file_type"
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    path.write_bytes(head + struct.pack("<Q", len(key)) + key + struct.pack("<II", 4, 7))
    server = serve(model_path=path)
    server.wait_for("ready")
    (model,) = server.get("/v1/models").json()["data"]
    assert (model["id"], model["quantization"]) == ("some", "Q8_0")
    assert model["bytes"] == path.stat().st_size


@pytest.mark.parametrize("path", ["/health", "/livez", "/v1/models"])
def test_head_is_get_without_a_body(server: Server, path: str) -> None:
    answer = server.ask("HEAD", path)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "application/json"


def test_every_answer_has_an_id_of_its_own(server: Server) -> None:
    answers = [
        server.get("/health"),
        server.get("/nowhere"),
        server.complete("hi"),
        server.complete("hi", stream=True),
        server.complete("hi", temperature=9),
    ]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == len(answers)
    assert all(id.startswith("req_") for id in ids)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "path",
    ["/v1", "/v1/nothing", "/chat/x", "/v1//models", "/v1/models/x/y", "/%00", "/h%C3%A9"],
)
def test_unknown_paths(server: Server, method: str, path: str) -> None:
    answer = server.ask(method, path)
    assert answer.status == 404
    error = answer.error()
    assert (error["type"], error["code"]) == ("invalid_request_error", "not_found")
    assert "location" not in answer.headers


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_one_model(server: Server, prefix: str) -> None:
    (listed,) = server.get(f"{prefix}/models").json()["data"]
    for name in ("fake-model", "fake-model.gguf"):
        answer = server.get(f"{prefix}/models/{name}")
        assert answer.status == 200
        assert answer.json() == listed
    answer = server.get(f"{prefix}/models/gpt-4o")
    assert answer.status == 404
    assert (answer.error()["code"], answer.error()["param"]) == ("model_not_found", "model")


def test_the_routes_without_v1_are_the_same(server: Server) -> None:
    for path, body in (
        ("/chat/completions", completion("one two")),
        ("/tokenize", {"text": "hi"}),
        ("/detokenize", {"tokens": [104]}),
    ):
        answers = [server.ask("POST", prefix + path, body) for prefix in ("", "/v1")]
        assert [answer.status for answer in answers] == [200, 200]
        plain, under_v1 = (answer.json() for answer in answers)
        for fields in (plain, under_v1):
            fields.pop("id", None)
            fields.pop("created", None)
        assert plain == under_v1
    assert b"[DONE]" in server.ask("POST", "/chat/completions", completion("x", stream=True)).body


@pytest.mark.parametrize("path", ["/health/", "/v1/models/", "/models/"])
def test_a_slash_at_the_end_is_no_matter(server: Server, path: str) -> None:
    assert server.get(path).status == 200


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/health", "GET, HEAD"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("GET", "/v1/chat/completions", "POST"),
        ("GET", "/chat", "POST"),
        ("GET", "/v1/tokenize", "POST"),
        ("PUT", "/detokenize", "POST"),
        ("DELETE", "/v1/models/fake-model", "GET, HEAD"),
        ("HEAD", "/chat", "POST"),
        ("PATCH", "/chat", "POST"),
    ],
)
def test_methods_a_path_does_not_take(server: Server, method: str, path: str, allow: str) -> None:
    answer = server.ask(method, path)
    assert answer.status == 405
    assert answer.headers["allow"] == allow
    if method != "HEAD":
        error = answer.error()
        assert error["code"] == "method_not_allowed"
        assert method in error["message"]
        assert path in error["message"]


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:80"]
)
@pytest.mark.parametrize("path", CHAT_ROUTES)
def test_a_preflight_from_a_loopback_page(server: Server, origin: str, path: str) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-stainless-os",
    }
    answer = server.ask("OPTIONS", path, headers=asked)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == origin
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["vary"] == "Origin"


def test_a_preflight_from_a_foreign_page(server: Server) -> None:
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    answer = server.ask("OPTIONS", "/chat", headers=asked)
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "Origin"


def test_answers_and_errors_carry_the_cors_headers(server: Server) -> None:
    origin = {"Origin": "http://localhost:3000"}
    answers = [
        server.get("/health", **origin),
        server.get("/nowhere", **origin),
        server.ask("POST", "/chat", b"{", origin),
        server.ask("POST", "/v1/chat/completions", completion("hi"), origin),
        server.ask("POST", "/v1/chat/completions", completion("hi", stream=True), origin),
    ]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in server.get("/health", Origin="http://x.org").headers


BAD_BODIES = {
    "empty": b"",
    "broken": b'{"messages": [',
    "surrogate": b'{"messages": [{"role": "user", "content": "\\ud800 "}]}',
    "bad UTF-8": b'{"messages": [{"role": "user", "content": "\xff"}]}',
    "UTF-16": json.dumps(completion("hi")).encode("utf-16"),
    "deep": b"[" * 100_000,
    "deep object": b'{"messages":' * 100_000,
    "array": b"[]",
    "text": b'"hi"',
    "huge number": b'{"seed": ' + b"9" * 10_000 + b"}",
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("path", CHAT_ROUTES)
@pytest.mark.parametrize("name", BAD_BODIES)
def test_bodies_that_are_no_request(server: Server, path: str, name: str) -> None:
    answer = server.ask("POST", path, BAD_BODIES[name])
    assert answer.status == 400
    error = answer.error()
    assert error["type"] == "invalid_request_error"
    assert error["param"] is None
    assert error["code"] in ("invalid_json", "invalid_type")


@pytest.mark.parametrize("path", CHAT_ROUTES)
@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "bob", "content": "x"}]}, "messages[0].role", "invalid_value"),
        (completion("x", temperature="hot"), "temperature", "invalid_type"),
        (completion("x", temperature=3), "temperature", "invalid_value"),
        (completion("x", max_tokens=0), "max_tokens", "invalid_value"),
        (completion("x", top_k=-2), "top_k", "invalid_value"),
        (completion("x", logit_bias={"9" * 5000: 1}), "logit_bias", "invalid_type"),
        (completion("x", audio={}), "audio", "unsupported_parameter"),
        (completion("x", audio={}, mood="good"), "audio", "unsupported_parameter"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].type",
            "invalid_value",
        ),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content", "invalid_value"),
    ],
)
def test_bad_fields(
    server: Server, path: str, fields: dict[str, Any], param: str, code: str
) -> None:
    answer = server.ask("POST", path, fields)
    assert answer.status == 400
    error = answer.error()
    assert (error["param"], error["code"]) == (param, code)


def test_stream_options_need_a_stream(server: Server) -> None:
    answer = server.complete("x", stream_options={"include_usage": True})
    assert (answer.status, answer.error()["param"]) == (400, "stream_options")


def test_another_model_is_not_found(server: Server) -> None:
    for answer in (server.complete("x", model="gpt-4o"), server.simple(message="x", model="gpt")):
        assert answer.status == 404
        assert answer.error()["code"] == "model_not_found"
        assert answer.error()["param"] == "model"
    assert server.complete("x", model="fake-model").status == 200


def test_further_names_of_the_model(serve: Serve) -> None:
    server = serve(model_aliases=("gpt-4o", "llama"))
    server.wait_for("ready")
    for name in ("gpt-4o", "llama", "fake-model"):
        answer = server.complete("x", model=name)
        assert (answer.status, answer.json()["model"]) == (200, "fake-model")
        assert server.get(f"/v1/models/{name}").status == 200
    error = server.complete("x", model="gpt-5").error()
    assert error["code"] == "model_not_found"
    assert "LLM_MODEL_ALIASES" in error["message"]


def test_any_name_for_the_model(serve: Serve) -> None:
    server = serve(model_aliases=("*",))
    server.wait_for("ready")
    assert server.complete("x", model="whatever/it:is").status == 200


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/assistants", "/nowhere"])
def test_a_route_that_is_not_here_names_those_that_are(server: Server, path: str) -> None:
    for answer in (server.get(path), server.ask("POST", path, {})):
        assert answer.status == 404
        message = answer.error()["message"]
        assert message.startswith(f"There is no {path} here; there are GET /health, ")
        assert "POST /v1/chat/completions" in message


def test_a_bad_stream_request_is_no_stream(server: Server) -> None:
    assert server.complete("x", stream=True, temperature=3).status == 400
    assert server.complete("too-long 300 1", stream=True).error()["param"] == "messages"


def test_the_server_takes_requests_after_all_that(server: Server) -> None:
    """Bad input changes nothing else."""
    assert server.complete("still here").status == 200
    health = server.health()
    assert (health["active_requests"], health["engine_restarts"]) == (0, 0)


def test_a_body_without_a_length_is_empty(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as connection:
        connection.sendall(
            b"POST /chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_a_chunked_body_is_read(server: Server) -> None:
    body = json.dumps({"message": "echo me"}).encode()
    parts = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:5], body[5:]))
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as connection:
        connection.sendall(
            b"POST /chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            + parts
            + b"0\r\n\r\n"
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"echo me" in answer


def test_a_body_that_is_too_large(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as connection:
        head = f"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2**40}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_connections_are_kept_alive(server: Server) -> None:
    """Through errors too; only behind a stream waitress closes."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
    try:
        connection.connect()
        first = connection.sock
        for temperature, status in ((0, 200), (9, 400), (0, 200)):
            body = json.dumps(completion("again", temperature=temperature))
            kind = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", body, kind)
            response = connection.getresponse()
            assert response.status == status
            assert response.read()
            assert connection.sock is first
    finally:
        connection.close()
