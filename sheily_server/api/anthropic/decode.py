"""Decodes requests of Anthropic's Messages API, checks them, and converts them to a Generation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ...chat.generation import Generation, continuable
from ...chat.grammar import AnswerSchema
from ...errors import ContextExceededError, InvalidRequestError, ServiceError
from ...templates.base import Function, Offer
from .. import body
from ..nesting import check_schema_depth
from ..offers import Choice, offered
from ..openai_chat.decode import check_stops, sampling
from ..openai_chat.forms import of_schema
from ..openai_chat.protocol import MAX_MESSAGES, MAX_TOOLS, Options
from . import protocol as wire
from .conversation import Conversation
from .neutral import EFFECTLESS, NEUTRAL

_READ = ("text", "document", "search_result")
_BLOCKS: Mapping[str, tuple[str, ...]] = {
    "user": (*_READ, "tool_result"),
    "assistant": ("text", "tool_use", "thinking", "redacted_thinking"),
    "system": ("text",),
}
_SOURCES = ("text", "content")
_DEFAULT_EFFORT = "high"
RequestT = TypeVar("RequestT", bound=wire.CountTokensRequest)


def refuse_kinds(raw: dict[str, Any]) -> None:
    """Refuses blocks that are not text, and tools that only Anthropic has, by their kind. They
    would else be unknown values."""
    for i, turn in enumerate(_objects(raw.get("messages"), MAX_MESSAGES)):
        role = turn.get("role")
        _refuse_blocks(turn.get("content"), _BLOCKS.get(str(role), ()), f"messages[{i}].content")
    for i, tool in enumerate(_objects(raw.get("tools"), MAX_TOOLS)):
        kind = tool.get("type")
        if isinstance(kind, str) and kind != "custom":
            raise InvalidRequestError(
                f"This server has no tools of its own, such as {kind[:40]!r}: only custom tools "
                "can be offered, which the caller runs.",
                f"tools[{i}].type",
                "unsupported_parameter",
            )


def _refuse_blocks(content: Any, kinds: tuple[str, ...], place: str) -> None:
    for i, block in enumerate(_objects(content)):
        kind = block.get("type")
        if isinstance(kind, str) and kinds and kind not in kinds:
            raise InvalidRequestError(
                f"This model reads text only, no blocks of the type {kind[:40]!r} here.",
                f"{place}[{i}].type",
            )
        if kind == "tool_result":
            _refuse_blocks(block.get("content"), _READ, f"{place}[{i}].content")
        elif kind == "document":
            source = block.get("source")
            form = source.get("type") if isinstance(source, dict) else None
            if isinstance(form, str) and form not in _SOURCES:
                raise InvalidRequestError(
                    f"This model reads text only, no document from a source of the type "
                    f"{form[:40]!r}.",
                    f"{place}[{i}].source.type",
                )
            if isinstance(source, dict):
                _refuse_blocks(source.get("content"), ("text",), f"{place}[{i}].source.content")


def _objects(values: Any, most: int | None = None) -> Iterator[dict[str, Any]]:
    """Yields the items of what may be a list; an empty object for one that is no object."""
    for value in values[:most] if isinstance(values, list) else ():
        yield value if isinstance(value, dict) else {}


MESSAGES = body.Reader(wire.MessagesRequest, NEUTRAL, EFFECTLESS, refuse_kinds)
COUNT = body.Reader(wire.CountTokensRequest, NEUTRAL, EFFECTLESS, refuse_kinds)


def read(data: bytes, strict: bool = False) -> body.Read[wire.MessagesRequest]:
    """Decodes the body of POST /v1/messages. Raises InvalidRequestError."""
    found = _checked(MESSAGES.read(data, strict), strict)
    check_stops(found.request.stop_sequences, "stop_sequences")
    return found


def read_count(data: bytes, strict: bool = False) -> body.Read[wire.CountTokensRequest]:
    """Decodes the body of POST /v1/messages/count_tokens. Raises InvalidRequestError."""
    return _checked(COUNT.read(data, strict), strict)


def _checked(found: body.Read[RequestT], strict: bool) -> body.Read[RequestT]:
    """Checks what the types do not, and names what is left out of the prompt."""
    request = found.request
    for i, tool in enumerate(request.tools or ()):
        check_schema_depth(tool.input_schema, f"tools[{i}].input_schema")
    left_out = dict(_left_out(request))
    if strict and left_out:
        place = next(iter(left_out.values()))
        raise InvalidRequestError(
            f"{place!r} is not supported by this server.", place, "unsupported_parameter"
        )
    return replace(found, ignored=(*found.ignored, *left_out))


def _left_out(request: wire.CountTokensRequest) -> Iterator[tuple[str, str]]:
    """Yields the kind and the place of what asks for something and has no effect."""
    config = request.output_config
    if config is not None and config.effort not in (None, _DEFAULT_EFFORT):
        yield "output_config.effort", "output_config.effort"
    seen: set[str] = set()
    for i, turn in enumerate(request.messages):
        for j, block in enumerate(turn.content if isinstance(turn.content, list) else ()):
            kind = ""
            if isinstance(block, wire.ThinkingBlock):
                kind = "messages[].content[].thinking"
            elif isinstance(block, wire.RedactedThinkingBlock):
                kind = "messages[].content[].redacted_thinking"
            if kind and kind not in seen:
                seen.add(kind)
                yield kind, f"messages[{i}].content[{j}]"


def prompt(request: wire.CountTokensRequest, talk: Conversation) -> Generation:
    """Returns what has the prompt of a request. Raises InvalidRequestError."""
    return Generation(
        messages=talk.messages, offer=offer(request), continues=continuable(talk.messages)
    )


def generation(
    found: body.Read[wire.MessagesRequest], talk: Conversation, history: int | None
) -> Generation:
    """Returns what a body asks for, with at most `history` messages. Raises
    InvalidRequestError."""
    request = found.request
    options = Options(temperature=request.temperature, top_p=request.top_p, top_k=request.top_k)
    return replace(
        prompt(request, talk),
        sampling=sampling(options),
        max_tokens=request.max_tokens,
        stop=request.stop_sequences or [],
        form=_form(request),
        history=history,
        ignored=found.ignored,
    )


def _form(request: wire.MessagesRequest) -> AnswerSchema | None:
    """Returns the schema that the answer must follow, all of it, as Anthropic's API promises."""
    config = request.output_config
    if config is not None and config.format is not None:
        schema, place = config.format.schema, "output_config.format.schema"
    elif request.output_format is not None:
        schema, place = request.output_format.schema, "output_format.schema"
    else:
        return None
    return of_schema(schema, place, strict=True)


