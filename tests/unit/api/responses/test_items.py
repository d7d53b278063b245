"""Items as messages, as they are listed again, and as they are kept."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openai.types.responses import ResponseItemList
from openai.types.responses.response_item import ResponseItem
from pydantic import TypeAdapter

from sheily_server.api.responses import answer, items
from sheily_server.api.responses import protocol as wire
from sheily_server.errors import InvalidRequestError
from sheily_server.templates.base import Message, ToolCall

KEY = "0" * 32
ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)


def made(*raw: dict[str, Any]) -> list[wire.Item]:
    body: dict[str, Any] = {"input": [dict(each) for each in raw]}
    items.prepare(body)
    return msgspec.convert(body["input"], list[wire.Item])


def call(name: str, id: str, arguments: str = "{}") -> dict[str, Any]:
    return {"type": "function_call", "name": name, "call_id": id, "arguments": arguments}


def said(text: str, role: str = "assistant") -> dict[str, Any]:
    return {"role": role, "content": text}


def messages(*raw: dict[str, Any]) -> list[Message]:
    return [placed.message for placed in items.messages_of(made(*raw))]


F, G = ToolCall("f", {}, id="1"), ToolCall("g", {}, id="2")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ([said("a"), said("b")], [Message("assistant", "a"), Message("assistant", "b")]),
        ([call("f", "1"), call("g", "2")], [Message("assistant", "", tool_calls=(F, G))]),
        ([said("a"), call("f", "1")], [Message("assistant", "a", tool_calls=(F,))]),
        (
            [said("a"), call("f", "1"), said("b"), call("g", "2")],
            [Message("assistant", "ab", tool_calls=(F, G))],
        ),
        (
            [said("q", "user"), call("f", "1"), said("q", "user"), said("a")],
            [
                Message("user", "q"),
                Message("assistant", "", tool_calls=(F,)),
                Message("user", "q"),
                Message("assistant", "a"),
            ],
        ),
        (
            [
                call("f", "1"),
                {"type": "function_call_output", "call_id": "1", "output": "x"},
                said("a"),
            ],
            [
                Message("assistant", "", tool_calls=(F,)),
                Message("tool", "x", tool_call_id="1"),
                Message("assistant", "a"),
            ],
        ),
        ([{"type": "reasoning", "summary": []}], []),
    ],
)
def test_parts_of_one_answer_are_one_message(
    raw: list[dict[str, Any]], expected: list[Message]
) -> None:
    assert messages(*raw) == expected


def test_an_answer_is_the_message_that_its_items_would_be() -> None:
    output: list[answer.OutputItem] = [
        answer.OutputMessage(
            id="msg_1", status="completed", content=[answer.OutputText(text="I look.")]
        ),
        answer.OutputCall(
            id="fc_1", status="completed", call_id="1", name="f", arguments='{"a": 1}'
        ),
    ]
    found = items.answered(output)
    assert found == [Message("assistant", "I look.", tool_calls=(ToolCall("f", {"a": 1}, id="1"),))]
    again = [items.item_of(each) for each in msgspec.to_builtins(output)]
    assert [placed.message for placed in items.messages_of(again)] == found
    assert items.answered([]) == []


def test_an_answer_whose_call_had_hardly_begun() -> None:
    output = [answer.OutputCall(id="x", status="incomplete", call_id="1", name="f", arguments="nu")]
    (message,) = items.answered(output)
    assert message.tool_calls == (ToolCall("f", {}, id="1"),)


def test_listed_items_are_items_of_the_package() -> None:
    given = made(
        said("a", "user"),
        said("b"),
        said("c", "developer"),
        {**said("d", "user"), "id": "msg_mine"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "e"}]},
        call("f", "1"),
        {"type": "function_call_output", "call_id": "1", "output": "x"},
        {"type": "function_call_output", "call_id": "1", "output": [{"type": "text", "text": "y"}]},
        {"type": "reasoning"},
    )
    found = items.listed(given, KEY)
    assert found[7]["output"] == [{"type": "input_text", "text": "y"}]
    ids = [each["id"] for each in found]
    assert len(set(ids)) == len(ids)
    assert ids[3] == "msg_mine"
    for each in found:
        if each["type"] != "reasoning":
            ITEM.validate_python(each)
    page = {"data": found, "first_id": ids[0], "last_id": ids[-1], "has_more": False}
    ResponseItemList.model_validate({**page, "object": "list"})
    again = [items.item_of(each) for each in found]
    assert items.messages_of(again) == items.messages_of(given)
    assert items.listed(again, "1" * 32) == found
    assert {items.response_of(id) for id in ids if id != "msg_mine"} == {f"resp_{KEY}"}


@pytest.mark.parametrize("id", ["", "msg_1", f"msg_{KEY}", f"msg_{KEY}o", f"msg_{KEY}x0", "o0"])
def test_ids_of_others_belong_to_no_response(id: str) -> None:
    assert items.response_of(id) is None


def test_a_kept_conversation_comes_back() -> None:
    talk = [
        Message("system", "s"),
        Message("user", "\u2028 \U0001f600"),
        Message("assistant", "", tool_calls=(ToolCall("f", {"a": [1, None]}, id="1"),)),
        Message("tool", "x", tool_call_id="1"),
    ]
    assert items.unpacked(items.packed(talk)) == talk


def test_a_conversation_has_bounds() -> None:
    assert items.check_size([Message("user", "a")] * items.MAX_MESSAGES)
    with pytest.raises(InvalidRequestError, match="at most 1024"):
        items.check_size([Message("user", "a")] * (items.MAX_MESSAGES + 1))
    with pytest.raises(InvalidRequestError, match="bytes"):
        items.check_size([Message("user", "a" * items.MAX_BYTES)])
