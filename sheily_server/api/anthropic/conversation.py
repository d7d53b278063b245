"""Converts Anthropic's turns, which are lists of blocks, to messages for prompts. Remembers where
the body has each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ...errors import InvalidRequestError
from ...templates.base import Message, ToolCall
from ..body import of_message
from ..nesting import check_depth
from ..openai_chat.protocol import MAX_MESSAGES
from . import protocol as wire

MAX_PARTS = 4 * MAX_MESSAGES
"""Most messages that the turns of a request may become: each result of a tool is one."""
FAILED = "Error: "
"""Comes before the result of a call that failed: the prompt formats have no place for that."""


@dataclass(slots=True)
class Conversation:
    """Messages for a prompt. `places` has the name of each in the body."""

    messages: list[Message] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def place(self, param: str | None) -> str | None:
        """Translates a place in these messages to the turn in the body; other places stay."""
        return of_message(param, self.places)

    def add(self, message: Message, place: str) -> None:
        """Adds a message. Texts of one role that follow each other become one message, as in
        Anthropic's API. Raises InvalidRequestError when there are too many."""
        last = self.messages[-1] if self.messages else None
        if last is not None and last.role == message.role in ("user", "assistant"):
            between = "\n" if message.role == "user" else ""
            if not last.tool_calls:
                text = between.join(filter(None, (last.text, message.text)))
                self.messages[-1] = replace(message, text=text)
                return
        if len(self.messages) >= MAX_PARTS:
            raise InvalidRequestError(
                f"The messages have more than {MAX_PARTS} texts and results of tools.", "messages"
            )
        self.messages.append(message)
        self.places.append(place)


def conversation(
    system: str | Sequence[wire.TextBlock] | None, turns: Sequence[wire.Turn]
) -> Conversation:
    """Returns the messages of a request. Raises InvalidRequestError."""
    found = Conversation()
    if system:
        found.add(Message("system", readable(system)), "system")
    for i, turn in enumerate(turns):
        place = f"messages[{i}]"
        if isinstance(turn, wire.SystemTurn):
            found.add(Message("system", readable(turn.content)), place)
        elif isinstance(turn, wire.AssistantTurn):
            found.add(_assistant(turn, place), place)
        else:
            _add_user(turn, place, found)
    return found


def readable(content: str | Sequence[wire.Readable] | None) -> str:
    """Returns the text of a content. Its blocks are on lines of their own."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(_text(block) for block in content)


def _text(block: wire.Readable) -> str:
    if isinstance(block, wire.TextBlock):
        return block.text
    if isinstance(block, wire.SearchResultBlock):
        return "\n".join([block.title, block.source, readable(block.content)])
    source = block.source
    body = source.data if isinstance(source, wire.TextSource) else readable(source.content)
    return "\n".join(filter(None, (block.title, block.context, body)))


def _add_user(turn: wire.UserTurn, place: str, found: Conversation) -> None:
    """Adds a user's turn: the results of tools in it, and the text between and behind them."""
    if isinstance(turn.content, str):
        found.add(Message("user", turn.content), place)
        return
    texts: list[wire.Readable] = []
    for block in turn.content:
        if not isinstance(block, wire.ToolResultBlock):
            texts.append(block)
            continue
        if texts:
            found.add(Message("user", readable(texts)), place)
            texts = []
        failed = FAILED if block.is_error else ""
        text = failed + readable(block.content)
        found.add(Message("tool", text, tool_call_id=block.tool_use_id), place)
    if texts or not turn.content:
        found.add(Message("user", readable(texts)), place)


def _assistant(turn: wire.AssistantTurn, place: str) -> Message:
    if isinstance(turn.content, str):
        return Message("assistant", turn.content)
    texts: list[str] = []
    calls: list[ToolCall] = []
    for i, block in enumerate(turn.content):
        if isinstance(block, wire.TextBlock):
            texts.append(block.text)
        elif isinstance(block, wire.ToolUseBlock):
            check_depth(block.input, "input is", f"{place}.content[{i}].input")
            calls.append(ToolCall(block.name, block.input, id=block.id))
    return Message("assistant", "".join(texts), tool_calls=tuple(calls))
