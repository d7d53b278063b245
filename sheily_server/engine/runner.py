"""Carries out the scheduler's plans on the native library: segments to ids, plans to tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sheily_native import Context, Entry, Model, Sampler, SamplingParams

from ..prompts import Dialect, markers, recognize
from ..prompts.message import Segment
from .messages import Sampling
from .scheduler import Plan

CHUNK = 128
CHUNK_BESIDE_STREAMS = 32


class UnusableModelError(Exception):
    """The file loads, but no chat can be held with it; the message is one sentence."""


class Tokenizer:
    """Prompt segments to token ids, ids to bytes. Thread-safe."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._pieces: dict[int, bytes] = {}
        self._loose = self._user_defined_texts()

    def encode(self, segments: Sequence[Segment]) -> list[int]:
        """Markers become their control tokens; text becomes text, whatever characters it has."""
        tokens: list[int] = []
        for segment in segments:
            if segment.special:
                tokens += self._model.tokenize(segment.text, special=True)
            else:
                tokens += self._encode_text(segment.text)
        return tokens

    def piece(self, token: int) -> bytes:
        """The bytes of a token; none for control tokens."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._model.piece(token)
        return piece

    def is_end(self, token: int) -> bool:
        return self._model.is_end(token)

    def check_markers(self, dialect: Dialect) -> None:
        """Raises UnusableModelError when a marker of the dialect is no single control token."""
        for marker in markers(dialect):
            tokens = self._model.tokenize(marker, special=True)
            if len(tokens) != 1 or self._model.piece(tokens[0], special=True) != marker.encode():
                raise UnusableModelError(
                    f"The vocabulary has no token {marker}, which the {dialect.name} prompt "
                    "format needs."
                )

    def _user_defined_texts(self) -> list[str]:
        """Markers that llama.cpp would match in plain text too: see `_encode_text`."""
        model = self._model
        texts = []
        for token in range(model.info.n_vocab):
            if model.is_user_defined(token):
                text = model.piece(token, special=True).decode("utf-8", "replace")
                if text.startswith("<|"):
                    texts.append(text)
        return texts

    def _encode_text(self, text: str) -> list[int]:
        """Plain text. A user-defined marker in it is cut in two, or it would match as a marker."""
        parts = [text]
        for marker in self._loose:
            parts = [half for part in parts for half in _cut_inside(part, marker)]
        return [token for part in parts for token in self._model.tokenize(part)]


class Runner:
    """The native context and the samplers of running sequences. For the engine thread alone."""

    def __init__(self, model: Model, n_slots: int, context_size: int, n_threads: int) -> None:
        self._model = model
        self._context = Context(
            model,
            n_ctx=n_slots * context_size,
            n_seq_max=n_slots,
            n_batch=CHUNK + n_slots,
            n_ubatch=CHUNK + n_slots,
            n_outputs_max=n_slots,
            n_threads=n_threads or None,
        )
        self._samplers: dict[int, Sampler] = {}

    @property
    def kv_bytes(self) -> int:
        return self._context.kv_bytes

    @property
    def n_threads(self) -> int:
        return self._context.n_threads

    def start(self, id: int, sampling: Sampling, prompt: Sequence[int]) -> None:
        """Makes the sampler of a sequence before its first step."""
        self._samplers[id] = Sampler(
            self._model.info.n_vocab,
            SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                frequency_penalty=sampling.frequency_penalty,
                presence_penalty=sampling.presence_penalty,
                seed=sampling.seed,
            ),
            prompt,
        )

    def end(self, id: int) -> None:
        """Frees the sampler of a sequence, if it has one."""
        sampler = self._samplers.pop(id, None)
        if sampler is not None:
            sampler.close()

    def step(self, plan: Plan) -> list[int | None]:
        """Computes a plan; the sampled token of each piece of work. Raises NativeError."""
        for slot, length in plan.cuts:
            self._context.truncate(slot, length)
        results = self._context.step(
            [
                Entry(
                    work.slot,
                    work.tokens,
                    sampler=self._samplers[work.sequence.id] if work.samples else None,
                )
                for work in plan.work
            ]
        )
        return [None if result is None else result.tokens[0] for result in results]

    def clear(self) -> None:
        """Empties the KV cache after a step that failed."""
        self._context.clear()


def load_model(path: str, progress: Callable[[float], None]) -> tuple[Model, Dialect]:
    """Loads a model that a chat can be held with.

    Raises NativeError, UnknownDialectError or UnusableModelError; the metadata are read first, so
    that a model of another kind is refused before its weights are loaded.
    """
    with Model(path, vocab_only=True) as vocabulary:
        dialect = recognize(vocabulary.metadata)
        Tokenizer(vocabulary).check_markers(dialect)
    model = Model(path, progress=progress)
    if not model.info.has_decoder or model.info.is_recurrent:
        model.close()
        raise UnusableModelError(
            f"{path} is not a plain decoder model, the only kind this server runs."
        )
    return model, dialect


def _cut_inside(text: str, marker: str) -> list[str]:
    """The text in parts, none of which holds the marker whole."""
    pieces = text.split(marker)
    parts = [pieces[0]]
    for piece in pieces[1:]:
        parts[-1] += marker[:1]
        parts.append(marker[1:] + piece)
    return [part for part in parts if part]
