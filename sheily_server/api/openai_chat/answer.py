"""The wire structs of the answers of OpenAI's chat completions."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

FinishReason = Annotated[str, Meta(extra_json_schema={"enum": ["stop", "length", "tool_calls"]})]


class CachedTokens(Struct, frozen=True):
    cached_tokens: int = 0


class CompletionTokensDetails(Struct, frozen=True, kw_only=True):
    """How many tokens drafted from the request's prediction were accepted, and how many rejected.
    Only accepted ones are part of the answer. The whole answer is text."""

    accepted_prediction_tokens: int
    rejected_prediction_tokens: int
    text_tokens: int
    reasoning_tokens: int = 0
    audio_tokens: int = 0


class Usage(Struct, frozen=True, kw_only=True):
    """Token counts. `cached_tokens` of the prompt were already in the KV cache."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: CompletionTokensDetails


class Extension(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The field `sheily` of responses and first chunks, for what OpenAI's format lacks.

    `dropped_messages` is how many messages LLM_MAX_HISTORY or `truncation` left out of the prompt.
    `timed_out` marks an answer that LLM_TIMEOUT cut short. `clamped` maps fields that asked for too
    much to the values that were used. `ignored` lists the places of fields without effect, and
    `relaxed` those of constraints in schemas that the answer need not follow.
    """

    dropped_messages: int = 0
    timed_out: bool = False
    clamped: dict[str, int] = {}
    ignored: list[str] = []
    relaxed: list[str] = []


class AnswerCall(Struct, frozen=True):
    name: str
    arguments: str


class AnswerToolCall(Struct, frozen=True):
    """A call in an answer. If the answer was cut off, its arguments may be too."""

    id: str
    function: AnswerCall
    type: Literal["function"] = "function"


class CallPart(Struct, frozen=True, kw_only=True):
    arguments: str
    name: str | UnsetType = UNSET


class ToolCallPart(Struct, frozen=True):
    """What a chunk adds to call `index`: first its `id`, `type`, name and empty arguments, then
    piece by piece its arguments."""

    index: int
    function: CallPart
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class AnswerMessage(Struct, frozen=True, kw_only=True):
    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    tool_calls: list[AnswerToolCall] | UnsetType = UNSET


class TopLogprob(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class Logprob(Struct, frozen=True, kw_only=True):
    """A token of the answer. `bytes` are exact; `token` has U+FFFD where they are not text."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class Logprobs(Struct, frozen=True):
    content: list[Logprob]
    refusal: None = None


class Choice(Struct, frozen=True, kw_only=True):
    message: AnswerMessage
    finish_reason: FinishReason
    index: int = 0
    logprobs: Logprobs | None = None


class Timings(Struct, frozen=True, kw_only=True):
    """Milliseconds spent in the queue, on prefill, and on decode after the first token. Tokens per
    second of prefill (of the prompt tokens that were computed) and of decode. Of the prompt tokens,
    `cache_n` were in the prefix cache, `cache_disk_n` of these in its disk tier. `preempted` is how
    often an answer was set aside for a while, as the cells were full. `predicted_n` is
    how many tokens the answers have. `draft_n` is how many tokens were drafted, from any source;
    `draft_n_accepted` is how many of them were right. While an answer comes, only `predicted_*` are
    known; the others are null."""

    predicted_n: int
    predicted_ms: float
    predicted_per_second: float | None
    queued_ms: float | None = None
    prompt_ms: float | None = None
    prompt_per_second: float | None = None
    cache_n: int | None = None
    cache_disk_n: int | None = None
    preempted: int | None = None
    draft_n: int | None = None
    draft_n_accepted: int | None = None


class PromptProgress(Struct, frozen=True, kw_only=True):
    """How far a prompt is, in tokens: of `total`, `processed` are in the KV cache, and `cache` of
    these were there before. `queue_place` is 1 for the next request that runs, and null once this
    one does."""

    total: int
    cache: int
    processed: int
    queue_place: int | None


class ChatCompletion(Struct, frozen=True, kw_only=True):
    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage
    timings: Timings
    sheily: Extension
    object: Literal["chat.completion"] = "chat.completion"


class Delta(Struct, frozen=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tool_calls: list[ToolCallPart] | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True, kw_only=True):
    delta: Delta
    finish_reason: FinishReason | None = None
    index: int = 0
    logprobs: Logprobs | None = None


class ChatCompletionChunk(Struct, frozen=True, kw_only=True):
    """One event of a stream. `usage` is absent, null or the counts, depending on `include_usage`.
    `timings` come with the last chunk that has a choice,
    and with each one where `timings_per_token` asks for it. A chunk with `prompt_progress`, where
    `return_progress` asks for it, has no choices."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    timings: Timings | UnsetType = UNSET
    prompt_progress: PromptProgress | UnsetType = UNSET
    sheily: Extension | UnsetType = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
