"""Commands of the server process and events of the engine process, as typed records."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import msgspec

SCHEMA_TOO_COMPLEX = "schema_too_complex"
KVType = Literal["f16", "q8_0"]


class Segment(NamedTuple):
    """A piece of a prompt.

    `special` is True for one marker of the dialect, which is one control token of the vocabulary.
    It is False for text, in which nothing is to be recognized as a marker.
    """

    text: str
    special: bool


class Dialect(msgspec.Struct, frozen=True):
    """How one model wants its prompts: the name of a template, and what its file adds to it.

    `default_system` is the system text of a conversation that brings none (ChatML only).
    """

    name: str
    default_system: str | None = None


class TunedFor(msgspec.Struct, frozen=True):
    """The CPU and the model file that settings in Start were found with; `otherwise` are the
    settings in their place on another CPU."""

    file: str
    cpu: str
    model: str
    otherwise: dict[str, int | str]


class Start(msgspec.Struct, tag=True, frozen=True):
    """The first command: what to load, and how to compute.

    Sizes in tokens; `threads` 0 means all CPUs, `kernel` "auto" what the native library takes when
    nothing is said. `speculation`: whether tokens are drafted. `tuned`: where settings come from
    that hold on one CPU alone.
    """

    model_path: str
    context_size: int
    parallel: int
    threads: int
    log_level: str
    chunk: int = 128
    kernel: str = "auto"
    kv_type: KVType = "f16"
    tuned: TunedFor | None = None
    speculation: bool = True


class Sampling(msgspec.Struct, frozen=True):
    """As `sheily_native.SamplingParams`, which this side of the process boundary cannot import.

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
    logit_bias: dict[int, float] = {}
    ignore_eos: bool = False


class Grammar(msgspec.Struct, frozen=True):
    """What an answer has to follow, in llguidance's dialect of Lark; `param` is the request's field
    that it came from. `schemas` are the JSON Schemas in it, as JSON, by their places in the
    request."""

    lark: str
    param: str
    schemas: dict[str, str] = {}


class Submit(msgspec.Struct, tag=True, frozen=True):
    """A request: its prompt as segments, and when to end.

    `max_tokens` None: as many as the context has room for, at most `max_tokens_cap`. `arrived` and
    `deadline` are times of time.monotonic(), whose clock both processes share. `n` answers are
    wanted, each with a seed of its own; `top_logprobs` None: no logprobs, else that many
    alternatives for each token. `visible` are control tokens whose text is part of the answer.
    `prediction` is a text that the answer may repeat. `scope` names the caller, as far as callers
    are told apart: what one has said is of no effect on another.
    """

    id: int
    segments: list[Segment]
    sampling: Sampling
    max_tokens: int | None
    max_tokens_cap: int
    stop: list[str]
    deadline: float
    n: int = 1
    top_logprobs: int | None = None
    grammar: Grammar | None = None
    visible: list[str] = []
    prediction: str | None = None
    arrived: float = 0.0
    scope: str = ""


class Tokenize(msgspec.Struct, tag=True, frozen=True):
    """Asks for the token ids of a prompt or a text: answered with Tokenized."""

    id: int
    segments: list[Segment]
    deadline: float = math.inf


class Detokenize(msgspec.Struct, tag=True, frozen=True):
    """Asks for the text of tokens: answered with Detokenized, or Refused for ids out of range."""

    id: int
    tokens: list[int]


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Nobody waits for this request any more."""

    id: int


Command = Start | Submit | Cancel | Tokenize | Detokenize


class Loading(msgspec.Struct, tag=True, frozen=True):
    """`fraction` (0 to 1) of the model file is loaded."""

    fraction: float


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The model is loaded. Sizes in bytes; `n_ctx_train` and `chunk` in tokens. `fingerprint`
    changes with the build and with the model file. `kernel` None: the stock kernels. `kv_cells`:
    tokens that the KV cache has room for."""

    dialect: Dialect
    description: str
    model_bytes: int
    kv_bytes: int
    n_ctx_train: int
    n_threads: int
    fingerprint: str
    kernel: str | None = None
    chunk: int = 128
    kv_type: KVType = "f16"
    kv_cells: int = 0


