"""The shapes of OpenAI's chat API, and of `/chat`: decoding with a path in every error, encoding.

Knows the fields and their ranges; knows nothing of prompts, tokens or HTTP. The fields are those of
https://platform.openai.com/docs/api-reference/chat as the `openai` Python package types them.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ...errors import InvalidRequestError

MAX_MESSAGES = 512
MAX_STOPS = 4
MAX_STOP_BYTES = 256
MAX_LOGIT_BIAS = 300
MAX_TOP_LOGPROBS = 20
MAX_TOOLS = 128
MAX_PREDICTION_BYTES = 256 * 1024
# Levels of the JSON that goes into a prompt: far below what Python's own encoder can write.
MAX_NESTING = 100
# The text of so many of the longest tokens, 128 bytes each, is half of what a frame may hold.
MAX_DETOKENIZED = 262_144

# Not just more than 0: the engine computes in 32 bits, where the smallest ones are 0.
Probability = Annotated[float, Meta(ge=1e-6, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
TokenCount = Annotated[int, Meta(ge=1, le=2**31 - 1)]
# The part behind $ since Python lets $ match before a last line break too.
FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$(?!\n)")]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
FinishReason = Annotated[str, Meta(extra_json_schema={"enum": ["stop", "length", "tool_calls"]})]


class TextPart(Struct, tag_field="type", tag="text", forbid_unknown_fields=True, frozen=True):
    """One part of a message's content; text is the only kind this model reads. A
    `prompt_cache_breakpoint` has no effect: every prefix is cached anyway."""

    text: str
    prompt_cache_breakpoint: Any = None


Content = str | list[TextPart]


def plain(content: Content) -> str:
    """The text of a content: that of its parts, with nothing between them."""
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content)


class FunctionCall(Struct, forbid_unknown_fields=True, frozen=True):
    """A call the model made earlier; `arguments` is JSON in a string, as OpenAI has it.

    The official clients add `parsed_arguments` to the calls they read, and send them back with it.
    """

    name: Annotated[str, Meta(min_length=1)]
    arguments: str
    parsed_arguments: Any = None


class ToolCallParam(Struct, forbid_unknown_fields=True, frozen=True):
    """A call of an earlier answer; `index` stays there when it was put together from chunks."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"
    index: int | None = None


class _Message(Struct, tag_field="role", forbid_unknown_fields=True, frozen=True, kw_only=True):
    name: str | None = None


class SystemMessage(_Message, tag="system", kw_only=True, frozen=True):
    content: Content


class DeveloperMessage(_Message, tag="developer", kw_only=True, frozen=True):
    content: Content


class UserMessage(_Message, tag="user", kw_only=True, frozen=True):
    content: Content


class AssistantMessage(_Message, tag="assistant", kw_only=True, frozen=True):
    """Fields besides content and tool_calls are what clients send back of an answer; `parsed` is
    what the official clients made of it."""

    content: Content | None = None
    tool_calls: list[ToolCallParam] | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None
    parsed: Any = None


class ToolMessage(_Message, tag="tool", kw_only=True, frozen=True):
    content: Content
    tool_call_id: str


ChatMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class StreamOptions(Struct, forbid_unknown_fields=True, frozen=True):
    """`include_obfuscation` asks for padding against listeners on the wire: it has no effect."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class TextFormat(Struct, tag_field="type", tag="text", forbid_unknown_fields=True, frozen=True):
    """The answer is free text."""


class JsonObjectFormat(
    Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True, frozen=True
):
    """The answer is a JSON object."""


class JsonSchema(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A schema and its name. The answer follows it whether `strict` is set or not."""

    name: FunctionName
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(
    Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True, frozen=True
):
    """The answer is JSON that follows a schema."""

    json_schema: JsonSchema


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat


