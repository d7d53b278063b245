"""Input items: as messages of a conversation, and as they are listed again. Knows no store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ...errors import InvalidRequestError
from ...templates.base import Message, ToolCall
from ..openai_chat.decode import tool_call
from . import answer
from . import protocol as wire

MEDIA = {"input_image", "input_file", "input_audio", "image_url", "output_audio"}
ITEMS = ("message", "function_call", "function_call_output", "reasoning", "item_reference")
MAX_MESSAGES = 1024
MAX_BYTES = 4 * 1024 * 1024
"""Bytes of a whole conversation, as it is kept."""
UNHEARD = "input[].reasoning"
_OUR_ID = re.compile(r"[a-z]{2,4}_([0-9a-f]{32})[io]\d{1,5}")
_PREFIXES = {
    wire.MessageItem: "msg",
    wire.CallItem: "fc",
    wire.CallOutputItem: "fco",
    wire.ReasoningItem: "rs",
}


@dataclass(frozen=True, slots=True)
class Placed:
    """A message, and the place in the request that it is from."""

    message: Message
    place: str


def prepare(raw: dict[str, Any]) -> None:
    """Gives items without a type theirs, as clients leave it out. Raises InvalidRequestError for
    items and parts that are of no use here, which would else be unknown values."""
    items = raw.get("input")
    for i, item in enumerate(items if isinstance(items, list) else ()):
        if not isinstance(item, dict):
            continue
        place = f"input[{i}]"
        if item.get("type") is None:
            item["type"] = "message" if "role" in item else "item_reference"
        if isinstance(item["type"], str) and item["type"] not in ITEMS:
            raise InvalidRequestError(
                f"There are no items of the type {item['type'][:40]!r} here; there are "
                f"{', '.join(ITEMS)}.",
                f"{place}.type",
                "unsupported_parameter",
            )
        for name in ("content", "output"):
            parts = item.get(name)
            for j, part in enumerate(parts if isinstance(parts, list) else ()):
                kind = part.get("type") if isinstance(part, dict) else None
                if isinstance(kind, str) and kind in MEDIA and item["type"] != "reasoning":
                    raise InvalidRequestError(
                        f"This model reads text only, no content of the type {kind!r}.",
                        f"{place}.{name}[{j}].type",
                    )


def items_of(request: wire.ResponseRequest) -> list[wire.Item]:
    """Returns the input of a request as items."""
    if isinstance(request.input, str):
        return [wire.MessageItem(role="user", content=request.input)]
    return list(request.input)


def messages_of(items: Sequence[wire.Item]) -> list[Placed]:
    """Returns the messages that items mean. Calls join the text that the assistant wrote before
    them, as they are parts of one answer. Raises InvalidRequestError."""
    found: list[Placed] = []
    answering = False
    """Whether the last message is an answer with calls, which may have further parts."""
    for i, item in enumerate(items):
        place = f"input[{i}]"
        last = found[-1].message if found else None
        if isinstance(item, wire.CallItem):
            call = tool_call(item.name, item.arguments, f"{place}.arguments", item.call_id)
            if last is not None and last.role == "assistant":
                calls = (*last.tool_calls, call)
                found[-1] = replace(found[-1], message=replace(last, tool_calls=calls))
            else:
                found.append(Placed(Message("assistant", tool_calls=(call,)), place))
            answering = True
        elif isinstance(item, wire.CallOutputItem):
            message = Message("tool", wire.plain(item.output), tool_call_id=item.call_id)
            found.append(Placed(message, place))
            answering = False
        elif isinstance(item, wire.MessageItem):
            text = wire.plain(item.content)
            if item.role == "assistant" and answering and last is not None:
                found[-1] = replace(found[-1], message=replace(last, text=last.text + text))
                continue
            role = "system" if item.role == "developer" else item.role
            found.append(Placed(Message(role, text), place))
            answering = False
    return found


def answered(output: Sequence[answer.OutputItem]) -> list[Message]:
    """Returns the message that an answer is in the turns after it; none for an empty one."""
    text, calls = "", list[ToolCall]()
    for item in output:
        if isinstance(item, answer.OutputMessage):
            text += "".join(part.text for part in item.content)
            continue
        try:
            calls.append(tool_call(item.name, item.arguments, "", item.call_id))
        except InvalidRequestError:  # cut off before its arguments began
            calls.append(ToolCall(item.name, {}, id=item.call_id))
    return [Message("assistant", text, tool_calls=tuple(calls))] if text or calls else []


def talk_with(
    messages: Sequence[Message], output: Sequence[answer.OutputItem], *, continues: bool
) -> list[Message]:
    """Returns a conversation with an answer, which may be the rest of its last message."""
    found = answered(output)
    if not (continues and found):
        return [*messages, *found]
    text = messages[-1].text + found[0].text
    return [*messages[:-1], replace(found[0], text=text)]


def listed(items: Sequence[wire.Item], key: str) -> list[dict[str, Any]]:
    """Returns items as they are listed again, each with an id: its own, or one of the response with
    this `key`."""
    found = []
    for i, item in enumerate(items):
        if isinstance(item, wire.ItemReference):
            raise RuntimeError("a reference that was not resolved")
        fields = {
            name: value
            for name, value in msgspec.to_builtins(item).items()
            if value is not None and name not in ("parsed_arguments", "phase")
        }
        fields["id"] = item.id or f"{_PREFIXES[type(item)]}_{key}i{i}"
        if isinstance(item, wire.ReasoningItem):
            fields.setdefault("summary", [])
        else:
            fields.setdefault("status", "completed")
        if isinstance(item, wire.MessageItem):
            fields["content"] = [_part(part, item.role) for part in _parts(item.content)]
        elif isinstance(item, wire.CallOutputItem) and not isinstance(item.output, str):
            fields["output"] = [_part(part, "user") for part in item.output]
        found.append(fields)
    return found


def response_of(item_id: str) -> str | None:
    """Returns the id of the response that an item of ours belongs to."""
    found = _OUR_ID.fullmatch(item_id)
    return f"resp_{found[1]}" if found else None


def item_of(fields: dict[str, Any]) -> wire.Item:
    """Returns a listed item, or one of an answer, as a request would have it."""
    found: wire.Item = msgspec.convert(fields, wire.Item)
    return found


def packed(messages: Sequence[Message]) -> bytes:
    """Returns a conversation as it is kept for the next turn, in JSON."""
    return msgspec.json.encode(messages)


def unpacked(data: bytes) -> list[Message]:
    """Returns what `packed` has packed."""
    return msgspec.json.decode(data, type=list[Message])


def check_size(messages: Sequence[Message]) -> int:
    """Returns the bytes of a conversation as it is kept. Raises InvalidRequestError if it is too
    long."""
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequestError(
            f"The conversation has {len(messages)} messages; at most {MAX_MESSAGES} are taken.",
            "input",
        )
    n_bytes = len(packed(messages))
    if n_bytes > MAX_BYTES:
        raise InvalidRequestError(
            f"The conversation has {n_bytes} bytes; at most {MAX_BYTES} are taken.", "input"
        )
    return n_bytes


def _parts(content: wire.Content) -> Sequence[wire.Part]:
    return [wire.InputTextPart(content)] if isinstance(content, str) else content


def _part(part: wire.Part, role: str) -> dict[str, Any]:
    if isinstance(part, wire.SaidRefusal):
        return {"type": "refusal", "refusal": part.refusal}
    if role == "assistant":
        return {"type": "output_text", "text": part.text, "annotations": []}
    return {"type": "input_text", "text": part.text}
