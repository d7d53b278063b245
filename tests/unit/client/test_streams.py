"""LLMClient's streams, and the parser of server-sent events under them."""

from __future__ import annotations

import itertools
import json
import select
import threading
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.client import (
    EventParser,
    LLMClient,
    LLMConnectionError,
    LLMError,
    LLMProtocolError,
    ServerError,
    StreamInterruptedError,
    connections,
)
from tests.support.fake_server import (
    DONE,
    WAIT,
    FakeServer,
    Handler,
    answer,
    completion,
    event,
    stream,
)

# streams


@dataclass
class _Hangup:
    """A script that streams some events and then notes that the client has gone."""

    events: tuple[bytes, ...] = (event("one"),)
    gone: threading.Event = field(default_factory=threading.Event)

    def __call__(self, handler: Handler) -> None:
        handler.events(*self.events)
        handler.wait_for_hangup()
        self.gone.set()


def test_stream_yields_the_text_in_pieces(server: FakeServer, client: LLMClient) -> None:
    first = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
    usage = b'data: {"choices":[],"usage":{"total_tokens":5}}\n\n'
    server.script = stream(first, event("Ho"), event("la"), event(), usage, DONE)
    options = {"stream_options": {"include_usage": True}}
    assert list(client.stream("x", **options)) == ["Ho", "la"]
    assert server.seen[0].json()["stream"] is True
    assert server.seen[0].json()["stream_options"] == {"include_usage": True}


def test_stream_of_several_choices_yields_the_first(server: FakeServer, client: LLMClient) -> None:
    other = b'data: {"choices":[{"index":1,"delta":{"content":"no"}}]}\n\n'
    server.script = stream(event("a"), other, event("b"), DONE)
    assert list(client.stream("x", n=2)) == ["a", "b"]


def test_stream_without_chunks_or_length(server: FakeServer, client: LLMClient) -> None:
    server.script = lambda handler: handler.events(event("a"), DONE, chunked=False)
    assert list(client.stream("x")) == ["a"]


def test_stream_split_at_every_byte(server: FakeServer, client: LLMClient) -> None:
    text = b": keep-alive\r\n\r\n" + event("ñ🙂").replace(b"\n", b"\r\n") + DONE
    server.script = stream(*(text[place : place + 1] for place in range(len(text))))
    assert list(client.stream("x")) == ["ñ🙂"]


def test_a_finished_stream_waits_for_the_end_of_the_response(
    server: FakeServer, client: LLMClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LAST_CHUNK_WAIT", WAIT)
    hung_up = []

    def script(handler: Handler) -> None:
        handler.events(event("a"), DONE)
        readable, _, _ = select.select([handler.connection], [], [], 0.05)
        hung_up.append(bool(readable))
        handler.wfile.write(b"0\r\n\r\n")
        handler.wait_for_hangup()

    server.script = script
    assert list(client.stream("x")) == ["a"]
    assert hung_up[0] is False


def test_a_finished_stream_does_not_wait_for_ever(
    server: FakeServer, client: LLMClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LAST_CHUNK_WAIT", 0.01)
    script = server.script = _Hangup((event("a"), DONE))
    assert list(client.stream("x")) == ["a"]
    assert script.gone.wait(WAIT)


def test_a_piece_comes_while_the_stream_goes_on(server: FakeServer, client: LLMClient) -> None:
    taken = threading.Event()

    def script(handler: Handler) -> None:
        handler.events(b": keep-alive\n\n", event("one"))
        assert taken.wait(WAIT)
        second = event("two") + DONE
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(second), second))

    server.script = script
    deltas = client.stream("x")
    assert next(deltas) == "one"
    taken.set()
    assert list(deltas) == ["two"]


def test_closing_the_generator_hangs_up(server: FakeServer, client: LLMClient) -> None:
    script = server.script = _Hangup()
    deltas = client.stream("x")
    assert next(deltas) == "one"
    deltas.close()
    assert script.gone.wait(WAIT)


def test_closing_the_client_ends_its_streams(server: FakeServer) -> None:
    script = server.script = _Hangup()
    client = LLMClient(server.url, timeout=WAIT)
    deltas = client.stream("x")
    assert next(deltas) == "one"
    client.close()
    assert script.gone.wait(WAIT)
    with pytest.raises(StreamInterruptedError):
        next(deltas)
    with pytest.raises(RuntimeError, match="closed"):
        client.chat("x")


