"""Commands on their way to the engine: a queue, and the one thread that waits for its socket. Knows
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

    It holds one command an id, so that as many wait as there are requests. A command that is
    cancelled before its turn is never sent, nor is its Cancel. Cancels go before commands: what
    they free is what the next command needs. `broken` is told why nothing is written any more.
    """

    def __init__(self, channel: Channel, broken: Callable[[str], None]) -> None:
        self._channel = channel
        self._broken = broken
        self._changed = threading.Condition()
        self._commands: dict[int, bytes] = {}
        self._writing: int | None = None
        """The command that is being written, or could not be written to its end."""
        self._cancels: deque[int] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine-outbox", daemon=True)
        self._thread.start()

    def put(self, id: int, frame: bytes) -> None:
        """Queues a command of `encode_command`; one that comes too late stays unwritten."""
        with self._changed:
            self._commands[id] = frame
            self._changed.notify()

    def cancel(self, id: int) -> bool:
        """Takes a command back, or tells the engine that nobody waits for it; whether the engine
        will see nothing of it."""
        with self._changed:
            if self._commands.pop(id, None) is not None:
                return True
            if not self._closed:
                self._cancels.append(id)
                self._changed.notify()
            return False

    def unwritten(self) -> frozenset[int]:
        """The commands that the engine has not seen, and after its end never will: it takes note
        of none before it is there to its end. Certain after `join`; before that the last one may
        be written already, and its thread not yet back."""
        with self._changed:
            writing = () if self._writing is None else (self._writing,)
            return frozenset((*self._commands, *writing))

    def close(self) -> None:
        """Ends the thread, once it does not wait for the socket any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Waits for the end of the thread, which comes once the other end of the socket is gone."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            while (frame := self._next()) is not None:
                self._channel.send_frame(frame)
        except OSError:  # the engine is gone, which whoever reads from it finds out
            self.close()
        except Exception as error:
            log.exception("the engine's commands cannot be written")
            self.close()
            self._broken(f"could not be written to: {error!r}")

    def _next(self) -> bytes | None:
        """The next frame, once the last one is written; None at the end."""
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
