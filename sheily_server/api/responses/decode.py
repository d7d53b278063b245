"""Decodes OpenAI's requests for responses, checks them, and converts them to a Generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...chat.generation import Generation
from ...chat.grammar import AnswerSchema
from ...errors import InvalidRequestError
from ...templates.base import Function, Message, Offer
from .. import body
from ..nesting import check_schema_depth
from ..offers import Choice, offered
from ..openai_chat.bias import read_bias
from ..openai_chat.decode import (
    cache_wish,
    check_options,
    check_stream_options,
    continues,
    sampling,
)
from ..openai_chat.forms import of_object, of_schema
from ..openai_chat.protocol import JsonObjectFormat
from . import items
from . import protocol as wire

FORMAT = "text.format"


def _prepare(raw: dict[str, Any]) -> None:
    """Prepares the items. Refuses tools that are no functions by their kind."""
    items.prepare(raw)
    tools = raw.get("tools")
    for i, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "function":
            raise InvalidRequestError(_refusal(kind[:40]), f"tools[{i}].type", UNSUPPORTED)
    choice = raw.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, dict) else None
    if isinstance(kind, str) and kind not in ("function", "allowed_tools"):
        raise InvalidRequestError(_refusal(kind[:40]), "tool_choice.type", UNSUPPORTED)


UNSUPPORTED = "unsupported_parameter"
READER = body.Reader(wire.ResponseRequest, wire.NEUTRAL, wire.EFFECTLESS, _prepare)


def _refusal(kind: str) -> str:
    if kind == "custom":
        return "Tools of the type 'custom' are not supported; use a function."
    return f"This server runs no tools itself, so there is no {kind!r}; use a function."


def read(data: bytes, strict: bool = False) -> body.Read[wire.ResponseRequest]:
    """Decodes the body of POST /v1/responses. Raises InvalidRequestError."""
    found = READER.read(data, strict)
    request = found.request
    check_options(request.options())
    for i, tool in enumerate(request.tools or ()):
        check_schema_depth(tool.parameters, f"tools[{i}].parameters")
    check_stream_options(request)
    if not request.input and request.previous_response_id is None and request.input != "":
        raise InvalidRequestError("The input is an empty list.", "input")
    if request.background and not request.stores:
        raise InvalidRequestError(
            "A response in the background is fetched later, so store cannot be false.", "background"
        )
    unheard = _unheard(request)
    if strict and unheard:
        raise InvalidRequestError(f"{unheard[0]!r} has no effect here.", unheard[0], UNSUPPORTED)
    return body.Read(request, (*found.ignored, *unheard))


def _unheard(request: wire.ResponseRequest) -> list[str]:
    """Returns the places of values without effect."""
    places = [
        f"include[{i}]" for i, name in enumerate(request.include or ()) if name != wire.LOGPROBS
    ]
    if request.text is not None and request.text.verbosity not in (None, "medium"):
        places.append("text.verbosity")
    if request.return_progress and not request.is_streamed:
        places.append("return_progress")
    if any(isinstance(item, wire.ReasoningItem) for item in items.items_of(request)):
        places.append(items.UNHEARD)
    return places


def generation(
    found: body.Read[wire.ResponseRequest],
    messages: Sequence[Message],
    history: int | None,
    answer: str = "",
) -> Generation:
    """Returns what a body asks for, behind the conversation so far; `answer` is the id of its
    response. Raises InvalidRequestError."""
    request = found.request
    options = request.options()
    bias = read_bias(options.logit_bias)
    return Generation(
        messages=messages,
        continues=bool(request.continue_final_message) and continues(messages, request),
        progress=bool(request.return_progress and request.is_streamed),
        sampling=sampling(options, bias.ids),
        bias_texts=bias.texts,
        max_tokens=request.max_output_tokens,
        max_tokens_place="max_output_tokens",
        stop=options.stops(),
        top_logprobs=request.wanted_logprobs(),
        offer=offer(request),
        form=_answer_form(request),
        history=history,
        ignored=found.ignored,
        trims=request.truncation == "auto",
        trim_word="auto",
        cache=cache_wish(request, request.stores, answer),
    )


def _answer_form(request: wire.ResponseRequest) -> AnswerSchema | None:
    form = request.text.format if request.text is not None else None
    if isinstance(form, JsonObjectFormat):
        return of_object(form, FORMAT)
    if isinstance(form, wire.SchemaFormat):
        return of_schema(form.schema, f"{FORMAT}.schema", form.strict is True)
    return None


def offer(request: wire.ResponseRequest) -> Offer:
    """Returns what a request offers. Raises InvalidRequestError, as `offers.offered`."""
    functions = tuple(
        Function(
            tool.name,
            description=tool.description,
            parameters=tool.parameters,
            strict=bool(tool.strict),
            place=f"tools[{i}].parameters",
        )
        for i, tool in enumerate(request.tools or ())
    )
    return offered(functions, _choice(request), "tools[{}].name")


def _choice(request: wire.ResponseRequest) -> Choice:
    choice = request.tool_choice
    several = request.parallel_tool_calls is not False
    if choice is None or isinstance(choice, str):
        return Choice(forced=choice == "required", several=several, hides=choice == "none")
    if isinstance(choice, wire.ChosenTool):
        return Choice(names=[choice.name], forced=True)
    names = [tool.name for tool in choice.tools]
    if not names:
        raise InvalidRequestError("There is no tool to choose from.", "tool_choice.tools")
    return Choice(
        names=names,
        names_at="tool_choice.tools[{}].name",
        forced=choice.mode == "required",
        several=several,
    )
