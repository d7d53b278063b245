"""Keeps an answer inside a grammar by telling which tokens may come next. Knows only llguidance.

docs/constrained-decoding.md gives the reasons for this library, with figures.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import llguidance
import numpy as np
import numpy.typing as npt

MOST_KEPT = 32
"""Maximum number of compiled grammars that are kept."""
MOST_KEPT_BYTES = 64 << 20
STACK = 4 << 20
"""Bytes of stack that a grammar may take. Schemas that refer to each other in a chain are compiled
recursively, and a stack overflow kills the process."""
_LONGEST = 16


class ConstraintError(ValueError):
    """Raised for a schema that cannot be honoured; the message says which part of it."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The bytes of each token of a model, its control tokens, the tokens that end an answer (the
    one to write first), and the token that begins a text."""

    tokens: Sequence[bytes]
    control: Sequence[int]
    ends: Sequence[int]
    bos: int | None


class Constraint:
    """The state of one answer in its grammar. For one thread at a time."""

    def __init__(self, matcher: llguidance.LLMatcher, n_vocab: int) -> None:
        self._matcher = matcher
        self.mask: npt.NDArray[np.uint32] = np.zeros((n_vocab + 31) // 32, dtype=np.uint32)
        """The tokens that may come next, as in `sheily_native.Entry.mask`."""

    def compute_mask(self) -> None:
        """Computes `mask`, which may take long; other threads run meanwhile.

        Raises ConstraintError when the grammar hits a limit of the library.
        """
        self._matcher.unsafe_compute_mask_ptr(self.mask.ctypes.data, self.mask.nbytes)
        self._check()

    def accept(self, token: int) -> None:
        """Takes a token that the mask allows. Raises ConstraintError."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def complete(self) -> bool:
        """Whether the answer is complete and only its end can follow."""
        return bool(self._matcher.is_stopped())

    def any_allowed(self, random: Random) -> int | None:
        """Returns a random token that the mask allows; None if it allows none."""
        words = np.flatnonzero(self.mask)
        if not len(words):
            return None
        at = int(random.choice(words))
        bits = [bit for bit in range(32) if self.mask[at] >> bit & 1]
        return 32 * at + random.choice(bits)

    def copy(self) -> Constraint:
        return Constraint(self._matcher.deep_copy(), 32 * len(self.mask))

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ConstraintError(_sentence(self._matcher.get_error()))


@dataclass(slots=True)
class _Kept:
    """A grammar whose compiled state, once ready, is copied for each answer."""

    n_bytes: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    compiled: Constraint | None = None


class Grammars:
    """Compiles grammars for one vocabulary, each only once while it is kept. Thread-safe."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        most_states: int,
        encode: Callable[[bytes], list[int]] | None = None,
    ) -> None:
        """`most_states` limits the states of a lexer, which take 1 to 2 kB each. `encode` tokenizes
        a text as the model has learned it. Where a grammar leaves no choice, only these tokens are
        allowed. Without `encode`, the longest tokens are used, which is enough for a trial."""
        self._vocabulary: Vocabulary | None = vocabulary
        self._encode = encode
        self._n_vocab = len(vocabulary.tokens)
        self._limits = llguidance.LLParserLimits(max_lexer_states=most_states)
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._tokenizer: Any = None

    def compile(self, lark: str, n_bytes: int) -> Constraint:
        """Returns the state of a new answer in a grammar that takes `n_bytes`. Other threads run
        while it is compiled. Raises ConstraintError when the grammar cannot be honoured."""
        kept = self._keep(lark, n_bytes)
        with kept.lock:
            if kept.compiled is None:
                kept.compiled = self.compile_now(lark)
            return kept.compiled.copy()

    def compile_now(self, lark: str) -> Constraint:
        """Same as `compile`, but keeps nothing."""
        text = llguidance.LLMatcher.grammar_from_lark(lark)
        matcher = llguidance.LLMatcher(self._prepared(), text, log_level=0, limits=self._limits)
        if matcher.is_error():
            raise ConstraintError(_sentence(matcher.get_error()))
        return Constraint(matcher, self._n_vocab)

    def prepare(self) -> None:
        """Creates the tokenizer now, so that the first grammar does not wait for it. Takes 0.7 s
        for Llama 3's vocabulary."""
        self._prepared()

    def _keep(self, lark: str, n_bytes: int) -> _Kept:
        with self._lock:
            kept = self._kept.setdefault(lark, _Kept(n_bytes))
            self._kept.move_to_end(lark)
            while len(self._kept) > 1 and (
                len(self._kept) > MOST_KEPT
                or sum(each.n_bytes for each in self._kept.values()) > MOST_KEPT_BYTES
            ):
                self._kept.popitem(last=False)
            return kept

    def _prepared(self) -> Any:
        with self._lock:
            if self._vocabulary is not None:
                self._tokenizer, self._vocabulary = _tokenizer(self._vocabulary, self._encode), None
            return self._tokenizer


def _tokenizer(
    vocabulary: Vocabulary, encode: Callable[[bytes], list[int]] | None
) -> llguidance.LLTokenizer:
    names = _ForTokenizer(vocabulary, encode or _Longest(vocabulary).encode)
    wrapper = llguidance.TokenizerWrapper(names)
    tokenizer = llguidance.LLTokenizer(
        wrapper, n_vocab=len(vocabulary.tokens), eos_token=list(vocabulary.ends)
    )
    names.tokens = wrapper.tokens = []  # the library has its own copy by now
    return tokenizer


class _ForTokenizer:
    """A vocabulary with the attributes that llguidance expects. Control tokens begin with a byte
    that no text contains, so no text can match them."""

    def __init__(self, vocabulary: Vocabulary, encode: Callable[[bytes], list[int]]) -> None:
        self._encode = encode
        self.eos_token_id = vocabulary.ends[0]
        self.bos_token_id = vocabulary.bos
        self.special_token_ids = list(vocabulary.control)
        control = set(vocabulary.control)
        self.tokens = [
            (b"\xff" if token in control else b"") + piece
            for token, piece in enumerate(vocabulary.tokens)
        ]

    def __call__(self, text: bytes) -> list[int]:
        return self._encode(text)


class _Longest:
    """Tokenizes greedily, taking the longest token at each place."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        control = set(vocabulary.control)
        self._tokens = {
            piece: token
            for token, piece in enumerate(vocabulary.tokens)
            if piece and token not in control and len(piece) <= _LONGEST
        }

    def encode(self, text: bytes) -> list[int]:
        tokens = []
        while text:
            for n in range(min(len(text), _LONGEST), 0, -1):
                token = self._tokens.get(text[:n])
                if token is not None:
                    tokens.append(token)
                    break
            text = text[n:]
        return tokens


def _sentence(text: str) -> str:
    """Returns the library's message without positions, excerpts and state."""
    if text.startswith("panic: "):  # its own fault; the rest has details, including paths
        return "the library that compiles grammars fails on it"
    lines = (line.strip() for line in text.splitlines())
    kept = itertools.takewhile(lambda line: not re.match(r"\d+ \||<state>", line), lines)
    sentence = re.sub(r"^at \d+\(\d+\): ", "", " ".join(line for line in kept if line))
    if sentence.startswith("NoExtension"):
        return "no answer can follow it"
    return sentence[:300] or "the schema cannot be compiled"
