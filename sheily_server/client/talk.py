"""Talking in a terminal: questions in, answers out, and the commands between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from .conversation import Conversation
from .errors import LLMAPIError, LLMConnectionError, LLMError
from .interrupts import Interrupts
from .screen import Screen

HELP = """\
/system TEXT  sets the system message, from the next question on; without TEXT there is none
/reset        forgets the conversation, but not the system message
/help         shows this
/exit         leaves, as Ctrl-D does
Ctrl-C        stops an answer
A line that ends in \\ goes on in the next one. A line that begins with a space is not a command."""

_HINTS = {
    "context_length_exceeded": "shorten the question; LLM_CONTEXT_SIZE is the limit",
    "host_not_allowed": "LLM_ALLOWED_HOSTS lists the names that the server answers to",
    "invalid_api_key": "give a key in LLM_API_KEY, or with --key",
    "loading": "ask again when the model is there",
    "restarting": "ask again when the model is there",
    "model_not_found": "without --model the server's own model answers",
    "model_unavailable": "LLM_MODEL_PATH names the model when the server is started",
    "queue_full": "ask again in a moment; LLM_QUEUE is how many may wait",
    "timeout": "LLM_TIMEOUT is the most seconds that an answer may take",
}


def explained(error: LLMError) -> str:
    """Returns an error as it is, with the setting that helps."""
    hint = _HINTS.get(error.code or "") if isinstance(error, LLMAPIError) else None
    if isinstance(error, LLMConnectionError):
        hint = "LLM_URL or --url names the server"
    return f"{error} ({hint})" if hint else str(error)


class Talk:
    """Reads questions until there are no more.

    `read` shows a prompt, returns a line without its end, and raises EOFError. `interrupts` are
    those of a terminal; without them a Ctrl-C ends the program.
    """

    def __init__(
        self,
        conversation: Conversation,
        screen: Screen,
        read: Callable[[str], str],
        interrupts: Interrupts | None = None,
    ) -> None:
        self._conversation = conversation
        self._screen = screen
        self._read = read
        self._interrupts = interrupts
        self._heard = interrupts.heard if interrupts else contextlib.nullcontext[None]

    def run(self) -> bool:
        """Returns at the end, and whether everything was answered."""
        all_well = True
        while True:
            try:
                with self._heard():
                    text = self._question()
            except EOFError:
                break
            except KeyboardInterrupt:
                if self._interrupts is None:
                    raise
                self._screen.answer("\n")
                self._screen.note("Ctrl-C stops an answer; /exit or Ctrl-D leaves")
                continue
            if text.startswith("/"):
                if text.split()[0] == "/exit":
                    return all_well
                all_well &= self._obey(text)
            elif text.strip():
                all_well &= self._ask(text)
        if self._interrupts is not None:
            self._screen.answer("\n")
        return all_well

    def _question(self) -> str:
        """Reads a question, of one line or of several. Raises EOFError."""
        lines: list[str] = []
        while True:
            try:
                line = self._read(". " if lines else "> ")
            except EOFError:
                if not lines:
                    raise
                return "\n".join(lines)
            if not line.endswith("\\"):
                return "\n".join([*lines, line])
            lines.append(line[:-1])

    def _obey(self, text: str) -> bool:
        """Obeys a command; returns whether there is such a command."""
        name, _, rest = text.partition(" ")
        if name == "/help":
            self._screen.note(HELP)
        elif name == "/reset":
            self._conversation.messages.clear()
            self._screen.note("the conversation is forgotten")
        elif name == "/system":
            self._conversation.system = rest.strip() or None
            self._screen.note(
                "the system message is set" if rest.strip() else "there is no system message"
            )
        else:
            self._screen.error(f"there is no command {name}; /help shows all")
            return False
        return True

    def _ask(self, question: str) -> bool:
        """Has a question answered; returns whether it was."""
        if "\ufffd" in question:
            self._screen.note("what is not UTF-8 in the question was replaced by U+FFFD")
        n_before = len(self._conversation.messages)
        try:
            with self._heard():
                told = self._conversation.ask(question, self._screen.answer)
        except LLMError as error:
            self._screen.error(explained(error))
            return False
        except KeyboardInterrupt:
            if self._interrupts is None:
                raise
            kept = len(self._conversation.messages) > n_before
            more = "" if kept else "; the question is not kept, since nothing was answered"
            self._screen.note(f"stopped{more}")
            return True
        self._screen.end_line()
        if line := told.line():
            self._screen.note(f"[{line}]")
        if len(self._conversation.messages) == n_before:
            self._screen.note("the answer is empty, so the question is not kept")
        return True
