"""The wire structs of requests for OpenAI's responses.

The fields are those of https://platform.openai.com/docs/api-reference/responses, as the `openai`
Python package types them, and options of the chat routes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from ..body import Values
from ..openai_chat.neutral import FORMS, RETENTIONS
from ..openai_chat.protocol import (
    MAX_STOPS,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
    CacheSalt,
    FunctionName,
    JsonObjectFormat,
    LogitBias,
    Options,
    Penalty,
    Probability,
    RepeatPenalty,
    Seed,
    Temperature,
    TextFormat,
)

MAX_ITEMS = 1024
MAX_PAGE = 100
PAGE = 20
LOGPROBS = "message.output_text.logprobs"
"""The value of `include` that has an effect."""

NEUTRAL: Values = {
    "conversation": (),
    "prompt": (),
    "moderation": (),
    "modalities": (["text"],),
    "n": (1,),
    **FORMS,
}
"""Other values would change the answer: they are refused."""

EFFECTLESS: Values = {
    "reasoning": ({}, {"effort": "none"}, {"effort": None}, {"effort": None, "summary": None}),
    "service_tier": ("auto", "default"),
    "prompt_cache_retention": RETENTIONS,
    "prompt_cache_options": (),
    "context_management": ([],),
    "background_options": (),
    "access_programs": (),
    "image": (),
}
"""Other values are accepted, and `sheily.ignored` names them."""

Status = Literal["in_progress", "completed", "incomplete"]
ItemId = Annotated[str, Meta(min_length=1, max_length=128)]


class InputTextPart(Struct, tag_field="type", tag="input_text", frozen=True):
    """A part of a content. `prompt_cache_breakpoint` has no effect: every prefix is cached."""

    text: str
    prompt_cache_breakpoint: Any = None


class PlainTextPart(Struct, tag_field="type", tag="text", frozen=True):
    """A part as the chat routes have it, which some clients send here too."""

    text: str


class OutputTextPart(Struct, tag_field="type", tag="output_text", frozen=True):
    """A part of an earlier answer. The official clients add `parsed`."""

    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    parsed: Any = None


class SaidRefusal(Struct, tag_field="type", tag="refusal", frozen=True):
    """What an assistant said instead of an answer: text, to this model."""

    refusal: str


Part = InputTextPart | OutputTextPart | PlainTextPart | SaidRefusal
Content = str | list[Part]


def plain(content: str | Sequence[Part]) -> str:
    """Returns the text of a content. Its parts are joined with nothing between them."""
    if isinstance(content, str):
        return content
    return "".join(part.refusal if isinstance(part, SaidRefusal) else part.text for part in content)


class MessageItem(Struct, tag_field="type", tag="message", frozen=True, kw_only=True):
    """A message of any role. `id`, `status` and `phase` are in messages of earlier answers."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: ItemId | None = None
    status: Status | None = None
    phase: str | None = None


class CallItem(Struct, tag_field="type", tag="function_call", frozen=True, kw_only=True):
    """A call of an earlier answer. `arguments` is JSON in a string. The official clients add
    `parsed_arguments`."""

    call_id: str
    name: Annotated[str, Meta(min_length=1)]
    arguments: str
    id: ItemId | None = None
    status: Status | None = None
    parsed_arguments: Any = None


class CallOutputItem(
    Struct, tag_field="type", tag="function_call_output", frozen=True, kw_only=True
):
    """The result of the call with this `call_id`."""

    call_id: str
    output: Content
    id: ItemId | None = None
    status: Status | None = None


class ReasoningItem(Struct, tag_field="type", tag="reasoning", frozen=True, kw_only=True):
    """What another model thought. It has no effect."""

    id: ItemId | None = None
    summary: Any = None
    content: Any = None
    encrypted_content: Any = None
    status: Status | None = None


class ItemReference(Struct, tag_field="type", tag="item_reference", frozen=True):
    """Stands for an item of a response that is kept."""

    id: ItemId


Item = MessageItem | CallItem | CallOutputItem | ReasoningItem | ItemReference


class SchemaFormat(Struct, tag_field="type", tag="json_schema", frozen=True, kw_only=True):
    """The answer is JSON that follows a named schema: all of it if that is `strict`, else what can
    be followed."""

    name: FunctionName
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextConfig(Struct, frozen=True, kw_only=True):
    """How the text of the answer is written. `verbosity` has no effect."""

    format: TextFormat | JsonObjectFormat | SchemaFormat | None = None
    verbosity: str | None = None


class FunctionTool(Struct, tag_field="type", tag="function", frozen=True, kw_only=True):
    """A function that the model may call; `parameters` is the JSON Schema of its arguments."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChosenTool(Struct, tag_field="type", tag="function", frozen=True):
    """The answer must call this function."""

    name: str


class AllowedTool(Struct, tag_field="type", tag="function", frozen=True):
    name: str


class AllowedTools(Struct, tag_field="type", tag="allowed_tools", frozen=True, kw_only=True):
    """The answer may call these functions only; with `required` it must."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Meta(max_length=MAX_TOOLS)]


class ResponseStreamOptions(Struct, frozen=True):
    """`include_obfuscation` asks for padding against eavesdroppers. It has no effect."""

    include_obfuscation: bool | None = None


Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16),
]


class ResponseRequest(Struct, frozen=True, kw_only=True):
    """The body of POST /v1/responses. Null means the same as leaving a field out.

    docs/api/responses.md has a line for each field.
    """

    input: str | Annotated[list[Item], Meta(max_length=MAX_ITEMS)]
    model: str | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    include: Annotated[list[str], Meta(max_length=32)] | None = None
    text: TextConfig | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: Metadata | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Any = None
    cache_salt: CacheSalt | None = None
    safety_identifier: str | None = None
    stop: str | Annotated[list[str], Meta(extra_json_schema={"maxItems": MAX_STOPS})] | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    top_k: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: RepeatPenalty | None = None
    repetition_penalty: RepeatPenalty | None = None
    ignore_eos: bool | None = None
    return_progress: bool | None = None
    continue_final_message: bool | None = None

    def options(self) -> Options:
        """Returns what the chat routes have too, as their options."""
        return Options(
            temperature=self.temperature,
            top_p=self.top_p,
            stop=self.stop,
            seed=self.seed,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=self.logit_bias,
            top_k=self.top_k,
            min_p=self.min_p,
            repeat_penalty=self.repeat_penalty,
            repetition_penalty=self.repetition_penalty,
            ignore_eos=self.ignore_eos,
        )

    @property
    def add_generation_prompt(self) -> None:
        """Always None: `continue_final_message` alone says whether the answer goes on."""
        return None

    @property
    def is_streamed(self) -> bool:
        """Whether somebody may read its events."""
        return bool(self.stream or self.background)

    def wanted_logprobs(self) -> int | None:
        """Returns how many alternatives of each token are wanted; None for no logprobs."""
        wants = self.top_logprobs is not None or LOGPROBS in (self.include or ())
        return (self.top_logprobs or 0) if wants else None

    @property
    def stores(self) -> bool:
        """Whether the response is kept, as it is unless the request says otherwise."""
        return self.store is not False


class RetrieveQuery(Struct, frozen=True, kw_only=True):
    """The query of GET /v1/responses/{id}. `include` and `include_obfuscation` have no effect: a
    response has what was asked for when it was made."""

    stream: bool = False
    starting_after: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    include: str | None = None
    include_obfuscation: bool | None = None


class ItemsQuery(Struct, frozen=True, kw_only=True):
    """The query of GET /v1/responses/{id}/input_items. `include` has no effect."""

    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = PAGE
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    include: str | None = None
