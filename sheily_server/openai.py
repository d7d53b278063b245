"""The shapes of OpenAI's chat API, and of `/chat`: decoding with a path in every error, encoding.

Knows the fields and their ranges; knows nothing of prompts, tokens or HTTP. The fields are those of
https://platform.openai.com/docs/api-reference/chat as the `openai` Python package types them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from .errors import ApiError, invalid_request

MAX_MESSAGES = 512
MAX_STOPS = 4
MAX_STOP_BYTES = 256

Probability = Annotated[float, Meta(gt=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
TokenCount = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class TextPart(Struct, tag_field="type", tag="text", forbid_unknown_fields=True, frozen=True):
    """One part of a message's content; text is the only kind this model reads."""

    text: str


Content = str | list[TextPart]


class FunctionCall(Struct, forbid_unknown_fields=True, frozen=True):
    """A call the model made earlier; `arguments` is JSON in a string, as OpenAI has it."""

    name: Annotated[str, Meta(min_length=1)]
    arguments: str


class ToolCallParam(Struct, forbid_unknown_fields=True, frozen=True):
    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class _Message(Struct, tag_field="role", forbid_unknown_fields=True, frozen=True, kw_only=True):
    name: str | None = None


class SystemMessage(_Message, tag="system", kw_only=True, frozen=True):
    content: Content


class DeveloperMessage(_Message, tag="developer", kw_only=True, frozen=True):
    content: Content


class UserMessage(_Message, tag="user", kw_only=True, frozen=True):
    content: Content


class AssistantMessage(_Message, tag="assistant", kw_only=True, frozen=True):
    """Fields besides content and tool_calls are what clients send back of an answer."""

    content: Content | None = None
    tool_calls: list[ToolCallParam] | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None


class ToolMessage(_Message, tag="tool", kw_only=True, frozen=True):
    content: Content
    tool_call_id: str


ChatMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class StreamOptions(Struct, forbid_unknown_fields=True, frozen=True):
    """`include_obfuscation` asks for padding against listeners on the wire: it has no effect."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Options(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What may be said of an answer on both chat routes; null is as good as leaving out."""

    model: str | None = None
    max_tokens: TokenCount | None = None
    max_completion_tokens: TokenCount | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    stop: str | list[str] | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    user: str | None = None

    def stops(self) -> list[str]:
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else self.stop

    def completion_limit(self) -> int | None:
        """`max_completion_tokens`, or its older name."""
        if self.max_completion_tokens is not None:
            return self.max_completion_tokens
        return self.max_tokens


class ChatRequest(Options, frozen=True, kw_only=True):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class SimpleChatRequest(Options, frozen=True, kw_only=True):
    """The body of POST /chat: a message with its history, or messages as OpenAI has them."""

    message: str | None = None
    history: Annotated[list[ChatMessage], Meta(max_length=MAX_MESSAGES)] | None = None
    system: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)] | None = (
        None
    )


class CachedTokens(Struct, frozen=True):
    cached_tokens: int = 0


class Usage(Struct, frozen=True):
    """Counts of tokens; `cached_tokens` of the prompt were in the KV cache already."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class Extension(Struct, frozen=True, omit_defaults=True):
    """What OpenAI's shape has no place for: the field `sheily` of responses and first chunks.

    `dropped_messages` were left out of the prompt because of LLM_MAX_HISTORY; `timed_out` marks an
    answer that LLM_TIMEOUT cut short.
    """

    dropped_messages: int = 0
    timed_out: bool = False


class AnswerMessage(Struct, frozen=True):
    content: str
    role: str = "assistant"
    refusal: None = None


class Choice(Struct, frozen=True):
    message: AnswerMessage
    finish_reason: str
    index: int = 0
    logprobs: None = None


class ChatCompletion(Struct, frozen=True):
    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    sheily: Extension
    object: str = "chat.completion"


class Delta(Struct, frozen=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True):
    delta: Delta
    finish_reason: str | None = None
    index: int = 0
    logprobs: None = None


class ChatCompletionChunk(Struct, frozen=True):
    """One event of a stream. `usage` is left out, null or the counts, as include_usage asks."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    sheily: Extension | UnsetType = UNSET
    object: str = "chat.completion.chunk"


