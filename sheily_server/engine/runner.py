"""Carries out the scheduler's plans on the native library, turning plans into tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from sheily_native import (
    Context,
    DecodeError,
    Entry,
    Model,
    Sampled,
    Sampler,
    SamplingParams,
)
from sheily_native import TokenLogprob as NativeLogprob

from ..protocol.commands import PromptFormat, Sampling
from ..protocol.events import TokenLogprob
from ..templates.registry import recognize
from ..tuned import KVType
from .fingerprint import kind_of_cells
from .grammar.follower import Follower
from .kvcache.prefix_tree import Operation, Share
from .scheduling.drafts import MOST as MOST_DRAFTS
from .scheduling.scheduler import Plan, Work
from .tokenizer import Tokenizer, UnusableModelError

CHUNK = 128
"""Default number of prompt tokens in a step."""
MOST_KEPT = 64
"""Maximum number of finished conversations whose cells are kept."""


@dataclass(frozen=True, slots=True)
class Output:
    """A token that a step produced for one piece of work."""

    token: int
    logprob: TokenLogprob | None = None


@dataclass(slots=True)
class _Generator:
    """Chooses the tokens of one running sequence."""

    sampler: Sampler
    follower: Follower | None
    top_logprobs: int | None
    scorer: Sampler | None
    """Takes the prompt's tokens in the place of what the model would say, for their logprobs."""


