"""Bytes on a connection to the real HTTP server, with a fake engine behind it: request lines,
headers, chunked bodies, several requests in one, and what is none. An input is what is sent."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from sheily_server.config import Config
from tests.robustness.fuzz.mutate import mutated
from tests.robustness.fuzz.running import HANG_S, HangError, Target, UnplannedError, seeds
from tests.support.models import EMPTY_GGUF
from tests.support.serving import Server, completion

DOCUMENTED = {200, 204, 400, 401, 403, 404, 405, 413, 415, 431, 501}
GOOD_EVERY = 50
QUIET_S = 0.004
"""What is not answered by then is not whole; the rest of the time is for reading behind its end."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_LENGTHS = re.compile(rb"^content-length:[ \t]*(.*?)[ \t]*\r$", re.IGNORECASE | re.MULTILINE)
_GOOD = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    model = folder / "fuzzed.gguf"
    model.write_bytes(EMPTY_GGUF)
    config = Config(model_path=model, context_size=512, max_tokens=64, port=0, log_level="error")
    server = Server(config, folder / "engine.log")
    try:
        server.wait_for("ready")
        checker = _Checker(server.port)
        kept = seeds("http")
        yield Target(lambda random: make(random, kept), checker.check)
    finally:
        server.stop()


class _Checker:
    def __init__(self, port: int) -> None:
        self._port = port
        self._n = 0

    def check(self, data: bytes) -> str:
        answer = self._exchange(data)
        found = [int(status) for status in _STATUS.findall(answer)]
        statuses = [status for status in found if status != 100]
        assert found or not answer, answer
        assert not answer or answer.startswith(b"HTTP/1."), answer
        for status in statuses:
            if status >= 500 and status not in DOCUMENTED:
                raise UnplannedError(answer.decode("latin-1"))
            assert status in DOCUMENTED, answer
        head = data.partition(b"\r\n\r\n")[0] + b"\r\n"
        if len(set(_LENGTHS.findall(head))) > 1 and statuses:
            # Two lengths: what one server takes for the body is a request for another one.
            assert statuses[0] >= 400, answer
        self._n += 1
        if self._n % GOOD_EVERY == 0:
            self._good()
        return str(statuses[0]) if statuses else "closed"

    def _good(self) -> None:
        answer = self._exchange(_GOOD, whole=True)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        body = json.dumps(completion("one two")).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        answer = self._exchange(head.encode() + body, whole=True)
        assert b'"content":"one two"' in answer, answer

    def _exchange(self, data: bytes, whole: bool = False) -> bytes:
        """What comes back, up to where the server closes. It is told that no more will come, at
        once when nothing comes for a while; `whole`: it is waited for."""
        end = time.monotonic() + HANG_S
        answer = b""
        with socket.create_connection(("127.0.0.1", self._port), timeout=HANG_S) as connection:
            # It may close before all of it is sent, and answers before it does.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
            connection.settimeout(HANG_S if whole else QUIET_S)
            shut = whole
            while time.monotonic() < end:
                try:
                    part = connection.recv(65536)
                except TimeoutError:
                    if shut:
                        break
                    shut = True
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_WR)
                    connection.settimeout(max(end - time.monotonic(), 0.1))
                    continue
                except ConnectionResetError:
                    return answer
                if not part:
                    return answer
                answer += part
        raise HangError(f"the connection stays open behind {answer!r}")


# --- inputs ---------------------------------------------------------------------------------------

_METHODS = (b"GET", b"POST", b"POST", b"POST", b"OPTIONS", b"HEAD", b"PUT", b"DELETE", b"CONNECT")
_ODD_METHODS = (b"", b"get", b"G\x00T", b"TRACE", b"PRI", b"X" * 300, b"GET ", b"\xff", b"GET\t")
_TARGETS = (
    b"/v1/chat/completions",
    b"/chat",
    b"/health",
    b"/v1/models",
    b"/v1/tokenize",
    b"/livez",
)
_ODD_TARGETS = (
    b"",
    b"*",
    b"//",
    b"/%",
    b"/%00",
    b"/%ff%fe",
    b"/../../etc/passwd",
    b"http://evil.example/health",
    b"http://[/health",
    b"/v1/models/" + b"a" * 5000,
    b"/health?" + b"a=b&" * 300,
    b"/\xc3\xa9",
    b"/a b",
    b"evil.example:443",
    b"/health#\r\nX: y",
)
_VERSIONS = (
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"HTTP/9",
    b"",
    b"http",
)
_HEADERS = (
    b"Accept: */*",
    b"Connection: keep-alive",
    b"Connection: close",
    b"Origin: http://localhost:3000",
    b"Authorization: Bearer x",
)
_ODD_HEADERS = (
    b"Host: evil.example",
    b"Host:",
    b"Host: \xff",
    b"Content-Length: +5",
    b"Content-Length: -1",
    b"Content-Length: 0x10",
    b"Content-Length: 5, 5",
    b"Content-Length: 5;",
    b"Content-Length: 1e3",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: " + b"9" * 5000,
    b"Content-Length:",
    b"Content-Length : 5",
    b"Content_Length: 5",
    b" Content-Length: 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Expect: 100-continue",
    b"Expect: 999",
    b"Upgrade: h2c",
    b"Connection: upgrade",
    b"Content-Encoding: gzip",
    b"Content-Type: text/plain",
    b"Content-Type: application/json; charset=utf-16",
    b"no colon at all",
    b": no name",
    b"X-Folded: a\r\n b",
    b"X-Null: a\x00b",
    b"X-Bare: a\nb",
    b"X-Return: a\rb",
    b"X-Long: " + b"a" * 20_000,
    b"\xff\xfe: \x80",
)
_CHUNK_SIZES = (
    b"%x",
    b"%X",
    b"0%x",
    b"%x;a=b",
    b"%x ",
    b" %x",
    b"0x%x",
    b"-%x",
    b"%x;",
    b"+%x",
    b"%x\t",
)


