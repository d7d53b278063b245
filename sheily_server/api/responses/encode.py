"""Encodes the pieces of an answer as the events of a stream in OpenAI's order, and as the response
that they end in. Both come from the same steps, so they always agree."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from ...backend.sampling import Values
from ...chat.reader import Piece, Progress
from ...chat.turn import Turn
from ...errors import InvalidRequestError, QueueFullError, ServiceError
from ...protocol.events import TokenLogprob
from ...templates.base import CallPart
from ..openai_chat.answer import Logprob
from ..openai_chat.encode import extension, new_call_id, timings, token_logprobs
from . import answer
from . import protocol as wire

ENDS: dict[str, type[answer.ResponseCompleted | answer.ResponseIncomplete | answer.ResponseFailed]]
ENDS = {
    "completed": answer.ResponseCompleted,
    "incomplete": answer.ResponseIncomplete,
    "cancelled": answer.ResponseIncomplete,  # OpenAI has no event of its own for it
    "failed": answer.ResponseFailed,
}
"""The last event of a stream, by the status that its response has then."""


def blank(
    request: wire.ResponseRequest, *, key: str, model: str, sampling: Values
) -> answer.Response:
    """Returns the response to a request, before anything is done. `key` is what is unique in its
    id, `sampling` what it is sampled with."""
    form = request.text.format if request.text is not None else None
    return answer.Response(
        id=id_of(key),
        created_at=int(time.time()),
        status="queued" if request.background else "in_progress",
        model=model,
        background=bool(request.background),
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        metadata=request.metadata or {},
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        safety_identifier=request.safety_identifier,
        store=request.stores,
        temperature=sampling["temperature"],
        text={"format": _format(form), "verbosity": "medium"},
        tool_choice=_choice(request),
        tools=[_tool(tool) for tool in request.tools or ()],
        top_logprobs=request.top_logprobs or 0,
        top_p=sampling["top_p"],
        truncation=request.truncation or "disabled",
        user=request.user,
    )


def id_of(key: str) -> str:
    """Returns the id of the response with this key."""
    return f"resp_{key}"


def _format(form: object) -> dict[str, Any]:
    if form is None:
        return {"type": "text"}
    found: dict[str, Any] = msgspec.to_builtins(form)
    if isinstance(form, wire.SchemaFormat):
        found["strict"] = form.strict is True
    elif found.get("schema") is None:  # OpenAI's formats have none
        found.pop("schema", None)
    return found


def _tool(tool: wire.FunctionTool) -> dict[str, Any]:
    return {**msgspec.to_builtins(tool), "strict": tool.strict is True}


def _choice(request: wire.ResponseRequest) -> str | dict[str, Any]:
    choice = request.tool_choice
    if choice is None or isinstance(choice, str):
        return choice or "auto"
    found: dict[str, Any] = msgspec.to_builtins(choice)
    return found


def error_of(error: ServiceError) -> answer.ResponseError:
    """Returns an error as a response has it, with one of OpenAI's codes."""
    code = "server_error"
    if isinstance(error, QueueFullError):
        code = "rate_limit_exceeded"
    elif isinstance(error, InvalidRequestError):
        code = "invalid_prompt"
    return answer.ResponseError(code, error.message)


@dataclass(slots=True)
class _Text:
    """A message that is being written."""

    id: str
    texts: list[str] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)

    def part(self) -> answer.OutputText:
        return answer.OutputText(text="".join(self.texts), logprobs=list(self.logprobs))

    def item(self, status: str) -> answer.OutputMessage:
        return answer.OutputMessage(id=self.id, status=status, content=[self.part()])


@dataclass(slots=True)
class _Call:
    """A call that is being written."""

    id: str
    call_id: str
    name: str
    arguments: list[str] = field(default_factory=list)

    def item(self, status: str) -> answer.OutputCall:
        return answer.OutputCall(
            id=self.id,
            status=status,
            call_id=self.call_id,
            name=self.name,
            arguments="".join(self.arguments),
        )


