"""What a request that says nothing of sampling is answered with, in every dialect, and who says
so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Serve, make
from tests.support.gguf_files import write_facts
from tests.support.serving import Server

pytestmark = pytest.mark.http

FACTS: dict[str, str | float] = {
    "general.name": "Llama 3.2 3B Instruct",
    "general.sampling.top_k": 40,
    "general.sampling.mirostat": 2,
}
SAID = {"temperature": 0.6, "top_p": 0.9, "top_k": 40, "min_p": 0.0, "repeat_penalty": 1.0}
SOURCES = {
    "temperature": "makers",
    "top_p": "makers",
    "top_k": "file",
    "min_p": "openai",
    "repeat_penalty": "openai",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sampling")
    server = make(folder, model_path=write_facts(folder / "llama.gguf", FACTS))
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.stop()


def of_chat(server: Server, **fields: Any) -> str:
    text: str = server.complete("show", **fields).json()["choices"][0]["message"]["content"]
    return text


def of_stream(server: Server, **fields: Any) -> str:
    events = server.complete("show", stream=True, **fields).events()
    return "".join(
        event["choices"][0]["delta"].get("content") or ""
        for event in events
        if event != "[DONE]" and event["choices"]
    )


def of_script(server: Server, **fields: Any) -> str:
    text: str = server.simple(message="show", **fields).json()["response"]
    return text


def of_completion(server: Server, **fields: Any) -> str:
    answer = server.ask("POST", "/v1/completions", {"prompt": "show", "max_tokens": 50, **fields})
    text: str = answer.json()["choices"][0]["text"]
    return text


def of_message(server: Server, **fields: Any) -> str:
    text: str = server.message("show", **fields).json()["content"][0]["text"]
    return text


def of_response(server: Server, **fields: Any) -> str:
    body = server.ask("POST", "/v1/responses", {"input": "show", **fields}).json()
    text: str = body["output"][0]["content"][0]["text"]
    used = json.loads(text)["sampling"]
    assert (body["temperature"], body["top_p"]) == (used["temperature"], used["top_p"])
    return text


DIALECTS = [of_chat, of_stream, of_script, of_completion, of_message, of_response]
Dialect = Callable[..., str]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_not_said_is_as_the_model_wants_it(server: Server, dialect: Dialect) -> None:
    assert SAID.items() <= json.loads(dialect(server))["sampling"].items()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_said_is_used(server: Server, dialect: Dialect) -> None:
    used = json.loads(dialect(server, temperature=1, top_p=1))["sampling"]
    assert (used["temperature"], used["top_p"], used["top_k"]) == (1, 1, 40)
    used = json.loads(dialect(server, temperature=None, top_p=0.5))["sampling"]
    assert (used["temperature"], used["top_p"]) == (0.6, 0.5)


def test_health_and_the_model_say_the_values_and_their_sources(server: Server) -> None:
    expected = {**SAID, "sources": SOURCES, "unused": ["general.sampling.mirostat"]}
    assert server.health()["sampling"] == expected
    assert server.get("/v1/models").json()["data"][0]["sampling"] == expected
    assert server.get("/v1/models/llama").json()["sampling"] == expected


def test_settings_win(serve: Serve, tmp_path: Path) -> None:
    path = write_facts(tmp_path / "llama.gguf", FACTS)
    server = serve(model_path=path, temperature=0.0, min_p=0.125)
    found = server.wait_for("ready")["sampling"]
    assert (found["temperature"], found["min_p"], found["top_p"]) == (0.0, 0.125, 0.9)
    assert (found["sources"]["temperature"], found["sources"]["min_p"]) == ("setting", "setting")
    used = json.loads(of_response(server))["sampling"]
    assert (used["temperature"], used["min_p"], used["top_p"]) == (0.0, 0.125, 0.9)


def test_without_a_file_nothing_is_known(serve: Serve) -> None:
    server = serve(missing=True)
    assert server.wait_for("failed")["sampling"] is None
    assert server.get("/v1/models").json()["data"][0]["sampling"] is None
