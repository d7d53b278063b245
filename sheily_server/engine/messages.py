"""What the server process and the engine process say to each other, and the frames it travels in.

A frame is a 4-byte little-endian length and that many bytes of MessagePack: one command, or a list
of events, so that the events of a step cost one system call.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import NamedTuple, TypeVar

import msgspec

from ..prompts import Dialect
from ..prompts.message import Segment

MAX_FRAME_BYTES = 64 * 1024 * 1024
_LENGTH = struct.Struct("<I")
T = TypeVar("T")


class Start(msgspec.Struct, tag=True, frozen=True):
    """The first command: what to load. Sizes in tokens; `threads` 0 means all CPUs."""

    model_path: str
    context_size: int
    parallel: int
    threads: int
    log_level: str


class Sampling(msgspec.Struct, frozen=True):
    """As `sheily_native.SamplingParams`, which this side of the process boundary cannot import."""

    temperature: float = 1.0
    top_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None


class Submit(msgspec.Struct, tag=True, frozen=True):
    """A request: its prompt as segments, and when to end.

    `max_tokens` None: as many as the context has room for, at most `max_tokens_cap`. `timeout` is
    in seconds from now.
    """

    id: int
    segments: list[Segment]
    sampling: Sampling
    max_tokens: int | None
    max_tokens_cap: int
    stop: list[str]
    timeout: float


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Nobody waits for this request any more."""

    id: int


Command = Start | Submit | Cancel


class Loading(msgspec.Struct, tag=True, frozen=True):
    """`fraction` (0 to 1) of the model file is loaded."""

    fraction: float


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The model is loaded. Sizes in bytes; `n_ctx_train` in tokens."""

    dialect: Dialect
    description: str
    model_bytes: int
    kv_bytes: int
    n_ctx_train: int
    n_threads: int


class LoadFailed(msgspec.Struct, tag=True, frozen=True):
    """The model cannot be loaded, and trying again will not change that."""

    reason: str


class Admitted(msgspec.Struct, tag=True, frozen=True):
    """The first event of a request that will be answered: it is tokenized and fits."""

    id: int
    prompt_tokens: int


class TooLong(msgspec.Struct, tag=True, frozen=True):
    """The only event of a request that does not fit into the context."""

    id: int
    prompt_tokens: int
    completion_tokens: int


class Text(msgspec.Struct, tag=True, frozen=True):
    """More of the answer; never part of a character or of a stop string."""

    id: int
    text: str


class Finished(msgspec.Struct, tag=True, frozen=True):
    """The last event of a request that was answered. Times in seconds.

    `prefill_s` is from the slot to the first token, `decode_s` from the first token to the last.
    """

    id: int
    reason: str  # stop | length
    timed_out: bool
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queued_s: float
    prefill_s: float
    decode_s: float


class RequestFailed(msgspec.Struct, tag=True, frozen=True):
    """The last event of a request that cannot be answered: `timeout` or `engine_error`."""

    id: int
    code: str
    message: str


RequestEvent = Admitted | TooLong | Text | Finished | RequestFailed
Event = Loading | Ready | LoadFailed | RequestEvent


class ProtocolError(Exception):
    """The other process sent something that is no frame of this protocol."""


class _Codec(NamedTuple):
    commands: msgspec.msgpack.Decoder[Command]
    events: msgspec.msgpack.Decoder[list[Event]]


_CODEC = _Codec(msgspec.msgpack.Decoder(Command), msgspec.msgpack.Decoder(list[Event]))


class Channel:
    """One end of the socket pair. Sending is thread-safe; receiving is for one thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sending = threading.Lock()
        self._encoder = msgspec.msgpack.Encoder()

    def send_command(self, command: Command) -> None:
        """Raises OSError when the other process is gone."""
        self._send(self._encoder.encode(command))

    def send_events(self, events: list[Event]) -> None:
        """Raises OSError when the other process is gone."""
        if events:
            self._send(self._encoder.encode(events))

    def receive_command(self) -> Command | None:
        """The next command; None when the other end is closed. Raises ProtocolError."""
        frame = self._receive()
        return None if frame is None else _decode(_CODEC.commands, frame)

    def receive_events(self) -> list[Event] | None:
        """The next events; None when the other end is closed. Raises ProtocolError."""
        frame = self._receive()
        return None if frame is None else _decode(_CODEC.events, frame)

    def close(self) -> None:
        """Wakes a thread that receives, too."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _send(self, payload: bytes) -> None:
        with self._sending:
            self._socket.sendall(_LENGTH.pack(len(payload)) + payload)

    def _receive(self) -> bytes | None:
        head = self._exactly(_LENGTH.size)
        if head is None:
            return None
        (length,) = _LENGTH.unpack(head)
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(f"a frame of {length} bytes")
        return self._exactly(length)

    def _exactly(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            try:
                part = self._socket.recv(min(size - len(data), 1 << 20))
            except OSError:  # reset, or closed by our own side
                return None
            if not part:
                return None
            data += part
        return bytes(data)


def _decode(decoder: msgspec.msgpack.Decoder[T], frame: bytes) -> T:
    try:
        return decoder.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(str(error)) from None