class Runner:
    """The native context and the generators of running sequences. For the engine thread only."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        *,
        n_slots: int,
        n_cells: int,
        n_threads: int,
        chunk: int = CHUNK,
        kv_type: KVType = "f16",
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._kv_type = kv_type
        n_batch = n_slots + max(chunk, MOST_DRAFTS)
        self._context = Context(
            model,
            n_ctx=n_cells,
            n_seq_max=n_slots + MOST_KEPT + 1,  # and the one that cells are copied through
            n_batch=n_batch,
            n_ubatch=n_batch,
            n_outputs_max=n_slots + MOST_DRAFTS,
            n_threads=n_threads or None,
            kv_type=kv_type,
        )
        self._generators: dict[int, _Generator] = {}
        self._saved_base = 2 * self._context.saved_size(1) - self._context.saved_size(2)
        self._saved_a_cell = self._context.saved_size(2) - self._context.saved_size(1)

    @property
    def n_sequences(self) -> int:
        """Number of native sequences, running and kept."""
        return self._context.n_seq_max - 1

    @property
    def kv_bytes(self) -> int:
        return self._context.kv_bytes

    @property
    def kind_of_cells(self) -> str:
        """As `fingerprint.kind_of_cells`, of this context."""
        return kind_of_cells(self._model.metadata, self._kv_type, self._context.n_ctx)

    def heartbeat(self) -> int:
        """Same as `Context.heartbeat`. For any thread."""
        return self._context.heartbeat

    @property
    def n_threads(self) -> int:
        return self._context.n_threads

    def start(
        self,
        id: int,
        *,
        sampling: Sampling,
        prompt: Sequence[int],
        follower: Follower | None,
        top_logprobs: int | None,
        scores: bool = False,
    ) -> None:
        """Prepares a sequence before its first step; with `scores` also for the log-probabilities
        of its prompt. Raises InvalidArgumentError."""
        n_vocab = self._model.info.n_vocab
        sampler = Sampler(n_vocab, self._params(sampling), prompt)
        scorer = Sampler(n_vocab, SamplingParams(temperature=0.0)) if scores else None
        self._generators[id] = _Generator(sampler, follower, top_logprobs, scorer)

    def end(self, id: int) -> None:
        """Frees what a sequence holds, if anything."""
        generator = self._generators.pop(id, None)
        if generator is not None:
            generator.sampler.close()
            if generator.scorer is not None:
                generator.scorer.close()

    def step(self, plan: Plan) -> list[list[Output]]:
        """Computes a plan; returns the tokens of each piece of work: those sampled, or its targets
        with their log-probabilities.

        Raises NativeError.
        """
        self.prepare(plan.operations)
        if not plan.work:
            return []
        results = self._context.step([self._entry(work) for work in plan.work])
        return [
            [] if sampled is None else self._outputs(work, sampled)
            for work, sampled in zip(plan.work, results, strict=True)
        ]

    def prepare(self, operations: Sequence[Operation]) -> None:
        """Carries out what a plan wants done in the KV cache, in order. Raises NativeError."""
        for operation in operations:
            if isinstance(operation, Share):
                self._context.share(*operation)
            else:
                self._context.truncate(*operation)

    def saved_size(self, n_cells: int) -> int:
        """Returns how many bytes `save` makes of so many cells. For any thread."""
        return self._saved_base + n_cells * self._saved_a_cell

    def save(self, slot: int, begin: int, end: int, out: npt.NDArray[np.uint8]) -> None:
        """Copies cells of a native sequence; as `Context.save`."""
        self._context.save(slot, begin, end, out, scratch=self.n_sequences)

    def load(
        self, slot: int, begin: int, end: int, data: npt.NDArray[np.uint8], *, keep: int
    ) -> None:
        """Gives a native sequence saved cells, of which those before position `keep` stay; as
        `Context.load`."""
        self._context.load(slot, begin, end, data, scratch=self.n_sequences)
        if keep < end:
            self._context.truncate(slot, keep)

    def _entry(self, work: Work) -> Entry:
        if not work.samples and not work.targets:
            return Entry(work.slot, work.tokens)
        generator = self._generators[work.sequence.id]
        if work.targets:
            # Drafts that are right, since nothing else may be sampled: each gets its logprob.
            return Entry(
                work.slot,
                work.tokens[:1],
                sampler=generator.scorer,
                drafts=work.tokens[1:],
                mask=only(work.targets, self._model.info.n_vocab),
                top_logprobs=generator.top_logprobs or 0,
            )
        return Entry(
            work.slot,
            work.tokens,
            sampler=generator.sampler,
            drafts=work.drafts,
            mask=None if generator.follower is None else generator.follower.mask,
            top_logprobs=generator.top_logprobs,
        )

    def _outputs(self, work: Work, sampled: Sampled) -> list[Output]:
        if work.targets and sampled.tokens != work.targets:  # logits that are not numbers
            raise DecodeError("the log-probabilities of a prompt cannot be computed")
        follower = self._generators[work.sequence.id].follower
        if follower is not None and not work.targets:
            for token in sampled.tokens:
                follower.take(token)
        if sampled.logprobs is None:
            return [Output(token) for token in sampled.tokens]
        return [self._output(native) for native in sampled.logprobs]

    def _output(self, native: NativeLogprob) -> Output:
        name = self._tokenizer.name
        top = [(name(other), value) for other, value in native.top]
        return Output(native.token, TokenLogprob(name(native.token), native.logprob, top))

    def _params(self, sampling: Sampling) -> SamplingParams:
        """Converts the parameters, which have the same fields. Turns `ignore_eos` into a bias."""
        fields = msgspec.structs.asdict(sampling)
        tokens = np.frombuffer(sampling.logit_bias.tokens, np.int64).astype(np.int32)
        values = np.frombuffer(sampling.logit_bias.values, np.float32)
        if fields.pop("ignore_eos"):
            ends = np.array(sorted(self._tokenizer.ends), np.int32)
            tokens = np.concatenate([tokens, ends])
            values = np.concatenate([values, np.full(len(ends), -np.inf, np.float32)])
        return SamplingParams(**fields | {"logit_bias": (tokens, values)})

    def clear(self) -> None:
        """Empties the KV cache after a step that failed."""
        self._context.clear()


def only(tokens: Sequence[int], n_vocab: int) -> npt.NDArray[np.uint32]:
    """Returns masks for rows in which one token each is allowed, as `Entry` takes them."""
    mask = np.zeros((len(tokens), (n_vocab + 31) // 32), np.uint32)
    rows, ids = np.arange(len(tokens)), np.array(tokens)
    mask[rows, ids // 32] = np.uint32(1) << (ids % 32).astype(np.uint32)
    return mask


def load_model(
    path: str,
    progress: Callable[[float], None],
    kernel: str | None = None,
    meanwhile: Callable[[Tokenizer], None] = lambda tokenizer: None,
) -> tuple[Model, PromptFormat, Tokenizer]:
    """Loads a chat model; `kernel` is as for `Model`. Calls `meanwhile` with the tokenizer before
    the weights are loaded; it should return soon.

    Reads the metadata first, so that an unsupported model is refused before its weights are loaded.
    Raises NativeError, UnknownPromptFormatError or UnusableModelError.
    """
    with Model(path, vocab_only=True, kernel=kernel) as vocabulary:
        prompt_format = recognize(vocabulary.metadata)
        tokenizer = Tokenizer(vocabulary)
        tokenizer.check_markers(prompt_format)
        meanwhile(tokenizer)
        model = Model(path, progress=progress, kernel=kernel)
        tokenizer.use(model)
    if not model.info.has_decoder or model.info.is_recurrent:
        model.close()
        raise UnusableModelError(
            f"{path} is not a plain decoder model, the only kind this server runs."
        )
    return model, prompt_format, tokenizer
