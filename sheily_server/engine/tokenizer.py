"""Converts text to token ids and back for one vocabulary: slices of a text, markers, bounds on a
text's number of tokens. Knows nothing of requests."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Sequence

from sheily_native import InvalidArgumentError, Model

from ..protocol.commands import PromptFormat
from ..templates.registry import markers
from .grammar.constraint import Vocabulary
from .markers import Markers

SLICE = 8192
"""Characters after which a text is cut, at the next place where a cut changes no token."""
_WINDOW = 16_384
"""Characters covered by one search for such a place; Python runs nothing else meanwhile."""
_LETTERS = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0410-\u044f\u3041-\u3096\u4e00-\u9fff"
_SPACE, _LINE_BREAK = 0x20, 0x0A


class UnusableModelError(Exception):
    """Raised when the file loads but cannot serve chats; the message is one sentence."""


class Tokenizer:
    """Converts text to token ids and ids to bytes. Thread-safe."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._pieces = [model.piece(token, special=True) for token in range(self.n_vocab)]
        self._kind = model.metadata.get("tokenizer.ggml.model", "")
        self._loose = self._user_defined_texts()
        self._cut = self._cut_places()
        self._longest = max(map(self._most_bytes, self._pieces), default=1) or 1
        single = {piece[0] for piece in self._pieces if len(piece) == 1}
        self._lacking = bytes(byte for byte in range(256) if byte not in single)

    def use(self, model: Model) -> None:
        """Switches to another model with the same vocabulary."""
        self._model = model

    @property
    def n_vocab(self) -> int:
        return self._model.info.n_vocab

    @property
    def bos(self) -> int | None:
        """The token that prompts begin with; None if the vocabulary wants none."""
        info = self._model.info
        return info.token_bos if info.add_bos else None

    @functools.cached_property
    def markers(self) -> Markers:
        """What `split` finds in texts whose markers are tokens."""
        control = filter(self._model.is_control, range(self.n_vocab))
        texts = {self._pieces[token].decode("utf-8", "replace"): token for token in control}
        loose = {text: self._pieces.index(text.encode()) for text in self._loose}
        return Markers({text: token for text, token in (texts | loose).items() if text})

    @functools.cached_property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return frozenset(filter(self._model.is_end, range(self.n_vocab)))

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        info = self._model.info
        first = [token for token in (info.token_eot, info.token_eos) if token is not None]
        ends = list(dict.fromkeys([*first, *sorted(self.ends)]))
        control = [token for token in range(self.n_vocab) if self._model.is_control(token)]
        return Vocabulary(self._pieces, control, ends, info.token_bos)

    def n_counted(self, data: bytes) -> int:
        """Returns how many bytes of a text `least_tokens` counts. Bytes that have no token of their
        own are left out: where they stand alone, they give no token."""
        return len(data.translate(None, self._lacking))

    def least_tokens(self, n_counted: int) -> int:
        """Returns a lower bound on the tokens of any text with this many counted bytes."""
        return -(-n_counted // self._longest) if self._kind in ("gpt2", "llama") else 0

    def slices(self, text: str) -> Iterator[str]:
        """Yields the text in parts whose tokens, concatenated, are the tokens of the text.

        A slice is much longer than SLICE only where there is no place to cut: blanks that no word
        follows, letters without a blank between them.
        """
        begin = 0
        while begin < len(text):
            end = self._next_cut(text, begin + SLICE)
            yield text[begin:end]
            begin = end

    def encode_slice(self, text: str, most: int | None = None) -> list[int]:
        """Returns the tokens of a slice, whatever its characters. Cuts user-defined markers in it
        in two, or they would match as markers. Raises TooManyTokensError for more than `most`."""
        parts = [text]
        for marker in self._loose:
            parts = [half for part in parts for half in _cut_inside(part, marker)]
        return [token for part in parts for token in self._model.tokenize(part, most=most)]

    def encode_bytes(self, text: bytes) -> list[int]:
        """Returns the tokens of plain text that may end inside a character."""
        return self._model.tokenize(text)

    def encode_marker(self, text: str) -> list[int]:
        """Returns the ids of a marker: its control token."""
        return self._model.tokenize(text, special=True)

    def piece(self, token: int) -> bytes:
        """Returns the bytes of a token; empty for control tokens."""
        return self._model.piece(token)

    def name(self, token: int) -> bytes:
        """Returns the bytes of a token, or the text of a control token. Raises InvalidArgumentError
        for an id that is not a token."""
        if not 0 <= token < len(self._pieces):
            raise InvalidArgumentError(f"{token} is not a token")
        return self._pieces[token]

    def control_token(self, text: str) -> int | None:
        """Returns the control token with this text; None if the vocabulary has none."""
        tokens = self._model.tokenize(text, special=True)
        return tokens[0] if len(tokens) == 1 and self._model.is_control(tokens[0]) else None

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens, including control tokens. Raises InvalidArgumentError."""
        return b"".join(map(self.name, tokens)).decode("utf-8", "replace")

    def is_end(self, token: int) -> bool:
        return token in self.ends

    def check_markers(self, prompt_format: PromptFormat) -> None:
        """Raises UnusableModelError when a marker of the format is not one control token."""
        for marker in markers(prompt_format):
            tokens = self._model.tokenize(marker, special=True)
            if len(tokens) != 1 or self._pieces[tokens[0]] != marker.encode():
                raise UnusableModelError(
                    f"The vocabulary has no token {marker}, which the {prompt_format.name} prompt "
                    "format needs."
                )

    def _most_bytes(self, piece: bytes) -> int:
        """Returns the bytes of the longest text that becomes the token with this piece. A "llama"
        vocabulary also takes the three bytes of its blank mark for a blank."""
        return len(piece) + 2 * piece.count(b" ") * (self._kind == "llama")

    def _user_defined_texts(self) -> list[str]:
        """Returns markers that llama.cpp would also match in plain text; see `encode_slice`."""
        return [
            piece.decode("utf-8", "replace")
            for token, piece in enumerate(self._pieces)
            if piece.startswith(b"<|") and self._model.is_user_defined(token)
        ]

    def _next_cut(self, text: str, begin: int) -> int:
        """Returns the first place at or after `begin` where the text may be cut, or its end."""
        while self._cut is not None and begin < len(text):
            found = self._cut.search(text, begin, begin + _WINDOW)
            if found is not None:
                return found.start()
            begin += _WINDOW - 2
        return len(text)

    def _cut_places(self) -> re.Pattern[str] | None:
        """Returns a pattern for places where a text may be cut; None where they are not known for
        this kind of vocabulary.

        A byte-pair vocabulary first splits a text into words, by its own expression, and then joins
        bytes within each word. A cut changes nothing when two conditions hold. First, a word begins
        there whatever the context: before the blank of `x word`, or before a letter that begins a
        line. Second, no token has the bytes on both sides next to each other.
        """
        if self._kind != "gpt2":
            return None
        pairs = set(itertools.chain.from_iterable(map(itertools.pairwise, self._pieces)))
        before = [chr(x) for x in range(0x21, 0x7F) if (x, _SPACE) not in pairs]
        places = []
        if before:
            places.append(f"(?<=[{re.escape(''.join(before))}])(?= [{_LETTERS}])")
        if not any(pair[0] == _LINE_BREAK and _may_be_a_letter(pair[1]) for pair in pairs):
            places.append(f"(?<=\\S\\n)(?=[{_LETTERS}])")
        return re.compile("|".join(places)) if places else None


def _may_be_a_letter(byte: int) -> bool:
    return byte >= 0x80 or chr(byte).isalpha()


def _cut_inside(text: str, marker: str) -> list[str]:
    """Splits a text into parts, none of which contains the whole marker."""
    pieces = text.split(marker)
    parts = [pieces[0]]
    for piece in pieces[1:]:
        parts[-1] += marker[:1]
        parts.append(marker[1:] + piece)
    return [part for part in parts if part]