class SimpleChatResponse(Struct, frozen=True):
    """The answer of POST /chat."""

    response: str
    model: str
    finish_reason: str
    usage: Usage
    dropped_messages: int
    timed_out: bool


RequestT = TypeVar("RequestT", ChatRequest, SimpleChatRequest)

# Fields of OpenAI's API that this server does not act on: naming them is better than "unknown", and
# clients that send the neutral value are not turned away.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "stream": (False,),
    "stream_options": (),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "prediction": (),
    "modalities": (["text"],),
    "audio": (),
    "store": (False,),
    "metadata": ({},),
    "service_tier": ("auto", "default"),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
    "prompt_cache_key": (),
    "prompt_cache_retention": (),
    "safety_identifier": (),
}

_FIELD_ERRORS = (
    ("Object missing required field `", "missing_required_parameter"),
    ("Object contains unknown field `", "unknown_parameter"),
)


def decode_request(body: bytes, shape: type[RequestT]) -> RequestT:
    """Parses and checks a request body. Raises ApiError (400) with the field in `param`."""
    try:
        raw = msgspec.json.decode(body)
    except RecursionError:
        raise invalid_request("The body is nested too deeply.", code="invalid_json") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid_request(f"The body is not JSON: {error}.", code="invalid_json") from None
    if not isinstance(raw, dict):
        raise invalid_request("The body must be a JSON object.", code="invalid_type")
    _refuse_unsupported(raw, shape)
    try:
        request = msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        raise _validation_error(error) from None
    _check_stops(request.stop)
    return request


def encode(value: Struct) -> bytes:
    """The JSON of a response."""
    return msgspec.json.encode(value)


def _refuse_unsupported(raw: dict[str, Any], shape: type[Struct]) -> None:
    for name in list(raw):
        if name in shape.__struct_fields__:
            continue
        if name not in _NEUTRAL:
            raise invalid_request(f"Unknown field {name!r}.", param=name, code="unknown_parameter")
        if raw[name] is not None and not _is_neutral(raw[name], _NEUTRAL[name]):
            raise invalid_request(
                f"{name!r} is not supported by this server.",
                param=name,
                code="unsupported_parameter",
            )
        del raw[name]


def _is_neutral(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Equal in type too: Python holds True for equal to 1."""
    return any(type(value) is type(other) and value == other for other in neutral)


def _validation_error(error: msgspec.ValidationError) -> ApiError:
    """msgspec ends its sentence with " - at `$.path`", where the path is not the top: with the
    field that is missing or unknown behind it, that is OpenAI's `param`."""
    sentence, at, path = str(error).rpartition(" - at `$")
    if not at:
        sentence, path = path, ""
    param = path.rstrip("`").lstrip(".")
    wrong_type = sentence.startswith("Expected ") and ", got `" in sentence
    code = "invalid_type" if wrong_type else "invalid_value"
    for words, field_code in _FIELD_ERRORS:
        if sentence.startswith(words):
            field = sentence.removeprefix(words).rstrip("`")
            param, code = f"{param}.{field}".lstrip("."), field_code
    where = f" (at {param})" if param else ""
    return invalid_request(f"{sentence}{where}.", param=param or None, code=code)


def _check_stops(stop: str | list[str] | None) -> None:
    named = {"stop": stop} if isinstance(stop, str) else _named_stops(stop or [])
    if len(named) > MAX_STOPS:
        raise invalid_request(
            f"stop has {len(named)} strings; at most {MAX_STOPS} are taken.", "stop"
        )
    for name, text in named.items():
        if not text or len(text.encode()) > MAX_STOP_BYTES:
            raise invalid_request(f"{name} must have 1 to {MAX_STOP_BYTES} bytes.", name)


def _named_stops(stops: list[str]) -> dict[str, str]:
    return {f"stop[{i}]": text for i, text in enumerate(stops)}
