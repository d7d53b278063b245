"""Counts the tokens of prompts before any server is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common.prompt_ids import user_prompt_ids
from sheily_native import Model
from sheily_server.engine.tokenizer import Tokenizer
from sheily_server.templates.registry import recognize

Count = Callable[[str], int]


@contextmanager
def token_counter(path: Path) -> Iterator[Count]:
    """Says how many tokens the prompt with a user message has; of the model, the vocabulary is
    loaded alone."""
    with Model(path, vocab_only=True) as model:
        tokenizer, dialect = Tokenizer(model), recognize(model.metadata)
        yield lambda text: len(user_prompt_ids(tokenizer, dialect, text))
