"""What responses have beyond OpenAI's, with real models: progress, and answers that go on."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.asking import post, post_raw
from tests.support.real_server import RealServer

PATH = "/v1/responses"


def respond(server: RealServer, **fields: Any) -> dict[str, Any]:
    answer = post(server, PATH, {"store": False, **fields})
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.body
    return body


def text_of(body: dict[str, Any]) -> str:
    return "".join(part["text"] for item in body["output"] for part in item["content"])


def test_an_answer_goes_on_with_its_own_beginning(smollm2_server: RealServer) -> None:
    question = {"role": "user", "content": "Count from one to twenty in words."}
    asked = {"temperature": 0, "max_output_tokens": 12}
    whole = text_of(respond(smollm2_server, input=[question], **asked | {"max_output_tokens": 24}))
    first = text_of(respond(smollm2_server, input=[question], **asked))
    begun = [question, {"role": "assistant", "content": first}]
    rest = text_of(respond(smollm2_server, input=begun, continue_final_message=True, **asked))
    assert first + rest == whole
    # Unlike the chat routes, only where that is asked for.
    assert text_of(respond(smollm2_server, input=begun, **asked)) != rest


def test_only_an_assistant_s_message_can_go_on(smollm2_server: RealServer) -> None:
    asked = {"input": "Hello", "continue_final_message": True}
    answer = post(smollm2_server, PATH, asked)
    assert answer.status == 400
    assert answer.error["param"] == "continue_final_message"


def test_the_progress_of_a_long_prompt(smollm2_server: RealServer) -> None:
    # More than one step takes. No other test of this server asks the same, or it would be cached.
    asked = {"input": "two " * 1600, "max_output_tokens": 3, "stream": True, "store": False}

    def events(**fields: Any) -> list[dict[str, Any]]:
        status, data = post_raw(smollm2_server, PATH, json.dumps(asked | fields).encode())
        assert status == 200
        lines = data.decode().split("\n")
        return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]

    told = [each for each in events(return_progress=True) if "queue_place" in each]
    assert {each["type"] for each in told} == {"response.prompt_progress"}
    computed = [each["processed"] for each in told if each["queue_place"] is None]
    assert len(computed) > 1
    assert computed == sorted(computed)
    assert all(each["processed"] <= each["total"] for each in told)
    assert not any("queue_place" in each for each in events())


def test_progress_is_for_streams(llama3_server: RealServer) -> None:
    body = respond(llama3_server, input="one", max_output_tokens=1, return_progress=True)
    assert body["sheily"]["ignored"] == ["return_progress"]
