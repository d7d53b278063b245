"""The connections of a client to one server, one for each call."""

from __future__ import annotations

import contextlib
import http.client
import select
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

from .errors import (
    LLMConnectionError,
    LLMProtocolError,
    LLMTimeoutError,
    StreamInterruptedError,
)
from .sse import EventParser

LAST_CHUNK_WAIT = 1.0
"""Seconds that a finished stream waits for the connection's proper end."""

_READ_BYTES = 65536


class Connections:
    """Exchanges with one server. Safe to share between threads. Takes LLMClient's arguments."""

    def __init__(
        self,
        base_url: str,
        timeout: float,
        api_key: str | None,
    ) -> None:
        """Connects to nothing yet. Raises ValueError for a bad argument."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"base_url must look like http://127.0.0.1:8005, got {base_url!r}")
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f"base_url takes no user, query or fragment, got {base_url!r}")
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {timeout}")
        if api_key is not None and not api_key.isprintable():
            raise ValueError("api_key must not hold control characters or line breaks")
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._secure else 80)
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        self.timeout = timeout
        self._api_key = api_key
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def pause(self, seconds: float) -> None:
        """Waits so long, or until this is closed."""
        self._closed.wait(seconds)

    def close(self) -> None:
        """Ends running exchanges. New ones raise RuntimeError."""
        with self._lock:
            self._closed.set()
            for connected in self._sockets:
                # Shut down, not closed: only that wakes a thread that waits for bytes.
                # Bypasses ssl's own shutdown, which is not for another thread's socket.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connected, socket.SHUT_RDWR)

    @contextlib.contextmanager
    def exchange(
        self, method: str, path: str, payload: bytes | None = None, timeout: float | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Sends a request and yields the response. Closes the connection afterwards."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=timeout or self.timeout)
        connected = self._connect(connection)
        try:
            with self._explain():
                answer = self._send(connection, method, path, payload)
            with answer:
                yield answer
        finally:
            with self._lock:
                self._sockets.discard(connected)
            connection.close()

    def events(self, answer: http.client.HTTPResponse) -> Iterator[str]:
        """Yields the data of a stream's events."""
        parser = EventParser()
        while True:
            try:
                piece = answer.read1(_READ_BYTES)
            except TimeoutError as error:
                raise self._silence() from error
            except (http.client.HTTPException, OSError) as error:
                raise StreamInterruptedError(
                    f"the stream from {self.server()} broke off: {error}"
                ) from error
            if not piece:
                return
            try:
                yield from parser.feed(piece)
            except UnicodeDecodeError as error:
                raise LLMProtocolError("the stream is not valid UTF-8") from error

    def _connect(self, connection: http.client.HTTPConnection) -> socket.socket:
        if self.closed:
            raise RuntimeError("this LLMClient is closed")
        try:
            connection.connect()
        except (OSError, UnicodeError) as error:
            connection.close()
            kind = LLMTimeoutError if isinstance(error, TimeoutError) else LLMConnectionError
            start = shlex.join([sys.executable, "-m", "sheily_server"])
            raise kind(
                f"cannot connect to {self.server()} ({error}): start it with `{start}`,"
                " or give LLMClient the base_url of a running one"
            ) from error
        connected: socket.socket = connection.sock
        with self._lock:
            if not self.closed:
                self._sockets.add(connected)
                return connected
        connection.close()
        raise RuntimeError("this LLMClient is closed")

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, payload: bytes | None
    ) -> http.client.HTTPResponse:
        headers: dict[str, str | bytes] = {"Accept": "*/*", "Connection": "close"}
        if payload is not None:
            headers["Content-Type"] = "application/json"
        if self._api_key:
            headers["Authorization"] = b"Bearer " + self._api_key.encode("utf-8")
        # A server may refuse a body unread and hang up after sending its answer.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, self._prefix + path, payload, headers)
        return connection.getresponse()

    def read(self, answer: http.client.HTTPResponse) -> bytes:
        """Reads the whole body."""
        with self._explain():
            return answer.read()

    @contextlib.contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise self._silence() from error
        except (OSError, http.client.IncompleteRead) as error:
            raise LLMConnectionError(
                f"{self.server()} hung up before it had answered ({error}): look at its log"
            ) from error
        except http.client.HTTPException as error:
            said = str(error).strip()[:200]
            raise LLMProtocolError(
                f"{self.server()} does not speak HTTP: it said {said!r}"
            ) from error

    def _silence(self) -> LLMTimeoutError:
        return LLMTimeoutError(f"{self.server()} was silent for longer than the timeout")

    def server(self) -> str:
        """Returns the server's name for a sentence."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"the LLM server at {host}:{self._port}"


def await_last_chunk(answer: http.client.HTTPResponse) -> None:
    """Waits for the response's end. Call this at the end of a stream."""
    # To the server, a client that leaves before the response's end looks as if it gave up.
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        if select.select([answer], [], [], LAST_CHUNK_WAIT)[0]:
            answer.read1(_READ_BYTES)