def make(random: Random, kept: list[bytes]) -> bytes:
    if kept and random.random() < 0.15:
        return mutated(random.choice(kept), random, kept)
    data = b"".join(_request(random) for _ in range(random.choice((1, 1, 1, 1, 2, 3))))
    if random.random() < 0.3:
        data = mutated(data, random)
    if random.random() < 0.02:
        data = random.randbytes(random.choice((1, 10, 1000, 20_000)))
    return data


def _request(random: Random) -> bytes:
    odd = random.random() < 0.5
    method = random.choice(_ODD_METHODS if odd and random.random() < 0.15 else _METHODS)
    target = random.choice(_ODD_TARGETS if odd and random.random() < 0.2 else _TARGETS)
    version = random.choice(_VERSIONS) if odd and random.random() < 0.3 else b"HTTP/1.1"
    headers = [b"Host: localhost", b"Content-Type: application/json"]
    headers += [random.choice(_HEADERS) for _ in range(random.randrange(4))]
    if odd:
        headers += [random.choice(_ODD_HEADERS) for _ in range(random.choice((0, 1, 1, 2)))]
        random.shuffle(headers)
    body = b"" if method in (b"GET", b"HEAD") else _body(random)
    way = random.randrange(8)
    if way == 0:
        headers.append(b"Transfer-Encoding: chunked")
        body = _chunks(random, body)
    elif way == 1:
        wrong = len(body) + random.choice((-1, 1, 5, 1000))
        headers.append(b"Content-Length: %d" % max(wrong, 0))
    elif way == 2:
        headers.append(b"Content-Length: %d" % len(body))
        headers.append(b"Transfer-Encoding: chunked")
        body = _chunks(random, body)
    elif way == 3 and odd:
        headers += [
            b"Content-Length: %d" % len(body),
            b"Content-Length: %d" % random.choice((0, 5)),
        ]
    elif body or random.random() < 0.3:
        headers.append(b"Content-Length: %d" % len(body))
    end = random.choice((b"\n", b"\r", b"\r\n\r\n")) if odd and random.random() < 0.1 else b"\r\n"
    line = b" ".join((method, target, version))
    return end.join((line, *headers)) + b"\r\n\r\n" + body


def _body(random: Random) -> bytes:
    chance = random.random()
    if chance < 0.5:
        fields = {"stream": True} if random.random() < 0.3 else {}
        return json.dumps(completion("one two three", **fields)).encode()
    if chance < 0.6:
        return b""
    if chance < 0.7:
        return b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    if chance < 0.71:
        return b" " * random.choice((100_000, 4 * 1024 * 1024 + 1))
    return random.choice((b"{", b"{}", b"[]", b"null", b"\xff\xfe{}", b"{}" * 1000, b"0\r\n\r\n"))


def _chunks(random: Random, body: bytes) -> bytes:
    parts = []
    while body:
        size = random.choice((1, 2, 16, len(body)))
        part, body = body[:size], body[size:]
        number = len(part) if random.random() < 0.9 else random.choice((0, 1, 2**31, 2**64, 2**200))
        form = b"%x" if random.random() < 0.8 else random.choice(_CHUNK_SIZES)
        end = b"\r\n" if random.random() < 0.95 else random.choice((b"", b"\n", b"\r", b"xx"))
        parts.append(form % number + b"\r\n" + part + end)
    trailer = random.choice((b"", b"", b"X: y\r\n", b"Content-Length: 5\r\n", b"a" * 5000))
    last = b"0\r\n" if random.random() < 0.9 else random.choice((b"", b"00\r\n", b"0;a\r\n", b"0"))
    return b"".join(parts) + last + trailer + b"\r\n"
