"""A tokenizer without a vocabulary, whose tokens can be seen."""

from __future__ import annotations

from collections.abc import Iterator

from sheily_native import InvalidArgumentError, NativeError, TooManyTokensError
from sheily_server.engine.markers import Markers
from sheily_server.engine.tokenizer import Tokenizer


class Letters(Tokenizer):
    """Each character is the token of its number, a marker is 1; up to 1000. A slice is a thousand
    characters, or all of them where there is no blank."""

    def __init__(self) -> None:
        self.markers = Markers({"<|x|>": 1})

    @property
    def n_vocab(self) -> int:
        return 1000

    @property
    def bos(self) -> int | None:
        return None

    @property
    def ends(self) -> frozenset[int]:
        return frozenset([1])

    def n_counted(self, data: bytes) -> int:
        return len(data)

    def least_tokens(self, n_counted: int) -> int:
        return n_counted // 4

    def slices(self, text: str) -> Iterator[str]:
        size = 1000 if " " in text else max(len(text), 1)
        for begin in range(0, len(text), size):
            yield text[begin : begin + size]

    def encode_slice(self, text: str, most: int | None = None) -> list[int]:
        if text == "broken":
            raise NativeError("it broke")
        if most is not None and len(text) > most:
            raise TooManyTokensError(len(text), most)
        return list(map(ord, text))

    def encode_marker(self, text: str) -> list[int]:
        return [1]

    def name(self, token: int) -> bytes:
        if token >= self.n_vocab:
            raise InvalidArgumentError(f"{token} is not a token")
        return b"<|x|>" if token == 1 else chr(token).encode()

    def control_token(self, text: str) -> int | None:
        return 1 if text == "<|x|>" else None

    def piece(self, token: int) -> bytes:
        return b"" if token == 1 else self.name(token)
