"""Counts the tokens of prompts before any server is asked."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from benchmarks.common.prompt_ids import user_prompt_ids
from sheily_native import Model
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.templates.registry import recognize


class TokenCounter:
    """How many tokens the prompt with a user message has; of the model, the vocabulary is loaded
    alone."""

    def __init__(self, path: Path) -> None:
        self._model = Model(path, vocab_only=True)
        self._tokenizer = Tokenizer(self._model)
        self._dialect = recognize(self._model.metadata)

    def __call__(self, text: str) -> int:
        return len(user_prompt_ids(self._tokenizer, self._dialect, text))

    def __enter__(self) -> TokenCounter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._model.close()
