"""A conversation with the model, turn by turn; knows no terminal."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .client import LLMClient
from .replies import delta


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the server said of an answer: why it ended, and its field `sheily`."""

    finish_reason: str | None
    sheily: Mapping[str, Any]

    def line(self) -> str:
        """Returns what a reader should know, in one line, which may be empty."""
        parts = [_told(name, value) for name, value in self.sheily.items()]
        if self.finish_reason == "length" and not self.sheily.get("timed_out"):
            parts.append("cut off by the limit of tokens (--max-tokens, LLM_MAX_TOKENS)")
        return "; ".join(parts)


def _told(name: str, value: Any) -> str:
    if name == "clamped" and isinstance(value, dict):
        return ", ".join(f"{field} was lowered to {number}" for field, number in value.items())
    if name in ("ignored", "relaxed") and isinstance(value, list):
        words = "without effect" if name == "ignored" else "not followed"
        return f"{words}: {', '.join(map(str, value))}"
    if name == "dropped_messages":
        return f"oldest messages left out of the prompt: {value}"
    if name == "timed_out":
        return "cut short by the server's LLM_TIMEOUT"
    return f"{name}: {json.dumps(value, ensure_ascii=False)}"


class Conversation:
    """The turns so far, and the system message before them.

    `options` are the fields of each request. A prompt that becomes too long loses its oldest turns.
    """

    def __init__(
        self, client: LLMClient, options: Mapping[str, Any], system: str | None = None
    ) -> None:
        self.system = system
        self.messages: list[dict[str, str]] = []
        self._client = client
        self._options = {"truncation": "trim", **options}

    def ask(self, question: str, on_text: Callable[[str], None]) -> Told:
        """Asks, and hands on the answer's text in pieces. Raises LLMError.

        After an error nothing of this turn is kept. A KeyboardInterrupt ends the answer, and what
        there is of it is kept.
        """
        system = [{"role": "system", "content": self.system}] if self.system else []
        asked = {"role": "user", "content": question}
        texts: list[str] = []
        finish: str | None = None
        sheily: dict[str, Any] = {}
        chunks = self._client.chunks([*system, *self.messages, asked], **self._options)
        try:
            with contextlib.closing(chunks):
                for chunk in chunks:
                    if text := delta(chunk):
                        texts.append(text)
                        on_text(text)
                    finish = _finish(chunk) or finish
                    if isinstance(more := chunk.get("sheily"), dict):
                        sheily |= more
        except KeyboardInterrupt:
            self._keep(asked, texts)
            raise
        self._keep(asked, texts)
        return Told(finish_reason=finish, sheily=sheily)

    def _keep(self, asked: dict[str, str], texts: list[str]) -> None:
        """Keeps a turn, unless its answer is empty: the server takes no empty message."""
        if texts:
            self.messages += [asked, {"role": "assistant", "content": "".join(texts)}]


def _finish(chunk: Mapping[str, Any]) -> str | None:
    reasons = [choice.get("finish_reason") for choice in chunk["choices"]]
    return next((reason for reason in reasons if isinstance(reason, str)), None)
