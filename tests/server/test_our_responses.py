"""Responses of this project's client: whole, streamed, in the background, and through a network
that loses connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import pytest

from sheily_server import client as own
from sheily_server.client import LLMClient, streams
from tests.server.conftest import Serve
from tests.support.serving import Server
from tests.support.waiting import WAIT, until

pytestmark = pytest.mark.http


@pytest.fixture
def client(server: Server) -> Iterator[LLMClient]:
    with LLMClient(server.url, timeout=WAIT) as opened:
        yield opened


def test_a_response_and_the_next_one(client: LLMClient) -> None:
    first = client.respond("one two", instructions="Be brief.", max_output_tokens=9)
    assert (first.text, first.status, first.calls) == ("one two", "completed", ())
    assert first.usage["output_tokens"] == 2
    assert client.retrieve(first.id).text == "one two"
    shown = client.respond("show", previous_response_id=first.id)
    assert "one two" in shown.text


def test_a_response_in_pieces(client: LLMClient) -> None:
    with client.respond_stream("one two") as found:
        assert list(found) == ["one", " two"]
        assert found.response is not None
        assert found.response.text == "one two"


def test_a_response_that_is_cut_off_says_so(client: LLMClient) -> None:
    found = client.respond_stream("one two three", max_output_tokens=2)
    assert "".join(found) == "one two"
    assert found.response is not None
    assert found.response.status == "incomplete"


def test_a_response_in_the_background(client: LLMClient) -> None:
    begun = client.respond("one two", background=True)
    assert begun.status in ("queued", "in_progress", "completed")
    found = client.resume(begun.id)
    assert list(found) == ["one", " two"]
    assert client.retrieve(begun.id).text == "one two"
    assert found.sequence_number is not None
    assert list(client.resume(begun.id, starting_after=found.sequence_number - 1)) == []


def test_a_response_that_is_cancelled(client: LLMClient) -> None:
    found = client.respond_stream("slow 1000000 0.002", background=True)
    next(found)
    assert found.id is not None
    assert client.cancel(found.id).status == "cancelled"
    with pytest.raises(own.ResponseCancelledError):
        list(found)
    assert client.retrieve(found.id).status == "cancelled"


def test_what_fails(client: LLMClient) -> None:
    with pytest.raises(own.ServerError, match="failed on this request"):
        client.respond("fail engine_error")
    with pytest.raises(own.ServerError, match="failed on this request"):
        list(client.respond_stream("fail engine_error"))
    with pytest.raises(own.BadRequestError) as caught:
        client.respond("x", temperature=3)
    assert caught.value.param == "temperature"
    with pytest.raises(own.LLMAPIError) as missing:
        client.retrieve("resp_none")
    assert missing.value.status == 404


# --- a network that loses connections -------------------------------------------------------------


@contextmanager
def cutting(port: int, more: Callable[[], int]) -> Iterator[tuple[str, list[threading.Thread]]]:
    """A proxy, and a thread for each connection that it had: it hangs up so many bytes behind the
    first event of each stream."""

    def carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)

    def answer(near: socket.socket) -> None:
        far = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        up = threading.Thread(target=carry, args=(near, far))
        up.start()
        head, left = b"", more()
        with contextlib.suppress(OSError):
            while b"\n\n" not in head.partition(b"\r\n\r\n")[2] and (data := far.recv(1)):
                near.sendall(data)
                head += data
            while left > 0 and (data := far.recv(left)):
                near.sendall(data)
                left -= len(data)
        for end in (near, far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        up.join(WAIT)
        near.close()
        far.close()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                threads.append(threading.Thread(target=answer, args=(near,)))
                threads[-1].start()

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", threads
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(WAIT)
            for thread in threads:
                thread.join(WAIT)


def test_a_background_response_survives_lost_connections(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PAUSES_S", (0.0,) * 50)
    random = Random(1)
    wanted = " ".join(f"w{i}" for i in range(30))
    with (
        cutting(server.port, lambda: random.randrange(3000)) as (url, connections),
        LLMClient(url, timeout=WAIT) as client,
    ):
        for _ in range(20):
            found = client.respond_stream("slow 30 0", background=True)
            assert "".join(found).strip() == wanted
            assert found.response is not None
            assert found.response.text.strip() == wanted
        assert len(connections) > 2 * 20


def test_a_lost_reader_ends_a_response_that_is_not_in_the_background(serve: Serve) -> None:
    server = serve(parallel=1, queue=0)
    server.wait_for("ready")
    with LLMClient(server.url, timeout=WAIT) as client:
        found = client.respond_stream("slow 1000000 0.002")
        next(found)
        found.close()
        server.wait_for_engine("cancel")
        assert found.id is not None
        id = found.id
        assert until(lambda: client.retrieve(id).status == "cancelled")
