"""Commands on their way to the engine: a queue and the one thread that waits for its socket. Knows
frames and ids, not what a command asks for."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from ..protocol.channel import Channel, encode_command
from ..protocol.commands import Cancel

log = logging.getLogger(__name__)


class Outbox:
    """Takes commands from any thread without waiting for the engine.

    Holds one command per id, so no more wait than there are requests. A command cancelled before
    its turn is never sent, nor is its Cancel. Cancels go before commands, since they free what the
    next command needs. `broken` is called with the reason when nothing is written any more.
    """

    def __init__(self, channel: Channel, broken: Callable[[str], None]) -> None:
        self._channel = channel
        self._broken = broken
        self._changed = threading.Condition()
        self._commands: dict[int, bytes] = {}
        self._writing: int | None = None
        """The command that is being written, or that could not be written completely."""
        self._cancels: deque[int] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine-outbox", daemon=True)
        self._thread.start()

    def put(self, id: int, frame: bytes) -> None:
        """Queues a frame from `encode_command`. One queued after `close` stays unwritten."""
        with self._changed:
            self._commands[id] = frame
            self._changed.notify()

    def cancel(self, id: int) -> bool:
        """Takes a command back, or tells the engine to cancel it; returns whether the engine will
        never see it."""
        with self._changed:
            if self._commands.pop(id, None) is not None:
                return True
            if not self._closed:
                self._cancels.append(id)
                self._changed.notify()
            return False

    def unwritten(self) -> frozenset[int]:
        """Returns the commands that the engine has not seen, and will not see after its end, since
        it ignores incomplete frames. Exact after `join`; before that, the last one may already be
        written while its thread has not returned yet."""
        with self._changed:
            writing = () if self._writing is None else (self._writing,)
            return frozenset((*self._commands, *writing))

    def close(self) -> None:
        """Ends the thread once it is not waiting for the socket."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Waits up to `seconds` for the thread to end, which it does once the other end of the
        socket is gone."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            while (frame := self._next()) is not None:
                self._channel.send_frame(frame)
        except OSError:  # the engine is gone; its reader finds out
            self.close()
        except Exception as error:
            log.exception("the engine's commands cannot be written")
            self.close()
            self._broken(f"could not be written to: {error!r}")

    def _next(self) -> bytes | None:
        """Returns the next frame after the last one was written; None at the end."""
        with self._changed:
            self._writing = None
            while not (self._closed or self._cancels or self._commands):
                self._changed.wait()
            if self._closed:
                return None
            if self._cancels:
                return encode_command(Cancel(self._cancels.popleft()))
            self._writing = next(iter(self._commands))
            return self._commands.pop(self._writing)
