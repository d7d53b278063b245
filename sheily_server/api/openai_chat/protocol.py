"""The wire structs of requests for OpenAI's chat completions.

Knows fields and their ranges, but nothing of prompts, tokens or HTTP. The fields are those of
https://platform.openai.com/docs/api-reference/chat, as the `openai` Python package types them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

MAX_MESSAGES = 512
MAX_STOPS = 16
MAX_LOGIT_BIAS = 300_000
MAX_BIAS_TEXTS = 256
MAX_BIAS_BYTES = 16 * 1024
"""Bytes of the texts in a logit bias."""
MAX_TOP_LOGPROBS = 20
MAX_TOOLS = 128

Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
RepeatPenalty = Annotated[float, Meta(ge=0.01, le=10)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
TokenCount = Annotated[int, Meta(ge=-1, le=2**63 - 1)]
"""-1 asks for as many tokens as the server gives."""
BiasValue = Annotated[float, Meta(ge=-100, le=100)] | bool
LogitBias = (
    Annotated[dict[str, BiasValue], Meta(max_length=MAX_LOGIT_BIAS)]
    | Annotated[list[tuple[int | str, BiasValue]], Meta(max_length=MAX_LOGIT_BIAS)]
)
"""Token ids, or texts whose tokens are meant, with what is added to their logits. false is -100."""
# The part after $ is there because Python's $ also matches before a final line break.
FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$(?!\n)")]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class TextPart(Struct, tag_field="type", tag="text", frozen=True):
    """One part of a message's content. The model reads only text. `prompt_cache_breakpoint` has no
    effect: every prefix is cached anyway."""

    text: str
    prompt_cache_breakpoint: Any = None


class RefusalPart(Struct, tag_field="type", tag="refusal", frozen=True):
    """What an assistant said instead of an answer: text, to this model."""

    refusal: str


Content = str | list[TextPart]
AssistantContent = str | list[TextPart | RefusalPart]


def plain(content: str | Sequence[TextPart | RefusalPart]) -> str:
    """Returns the text of a content. Its parts are joined with nothing between them."""
    if isinstance(content, str):
        return content
    return "".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)


class FunctionCall(Struct, frozen=True):
    """A call the model made earlier. `arguments` is JSON in a string, as in OpenAI's API.

    The official clients add `parsed_arguments` to the calls that they read, and send it back.
    """

    name: Annotated[str, Meta(min_length=1)]
    arguments: str
    parsed_arguments: Any = None


class ToolCallParam(Struct, frozen=True):
    """A call of an earlier answer. `index` remains if the call was put together from chunks."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"
    index: int | None = None


class _Message(Struct, tag_field="role", frozen=True, kw_only=True):
    name: str | None = None


class SystemMessage(_Message, tag="system", kw_only=True, frozen=True):
    content: Content


class DeveloperMessage(_Message, tag="developer", kw_only=True, frozen=True):
    content: Content


class UserMessage(_Message, tag="user", kw_only=True, frozen=True):
    content: Content


class AssistantMessage(_Message, tag="assistant", kw_only=True, frozen=True):
    """Fields besides `content` and `tool_calls` are parts of an answer that clients send back. The
    official clients add `parsed`."""

    content: AssistantContent | None = None
    tool_calls: list[ToolCallParam] | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: FunctionCall | None = None
    parsed: Any = None


class ToolMessage(_Message, tag="tool", kw_only=True, frozen=True):
    content: Content
    tool_call_id: str


class FunctionMessage(_Message, tag="function", kw_only=True, frozen=True):
    """The result of a `function_call`, the older form of a tool message."""

    content: Content | None


ChatMessage = (
    SystemMessage
    | DeveloperMessage
    | UserMessage
    | AssistantMessage
    | ToolMessage
    | FunctionMessage
)


class StreamOptions(Struct, frozen=True):
    """`include_obfuscation` asks for padding against eavesdroppers. It has no effect."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class TextFormat(Struct, tag_field="type", tag="text", frozen=True):
    """The answer is free text."""


class JsonObjectFormat(Struct, tag_field="type", tag="json_object", frozen=True):
    """The answer is a JSON object, which follows `schema` as far as it can be followed."""

    schema: dict[str, Any] | None = None


class JsonSchema(Struct, frozen=True, kw_only=True):
    """A named schema. The answer follows all of it if it is `strict`, else what can be followed."""

    name: FunctionName
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(Struct, tag_field="type", tag="json_schema", frozen=True):
    """The answer is JSON that follows a schema."""

    json_schema: JsonSchema


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat


class StructuredOutputs(Struct, frozen=True, kw_only=True):
    """vLLM's field for the form of an answer, of which at most one may be given. A schema may be
    JSON in a string."""

    json: dict[str, Any] | str | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: Any = None


class Function(Struct, frozen=True, kw_only=True):
    """A function the model may call; `parameters` is the JSON Schema of its arguments."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, tag_field="type", tag="function", frozen=True):
    function: Function


class ChosenFunction(Struct, frozen=True):
    name: str


class NamedToolChoice(Struct, frozen=True):
    """The answer must call this function."""

    function: ChosenFunction
    type: Literal["function"] = "function"


CacheSalt = Annotated[str, Meta(min_length=1, max_length=256)]


class Prediction(Struct, frozen=True):
    """Text that the answer is expected to repeat, at most 256 KiB. It speeds up the answer and
    never changes it."""

    type: Literal["content"]
    content: Content


class Options(Struct, frozen=True, kw_only=True):
    """Options of an answer on both chat routes. Null means the same as leaving a field out.

    docs/api/chat-completions.md has a line for each field.
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
    logit_bias: LogitBias | None = None
    response_format: ResponseFormat | None = None
    json_schema: dict[str, Any] | None = None
    grammar: str | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    structured_outputs: StructuredOutputs | None = None
    top_k: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: RepeatPenalty | None = None
    repetition_penalty: RepeatPenalty | None = None
    n_predict: TokenCount | None = None
    ignore_eos: bool | None = None
    truncation: Literal["error", "trim"] | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    prediction: Prediction | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Any = None
    cache_salt: CacheSalt | None = None
    safety_identifier: str | None = None
    store: Any = None

    def stops(self) -> list[str]:
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else self.stop

    def predicted(self) -> str | None:
        """Returns the text of `prediction`, or None without any."""
        return None if self.prediction is None else plain(self.prediction.content) or None

    def completion_limit(self) -> tuple[int | None, str]:
        """Returns the value and the name of the first of the three fields that is there. None means
        as many tokens as the server gives."""
        for name in ("max_completion_tokens", "max_tokens", "n_predict"):
            value = getattr(self, name)
            if value is not None:
                return (None if value == -1 else value), name
        return None, "max_tokens"


class ChatRequest(Options, frozen=True, kw_only=True):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_progress: bool | None = None
    timings_per_token: bool | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], Meta(max_length=MAX_TOOLS)] | None = None
    function_call: Literal["none", "auto"] | ChosenFunction | None = None

    def wanted_logprobs(self) -> int | None:
        """Returns how many alternatives of each token are wanted; None for no logprobs."""
        return (self.top_logprobs or 0) if self.logprobs else None
