"""What the engine process says to the server process, as typed records; a step's in one frame."""

from __future__ import annotations

import msgspec

from ..tuned import KVType
from .commands import PromptFormat

SCHEMA_TOO_COMPLEX = "schema_too_complex"
"""The code of a RequestFailed whose grammar ran into a limit in the middle of the answer."""


class Loading(msgspec.Struct, tag=True, frozen=True):
    """`fraction` (0 to 1) of the model file is loaded."""

    fraction: float


class Ready(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The model is loaded. Sizes in bytes; `n_ctx_train` and `chunk` in tokens. `fingerprint`
    changes with the build and with the model file. `kernel` None: the stock kernels. `kv_cells`:
    tokens that the KV cache has room for."""

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


class Beat(msgspec.Struct, tag=True, frozen=True, kw_only=True):
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


class TooLong(msgspec.Struct, tag=True, frozen=True, kw_only=True):
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


class ChoiceFinished(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """A choice's last event: `reason` is stop or length."""

    id: int
    choice: int
    reason: str
    timed_out: bool


class Finished(msgspec.Struct, tag=True, frozen=True, kw_only=True):
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