class Function(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A function the model may call; `parameters` is the JSON Schema of its arguments."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def schema(self) -> dict[str, Any]:
        """The schema of its arguments, which are an object; without parameters there are none."""
        if self.parameters is None:
            return {"type": "object", "properties": {}, "additionalProperties": False}
        return {"type": "object"} | self.parameters


class Tool(Struct, tag_field="type", tag="function", forbid_unknown_fields=True, frozen=True):
    function: Function

    def as_json(self) -> dict[str, Any]:
        """The tool as the request had it, without `strict`, which is not for the model."""
        function = {"name": self.function.name}
        more = {"description": self.function.description, "parameters": self.function.parameters}
        set_fields = {name: value for name, value in more.items() if value is not None}
        return {"type": "function", "function": function | set_fields}


class ChosenFunction(Struct, forbid_unknown_fields=True, frozen=True):
    name: str


class NamedToolChoice(Struct, forbid_unknown_fields=True, frozen=True):
    """The answer has to call this function."""

    function: ChosenFunction
    type: Literal["function"] = "function"


class Prediction(Struct, forbid_unknown_fields=True, frozen=True):
    """A text that the answer is expected to repeat, at most 256 KiB: for speed, it never changes
    the answer."""

    type: Literal["content"]
    content: Content


class Options(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What may be said of an answer on both chat routes; null is as good as leaving out.

    docs/openai.md has a line for each field.
    """

    model: str | None = None
    max_tokens: TokenCount | None = None
    max_completion_tokens: TokenCount | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    stop: str | Annotated[list[str], Meta(extra_json_schema={"maxItems": MAX_STOPS})] | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: (
        Annotated[
            dict[str, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=MAX_LOGIT_BIAS)
        ]
        | None
    ) = None
    response_format: ResponseFormat | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Meta(ge=0.01, le=10)] | None = None
    ignore_eos: bool | None = None
    truncation: Literal["error", "trim"] | None = None
    prediction: Prediction | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None

    def stops(self) -> list[str]:
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else self.stop

    def predicted(self) -> str | None:
        """The text of `prediction`; None when it has none."""
        return None if self.prediction is None else plain(self.prediction.content) or None

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
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None

    def wanted_logprobs(self) -> int | None:
        """How many alternatives of each token are wanted; None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


class SimpleChatRequest(Options, frozen=True, kw_only=True):
    """The body of POST /chat: a message with its history, or messages as OpenAI has them."""

    message: str | None = None
    history: Annotated[list[ChatMessage], Meta(max_length=MAX_MESSAGES)] | None = None
    system: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)] | None = (
        None
    )


class TokenizeRequest(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body of POST /tokenize: a text, or messages as a chat request has them."""

    model: str | None = None
    text: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)] | None = (
        None
    )
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None


class DetokenizeRequest(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body of POST /detokenize."""

    model: str | None = None
    tokens: Annotated[list[TokenId], Meta(max_length=MAX_DETOKENIZED)]


class TokenizeResponse(Struct, frozen=True):
    """Token ids, how many, and the text of each; a piece may be part of a character (U+FFFD)."""

    tokens: list[int]
    count: int
    pieces: list[str]


class DetokenizeResponse(Struct, frozen=True):
    text: str


class CachedTokens(Struct, frozen=True):
    cached_tokens: int = 0


class CompletionTokensDetails(Struct, frozen=True):
    """Of the drafts from the request's prediction, how many tokens were right and how many wrong;
    only the right ones are tokens of the answer too. All of an answer is text."""

    accepted_prediction_tokens: int
    rejected_prediction_tokens: int
    text_tokens: int
    reasoning_tokens: int = 0
    audio_tokens: int = 0


class Usage(Struct, frozen=True):
    """Counts of tokens; `cached_tokens` of the prompt were in the KV cache already."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: CompletionTokensDetails


class Extension(Struct, frozen=True, omit_defaults=True):
    """What OpenAI's shape has no place for: the field `sheily` of responses and first chunks.

    `dropped_messages` were left out of the prompt because of LLM_MAX_HISTORY; `timed_out` marks an
    answer that LLM_TIMEOUT cut short.
    """

    dropped_messages: int = 0
    timed_out: bool = False


class AnswerCall(Struct, frozen=True):
    name: str
    arguments: str


class AnswerToolCall(Struct, frozen=True):
    """A call in an answer; `index` is there in chunks alone."""

    id: str
    function: AnswerCall
    type: Literal["function"] = "function"
    index: int | UnsetType = UNSET


class AnswerMessage(Struct, frozen=True):
    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    tool_calls: list[AnswerToolCall] | UnsetType = UNSET


class TopLogprob(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class Logprob(Struct, frozen=True):
    """A token of the answer. `bytes` are exact; `token` has U+FFFD where they are no text."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class Logprobs(Struct, frozen=True):
    content: list[Logprob]
    refusal: None = None


class Choice(Struct, frozen=True):
    message: AnswerMessage
    finish_reason: FinishReason
    index: int = 0
    logprobs: Logprobs | None = None


class Timings(Struct, frozen=True):
    """Milliseconds of waiting, of the prompt, and of the answer behind its first token; the tokens
    a second of the prompt's computed part and of the answer; and how many tokens were drafted,
    wherever the drafts came from, and how many of them were right."""

    queued_ms: float
    prompt_ms: float
    predicted_ms: float
    prompt_per_second: float | None
    predicted_per_second: float | None
    draft_n: int
    draft_n_accepted: int


class ChatCompletion(Struct, frozen=True):
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
    tool_calls: list[AnswerToolCall] | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True):
    delta: Delta
    finish_reason: FinishReason | None = None
    index: int = 0
    logprobs: Logprobs | None = None


