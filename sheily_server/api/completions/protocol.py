"""The wire structs of OpenAI's completions.

The fields are those of https://platform.openai.com/docs/api-reference/completions, as the `openai`
Python package types them, and the options of the chat routes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from ..openai_chat.answer import Extension, Timings, Usage
from ..openai_chat.protocol import Options, StreamOptions

MAX_PROMPTS = 128
MAX_IDS = 131_072
"""Most token ids in a request."""
MAX_LOGPROBS = 5
MAX_TOKENS = 16
"""Tokens of an answer where the request does not say, as in OpenAI's API."""

Prompt = str | list[str | int | list[int]]
"""A text or its token ids, or a list of either."""
FinishReason = Annotated[str, Meta(extra_json_schema={"enum": ["stop", "length"]})]


class CompletionRequest(Options, frozen=True, kw_only=True):
    """The body of POST /v1/completions. `max_tokens` may be 0 here.

    docs/api/completions.md has a line for each field.
    """

    prompt: Prompt
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)] | None = None
    suffix: Annotated[str, Meta(extra_json_schema={"maxLength": 0})] | None = None
    echo: bool | None = None
    parse_special: bool | None = None


class CompletionLogprobs(Struct, frozen=True):
    """The tokens of a text as columns. A token that is not text alone, being part of a character,
    is written as `bytes:` and its bytes in hex. The first token of a prompt has null for both. In
    `top_logprobs`, the token itself is added where it is not among the likeliest. `text_offset`
    counts characters from the beginning of the choice's text."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Struct, frozen=True, kw_only=True):
    """The `index` is the prompt's times `n`, plus the answer's among those to that prompt."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class Completion(Struct, frozen=True, kw_only=True):
    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage
    timings: Timings
    sheily: Extension
    object: Literal["text_completion"] = "text_completion"


class CompletionChunk(Struct, frozen=True, kw_only=True):
    """One event of a stream. `usage` is absent, null or the counts, depending on `include_usage`.
    `timings` come with the last chunk that has a choice."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET
    timings: Timings | UnsetType = UNSET
    sheily: Extension | UnsetType = UNSET
    object: Literal["text_completion"] = "text_completion"
