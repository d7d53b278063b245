"""Keeps an answer inside a JSON Schema: which tokens may come next. Knows llguidance, nothing else.

docs/constrained-decoding.md says why this library, with figures.
"""

from __future__ import annotations

import functools
import itertools
import re

import llguidance
import numpy as np
import numpy.typing as npt

from sheily_native import Model

from .messages import Grammar


class ConstraintError(ValueError):
    """A schema that cannot be honoured; the message says which part of it."""


class Constraint:
    """The state of one answer in its grammar. One thread at a time."""

    def __init__(self, matcher: llguidance.LLMatcher, n_vocab: int) -> None:
        self._matcher = matcher
        self._mask = np.zeros((n_vocab + 31) // 32, dtype=np.uint32)

    def mask(self) -> npt.NDArray[np.uint32]:
        """The tokens that may come next, as `sheily_native.Entry.mask`; valid until the next call.

        Raises ConstraintError when the grammar ran into a limit of the library.
        """
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check()
        return self._mask

    def accept(self, token: int) -> None:
        """Takes a token that the mask allowed. Raises ConstraintError."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def complete(self) -> bool:
        """Whether the answer is whole and nothing but its end can follow."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ConstraintError(_sentence(self._matcher.get_error()))


class Grammars:
    """Compiles grammars for the vocabulary of one model. Thread-safe."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def compile(self, grammar: Grammar) -> Constraint:
        """Raises ConstraintError when the schema uses what cannot be honoured."""
        text = llguidance.LLMatcher.grammar_from_lark(grammar.lark)
        matcher = llguidance.LLMatcher(self._tokenizer, text, log_level=0)
        if matcher.is_error():
            raise ConstraintError(_sentence(matcher.get_error()))
        constraint = Constraint(matcher, self._model.info.n_vocab)
        constraint.mask()  # a grammar that is too large fails here, before the request is admitted
        return constraint

    def prepare(self) -> None:
        """Makes the tokenizer now, so that the first grammar does not wait for it."""
        assert self._tokenizer is not None

    @functools.cached_property
    def _tokenizer(self) -> llguidance.LLTokenizer:
        """Takes about a second for the vocabulary of Llama 3, once."""
        return llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_Vocabulary(self._model)),
            n_vocab=self._model.info.n_vocab,
            eos_token=_ends(self._model),
        )


class _Vocabulary:
    """A model's vocabulary with the names that llguidance asks for. Control tokens begin with a
    byte that no text has, so no text can match them."""

    def __init__(self, model: Model) -> None:
        n = range(model.info.n_vocab)
        self._model = model
        self.eos_token_id = _ends(model)[0]
        self.bos_token_id = model.info.token_bos
        self.special_token_ids = [token for token in n if model.is_control(token)]
        control = set(self.special_token_ids)
        self.tokens = [
            (b"\xff" if token in control else b"") + model.piece(token, special=True) for token in n
        ]

    def __call__(self, text: bytes) -> list[int]:
        return self._model.tokenize(text)


def _ends(model: Model) -> list[int]:
    first = [token for token in (model.info.token_eot, model.info.token_eos) if token is not None]
    others = [token for token in range(model.info.n_vocab) if model.is_end(token)]
    return list(dict.fromkeys([*first, *others]))


def _sentence(text: str) -> str:
    """The library's message without what it adds of places, excerpts and state."""
    lines = (line.strip() for line in text.splitlines())
    kept = itertools.takewhile(lambda line: not re.match(r"\d+ \||<state>", line), lines)
    sentence = re.sub(r"^at \d+\(\d+\): ", "", " ".join(line for line in kept if line))
    return sentence[:300] or "the schema cannot be compiled"
