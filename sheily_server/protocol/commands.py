"""The commands that the server process sends to the engine process: typed records, one a frame."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ..tuned import KVType, Tuned


class Segment(NamedTuple):
    """A piece of a prompt.

    `special` is True for a single marker of the prompt format, which is one control token of the
    vocabulary. It is False for plain text, in which markers are not recognized.
    """

    text: str
    special: bool


class PromptFormat(msgspec.Struct, frozen=True):
    """The prompt format of one model: the name of a template and what the model's file adds to it.

    `default_system` is the system text for conversations that have none (ChatML only).
    """

    name: str
    default_system: str | None = None


class CacheUse(msgspec.Struct, frozen=True, kw_only=True):
    """How a request uses the prefix cache. Prompts share cells in the same `scope` alone. `disk`
    says whether its cells may be written, and `owner` for which answer, whose end takes them along;
    "" is nobody who ends."""

    scope: str = ""
    disk: bool = True
    owner: str = ""


class Start(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The first command: which model to load, and how to compute.

    Sizes are in tokens. `kv_tokens` is the size of the KV cache, which up to `parallel` answers
    share; 0 is one context for each. `threads` 0 means all CPUs. `kernel` "auto" means the native
    library's default. `speculation` enables drafting. `stream_slowdown` is how many times as long
    as an ordinary step one beside streams may take. `tuned` is the file that some of the settings
    come from; they apply to one CPU only. `cache_dir` is the folder of the disk tier, ""
    for none, and `cache_gb` its bound in GiB.
    """

    model_path: str
    context_size: int
    parallel: int
    kv_tokens: int = 0
    threads: int
    log_level: str
    chunk: int = 128
    kernel: str = "auto"
    kv_type: KVType = "f16"
    tuned: Tuned | None = None
    speculation: bool = True
    stream_slowdown: float = 2.0
    cache_dir: str = ""
    cache_gb: float = 8.0

    @property
    def n_cells(self) -> int:
        """Number of KV cells."""
        return self.kv_tokens or self.parallel * self.context_size


class Bias(msgspec.Struct, frozen=True):
    """What is added to the logits of tokens: 64-bit ids, and as many 32-bit floats, in the order of
    this machine's bytes. Packed, a whole vocabulary has 12 bytes a token; a dict has 100.

    >>> Bias.of({5: 1.0, 7: -100.0}).ids()
    array('q', [5, 7])
    """

    tokens: bytes = b""
    values: bytes = b""

    def without(self, tokens: Mapping[int, float]) -> dict[int, float]:
        """Returns the biases of other tokens than these."""
        pairs = zip(self.ids(), array("f", self.values), strict=True)
        return {token: value for token, value in pairs if token not in tokens}

    @classmethod
    def of(cls, biases: Mapping[int, float]) -> Bias:
        return cls(array("q", biases).tobytes(), array("f", biases.values()).tobytes())

    def ids(self) -> array[int]:
        return array("q", self.tokens)


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """Mirrors `sheily_native.SamplingParams`, which the server process cannot import.

    `ignore_eos` forbids the tokens that end an answer.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    logit_bias: Bias = Bias()
    ignore_eos: bool = False


class Grammar(msgspec.Struct, frozen=True):
    """The grammar that an answer must follow, in llguidance's dialect of Lark. `param` is the
    request field it came from. `schemas` has its JSON Schemas, as JSON, by their places in the
    request. `loose` lists the places of those that may be relaxed, and `relaxed` the places of
    constraints that were left out of them."""

    lark: str
    param: str
    schemas: dict[str, str] = {}
    loose: list[str] = []
    relaxed: list[str] = []


class RawPrompt(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt that no template made: a text, or the token ids in `ids` as they are.

    `markers` says that markers in the text are control tokens. BOS comes first where the
    vocabulary wants it and the prompt does not begin with it. `place` is what the request calls the
    prompt.
    """

    text: str = ""
    ids: list[int] = []
    markers: bool = False
    place: str = "prompt"


class Submit(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """A request: its prompt as segments, its sampling parameters and its limits.

    With `prompts` it has these in the place of `segments`, `n` answers to each of them, those to
    the first prompt first. Then `max_tokens` may be 0. `echo` asks for the tokens of the prompt
    before each answer, and `scores` for their log-probabilities too.

    An answer ends after `max_tokens`, or earlier when the context is full. If the context has no
    room for `room` tokens after the prompt, the request is TooLong. `arrived` and `deadline` are
    times of time.monotonic(), a clock that both processes share. `n` is the number of answers, each
    with its own seed. `top_logprobs` is the number of alternatives per token; None means no
    logprobs. `visible` lists control tokens whose text is part of the answer. `prediction` is a
    text that the answer may repeat. `scope` identifies the caller as far as callers are told apart:
    one caller's text never affects another's. `client` is who asks, as a path in digests
    (`clients.py`): the server's time is shared out among clients.
    `progress` asks for Prefilled events. `bias_texts` are texts with what is added to the logits of
    each of their tokens, in the place of what `sampling` has for them. `cache` says how it uses the
    prefix cache.
    """

    id: int
    segments: list[Segment]
    prompts: list[RawPrompt] = []
    echo: bool = False
    scores: bool = False
    sampling: Sampling
    max_tokens: int
    stop: list[str]
    deadline: float
    n: int = 1
    top_logprobs: int | None = None
    grammar: Grammar | None = None
    visible: list[str] = []
    prediction: str | None = None
    arrived: float = 0.0
    scope: str = ""
    client: list[str] = []
    room: int = 1
    progress: bool = False
    bias_texts: dict[str, float] = {}
    cache: CacheUse = CacheUse()

    @property
    def n_choices(self) -> int:
        """Number of answers to all prompts together."""
        return self.n * max(1, len(self.prompts))


class Tokenize(msgspec.Struct, tag=True, frozen=True):
    """Requests the token ids of a prompt or text. Answered with Tokenized."""

    id: int
    segments: list[Segment]
    deadline: float = math.inf


class Detokenize(msgspec.Struct, tag=True, frozen=True):
    """Requests the text of tokens. Answered with Detokenized, or Refused for ids out of range."""

    id: int
    tokens: list[int]


class Forget(msgspec.Struct, tag=True, frozen=True):
    """Tells the engine to write nothing more to the disk of what this owner alone has."""

    owner: str


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Tells the engine that nobody waits for this request any more."""

    id: int


Command = Start | Submit | Cancel | Forget | Tokenize | Detokenize