class ChatCompletionChunk(Struct, frozen=True):
    """One event of a stream. `usage` is left out, null or the counts, as include_usage asks;
    `timings` come with the last chunk that has a choice."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    timings: Timings | UnsetType = UNSET
    sheily: Extension | UnsetType = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


class SimpleChatResponse(Struct, frozen=True):
    """The answer of POST /chat."""

    response: str
    model: str
    finish_reason: FinishReason
    usage: Usage
    dropped_messages: int
    timed_out: bool


RequestT = TypeVar("RequestT", ChatRequest, SimpleChatRequest, TokenizeRequest, DetokenizeRequest)

# msgspec describes a class to itself when it first decodes into it, and crashes where two threads
# are the first at once (0.22): it does so here, before there are threads.
for _shape in RequestT.__constraints__:
    msgspec.json.Decoder(_shape)

# Fields of OpenAI's API that this server, or one of its routes, does not act on, with the values
# that ask for nothing: naming them is better than "unknown", and clients that send such a value or
# null are not turned away.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "stream": (False,),
    "stream_options": (),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "verbosity": ("medium",),
    "web_search_options": (),
    "prompt_cache_retention": ("in_memory", "in-memory"),
    "prompt_cache_options": (),
    "moderation": (),
}

_FIELD_ERRORS = (
    ("Object missing required field `", "missing_required_parameter"),
    ("Object contains unknown field `", "unknown_parameter"),
)


def decode_request(body: bytes, shape: type[RequestT]) -> RequestT:
    """Parses and checks a request body. Raises InvalidRequestError with the field in `param`."""
    try:
        raw = msgspec.json.decode(body)
    except RecursionError:
        raise InvalidRequestError("The body is nested too deeply.", code="invalid_json") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        param = _endless_number(body)
        where = f" (at {param})" if param else ""
        raise InvalidRequestError(
            f"The body is not JSON: {error}{where}.", param, code="invalid_json"
        ) from None
    if not isinstance(raw, dict):
        raise InvalidRequestError("The body must be a JSON object.", code="invalid_type")
    _refuse_unsupported(raw, shape)
    try:
        request = msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        raise _validation_error(error) from None
    if isinstance(request, ChatRequest | TokenizeRequest):
        _check_tools(request.tools or [])
    if isinstance(request, Options):
        _check_stops(request.stop)
        _check_prediction(request.predicted() or "")
        _check_together(request)
    elif isinstance(request, TokenizeRequest):
        _check_tokenize(request)
    return request


def too_deep(value: Any) -> bool:
    """Whether JSON has more than MAX_NESTING levels of objects and lists."""
    level = [value]
    for _ in range(MAX_NESTING):
        children = [each.values() if isinstance(each, dict) else each for each in level]
        level = [child for each in children for child in each if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def encode(value: Struct) -> bytes:
    """The JSON of a response."""
    return msgspec.json.encode(value)


def _endless_number(body: bytes) -> str | None:
    """The field of a body that has NaN, Infinity or 1e400, which Python's parser lets in; None for
    a body that has another fault."""
    try:
        todo = [("", json.loads(body.decode()))]
    except (ValueError, RecursionError):
        return None
    while todo:
        name, value = todo.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return name or None
        if isinstance(value, dict):
            todo += [(f"{name}.{key}".lstrip("."), child) for key, child in value.items()]
        elif isinstance(value, list):
            todo += [(f"{name}[{i}]", child) for i, child in enumerate(value)]
    return None


def _refuse_unsupported(raw: dict[str, Any], shape: type[Struct]) -> None:
    for name in list(raw):
        if name in shape.__struct_fields__:
            continue
        if name not in NEUTRAL:
            raise InvalidRequestError(
                f"Unknown field {name!r}.", param=name, code="unknown_parameter"
            )
        if raw[name] is not None and not _is_neutral(raw[name], NEUTRAL[name]):
            raise InvalidRequestError(
                f"{name!r} is not supported by this server.",
                param=name,
                code="unsupported_parameter",
            )
        del raw[name]


def _is_neutral(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Equal in type too: Python holds True for equal to 1."""
    return any(type(value) is type(other) and value == other for other in neutral)