def test_closing_the_client_wakes_a_waiting_thread(server: FakeServer) -> None:
    client = LLMClient(server.url, timeout=WAIT)
    asked = threading.Event()
    errors: list[LLMError] = []

    def script(handler: Handler) -> None:
        asked.set()
        handler.wait_for_hangup()

    def call() -> None:
        try:
            client.chat("x")
        except LLMError as error:
            errors.append(error)

    server.script = script
    thread = threading.Thread(target=call)
    thread.start()
    assert asked.wait(WAIT)
    client.close()
    thread.join(WAIT)
    assert [type(error) for error in errors] == [LLMConnectionError]


def test_nothing_is_sent_before_the_first_piece_is_asked_for(
    server: FakeServer, client: LLMClient
) -> None:
    client.stream("x").close()
    assert server.seen == []


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        ({"message": "crashed", "type": "server_error", "code": "c"}, "crashed", "c"),
        ("crashed", "crashed", None),
    ],
)
def test_an_error_inside_a_stream(
    server: FakeServer, client: LLMClient, error: object, message: str, code: str | None
) -> None:
    last = b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
    server.script = stream(event("a"), last)
    deltas = client.stream("x")
    assert next(deltas) == "a"
    with pytest.raises(ServerError) as caught:
        next(deltas)
    assert (caught.value.status, caught.value.message, caught.value.code) == (200, message, code)


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b"", b"5\r\nab", b"zz\r\n"])
@pytest.mark.parametrize("last", [b": alive\n\n", b"data: [DONE]"])
def test_a_stream_without_its_end(
    server: FakeServer, client: LLMClient, end: bytes, last: bytes
) -> None:
    server.script = stream(event("a"), last, end=end)
    deltas = client.stream("x")
    assert next(deltas) == "a"
    with pytest.raises(StreamInterruptedError):
        next(deltas)


@pytest.mark.parametrize(
    "data",
    [
        b"data: hello\n\n",
        b"data: []\n\n",
        b"data: \xff\n\n",
        b"data: {}\n\n",
        b'data: {"choices": [5]}\n\n',
        b'data: {"choices": [{"index": 0}]}\n\n',
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
    ],
)
def test_events_of_another_form_are_protocol_errors(
    server: FakeServer, client: LLMClient, data: bytes
) -> None:
    server.script = stream(data, DONE)
    with pytest.raises(LLMProtocolError):
        list(client.stream("x"))


def test_json_instead_of_a_stream_is_a_protocol_error(
    server: FakeServer, client: LLMClient
) -> None:
    server.script = answer(200, completion("x"), Content_Type="application/json")
    with pytest.raises(LLMProtocolError, match="application/json instead of a stream"):
        list(client.stream("x"))


# EventParser


def _parse(*pieces: bytes) -> list[str]:
    parser = EventParser()
    return [data for piece in pieces for data in parser.feed(piece)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"data: a\n\n", ["a"]),
        (b"data:a\r\n\r\n", ["a"]),
        (b"data: a\r\r", ["a"]),
        (b"data:  a \n\n", [" a "]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data\n\n", [""]),
        (b"data:\ndata:\n\n", ["\n"]),
        (b": comment\n\ndata: a\n: other\n\n", ["a"]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", ["a"]),
        (b"event: x\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", ["a"]),
        (b"datax: a\n\n", []),
        (b"\n\n\ndata: a\n\n\n\ndata: b\n\n", ["a", "b"]),
        (b"data: a\n", []),
        (b"data: a", []),
        ("data: \u2028\x85\x0b\n\n".encode(), ["\u2028\x85\x0b"]),
    ],
)
def test_events_by_the_standard(data: bytes, expected: list[str]) -> None:
    assert _parse(data) == expected
    assert _parse(*(data[place : place + 1] for place in range(len(data)))) == expected


LINES = st.sampled_from(["data: ", "data:", "data", ": ", "id: ", "", "ñ🙂", "\ufeff"])
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@given(
    text=st.lists(st.tuples(LINES, st.sampled_from(["", "x", "é🙂", ":"]), ENDS), max_size=12),
    cuts=st.lists(st.integers(0, 150), max_size=8),
)
def test_events_do_not_depend_on_the_pieces(
    text: list[tuple[str, str, str]], cuts: list[int]
) -> None:
    data = "".join(map("".join, text)).encode()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    assert b"".join(pieces) == data
    assert _parse(*pieces) == _parse(data)


@given(st.lists(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]))))
def test_any_text_comes_through(texts: list[str]) -> None:
    lines = (f"data: {text}".replace("\n", "\ndata: ") + "\n\n" for text in texts)
    assert _parse("".join(lines).encode()) == texts
