"""The wire structs of requests of Anthropic's Messages API.

Knows fields and their ranges, but nothing of prompts, tokens or HTTP. The fields are those of
https://platform.claude.com/docs/en/api/messages, as the `anthropic` Python package types them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from ..openai_chat.protocol import MAX_MESSAGES, MAX_STOPS, MAX_TOOLS, Probability

ToolName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,128}$(?!\n)")]


class _Block(Struct, tag_field="type", frozen=True, kw_only=True):
    """`cache_control` has no effect: every beginning of a prompt is cached anyway."""

    cache_control: Any = None


class TextBlock(_Block, tag="text", frozen=True, kw_only=True):
    """Text. The official clients add `parsed_output` to what they parse, and send it back."""

    text: str
    citations: Any = None
    parsed_output: Any = None


class TextSource(Struct, tag_field="type", tag="text", frozen=True, kw_only=True):
    data: str
    media_type: Literal["text/plain"] = "text/plain"


class ContentSource(Struct, tag_field="type", tag="content", frozen=True):
    content: str | list[TextBlock]


class DocumentBlock(_Block, tag="document", frozen=True, kw_only=True):
    """A document that is text."""

    source: TextSource | ContentSource
    title: str | None = None
    context: str | None = None


class SearchResultBlock(_Block, tag="search_result", frozen=True, kw_only=True):
    content: list[TextBlock]
    source: str
    title: str


Readable = TextBlock | DocumentBlock | SearchResultBlock


class ToolUseBlock(_Block, tag="tool_use", frozen=True, kw_only=True):
    """A call of an earlier answer. The official clients add `caller`."""

    id: str
    name: Annotated[str, Meta(min_length=1)]
    input: dict[str, Any]
    caller: Any = None


class ToolResultBlock(_Block, tag="tool_result", frozen=True, kw_only=True):
    """What a call returned, or the words of its failure if `is_error`."""

    tool_use_id: str
    content: str | list[Readable] | None = None
    is_error: bool | None = None


class ThinkingBlock(Struct, tag_field="type", tag="thinking", frozen=True, kw_only=True):
    """What another model thought before it answered. It is left out."""

    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(Struct, tag_field="type", tag="redacted_thinking", frozen=True):
    data: str


class UserTurn(Struct, tag_field="role", tag="user", frozen=True):
    content: str | list[TextBlock | DocumentBlock | SearchResultBlock | ToolResultBlock]


class AssistantTurn(Struct, tag_field="role", tag="assistant", frozen=True):
    content: str | list[TextBlock | ToolUseBlock | ThinkingBlock | RedactedThinkingBlock]


class SystemTurn(Struct, tag_field="role", tag="system", frozen=True):
    content: str | list[TextBlock]


Turn = UserTurn | AssistantTurn | SystemTurn


class CustomTool(Struct, frozen=True, kw_only=True):
    """A function that the caller runs; `input_schema` is the JSON Schema of its arguments. These
    stream whatever `eager_input_streaming` says."""

    name: ToolName
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    cache_control: Any = None


class AutoChoice(Struct, tag_field="type", tag="auto", frozen=True):
    """The model decides whether to call."""

    disable_parallel_tool_use: bool | None = None


class AnyChoice(Struct, tag_field="type", tag="any", frozen=True):
    """The answer must be a call."""

    disable_parallel_tool_use: bool | None = None


class OneChoice(Struct, tag_field="type", tag="tool", frozen=True, kw_only=True):
    """The answer must call this tool."""

    name: str
    disable_parallel_tool_use: bool | None = None


class NoneChoice(Struct, tag_field="type", tag="none", frozen=True):
    """The tools stay out of the prompt."""


ToolChoice = AutoChoice | AnyChoice | OneChoice | NoneChoice


class OutputFormat(Struct, frozen=True, kw_only=True):
    """The answer is JSON that follows a schema."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Struct, frozen=True, kw_only=True):
    """`effort` has no effect: the models served have no such setting."""

    format: OutputFormat | None = None
    effort: Any = None


class CountTokensRequest(Struct, frozen=True, kw_only=True):
    """The body of POST /v1/messages/count_tokens: what makes the prompt. Null means the same as
    leaving a field out.

    docs/api/messages.md has a line for each field.
    """

    model: str | None = None
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: str | list[TextBlock] | None = None
    tools: Annotated[list[CustomTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    cache_control: Any = None


class MessagesRequest(CountTokensRequest, frozen=True, kw_only=True):
    """The body of POST /v1/messages.

    docs/api/messages.md has a line for each field.
    """

    max_tokens: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    stop_sequences: Annotated[list[str], Meta(extra_json_schema={"maxItems": MAX_STOPS})] | None = (
        None
    )
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    stream: bool | None = None
    metadata: dict[str, Any] | None = None
    user_profile_id: str | None = None
    workspace_id: str | None = None
