"""Connections: clients that have said all they want, bodies that do not end, descriptors and
threads that run out."""

from __future__ import annotations

import json
import resource
import socket
import struct
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from sheily_server.backend.supervisor import Supervisor
from sheily_server.config import Config
from sheily_server.web import connection as connection_module
from sheily_server.web import listener as listener_module
from sheily_server.web import server as http_server
from sheily_server.web.app import ARRIVED, MAX_BODY_BYTES, App
from tests.server.conftest import Serve, Start
from tests.support.records import memory_store
from tests.support.serving import Server, completion, read_to_end, read_until
from tests.support.waiting import WAIT, until

pytestmark = pytest.mark.http

COMPLETIONS = "/v1/chat/completions"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT)


def post(path: str, body: Any, version: str = "1.1", **headers: str) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/{version}\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


# --- a client that closes its sending side, as `nc -N` ------------------------------------------


@pytest.mark.parametrize("order", ["one two", "slow 10 0.03"])
def test_a_whole_answer_for_a_client_that_has_said_all(serve: Serve, order: str) -> None:
    server = serve()
    server.wait_for("ready")
    with server.opened(order) as connection:
        connection.shutdown(socket.SHUT_WR)
        answer = read_to_end(connection).removeprefix(CONTINUE)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["usage"]["completion_tokens"] >= 2
    assert not server.engine_lines("cancel")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_stream_for_a_client_that_has_said_all(serve: Serve, version: str) -> None:
    server = serve()
    server.wait_for("ready")
    body = completion("slow 10 0.03", stream=True)
    with connect(server.port) as connection:
        connection.sendall(post(COMPLETIONS, body, version))
        head = read_until(connection, b"w0 ")
        connection.shutdown(socket.SHUT_WR)
        rest = head + read_to_end(connection)
    assert b": \n\n" in rest
    assert b"w9 " in rest
    assert b"[DONE]" in rest
    assert not server.engine_lines("cancel")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_has_said_all_and_leaves_then(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(connection_module, "PROBE_S", 0.05)
    server = serve(parallel=1, queue=0)
    server.wait_for("ready")
    with server.opened("hang-late", stream=stream) as connection:
        connection.shutdown(socket.SHUT_WR)
        read_until(connection, b"\n\n" if stream else CONTINUE)
    server.wait_for_engine("cancel 1")
    assert until(lambda: server.complete("next").status == 200)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_asks_for_more_and_leaves(serve: Serve, stream: bool) -> None:
    """The loop reads nothing while requests wait behind the one that runs, nor sees the end."""
    server = serve(parallel=1, queue=0)
    server.wait_for("ready")
    with connect(server.port) as connection:
        body = completion("hang-late", stream=stream)
        connection.sendall(post(COMPLETIONS, body) + LIVE + LIVE)
        server.wait_for_engine("submit 1")
    server.wait_for_engine("cancel 1")
    assert until(lambda: server.complete("next").status == 200)


def test_requests_that_wait_are_answered_to_a_client_that_has_said_all(serve: Serve) -> None:
    server = serve()
    server.wait_for("ready")
    with connect(server.port) as connection:
        connection.sendall(post(COMPLETIONS, completion("slow 5 0.03")) + LIVE + LIVE + LIVE)
        connection.shutdown(socket.SHUT_WR)
        answer = read_to_end(connection)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 4
    assert not server.engine_lines("cancel")


def test_http_1_0_without_a_way_to_ask_whether_the_client_is_there(serve: Serve) -> None:
    server = serve()
    server.wait_for("ready")
    with connect(server.port) as connection:
        connection.sendall(post(COMPLETIONS, completion("hang"), "1.0"))
        server.wait_for_engine("submit 1")
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection) == b""
    server.wait_for_engine("cancel 1")


def test_an_end_before_a_request_has_one(serve: Serve) -> None:
    server = serve()
    whole = post("/chat", {"message": "hi"})
    for beginning in (b"", b"GET /li", whole[:-1]):
        with connect(server.port) as connection:
            connection.sendall(beginning)
            connection.shutdown(socket.SHUT_WR)
            assert read_to_end(connection) == b""


def test_two_requests_and_an_end(serve: Serve) -> None:
    """And what of a third has come is none."""
    server = serve()
    server.wait_for("ready")
    with connect(server.port) as connection:
        slow = post(COMPLETIONS, completion("slow 5 0.03"))
        connection.sendall(slow + LIVE)
        connection.shutdown(socket.SHUT_WR)
        answer = read_to_end(connection)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert answer.endswith(b'{"status":"ok"}')
    with connect(server.port) as connection:
        connection.sendall(slow + LIVE[:20])
        connection.shutdown(socket.SHUT_WR)
        answer = read_to_end(connection)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 1


