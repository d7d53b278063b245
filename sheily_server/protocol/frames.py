"""Frames between two processes: a 4-byte little-endian length, then that many bytes of MessagePack.
Knows sockets and sizes, not what a frame means."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TypeVar

import msgspec

MAX_FRAME_BYTES = 64 * 1024 * 1024
_LENGTH = struct.Struct("<I")
T = TypeVar("T")


class ProtocolError(Exception):
    """Raised for data that is not a frame of this protocol, or for a frame that is too large."""


_ENCODER = msgspec.msgpack.Encoder()


def encode(value: object) -> bytes:
    """Encodes a value as a frame for `send_bytes`. Raises msgspec's errors for values that it
    cannot encode, and ProtocolError for more than MAX_FRAME_BYTES."""
    payload = _ENCODER.encode(value)
    if len(payload) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {len(payload)} bytes")
    return _LENGTH.pack(len(payload)) + payload


class Frames:
    """One end of a socket pair. Sending is thread-safe; only one thread may receive."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sending = threading.Lock()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, value: object) -> None:
        """Blocks until the frame is written. Raises OSError when the other process is gone."""
        self.send_bytes(encode(value))

    def send_bytes(self, frame: bytes) -> None:
        with self._sending:
            self._socket.sendall(frame)

    def receive(self, decoder: msgspec.msgpack.Decoder[T]) -> T | None:
        """Returns the next value; None when the other end is closed. Raises ProtocolError."""
        head = self._exactly(_LENGTH.size)
        if head is None:
            return None
        (length,) = _LENGTH.unpack(head)
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(f"a frame of {length} bytes")
        frame = self._exactly(length)
        if frame is None:
            return None
        try:
            return decoder.decode(frame)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(str(error)) from None

    def close(self) -> None:
        """Closes the socket. Also wakes a thread that is receiving."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _exactly(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            try:
                part = self._socket.recv(min(size - len(data), 1 << 20))
            except OSError:  # reset, or closed on our side
                return None
            if not part:
                return None
            data += part
        return bytes(data)
