"""Carries out the scheduler's plans on the native library: segments to ids, plans to tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sheily_native import Context, Entry, Model, Sampled, Sampler, SamplingParams
from sheily_native import TokenLogprob as NativeLogprob

from ..prompts import Dialect, markers, recognize
from ..prompts.message import Segment
from .constraint import Constraint, ConstraintError
from .drafts import MOST as MOST_DRAFTS
from .messages import KVType, Sampling, TokenLogprob
from .prefix_tree import Operation, Share
from .scheduler import Plan, Work

CHUNK = 128
"""Prompt tokens of a step where nothing else is said."""
MOST_KEPT = 64
"""Finished conversations whose cells are kept, at most."""


class UnusableModelError(Exception):
    """The file loads, but no chat can be held with it; the message is one sentence."""


class Tokenizer:
    """Prompt segments to token ids, ids to bytes. Thread-safe."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._loose = self._user_defined_texts()

    @property
    def n_vocab(self) -> int:
        return self._model.info.n_vocab

    @functools.cached_property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return frozenset(filter(self._model.is_end, range(self.n_vocab)))

    def encode(
        self,
        segments: Sequence[Segment],
        known: Callable[[str], Sequence[int] | None] = lambda text: None,
    ) -> list[int]:
        """Markers become their control tokens; text becomes text, whatever characters it has.

        `known` gives the ids of a segment's text where they are not to be made anew.
        """
        tokens: list[int] = []
        for segment in segments:
            if segment.special:
                tokens += self._model.tokenize(segment.text, special=True)
            else:
                tokens += known(segment.text) or self.encode_text(segment.text)
        return tokens

    def piece(self, token: int) -> bytes:
        """The bytes of a token; none for control tokens."""
        return self._model.piece(token)

    def name(self, token: int) -> bytes:
        """The bytes of a token, the text of control tokens included."""
        return self._model.piece(token, special=True)

    def control_token(self, text: str) -> int | None:
        """The control token with this text, if the vocabulary has one."""
        tokens = self._model.tokenize(text, special=True)
        return tokens[0] if len(tokens) == 1 and self._model.is_control(tokens[0]) else None

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens included. Raises InvalidArgumentError."""
        return b"".join(map(self.name, tokens)).decode("utf-8", "replace")

    def is_end(self, token: int) -> bool:
        return token in self.ends

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
        """Markers that llama.cpp would match in plain text too: see `encode_text`."""
        model = self._model
        texts = []
        for token in range(model.info.n_vocab):
            if model.is_user_defined(token):
                text = model.piece(token, special=True).decode("utf-8", "replace")
                if text.startswith("<|"):
                    texts.append(text)
        return texts

    def encode_text(self, text: str) -> list[int]:
        """Plain text. A user-defined marker in it is cut in two, or it would match as a marker."""
        parts = [text]
        for marker in self._loose:
            parts = [half for part in parts for half in _cut_inside(part, marker)]
        return [token for part in parts for token in self._model.tokenize(part)]


@dataclass(frozen=True, slots=True)
class Output:
    """A token that a step gave for one piece of work.

    `complete`: its grammar allows nothing more. `failure`: its grammar ran into a limit, and the
    token is not to be used.
    """

    token: int
    logprob: TokenLogprob | None = None
    complete: bool = False
    failure: str | None = None


@dataclass(slots=True)
class _Generator:
    """What chooses the tokens of one running sequence."""

    sampler: Sampler
    constraint: Constraint | None
    top_logprobs: int | None
    failure: str | None = None

    def mask(self) -> npt.NDArray[np.uint32] | None:
        """The tokens its grammar allows next; None for all. A failing grammar fails this sequence
        alone, behind the step that others share with it."""
        if self.constraint is None or self.failure is not None:
            return None
        try:
            return self.constraint.mask()
        except ConstraintError as error:
            self.failure = str(error)
            return None


class Runner:
    """The native context and what chooses the tokens of running sequences. For the engine thread
    alone."""

    def __init__(
        self,
        model: Model,
        n_slots: int,
        context_size: int,
        n_threads: int,
        chunk: int = CHUNK,
        kv_type: KVType = "f16",
    ) -> None:
        self._model = model
        self._tokenizer = Tokenizer(model)
        n_batch = n_slots + max(chunk, MOST_DRAFTS)
        self._context = Context(
            model,
            n_ctx=n_slots * context_size,
            n_seq_max=n_slots + MOST_KEPT,
            n_batch=n_batch,
            n_ubatch=n_batch,
            n_outputs_max=n_slots + MOST_DRAFTS,
            n_threads=n_threads or None,
            kv_type=kv_type,
        )
        self._generators: dict[int, _Generator] = {}

    @property
    def n_sequences(self) -> int:
        """Native sequences, for those that run and those that are kept."""
        return self._context.n_seq_max

    @property
    def kv_bytes(self) -> int:
        return self._context.kv_bytes

    def heartbeat(self) -> int:
        """As `Context.heartbeat`. For any thread."""
        return self._context.heartbeat

    @property
    def n_threads(self) -> int:
        return self._context.n_threads

    def start(
        self,
        id: int,
        sampling: Sampling,
        prompt: Sequence[int],
        constraint: Constraint | None,
        top_logprobs: int | None,
    ) -> None:
        """Prepares a sequence before its first step. Raises InvalidArgumentError."""
        sampler = Sampler(self._model.info.n_vocab, self._params(sampling), prompt)
        self._generators[id] = _Generator(sampler, constraint, top_logprobs)

    def end(self, id: int) -> None:
        """Frees what a sequence has, if anything."""
        generator = self._generators.pop(id, None)
        if generator is not None:
            generator.sampler.close()

    def step(self, plan: Plan) -> list[list[Output]]:
        """Computes a plan; the tokens that came out for each piece of work, none where it does not
        sample.

        Raises NativeError.
        """
        for operation in plan.operations:
            self._prepare(operation)
        if not plan.work:
            return []
        results = self._context.step([self._entry(work) for work in plan.work])
        return [
            [] if sampled is None else self._outputs(self._generators[work.sequence.id], sampled)
            for work, sampled in zip(plan.work, results, strict=True)
        ]

    def _prepare(self, operation: Operation) -> None:
        if isinstance(operation, Share):
            self._context.share(*operation)
        else:
            self._context.truncate(*operation)

    def _entry(self, work: Work) -> Entry:
        if not work.samples:
            return Entry(work.slot, work.tokens)
        generator = self._generators[work.sequence.id]
        return Entry(
            work.slot,
            work.tokens,
            sampler=generator.sampler,
            drafts=work.drafts,
            mask=generator.mask(),
            top_logprobs=generator.top_logprobs,
        )

    def _outputs(self, generator: _Generator, sampled: Sampled) -> list[Output]:
        if sampled.logprobs is None:
            return [self._output(generator, token, None) for token in sampled.tokens]
        return [self._output(generator, native.token, native) for native in sampled.logprobs]

    def _output(self, generator: _Generator, token: int, native: NativeLogprob | None) -> Output:
        if generator.failure is not None:
            return Output(token, failure=generator.failure)
        complete = False
        if generator.constraint is not None:
            try:
                generator.constraint.accept(token)
            except ConstraintError as error:
                return Output(token, failure=str(error))
            complete = generator.constraint.complete
        logprob = None
        if native is not None:
            name = self._tokenizer.name
            top = [(name(other), value) for other, value in native.top]
            logprob = TokenLogprob(name(token), native.logprob, top)
        return Output(token, logprob, complete)

    def _params(self, sampling: Sampling) -> SamplingParams:
        bias = dict(sampling.logit_bias)
        if sampling.ignore_eos:
            bias |= dict.fromkeys(self._tokenizer.ends, float("-inf"))
        return SamplingParams(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repeat_penalty=sampling.repeat_penalty,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            seed=sampling.seed,
            logit_bias=bias,
        )

    def clear(self) -> None:
        """Empties the KV cache after a step that failed."""
        self._context.clear()


def load_model(
    path: str, progress: Callable[[float], None], kernel: str | None = None
) -> tuple[Model, Dialect]:
    """Loads a model that a chat can be held with; `kernel` as for `Model`.

    Raises NativeError, UnknownDialectError or UnusableModelError; the metadata are read first, so
    that a model of another kind is refused before its weights are loaded.
    """
    with Model(path, vocab_only=True, kernel=kernel) as vocabulary:
        dialect = recognize(vocabulary.metadata)
        Tokenizer(vocabulary).check_markers(dialect)
    model = Model(path, progress=progress, kernel=kernel)
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