def offer(request: wire.CountTokensRequest) -> Offer:
    """Returns what a request offers. Raises InvalidRequestError, as `offers.offered`."""
    functions = tuple(
        Function(
            tool.name,
            description=tool.description,
            parameters=tool.input_schema,
            strict=bool(tool.strict),
            place=f"tools[{i}].input_schema",
        )
        for i, tool in enumerate(request.tools or ())
    )
    return offered(functions, _choice(request.tool_choice), "tools[{}].name")


def _choice(choice: wire.ToolChoice | None) -> Choice:
    if choice is None:
        return Choice(several=True)
    if isinstance(choice, wire.NoneChoice):
        return Choice(hides=True)
    if isinstance(choice, wire.OneChoice):
        return Choice(names=[choice.name], forced=True)
    several = not choice.disable_parallel_tool_use
    return Choice(forced=isinstance(choice, wire.AnyChoice), several=several)


def reworded(error: ServiceError, place: Callable[[str | None], str | None]) -> ServiceError:
    """Returns an error of the core as this API says it. `place` translates where it is. That a
    prompt is too long begins with Anthropic's words, which clients look for."""
    error.param = place(error.param)
    if isinstance(error, ContextExceededError):
        least = "at least " if error.at_least else ""
        error.message = (
            f"prompt is too long: {least}{error.n_prompt} tokens > {error.n_context - 1} maximum, "
            f"which leaves one token of {error.n_context} (LLM_CONTEXT_SIZE) for the answer."
        )
    return error