def test_the_loop_sleeps_while_a_client_has_said_all(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of what a client sends can be read again and again."""
    server = serve()
    server.wait_for("ready")
    rounds: list[int] = []
    readable = listener_module.Listener.readable

    def count(listener: Any) -> bool:
        rounds.append(1)
        return readable(listener)

    with server.opened("slow 20 0.05") as connection:
        connection.shutdown(socket.SHUT_WR)
        read_until(connection, CONTINUE)
        monkeypatch.setattr(listener_module.Listener, "readable", count)
        assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert len(rounds) < 100


# --- when a request was there ---------------------------------------------------------------------


def test_the_time_in_which_a_request_waits_for_a_thread_counts(serve: Serve) -> None:
    server = serve(parallel=1, queue=0, background=0)
    going_on = threading.Event()
    busy: list[int] = []
    arrived: list[float] = []
    application = server._server.application

    def wait(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/late":
            arrived.append(environ[ARRIVED])
        else:
            busy.append(1)
            going_on.wait(WAIT)
        return application(environ, start_response)

    server._server.application = wait
    n_threads = 1 + http_server.SPARE_THREADS
    try:
        with ExitStack() as stack:
            for _ in range(n_threads):
                stack.enter_context(connect(server.port)).sendall(LIVE)
            until(lambda: len(busy) == n_threads)
            late = stack.enter_context(connect(server.port))
            late.sendall(LIVE.replace(b"/livez", b"/late"))
            until(lambda: server._server.task_dispatcher.queue)
            (channel,) = server._server.task_dispatcher.queue
            complete = channel.requests[0].arrived
            going_on.set()
            read_until(late, b"\r\n\r\n")
    finally:
        going_on.set()
    assert arrived == [complete]


# --- bodies -------------------------------------------------------------------------------------


def test_a_body_is_in_no_file(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("a body is put into a file")

    server = serve()
    server.wait_for("ready")
    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    body = json.dumps({"message": "hi"}).encode()
    assert server.ask("POST", "/chat", body + b" " * (MAX_BODY_BYTES - len(body))).status == 200


BEGINNING = b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def held(server: Server, connection: socket.socket) -> int:
    """The bytes of a body that the server has of a client."""
    channels = list(server._server.active_channels.values())
    return next((one.held for one in channels if one.addr == connection.getsockname()), 0)


def test_bodies_without_an_end_give_way(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that began first; whoever sends a body at once is served."""
    monkeypatch.setattr(connection_module, "MOST_PARTIAL_BYTES", 200_000)
    server = serve()
    server.wait_for("ready")
    shared = server._server.shared
    with ExitStack() as stack:
        slow = []
        for _ in range(20):
            slow.append(stack.enter_context(connect(server.port)))
            slow[-1].sendall(BEGINNING + b"Content-Length: 50000\r\n\r\n" + b" " * 40_000)
            # Else one could be refused while there is more of it to be read, and be reset.
            until(lambda: held(server, slow[-1]) == 40_000)
            until(lambda: shared.partial == 40_000 * min(len(slow), 5))
        for connection in slow[:15]:
            data = read_to_end(connection)
            assert data.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert b"Connection: close\r\n" in data
            assert (
                json.loads(data.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_incomplete"
            )
        assert server.complete("x " * 20_000, max_tokens=1).status == 200
        assert shared.partial <= 200_000
        body = b'{"message": "hi"}'
        slow[-1].sendall(b" " * (10_000 - len(body)) + body)
        assert read_until(slow[-1], b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    until(lambda: shared.partial == 0)


def test_a_connection_that_is_closed_while_it_is_read_holds_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reset behind the beginning of a body, before the client could be told to go on."""
    server = serve()
    send_continue = connection_module.Channel.send_continue
    closed: list[bool] = []

    def reset_first(channel: Any) -> None:
        connection.close()
        until(channel.is_broken)
        send_continue(channel)
        closed.append(channel.socket is None)

    monkeypatch.setattr(connection_module.Channel, "send_continue", reset_first)
    with connect(server.port) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        head = BEGINNING + b"Expect: 100-continue\r\nContent-Length: 50000\r\n\r\n"
        connection.sendall(head + b" " * 1000)
        until(lambda: closed)
    assert closed == [True]
    assert server.get("/livez").status == 200
    assert server._server.shared.partial == 0


def test_a_refused_body_gives_no_request_behind_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "MOST_PARTIAL_BYTES", 1000)
    server = serve()
    with connect(server.port) as connection:
        connection.sendall(BEGINNING + b"Content-Length: 50000\r\n\r\n" + b" " * 2000 + LIVE)
        data = read_to_end(connection)
    assert data.count(b"HTTP/1.1 ") == 1
    assert data.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        (b"Authorization: Bearer wrong\r\n", 100_000),
        (b"", 100_000),
        (b"Authorization: Bearer right\r\n", MAX_BODY_BYTES + 1),
        (b"X-Api-Key: wrong\r\n", 100_000),
        (b"X-Api-Key: wrong\r\nAuthorization: Bearer right\r\n", 100_000),
        (b"X-Api-Key: right\r\n", MAX_BODY_BYTES + 1),
    ],
)
def test_a_body_that_nobody_will_read_takes_no_memory(
    serve: Serve, headers: bytes, length: int
) -> None:
    server = serve(api_key=("right",))
    with connect(server.port) as connection:
        head = BEGINNING + headers + b"Content-Length: %d\r\n\r\n" % length
        connection.sendall(head + b" " * 50_000)

        def received() -> list[Any]:
            channels = server._server.active_channels.values()
            requests = [channel.request for channel in channels if channel.request]
            return [one for one in requests if one.body_bytes_received >= 50_000]

        (request,) = until(received)
        assert request.held == 0
        assert server._server.shared.partial == 0


def test_a_body_of_tiny_chunks_is_read_in_small_turns(serve: Serve) -> None:
    """Understanding a chunk takes as long for one byte as for thousands."""
    server = serve()
    server.wait_for("ready")
    body = b'{"message":"hi"}'.ljust(30_000)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    sizes: list[int] = []
    received = connection_module.Channel.received

    def note(channel: Any, data: bytes) -> Any:
        sizes.append(len(data))
        return received(channel, data)

    with pytest.MonkeyPatch.context() as patch, connect(server.port) as connection:
        patch.setattr(connection_module, "LONG_TURN_S", -1.0)  # each is too long
        patch.setattr(connection_module.Channel, "received", note)
        connection.sendall(BEGINNING + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert sizes.count(connection_module.LEAST_GULP) > 100
    assert sum(sizes) > 180_000


# --- threads ------------------------------------------------------------------------------------


def test_readers_that_read_nothing_leave_threads_for_health(serve: Serve) -> None:
    """Each has two large answers coming, and reads neither."""
    server = serve(parallel=1, queue=0, background=0)
    server.wait_for("ready")
    server._server.adj.outbuf_high_watermark = 50_000
    server._server.adj.socket_options.append((socket.SOL_SOCKET, socket.SO_SNDBUF, 4096))
    request = post("/v1/tokenize", {"text": "word " * 10_000})

    def large() -> int:
        channels = list(server._server.active_channels.values())
        return sum(channel.total_outbufs_len > 50_000 for channel in channels)

    with ExitStack() as stack:
        for _ in range(3 * (1 + http_server.SPARE_THREADS)):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            n_asked = len(server.engine_lines("tokenize"))
            connection.sendall(request + request)
            server.wait_for_engine("tokenize", n_asked + 1)
            until(lambda: server.health()["active_requests"] == 0)
            for path in ("/livez", "/health"):
                assert server.get(path).status == 200
        # One more may be there for a moment, on its way to being closed.
        until(lambda: large() <= connection_module.PATIENT_THREADS)


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit()])
def test_an_end_of_a_thread_is_an_end_of_the_connection(
    serve: Serve, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """Of what is no Exception, which becomes an answer."""
    server = serve()
    application = server._server.application

    def fail(environ: dict[str, Any], start_response: Any) -> Any:
        raise error

    server._server.application = fail
    for _ in range(2 * server._server.adj.threads):
        with connect(server.port) as connection:
            connection.sendall(LIVE)
            assert connection.recv(1) == b""
    server._server.application = application
    assert server.get("/livez").status == 200
    assert [record for record in caplog.records if record.exc_info]


# --- descriptors --------------------------------------------------------------------------------


def limited(words: str) -> tuple[str, ...]:
    return ("sh", "-c", f'ulimit {words}; exec "$@"', "sh")


def test_the_limit_of_open_files_is_raised(start: Start) -> None:
    program = start("--port=0", wrapper=limited("-Sn 100")).listening()
    soft, _ = resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE)
    assert soft >= 2 * http_server.CONNECTIONS
    assert "open files" not in program.log


def test_a_limit_of_open_files_that_cannot_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (200, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert http_server.connections() == 80


def test_few_open_files_are_few_connections(start: Start) -> None:
    program = start("--port=0", wrapper=limited("-n 100")).listening()
    words = "WARNING the limit of open files is 100, so that 30 connections are accepted instead of"
    assert f"{words} 512" in program.log
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connect(program.port))
        assert program.complete("hi").status == 200
    assert "Traceback" not in program.log


def test_connections_end_before_the_open_files_do(start: Start) -> None:
    program = start("--port=0", wrapper=limited("-n 100")).listening()
    with ExitStack() as stack:
        for _ in range(120):
            stack.enter_context(connect(program.port))
        until(lambda: "all connections are taken" in program.log)
    assert "no connection can be accepted" not in program.log


def test_too_few_open_files_end_the_program_with_one_sentence(start: Start) -> None:
    program = start("--port=0", wrapper=limited("-n 50"))
    assert program.ended() == 1
    (line,) = program.log.splitlines()
    assert line.startswith("sheily_server: the limit of open files is 50, and 56 is the least: ")


def test_no_descriptor_for_a_connection(start: Start) -> None:
    """The connections that there are go on, and others are accepted once there is room."""
    program = start("--port=0").listening()
    pid = program.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with connect(program.port) as first:
        first.sendall(LIVE)
        read_until(first, b'"ok"}')
        # All of these are taken for good, and there are not more that the loop looks at.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (6, limits[1]))
        with connect(program.port) as second:
            second.sendall(LIVE)
            until(lambda: "no connection can be accepted for now" in program.log)
            for _ in range(20):
                first.sendall(LIVE.replace(b"/livez", b"/health"))
                assert b"HTTP/1.1 200 OK" in read_until(first, b"}")
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            assert read_until(second, b'"ok"}').startswith(b"HTTP/1.1 200 OK")
    assert program.log.count("no connection can be accepted for now: ") == 1
    assert "Traceback" not in program.log


def test_the_log_has_one_line_on_connections_that_are_all_taken(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_server, "CONNECTIONS", 10)
    server = serve()
    for _ in range(5):
        with ExitStack() as stack:
            for _ in range(12):
                stack.enter_context(connect(server.port)).sendall(LIVE)
            until(lambda: server._server.in_connection_overflow)
            assert len(server._server.active_channels) == 10
        until(lambda: not server._server.in_connection_overflow)
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("all connections are taken: new ones wait until one ends") == 1
    assert not [line for line in lines if "listening again" in line]


@pytest.mark.parametrize("way", ["overdue", "abandoned"])
def test_a_connection_that_is_closed_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The next one that is accepted may get its descriptor, for which the loop has events left."""
    config = Config(model_path=tmp_path / "none.gguf", port=0)
    server = http_server.create(App(config, Supervisor(config), memory_store()), config)

    def loop() -> bool:
        server.asyncore.loop(timeout=0.01, map=server._map, use_poll=True, count=1)
        return True

    try:
        with connect(server.effective_port) as first:
            until(lambda: loop() and server.active_channels)
            (channel,) = server.active_channels.values()
            with connect(server.effective_port) as second, monkeypatch.context() as patch:
                if way == "overdue":
                    patch.setattr(listener_module, "IDLE_S", -1e9)
                    server.next_channel_cleanup = 0
                else:
                    channel.abandon()
                loop()
                patch.undo()
                second.sendall(LIVE)
                second.setblocking(False)
                answer: list[bytes] = []

                def answered() -> bool:
                    loop()
                    with suppress(BlockingIOError):
                        answer.append(second.recv(1000))
                    return bool(answer)

                until(answered)
                assert answer[0].startswith(b"HTTP/1.1 200 OK")
            until(lambda: loop() and channel.socket is None)
            assert first.recv(1) == b""
    finally:
        server.task_dispatcher.shutdown()
        server.close()
        server.asyncore.close_all(server._map)


def test_a_connection_that_cannot_be_closed_ends_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> bool:
        raise OSError("cannot be closed")

    server: Server = serve()
    with monkeypatch.context() as patch:
        patch.setattr(listener_module, "close_overdue", fail)
        until(lambda: "a connection could not be closed" in caplog.text)
    assert server.get("/livez").status == 200
