"""Decodes OpenAI's chat completion requests, checks them, and converts them to a Generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from ...chat.generation import CacheWish, Generation, continuable
from ...chat.sampling import Wanted
from ...errors import InvalidRequestError
from ...protocol.commands import Bias
from ...templates.base import Function, Message, Offer, ToolCall
from ...templates.cut_off import completed
from .. import body
from ..nesting import check_depth, check_schema_depth
from ..offers import Choice, offered
from . import protocol as wire
from .bias import read_bias
from .forms import answer_form
from .neutral import EFFECTLESS, NEUTRAL

MAX_STOP_BYTES = 256
NO_BIAS = Bias()
MAX_PREDICTION_BYTES = 256 * 1024
TOOL_PLACE = "tools[{}].function"
FUNCTION_PLACE = "functions[{}]"


def refuse_media(raw: dict[str, Any]) -> None:
    """Refuses content that is not text by its kind, which would else be an unknown value."""
    for name in ("messages", "history"):
        messages = raw.get(name)
        some = messages[: wire.MAX_MESSAGES] if isinstance(messages, list) else ()
        for i, message in enumerate(some):
            content = message.get("content") if isinstance(message, dict) else None
            for j, part in enumerate(content if isinstance(content, list) else ()):
                kind = part.get("type") if isinstance(part, dict) else None
                if isinstance(kind, str) and kind not in ("text", "refusal"):
                    raise InvalidRequestError(
                        f"This model reads text only, no content of the type {kind[:40]!r}.",
                        f"{name}[{i}].content[{j}].type",
                    )


READER = body.Reader(wire.ChatRequest, NEUTRAL, EFFECTLESS, refuse_media)


def read(data: bytes, strict: bool = False) -> body.Read[wire.ChatRequest]:
    """Decodes the body of POST /v1/chat/completions. Raises InvalidRequestError."""
    found = READER.read(data, strict)
    request = found.request
    check_tools(tools_of(request), _tool_place(request))
    check_options(request)
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequestError("top_logprobs needs logprobs to be true.", "top_logprobs")
    check_stream_options(request)
    return found


def generation(found: body.Read[wire.ChatRequest], history: int | None) -> Generation:
    """Returns what a body asks for, with at most `history` messages. Raises
    InvalidRequestError."""
    request = found.request
    return asked(
        request,
        request.messages,
        offer(request),
        history=history,
        ignored=[*found.ignored, *_only_in_streams(request)],
        progress=bool(request.stream and request.return_progress),
        n=request.n or 1,
        top_logprobs=request.wanted_logprobs(),
    )


def _only_in_streams(request: wire.ChatRequest) -> list[str]:
    """Returns the fields that have no effect, as the answer is not streamed."""
    names = ("return_progress", "timings_per_token")
    return [] if request.stream else [name for name in names if getattr(request, name)]


def asked(
    options: wire.Options,
    messages: Sequence[wire.ChatMessage],
    offer: Offer,
    *,
    history: int | None,
    ignored: Sequence[str] = (),
    progress: bool = False,
    n: int = 1,
    top_logprobs: int | None = None,
) -> Generation:
    """Returns what messages with these options ask for. Raises InvalidRequestError."""
    max_tokens, max_tokens_place = options.completion_limit()
    conversation = [to_message(message, i) for i, message in enumerate(messages)]
    bias = read_bias(options.logit_bias)
    return Generation(
        messages=conversation,
        continues=continues(conversation, options),
        sampling=sampling(options, bias.ids),
        bias_texts=bias.texts,
        max_tokens=max_tokens,
        max_tokens_place=max_tokens_place,
        stop=options.stops(),
        n=n,
        top_logprobs=top_logprobs,
        offer=offer,
        form=answer_form(options),
        prediction=options.predicted(),
        history=history,
        ignored=ignored,
        progress=progress,
        trims=options.truncation == "trim",
        template_arguments=options.chat_template_kwargs or {},
        cache=cache_wish(options, options.store is not False),
    )


class Cacheable(Protocol):
    """What says how a request uses the prefix cache."""

    @property
    def cache_salt(self) -> str | None: ...

    @property
    def prompt_cache_retention(self) -> object: ...


def cache_wish(asked: Cacheable, stores: bool, answer: str = "") -> CacheWish:
    """Returns what a request says of the prefix cache. Only one that is not `stores`, or wants its
    prompt in memory alone, keeps it off the disk."""
    retention = asked.prompt_cache_retention
    return CacheWish(
        salt=asked.cache_salt or "",
        disk=stores and retention not in ("in_memory", "in-memory"),
        lasting=retention == "24h",
        answer=answer,
    )


class Continuable(Protocol):
    """What says whether the last message is to be continued."""

    @property
    def continue_final_message(self) -> bool | None: ...

    @property
    def add_generation_prompt(self) -> bool | None: ...


def continues(messages: Sequence[Message], asked: Continuable) -> bool:
    """Whether the answer goes on with the last message: where that is the assistant's, has text
    and is not the only one, unless the request wants a new turn. Raises InvalidRequestError."""
    if not messages:  # of a raw prompt
        return False
    possible = continuable(messages)
    if asked.continue_final_message:
        if asked.add_generation_prompt:
            raise InvalidRequestError(
                "continue_final_message and add_generation_prompt exclude each other.",
                "continue_final_message",
            )
        if not possible:
            raise InvalidRequestError(
                "continue_final_message needs a last message of the assistant, with text, and "
                "another one before it.",
                "continue_final_message",
            )
    new_turn = asked.add_generation_prompt or asked.continue_final_message is False
    return possible and not new_turn


class Streamable(Protocol):
    """What says whether an answer is to be streamed, and how."""

    @property
    def stream(self) -> bool | None: ...

    @property
    def stream_options(self) -> object | None: ...


def check_stream_options(asked: Streamable) -> None:
    """Raises InvalidRequestError for options of a stream without one."""
    if asked.stream_options is not None and not asked.stream:
        raise InvalidRequestError(
            "stream_options is only allowed when stream is true.", "stream_options"
        )


def check_options(options: wire.Options) -> None:
    """Checks what the types of the options do not. Raises InvalidRequestError."""
    max_tokens, max_tokens_place = options.completion_limit()
    if max_tokens == 0:
        raise InvalidRequestError(f"{max_tokens_place} must be at least 1.", max_tokens_place)
    check_stops(options.stop)
    _check_prediction(options.predicted() or "")
    form = options.response_format
    if isinstance(form, wire.JsonSchemaFormat) and form.json_schema.schema is None:
        raise InvalidRequestError(
            "A json_schema needs its schema.", "response_format.json_schema.schema"
        )
    read_bias(options.logit_bias)
    check_arguments(options.chat_template_kwargs)


def check_arguments(arguments: dict[str, Any] | None) -> None:
    """Raises InvalidRequestError for arguments of a template that are nested too deeply."""
    check_depth(arguments or {}, "chat_template_kwargs is", "chat_template_kwargs")


def check_tools(tools: list[wire.Tool], place: str = TOOL_PLACE) -> None:
    """Raises InvalidRequestError for a schema that is nested too deeply. `place` is where the body
    has the function of a number."""
    for i, tool in enumerate(tools):
        check_schema_depth(tool.function.parameters, f"{place.format(i)}.parameters")


def check_stops(stop: str | list[str] | None, field: str = "stop") -> None:
    """Raises InvalidRequestError for too many stop strings, or one of a wrong length."""
    if isinstance(stop, list) and len(stop) > wire.MAX_STOPS:
        raise InvalidRequestError(
            f"{field} has {len(stop)} strings; at most {wire.MAX_STOPS} are taken.", field
        )
    named = {field: stop} if isinstance(stop, str) else _named_stops(stop or [], field)
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


def _named_stops(stops: list[str], field: str) -> dict[str, str]:
    return {f"{field}[{i}]": text for i, text in enumerate(stops)}


def sampling(options: wire.Options, bias: Bias = NO_BIAS) -> Wanted:
    """Returns what the options say of sampling, with the `bias` by token ids."""
    return Wanted(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        repeat_penalty=options.repeat_penalty or options.repetition_penalty,
        frequency_penalty=options.frequency_penalty or 0.0,
        presence_penalty=options.presence_penalty or 0.0,
        seed=None if options.seed == -1 else options.seed,
        logit_bias=bias,
        ignore_eos=bool(options.ignore_eos),
    )


def offer(request: wire.ChatRequest) -> Offer:
    """Returns what a request offers. Raises InvalidRequestError, as `offers.offered`."""
    place = _tool_place(request)
    return offered(offered_functions(tools_of(request), place), _choice(request), f"{place}.name")


def tools_of(request: wire.ChatRequest) -> list[wire.Tool]:
    """Returns the tools of a request, or else the `functions`, their older form."""
    if request.tools is not None:
        return request.tools
    return [wire.Tool(function) for function in request.functions or ()]


def _tool_place(request: wire.ChatRequest) -> str:
    """Returns where the body has the function of a number."""
    return FUNCTION_PLACE if request.tools is None and request.functions else TOOL_PLACE


def offered_functions(tools: Sequence[wire.Tool], place: str = TOOL_PLACE) -> tuple[Function, ...]:
    """Converts tools to functions that belong to no dialect. `place` is where the body has the
    function of a number."""
    return tuple(
        Function(
            tool.function.name,
            description=tool.function.description,
            parameters=tool.function.parameters,
            strict=bool(tool.function.strict),
            place=f"{place.format(i)}.parameters",
        )
        for i, tool in enumerate(tools)
    )


def _choice(request: wire.ChatRequest) -> Choice:
    """Returns what `tool_choice` says, or else `function_call`, its older form."""
    choice: str | wire.NamedToolChoice | wire.ChosenFunction | None = request.tool_choice
    place, names_at = "tool_choice", "tool_choice.function.name"
    if choice is None and request.function_call is not None:
        choice, place, names_at = request.function_call, "function_call", "function_call.name"
    several = request.parallel_tool_calls is not False
    if choice is None or isinstance(choice, str):
        return Choice(
            place=place, forced=choice == "required", several=several, hides=choice == "none"
        )
    function = choice.function if isinstance(choice, wire.NamedToolChoice) else choice
    return Choice(place=place, names=[function.name], names_at=names_at, forced=True)


def to_message(message: wire.ChatMessage, index: int) -> Message:
    """Converts a message for prompts: developer becomes system, text parts become one text, and the
    arguments of calls are parsed. Raises ServiceError if arguments are not a JSON object."""
    if isinstance(message, wire.ToolMessage):
        return Message("tool", wire.plain(message.content), tool_call_id=message.tool_call_id)
    if isinstance(message, wire.FunctionMessage):
        return Message("tool", wire.plain(message.content or ""))
    if isinstance(message, wire.UserMessage):
        return Message("user", wire.plain(message.content))
    if isinstance(message, wire.AssistantMessage):
        calls = tuple(
            tool_call(
                call.function.name,
                call.function.arguments,
                f"messages[{index}].tool_calls[{i}].function.arguments",
                call.id,
            )
            for i, call in enumerate(message.tool_calls or [])
        )
        if message.function_call is not None:
            place = f"messages[{index}].function_call.arguments"
            call = message.function_call
            calls += (tool_call(call.name, call.arguments, place),)
        if message.content is None and not calls:
            raise InvalidRequestError(
                "An assistant message needs content or tool_calls.", f"messages[{index}].content"
            )
        return Message("assistant", wire.plain(message.content or ""), tool_calls=calls)
    return Message("system", wire.plain(message.content))


def tool_call(name: str, text: str, param: str, id: str = "") -> ToolCall:
    """Returns a call of an earlier answer, whose arguments are a JSON object as `text`. Raises
    InvalidRequestError, which names `param`."""
    arguments = _json_of(text or "{}")
    if arguments is None:  # a call that max_tokens cut off comes back as it went
        arguments = _json_of(completed(text))
    if not isinstance(arguments, dict):
        raise InvalidRequestError("arguments must be a JSON object in a string.", param)
    check_depth(arguments, "arguments are", param)
    return ToolCall(name, arguments, id=id)


def _json_of(text: str | None) -> Any:
    """Returns what JSON says; None for other text. Not by json.loads, which accepts NaN and lone
    surrogates."""
    try:
        return None if text is None else msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