class Beat(msgspec.Struct, tag=True, frozen=True):
    """A sign of life, twice a second from the first moment on. Times in seconds.

    `step_s`: since the last sign from inside the step that is computed; `reading_s`: CPU
    seconds of the slice that is tokenized, beyond what one of its size may take; None where there
    is none. `idle_s`: since the
    last step ended, None before the first. KV cells that running sequences have, and that hold a
    prefix alone.
    """

    step_s: float | None = None
    reading_s: float | None = None
    idle_s: float | None = None
    kv_cells_used: int = 0
    kv_cells_cached: int = 0


class LoadFailed(msgspec.Struct, tag=True, frozen=True):
    """The model cannot be loaded, and trying again will not change that."""

    reason: str


class Admitted(msgspec.Struct, tag=True, frozen=True):
    """The first event of a request that will be answered: it is tokenized and fits."""

    id: int
    prompt_tokens: int


class Started(msgspec.Struct, tag=True, frozen=True):
    """A choice of an admitted request has got its slot: from now on it is in native code. Sent
    before the step that it begins with."""

    id: int
    choice: int


class TooLong(msgspec.Struct, tag=True, frozen=True):
    """The only event of a request that does not fit into the context. `at_least`: its prompt was
    not read to its end, and has more tokens than are counted here."""

    id: int
    prompt_tokens: int
    completion_tokens: int
    at_least: bool = False


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The only event of a request that asks for what cannot be: `param` names the field."""

    id: int
    param: str
    message: str


class Tokenized(msgspec.Struct, tag=True, frozen=True):
    """The only event of a Tokenize."""

    id: int
    tokens: list[int]
    pieces: list[bytes]


class Detokenized(msgspec.Struct, tag=True, frozen=True):
    """The only event of a Detokenize."""

    id: int
    text: str


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token's bytes and natural log-probability, and its alternatives, best first."""

    piece: bytes
    logprob: float
    top: list[tuple[bytes, float]]


class Text(msgspec.Struct, tag=True, frozen=True):
    """More of one choice's answer; never part of a character or of a stop string.

    `logprobs`, where asked for, are those of the tokens whose text is out with this event.
    """

    id: int
    choice: int
    text: str
    logprobs: list[TokenLogprob] | None = None


class ChoiceFinished(msgspec.Struct, tag=True, frozen=True):
    """A choice's last event: `reason` is stop or length."""

    id: int
    choice: int
    reason: str
    timed_out: bool


class Finished(msgspec.Struct, tag=True, frozen=True):
    """The last event of a request that was answered. Times in seconds.

    `prefill_s` is from the slot to the first token, `decode_s` from the first token to the last.
    `completion_tokens` is the sum over all choices. Of `drafted_tokens` guesses at what comes next,
    `accepted_tokens` were right; those of them that came from the request's prediction are
    `accepted_prediction_tokens`, and `rejected_prediction_tokens` were wrong.
    """

    id: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queued_s: float
    prefill_s: float
    decode_s: float
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class RequestFailed(msgspec.Struct, tag=True, frozen=True):
    """The last event of a request that cannot be answered: `timeout`, `engine_error`, or
    SCHEMA_TOO_COMPLEX when its grammar ran into a limit in the middle of the answer."""

    id: int
    code: str
    message: str


RequestEvent = (
    Admitted
    | Started
    | TooLong
    | Refused
    | Tokenized
    | Detokenized
    | Text
    | ChoiceFinished
    | Finished
    | RequestFailed
)
LAST_EVENTS = (TooLong, Refused, Tokenized, Detokenized, Finished, RequestFailed)
Event = Loading | Ready | LoadFailed | Beat | RequestEvent
