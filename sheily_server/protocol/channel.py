"""The socket pair between the two processes, as commands and events: a frame holds one command, or
a list of events, so that the events of a step cost one system call."""

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
    """A frame for `Channel.send_frame`. Raises ProtocolError for one that is too large, and what
    msgspec raises for what it cannot write."""
    return encode(command)


class Channel:
    """One end of the socket pair. Sending is thread-safe; receiving is for one thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._frames = Frames(connection)

    def send_frame(self, frame: bytes) -> None:
        """Waits until it is written. Raises OSError when the other process is gone."""
        self._frames.send_bytes(frame)

    def send_events(self, events: list[Event]) -> None:
        """Waits until they are written. Raises OSError when the other process is gone."""
        if events:
            self._frames.send(events)

    def receive_command(self) -> Command | None:
        """The next command; None when the other end is closed. Raises ProtocolError."""
        return self._frames.receive(_CODEC.commands)

    def receive_events(self) -> list[Event] | None:
        """The next events; None when the other end is closed. Raises ProtocolError."""
        return self._frames.receive(_CODEC.events)

    def close(self) -> None:
        """Wakes a thread that receives, too."""
        self._frames.close()
