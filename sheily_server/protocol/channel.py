"""The socket pair between the two processes, carrying commands and events. A frame holds one
command or a list of events, so that all events of a step cost one system call."""

from __future__ import annotations

import socket
from typing import NamedTuple

import msgspec

from .commands import Command
from .events import Event
from .frames import Frames, encode


class _Codec(NamedTuple):
    commands: msgspec.msgpack.Decoder[Command]
    events: msgspec.msgpack.Decoder[list[Event]]


_CODEC = _Codec(msgspec.msgpack.Decoder(Command), msgspec.msgpack.Decoder(list[Event]))


def encode_command(command: Command) -> bytes:
    """Encodes a command as a frame for `Channel.send_frame`. Raises ProtocolError when the frame is
    too large, and msgspec's errors for values that it cannot encode."""
    return encode(command)


class Channel:
    """One end of the socket pair. Sending is thread-safe; only one thread may receive."""

    def __init__(self, connection: socket.socket) -> None:
        self._frames = Frames(connection)

    def send_frame(self, frame: bytes) -> None:
        """Blocks until the frame is written. Raises OSError when the other process is gone."""
        self._frames.send_bytes(frame)

    def send_events(self, events: list[Event]) -> None:
        """Blocks until the events are written. Raises OSError when the other process is gone."""
        if events:
            self._frames.send(events)

    def receive_command(self) -> Command | None:
        """Returns the next command; None when the other end is closed. Raises ProtocolError."""
        return self._frames.receive(_CODEC.commands)

    def receive_events(self) -> list[Event] | None:
        """Returns the next events; None when the other end is closed. Raises ProtocolError."""
        return self._frames.receive(_CODEC.events)

    def close(self) -> None:
        """Closes the socket. Also wakes a thread that is receiving."""
        self._frames.close()