def _validation_error(error: msgspec.ValidationError) -> InvalidRequestError:
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
    return InvalidRequestError(f"{sentence}{where}.", param=param or None, code=code)


def _check_together(request: Options) -> None:
    """What one field says about another."""
    form = request.response_format
    if isinstance(form, JsonSchemaFormat) and form.json_schema.schema is None:
        raise InvalidRequestError(
            "A json_schema needs its schema.", "response_format.json_schema.schema"
        )
    for token in request.logit_bias or ():
        if not (token.isascii() and token.isdigit() and len(token) <= 10):
            raise InvalidRequestError(
                f"{token[:20]!r} is no token id.", "logit_bias", "invalid_type"
            )
    if not isinstance(request, ChatRequest):
        return
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequestError("top_logprobs needs logprobs to be true.", "top_logprobs")
    if request.stream_options is not None and not request.stream:
        raise InvalidRequestError(
            "stream_options is only allowed when stream is true.", "stream_options"
        )


def _check_tokenize(request: TokenizeRequest) -> None:
    if (request.text is None) == (request.messages is None):
        raise InvalidRequestError("Give either text or messages.", "text")
    if request.tools and request.messages is None:
        raise InvalidRequestError("tools go with messages.", "tools")


def _check_tools(tools: list[Tool]) -> None:
    for i, tool in enumerate(tools):
        if too_deep(tool.function.parameters or {}):
            raise InvalidRequestError(
                f"The schema is nested deeper than {MAX_NESTING} levels.",
                f"tools[{i}].function.parameters",
            )


def _check_stops(stop: str | list[str] | None) -> None:
    named = {"stop": stop} if isinstance(stop, str) else _named_stops(stop or [])
    if len(named) > MAX_STOPS:
        raise InvalidRequestError(
            f"stop has {len(named)} strings; at most {MAX_STOPS} are taken.", "stop"
        )
    for name, text in named.items():
        if not text or len(text.encode()) > MAX_STOP_BYTES:
            raise InvalidRequestError(f"{name} must have 1 to {MAX_STOP_BYTES} bytes.", name)


def _check_prediction(text: str) -> None:
    n_bytes = len(text.encode())
    if n_bytes > MAX_PREDICTION_BYTES:
        raise InvalidRequestError(
            f"prediction has {n_bytes} bytes of text; at most {MAX_PREDICTION_BYTES} are taken.",
            "prediction",
        )


def _named_stops(stops: list[str]) -> dict[str, str]:
    return {f"stop[{i}]": text for i, text in enumerate(stops)}
