"""Sentences about an address where the server cannot listen."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sheily_server.config import Config
from sheily_server.web.binding import explained


def said(number: int, **settings: object) -> str:
    config = Config(**({"port": 1, "host": "127.0.0.1"} | settings))  # type: ignore[arg-type]
    return str(explained(config, OSError(number, os.strerror(number))))


@contextmanager
def answering(data: bytes) -> Iterator[int]:
    """A program that answers one connection with these bytes; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(data)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


HEALTH = b'{"model": "m", "state": "ready", "engine_restarts": 0}'


@pytest.mark.parametrize(
    ("data", "who"),
    [
        (response(HEALTH), "by another server of SHEILY, with the model 'm'. Stop that one"),
        (response(b'{"state": "ready"}'), "by another program"),
        (response(b"[1]"), "by another program"),
        (response(b"\xff"), "by another program"),
        (b"SSH-2.0-x\r\n", "by another program"),
        (b"", "by another program"),
    ],
)
def test_a_port_in_use_names_the_setting_and_who_has_it(data: bytes, who: str) -> None:
    with answering(data) as port:
        sentence = said(errno.EADDRINUSE, port=port)
    assert sentence.startswith(f"LLM_PORT is {port}, which is in use on 127.0.0.1: {who}")
    assert sentence.endswith("; LLM_PORT=0 takes a free one.")


def test_other_reasons() -> None:
    assert said(errno.EACCES, port=80) == (
        "LLM_PORT is 80, where this user may not listen. Choose one from 1024 on."
    )
    assert said(errno.EACCES, port=8005) == "LLM_PORT is 8005, where this user may not listen."
    assert said(errno.EADDRNOTAVAIL, host="192.0.2.1") == (
        "LLM_HOST is '192.0.2.1', which is not an address of this machine."
    )
    assert said(errno.ENOBUFS) == (
        "LLM_HOST is '127.0.0.1' and LLM_PORT is 1: listening there failed "
        "(No buffer space available)."
    )


def test_the_words_of_the_http_library_are_not_shown() -> None:
    error = explained(Config(host="no.such.invalid"), ValueError("Invalid host/port specified."))
    assert str(error) == (
        "LLM_HOST is 'no.such.invalid', which is neither an address nor a name that can be looked "
        "up."
    )
