"""Callers with keys of their own: what one does changes nothing for another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.e2e.asking import WAIT
from tests.support import models
from tests.support.real_server import RealServer

KEYS = ("first-key", "second-key")
ASKED = [{"role": "user", "content": "Say it."}]


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer(models.smollm2(), context_size=1024, api_key=",".join(KEYS)) as server:
        server.wait_for_state("ready")
        yield server


def ask(server: RealServer, key: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    with closing(server.connection(WAIT)) as connection:
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        assert response.status == 200, answer
        return answer


def test_an_answer_s_ids_are_of_use_to_its_caller_alone(server: RealServer) -> None:
    """Of one letter again and again the model made more tokens than the text has."""
    [letter] = ask(server, KEYS[0], "/tokenize", {"text": "a"})["tokens"]
    fields = {"max_tokens": 6, "logit_bias": {str(letter): 100}, "temperature": 0}
    answer = ask(server, KEYS[0], "/v1/chat/completions", {"messages": ASKED} | fields)
    text = answer["choices"][0]["message"]["content"]
    assert text == "aaaaaa"
    fewer = 6 - ask(server, KEYS[0], "/tokenize", {"text": text})["count"]
    assert fewer > 0
    turns = [*ASKED, {"role": "assistant", "content": text}, {"role": "user", "content": "Again."}]
    n_read = ask(server, KEYS[1], "/tokenize", {"messages": turns})["count"]

    def n_prompt(key: str, messages: list[dict[str, str]]) -> int:
        body = {"messages": messages, "max_tokens": 1}
        return int(ask(server, key, "/v1/chat/completions", body)["usage"]["prompt_tokens"])

    assert n_prompt(KEYS[1], turns) == n_read
    assert n_prompt(KEYS[0], turns) == n_read + fewer
    other = [{"role": "user", "content": "Say it!"}, *turns[1:]]
    n_other = ask(server, KEYS[0], "/tokenize", {"messages": other})["count"]
    assert n_prompt(KEYS[0], other) == n_other