class Writer:
    """Writes one response: the events of its stream, numbered, and what it is at any time."""

    def __init__(self, blank: answer.Response, *, logprobs: bool) -> None:
        self._base = blank
        self._key = blank.id.removeprefix("resp_")
        self._wants_logprobs = logprobs
        self._number = 0
        self._done: list[answer.OutputItem] = []
        self._open: _Text | _Call | None = None
        self._finish = ""

    @property
    def id(self) -> str:
        return self._base.id

    def response(self, status: str) -> answer.Response:
        """Returns the response as far as it is. Until it ends, it has no output."""
        if status in ("queued", "in_progress"):
            return replace(self._base, status=status)
        rest = [self._open.item("incomplete")] if self._open is not None else []
        return replace(self._base, status=status, output=[*self._done, *rest])

    def created(self) -> Iterator[answer.Event]:
        """Yields the first events of a response; one in the background is queued."""
        first = self._base
        yield answer.ResponseCreated(sequence_number=self._next(), response=first)
        if first.status == "queued":
            yield answer.ResponseQueued(sequence_number=self._next(), response=first)

    def admitted(self, turn: Turn) -> None:
        """Takes over what is known of the turn once the engine has it."""
        told = extension(turn)
        self._base = replace(
            self._base,
            model=turn.model,
            sheily=answer.ResponseExtension(
                dropped_messages=told.dropped_messages,
                clamped=told.clamped,
                ignored=told.ignored,
                relaxed=told.relaxed,
            ),
        )

    def in_progress(self) -> Iterator[answer.Event]:
        response = self.response("in_progress")
        yield answer.ResponseInProgress(sequence_number=self._next(), response=response)

    def take(self, piece: Piece | Progress) -> Iterator[answer.Event]:
        """Yields the events of a piece. The end of an item comes with what follows it, as only then
        it is known whether it was cut off."""
        if isinstance(piece, Progress):
            yield self._progress(piece)
            return
        for part in piece.parts:
            yield from self._call(part)
        if piece.text or (piece.logprobs and not piece.parts):
            yield from self._text(piece.text, piece.logprobs)
        self._finish = piece.finish or self._finish

    def close(self) -> Iterator[answer.Event]:
        """Yields the end of the last item of a finished answer."""
        if self._open is None and not self._done:
            yield from self._text("", ())
        yield from self._close("incomplete" if self._finish == "length" else "completed")

    def finished(self, turn: Turn) -> answer.Response:
        """Returns the response once its turn has finished and its last item is closed."""
        done, cut = turn.done(), self._finish == "length"
        return replace(
            self.response("incomplete" if cut else "completed"),
            incomplete_details=answer.IncompleteDetails() if cut else None,
            completed_at=None if cut else int(time.time()),
            usage=answer.ResponseUsage(
                input_tokens=done.prompt_tokens,
                input_tokens_details=answer.InputDetails(
                    cached_tokens=done.cached_tokens,
                    cache_write_tokens=done.prompt_tokens - done.cached_tokens,
                ),
                output_tokens=done.completion_tokens,
                output_tokens_details=answer.OutputDetails(),
                total_tokens=done.prompt_tokens + done.completion_tokens,
            ),
            timings=timings(turn),
            sheily=replace(self._base.sheily, timed_out=turn.timed_out),
        )

    def failed(self, error: answer.ResponseError, code: str | None) -> answer.Response:
        """Returns the response after an error, which has this code on the other routes."""
        told = replace(self._base.sheily, error_code=code or "")
        return replace(self.response("failed"), error=error, sheily=told)

    def last(self, response: answer.Response) -> answer.Event:
        """Returns the last event of the stream, for a response that has ended."""
        return ENDS[response.status](sequence_number=self._number, response=response)

    def _next(self) -> int:
        self._number += 1
        return self._number - 1

    def _progress(self, found: Progress) -> answer.Event:
        return answer.PromptProgressed(
            sequence_number=self._next(),
            total=found.prompt_tokens,
            cache=found.cached_tokens,
            processed=found.computed_tokens,
            queue_place=found.queue_place,
        )

    def _text(self, text: str, tokens: tuple[TokenLogprob, ...]) -> Iterator[answer.Event]:
        if not isinstance(self._open, _Text):
            yield from self._close("completed")
            made = self._open = _Text(self._new_id("msg"))
            yield answer.OutputItemAdded(
                sequence_number=self._next(),
                output_index=len(self._done),
                item=answer.OutputMessage(id=made.id, status="in_progress", content=[]),
            )
            yield answer.ContentPartAdded(
                sequence_number=self._next(),
                item_id=made.id,
                output_index=len(self._done),
                part=answer.OutputText(text=""),
            )
        logprobs = token_logprobs(tokens) if self._wants_logprobs else []
        self._open.texts.append(text)
        self._open.logprobs += logprobs
        if text or logprobs:
            yield answer.OutputTextDelta(
                sequence_number=self._next(),
                item_id=self._open.id,
                output_index=len(self._done),
                delta=text,
                logprobs=logprobs,
            )

    def _call(self, part: CallPart) -> Iterator[answer.Event]:
        if part.name is not None:
            yield from self._close("completed")
            self._open = _Call(self._new_id("fc"), new_call_id(), part.name)
            yield answer.OutputItemAdded(
                sequence_number=self._next(),
                output_index=len(self._done),
                item=self._open.item("in_progress"),
            )
        if isinstance(self._open, _Call) and part.arguments:
            self._open.arguments.append(part.arguments)
            yield answer.CallArgumentsDelta(
                sequence_number=self._next(),
                item_id=self._open.id,
                output_index=len(self._done),
                delta=part.arguments,
            )

    def _close(self, status: str) -> Iterator[answer.Event]:
        """Yields the end of the open item, if there is one."""
        made, index = self._open, len(self._done)
        if made is None:
            return
        if isinstance(made, _Text):
            part = made.part()
            yield answer.OutputTextDone(
                sequence_number=self._next(),
                item_id=made.id,
                output_index=index,
                text=part.text,
                logprobs=part.logprobs,
            )
            yield answer.ContentPartDone(
                sequence_number=self._next(), item_id=made.id, output_index=index, part=part
            )
        else:
            arguments = "".join(made.arguments)
            if status == "incomplete" and _is_json(arguments):
                status = "completed"
            yield answer.CallArgumentsDone(
                sequence_number=self._next(),
                item_id=made.id,
                output_index=index,
                name=made.name,
                arguments=arguments,
            )
        item = made.item(status)
        self._done.append(item)
        self._open = None
        yield answer.OutputItemDone(sequence_number=self._next(), output_index=index, item=item)

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}_{self._key}o{len(self._done)}"


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
