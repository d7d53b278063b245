"""The wire structs of OpenAI's responses, and of the events of their streams."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Struct

from ..openai_chat.answer import Extension, Logprob, Timings

Status = Annotated[
    str,
    Meta(
        extra_json_schema={
            "enum": ["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
        }
    ),
]
ItemStatus = Annotated[
    str, Meta(extra_json_schema={"enum": ["in_progress", "completed", "incomplete"]})
]


class InputDetails(Struct, frozen=True, kw_only=True):
    """Of the prompt's tokens: those that were in the KV cache, and those that were put there."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Struct, frozen=True):
    reasoning_tokens: int = 0


class ResponseUsage(Struct, frozen=True, kw_only=True):
    """Token counts."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseExtension(Extension, frozen=True, omit_defaults=True, kw_only=True):
    """The field `sheily` of responses. Besides what other answers have: `stored` is false for a
    response that was to be kept and could not be, and `not_stored_because` is the reason.
    `error_code` is the code of the error that failed it, as the other routes have it, since `error`
    has only OpenAI's few."""

    stored: bool = True
    not_stored_because: str = ""
    error_code: str = ""


class OutputText(Struct, tag_field="type", tag="output_text", frozen=True, kw_only=True):
    text: str
    annotations: list[Any] = []
    logprobs: list[Logprob] = []


class OutputMessage(Struct, tag_field="type", tag="message", frozen=True, kw_only=True):
    id: str
    status: ItemStatus
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"


class OutputCall(Struct, tag_field="type", tag="function_call", frozen=True, kw_only=True):
    """A call in an answer. If the answer was cut off, its arguments may be too."""

    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


OutputItem = OutputMessage | OutputCall


class ResponseError(Struct, frozen=True):
    """Why a response failed. `code` is one of OpenAI's."""

    code: Annotated[
        str,
        Meta(extra_json_schema={"enum": ["server_error", "rate_limit_exceeded", "invalid_prompt"]}),
    ]
    message: str


class IncompleteDetails(Struct, frozen=True):
    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ReasoningConfig(Struct, frozen=True):
    """The models served do not reason apart from their answer."""

    effort: None = None
    summary: None = None


class Response(Struct, frozen=True, kw_only=True):
    """A response. The options are as the request had them, or their defaults. Times are in Unix
    seconds. `usage` and `timings` are null until it has ended by itself."""

    id: str
    created_at: int
    status: Status
    model: str
    output: list[OutputItem] = []
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    completed_at: int | None = None
    usage: ResponseUsage | None = None
    background: bool = False
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: ReasoningConfig = ReasoningConfig()
    safety_identifier: str | None = None
    service_tier: Literal["default"] = "default"
    store: bool = True
    temperature: float = 1.0
    text: dict[str, Any] = {}
    tool_choice: str | dict[str, Any] = "auto"
    tools: list[dict[str, Any]] = []
    top_logprobs: int = 0
    top_p: float = 1.0
    truncation: str = "disabled"
    user: str | None = None
    timings: Timings | None = None
    sheily: ResponseExtension = ResponseExtension()
    object: Literal["response"] = "response"


class DeletedResponse(Struct, frozen=True):
    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class InputItemList(Struct, frozen=True, kw_only=True):
    """A page of a response's input items. The ids are empty in an empty page."""

    data: list[dict[str, Any]]
    first_id: str
    last_id: str
    has_more: bool
    object: Literal["list"] = "list"


class _Event(Struct, tag_field="type", frozen=True, kw_only=True):
    sequence_number: int


class _About(_Event, kw_only=True, frozen=True):
    response: Response


class ResponseCreated(_About, tag="response.created", frozen=True):
    """The first event."""


class ResponseQueued(_About, tag="response.queued", frozen=True):
    """A background response waits for the engine."""


class ResponseInProgress(_About, tag="response.in_progress", frozen=True):
    """The engine has the request."""


class ResponseCompleted(_About, tag="response.completed", frozen=True):
    """The last event of an answer that ended by itself."""


class ResponseIncomplete(_About, tag="response.incomplete", frozen=True):
    """The last event of an answer that was cut off or cancelled."""


class ResponseFailed(_About, tag="response.failed", frozen=True):
    """The last event of an answer that could not be given; `response.error` says why."""


class PromptProgressed(_Event, tag="response.prompt_progress", frozen=True, kw_only=True):
    """How far a response without a token is, where `return_progress` asks for it: not one of
    OpenAI's events. The fields are those of `prompt_progress` on the chat routes."""

    total: int
    cache: int
    processed: int
    queue_place: int | None


class OutputItemAdded(_Event, tag="response.output_item.added", frozen=True, kw_only=True):
    output_index: int
    item: OutputItem


class OutputItemDone(_Event, tag="response.output_item.done", frozen=True, kw_only=True):
    output_index: int
    item: OutputItem


class _InItem(_Event, frozen=True, kw_only=True):
    item_id: str
    output_index: int


class ContentPartAdded(_InItem, tag="response.content_part.added", frozen=True, kw_only=True):
    part: OutputText
    content_index: int = 0


class ContentPartDone(_InItem, tag="response.content_part.done", frozen=True, kw_only=True):
    part: OutputText
    content_index: int = 0


class OutputTextDelta(_InItem, tag="response.output_text.delta", frozen=True, kw_only=True):
    delta: str
    logprobs: list[Logprob] = []
    content_index: int = 0


class OutputTextDone(_InItem, tag="response.output_text.done", frozen=True, kw_only=True):
    text: str
    logprobs: list[Logprob] = []
    content_index: int = 0


class CallArgumentsDelta(
    _InItem, tag="response.function_call_arguments.delta", frozen=True, kw_only=True
):
    delta: str


class CallArgumentsDone(
    _InItem, tag="response.function_call_arguments.done", frozen=True, kw_only=True
):
    """`name` is not in OpenAI's older versions of this event."""

    name: str
    arguments: str


class ResponseStreamError(_Event, tag="error", frozen=True, kw_only=True):
    """The last event of a stream that cannot go on, though its response may."""

    message: str
    code: str | None = None
    param: str | None = None


Event = (
    ResponseCreated
    | ResponseQueued
    | ResponseInProgress
    | PromptProgressed
    | OutputItemAdded
    | ContentPartAdded
    | OutputTextDelta
    | OutputTextDone
    | ContentPartDone
    | CallArgumentsDelta
    | CallArgumentsDone
    | OutputItemDone
    | ResponseCompleted
    | ResponseIncomplete
    | ResponseFailed
    | ResponseStreamError
)
EVENTS: tuple[type[Struct], ...] = get_args(Event)
"""The structs of a stream's events, in OpenAI's order."""
