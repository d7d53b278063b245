"""The events that the engine process sends to the server process, as typed records. The events of a
step share one frame."""

from __future__ import annotations

import msgspec

from ..tuned import KVType
from .commands import PromptFormat

SCHEMA_TOO_COMPLEX = "schema_too_complex"
"""The code of a RequestFailed whose grammar hit a limit in the middle of the answer."""


class Loading(msgspec.Struct, tag=True, frozen=True):
    """Progress of loading the model file: `fraction` is from 0 to 1."""

    fraction: float


class Ready(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Reports that the model is loaded. `model_bytes` and `kv_bytes` are in bytes, `n_ctx_train`
    and `chunk` in tokens. `fingerprint` changes with the build and with the model file. `kernel`
    None means the stock kernels. `kv_cells` is the capacity of the KV cache in tokens."""

    prompt_format: PromptFormat
    model_bytes: int
    kv_bytes: int
    n_ctx_train: int
    n_threads: int
    fingerprint: str
    kernel: str | None = None
    chunk: int = 128
    kv_type: KVType = "f16"
    kv_cells: int = 0


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """The disk tier of the prefix cache: bytes and files that it holds, and since the engine began
    the tokens read, the files written, those that went for want of room, what was not written for
    want of time, and errors."""

    used_bytes: int = 0
    files: int = 0
    tokens_read: int = 0
    files_written: int = 0
    files_evicted: int = 0
    dropped: int = 0
    errors: int = 0


class Beat(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """A sign of life, sent twice a second from the start. Times are in seconds.

    `step_s` is the time since the last sign from inside the current step; None between steps.
    `reading_s` is the CPU time that the slice being tokenized has taken beyond what its size
    allows; None when there is none. `idle_s` is the time since the last step ended; None before the
    first. `kv_cells_used` counts cells of running sequences, `kv_cells_cached` cells with only a
    prefix. `disk` says what the disk tier holds, if there is one.
    """

    step_s: float | None = None
    reading_s: float | None = None
    idle_s: float | None = None
    kv_cells_used: int = 0
    kv_cells_cached: int = 0
    disk: Disk | None = None


class LoadFailed(msgspec.Struct, tag=True, frozen=True):
    """Reports that the model cannot be loaded and that retrying will not help."""

    reason: str


class Admitted(msgspec.Struct, tag=True, frozen=True):
    """The first event of a request that will be answered: it has been tokenized and fits.
    `prompt_tokens` counts all of its prompts, `longest` the longest of several. `relaxed` lists the
    places of constraints that its grammar leaves out."""

    id: int
    prompt_tokens: int
    relaxed: list[str] = []
    longest: int | None = None


class Started(msgspec.Struct, tag=True, frozen=True):
    """Reports that a choice of an admitted request has its slot and is in native code from now on.
    Sent before its first step."""

    id: int
    choice: int


class Prefilled(msgspec.Struct, tag=True, frozen=True):
    """How far the prompt of a request is: `computed_tokens` of it are in the KV cache, of which
    `cached_tokens` were there before. Sent after each step that computes some of it, where the
    request asks for it."""

    id: int
    computed_tokens: int
    cached_tokens: int


class TooLong(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The only event of a request that does not fit into the context: its prompt tokens, and the
    `room` for its answer. `at_least` means that the prompt was not read to its end and has more
    tokens than `prompt_tokens`. `place` is what the request calls the prompt."""

    id: int
    prompt_tokens: int
    room: int
    at_least: bool = False
    place: str = "messages"


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The only event of a request that asks for something impossible. `param` names the field."""

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
    """A token's bytes and natural log-probability, and its alternatives, most likely first."""

    piece: bytes
    logprob: float
    top: list[tuple[bytes, float]]


class PromptToken(msgspec.Struct, frozen=True, array_like=True):
    """A prompt token's bytes; the text of a control token. Where asked for, its natural
    log-probability behind the tokens before it, and the likeliest tokens there, best first. The
    first token of a prompt has none."""

    piece: bytes
    logprob: float | None = None
    top: list[tuple[bytes, float]] = []


class Prompted(msgspec.Struct, tag=True, frozen=True):
    """The next tokens of the prompt of one choice, before its text. A BOS that the request does not
    have is left out."""

    id: int
    choice: int
    tokens: list[PromptToken]


class Text(msgspec.Struct, tag=True, frozen=True):
    """The next text of one choice. Never ends inside a character or a stop string.

    `logprobs`, when requested, are those of the tokens whose text this event completes. `n_tokens`
    is how many tokens the choice has so far.
    """

    id: int
    choice: int
    text: str
    logprobs: list[TokenLogprob] | None = None
    n_tokens: int = 0


class ChoiceFinished(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The last event of a choice. `reason` is "stop" or "length". `stop` is the stop string that
    ended it, if one did."""

    id: int
    choice: int
    reason: str
    timed_out: bool
    stop: str | None = None


class Finished(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The last event of a request that was answered. Times are in seconds.

    `prefill_s` runs from getting the slot to the first token, `decode_s` from the first token to
    the last. Of the `cached_tokens`, `disk_tokens` came from the disk tier. `completion_tokens` is
    the sum over all choices. `drafted_tokens` were guessed ahead,
    and `accepted_tokens` of them were right. Of the drafts that came from the request's prediction,
    `accepted_prediction_tokens` were right and `rejected_prediction_tokens` were wrong. `preempted`
    is how often its choices were set aside for want of KV cells.
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
    disk_tokens: int = 0
    preempted: int = 0


class RequestFailed(msgspec.Struct, tag=True, frozen=True):
    """The last event of a request that cannot be answered. `code` is `timeout`, `engine_error`, or
    SCHEMA_TOO_COMPLEX when its grammar hit a limit in the middle of the answer."""

    id: int
    code: str
    message: str


RequestEvent = (
    Admitted
    | Started
    | Prefilled
    | TooLong
    | Refused
    | Tokenized
    | Detokenized
    | Prompted
    | Text
    | ChoiceFinished
    | Finished
    | RequestFailed
)
LAST_EVENTS = (TooLong, Refused, Tokenized, Detokenized, Finished, RequestFailed)
Event = Loading | Ready | LoadFailed | Beat | RequestEvent
