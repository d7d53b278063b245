"""The wire structs of the answers of Anthropic's Messages API, and of the events of a stream."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from msgspec import UNSET, Meta, Struct, UnsetType

from ..openai_chat.answer import Extension

StopReason = Annotated[
    str, Meta(extra_json_schema={"enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use"]})
]


class MessageUsage(Struct, frozen=True, kw_only=True):
    """Token counts. `input_tokens` are those of the prompt that were computed,
    `cache_read_input_tokens` those that were already in the KV cache. What is written into it is
    not counted apart."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int = 0


class AnswerText(Struct, tag_field="type", tag="text", frozen=True):
    text: str


class AnswerToolUse(Struct, tag_field="type", tag="tool_use", frozen=True, kw_only=True):
    """A call. If the answer was cut off, its `input` has what there was of it."""

    id: str
    name: str
    input: dict[str, Any]


AnswerBlock = AnswerText | AnswerToolUse


class MessageAnswer(Struct, frozen=True, kw_only=True):
    """An answer; in `message_start` one without content and end. `stop_sequence` is the text of the
    request's that ended it."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[AnswerBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage
    sheily: Extension


class TokenCount(Struct, frozen=True):
    """How many tokens a prompt has."""

    input_tokens: int
    sheily: Extension


class MessageStart(Struct, tag_field="type", tag="message_start", frozen=True):
    """The first event. Its usage counts the whole prompt as computed; that of `message_delta` tells
    what was cached."""

    message: MessageAnswer


class Ping(Struct, tag_field="type", tag="ping", frozen=True):
    """Says nothing, so that something comes."""


class BlockStart(Struct, tag_field="type", tag="content_block_start", frozen=True):
    index: int
    content_block: AnswerBlock


class TextDelta(Struct, tag_field="type", tag="text_delta", frozen=True):
    text: str


class InputDelta(Struct, tag_field="type", tag="input_json_delta", frozen=True):
    """The next piece of a call's arguments, which are JSON once all pieces are joined."""

    partial_json: str


class BlockDelta(Struct, tag_field="type", tag="content_block_delta", frozen=True):
    index: int
    delta: TextDelta | InputDelta


class BlockStop(Struct, tag_field="type", tag="content_block_stop", frozen=True):
    index: int


class Ending(Struct, frozen=True, kw_only=True):
    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(Struct, tag_field="type", tag="message_delta", frozen=True, kw_only=True):
    """How the answer ended. Its usage counts all of the answer."""

    delta: Ending
    usage: MessageUsage
    sheily: Extension | UnsetType = UNSET


class MessageStop(Struct, tag_field="type", tag="message_stop", frozen=True):
    """The last event."""


MessageEvent = (
    MessageStart | Ping | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop
)
EVENTS: tuple[type[Struct], ...] = get_args(MessageEvent)
