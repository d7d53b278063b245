"""LLMClient's responses, and streams of them that are lost and resumed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from sheily_server.client import (
    Call,
    LLMAPIError,
    LLMClient,
    LLMConnectionError,
    LLMProtocolError,
    Response,
    ResponseCancelledError,
    ServerError,
    StreamInterruptedError,
    streams,
)
from tests.support.fake_server import WAIT, FakeServer, Handler, answer, raw, stream

ID = "resp_1"
TEXT = "Ño, two 🙂 three"


@pytest.fixture
def client(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[LLMClient]:
    monkeypatch.setattr(streams, "PAUSES_S", (0.0, 0.0, 0.0))
    with LLMClient(server.url, timeout=WAIT) as opened:
        yield opened


def made(status: str = "completed", text: str = TEXT, **more: Any) -> dict[str, Any]:
    """A response object."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    message = {"type": "message", "id": "msg_1", "role": "assistant", "content": content}
    return {"id": ID, "status": status, "output": [message] if text else [], **more}


def events(*, status: str = "completed", **more: Any) -> list[dict[str, Any]]:
    """All events of a response, in their order."""
    begun = made("in_progress", "")
    found: list[dict[str, Any]] = [
        {"type": "response.created", "response": made("queued", "")},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message"}},
        *({"type": "response.output_text.delta", "delta": letter} for letter in TEXT),
        {"type": "response.output_text.done", "text": TEXT},
        {"type": f"response.{status}", "response": made(status, **more)},
    ]
    return [{**event, "sequence_number": i} for i, event in enumerate(found)]


def written(event: dict[str, Any]) -> bytes:
    data = json.dumps(event, ensure_ascii=False).encode()
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), data)


# whole responses


def test_a_response(server: FakeServer, client: LLMClient) -> None:
    body = made(usage={"output_tokens": 3})
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f"}
    body["output"] += [call | {"arguments": '{"a": 1}'}, {"type": "reasoning", "summary": []}]
    server.script = answer(200, body)
    found = client.respond("Hi", instructions="Be brief.", max_output_tokens=9)
    assert found == Response(
        TEXT,
        id=ID,
        status="completed",
        calls=(Call(id="call_1", name="f", arguments='{"a": 1}'),),
        usage={"output_tokens": 3},
        raw=body,
    )
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/v1/responses")
    assert seen.json() == {
        "input": "Hi",
        "stream": False,
        "instructions": "Be brief.",
        "max_output_tokens": 9,
    }


def test_a_response_that_goes_on_with_another(server: FakeServer, client: LLMClient) -> None:
    server.script = answer(200, made("queued", ""))
    items = [{"role": "user", "content": "Hi"}]
    found = client.respond(items, previous_response_id="resp_0", background=True)
    assert (found.status, found.text, found.calls) == ("queued", "", ())
    assert server.seen[0].json() == {
        "input": items,
        "stream": False,
        "previous_response_id": "resp_0",
        "background": True,
    }


def test_an_incomplete_response_says_so(server: FakeServer, client: LLMClient) -> None:
    server.script = answer(
        200, made("incomplete", incomplete_details={"reason": "max_output_tokens"})
    )
    assert client.respond("x").status == "incomplete"


FAILED: dict[str, Any] = {"error": {"code": "server_error", "message": "The engine died."}}


def test_a_response_that_failed_is_an_error(server: FakeServer, client: LLMClient) -> None:
    server.script = answer(200, made("failed", **FAILED))
    with pytest.raises(ServerError, match="The engine died") as caught:
        client.respond("x")
    assert caught.value.code == "server_error"
    assert client.retrieve(ID).status == "failed"


def test_a_cancelled_response_is_an_error(server: FakeServer, client: LLMClient) -> None:
    server.script = answer(200, made("cancelled"))
    with pytest.raises(ResponseCancelledError, match=ID):
        client.respond("x")
    assert client.cancel("a/b").status == "cancelled"
    seen = server.seen[-1]
    assert (seen.method, seen.path) == ("POST", "/v1/responses/a%2Fb/cancel")


def test_a_response_that_is_not_there(server: FakeServer, client: LLMClient) -> None:
    error = {"message": "Response with id 'x' not found.", "code": None}
    server.script = answer(404, {"error": error})
    for ask in (client.retrieve, client.cancel, lambda id: list(client.resume(id))):
        with pytest.raises(LLMAPIError, match="not found") as caught:
            ask("x")
        assert caught.value.status == 404
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    "more",
    [
        {"id": 5},
        {"status": None},
        {"output": 5},
        {"output": ["text"]},
        {"output": [{"type": "message", "content": [{"type": "output_text"}]}]},
        {"output": [{"type": "function_call", "name": "f"}]},
        {"usage": 5},
    ],
)
def test_responses_of_another_form_are_protocol_errors(
    server: FakeServer, client: LLMClient, more: dict[str, Any]
) -> None:
    server.script = answer(200, made() | more)
    with pytest.raises(LLMProtocolError):
        client.respond("x")


# streams


def test_a_stream(server: FakeServer, client: LLMClient) -> None:
    server.script = stream(*map(written, events()))
    found = client.respond_stream("Hi", store=False)
    assert server.seen == []
    assert (found.id, found.sequence_number, found.response) == (None, None, None)
    assert next(found) == TEXT[0]
    assert (found.id, found.sequence_number) == (ID, 3)
    assert "".join(found) == TEXT[1:]
    assert found.sequence_number == len(events()) - 1
    assert found.response is not None
    assert (found.response.status, found.response.text) == ("completed", TEXT)
    assert server.seen[0].json() == {"input": "Hi", "stream": True, "store": False}


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ({"type": "error", "message": "No.", "code": "c", "param": None}, ServerError),
        ({"error": {"message": "No.", "code": "c"}}, ServerError),
        ({"type": "response.failed", "response": made("failed", **FAILED)}, ServerError),
        ({"type": "response.cancelled", "response": made("cancelled")}, ResponseCancelledError),
        ({"type": "response.output_text.delta", "delta": 5}, LLMProtocolError),
        ({"type": "response.completed", "response": {"id": ID}}, LLMProtocolError),
    ],
)
@pytest.mark.parametrize("background", [False, True])
def test_a_stream_that_ends_badly_is_not_resumed(
    server: FakeServer,
    client: LLMClient,
    last: dict[str, Any],
    kind: type[Exception],
    background: bool,
) -> None:
    few = events()[:5]
    data = b"data: " + json.dumps({**last, "sequence_number": 5}).encode() + b"\n\n"
    server.script = stream(*map(written, few), data)
    found = client.respond_stream("x", background=background)
    assert [next(found), next(found)] == list(TEXT[:2])
    with pytest.raises(kind):
        next(found)
    assert len(server.seen) == 1


def test_an_incomplete_stream_says_so(server: FakeServer, client: LLMClient) -> None:
    server.script = stream(*map(written, events(status="incomplete")))
    with client.respond_stream("x") as found:
        assert "".join(found) == TEXT
        assert found.response is not None
        assert found.response.status == "incomplete"


@pytest.mark.parametrize("number", [None, "5", 7])
def test_an_event_that_is_missing_is_a_protocol_error(
    server: FakeServer, client: LLMClient, number: object
) -> None:
    few = events()[:5]
    few[-1]["sequence_number"] = number
    server.script = stream(*map(written, few))
    with pytest.raises(LLMProtocolError):
        list(client.respond_stream("x"))


def test_a_lost_stream_is_not_resumed_unless_it_is_a_background_one(
    server: FakeServer, client: LLMClient
) -> None:
    server.script = stream(*map(written, events()[:5]))
    found = client.respond_stream("x")
    assert [next(found), next(found)] == list(TEXT[:2])
    with pytest.raises(StreamInterruptedError):
        next(found)
    assert len(server.seen) == 1


def test_closing_the_stream_closes_the_connection(server: FakeServer, client: LLMClient) -> None:
    def script(handler: Handler) -> None:
        handler.events(*map(written, events()[:5]))
        handler.wait_for_hangup()

    server.script = script
    with client.respond_stream("x", background=True) as found:
        assert next(found) == TEXT[0]
    assert list(found) == []
    assert len(server.seen) == 1


# resuming


@dataclass
class Background:
    """A server with one background response: it hangs up after so many bytes of each stream, and
    repeats some events, as none should."""

    cuts: list[int]
    repeats: int = 0
    again: list[int] = field(default_factory=list)
    """What was asked for with `starting_after`, -1 for nothing."""

    def __call__(self, handler: Handler) -> None:
        seen = handler.request_seen
        after = -1
        if seen.method == "GET":
            found = re.fullmatch(
                rf"/v1/responses/{ID}\?stream=true(&starting_after=(\d+))?", seen.path
            )
            assert found, seen.path
            after = int(found[2] or -1)
            self.again.append(after)
        data = b"".join(map(written, events()[max(0, after + 1 - self.repeats) :]))
        if not self.cuts:
            handler.events(data)
            handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.events(data[: self.cuts.pop(0)])


FIRST = len(written(events()[0]))
ALL = sum(len(written(event)) for event in events())


def test_a_stream_cut_anywhere_goes_on(server: FakeServer, client: LLMClient) -> None:
    random = Random(1)
    for _ in range(200):
        first = random.randrange(FIRST, ALL)
        script = server.script = Background([first, random.randrange(ALL)], random.randrange(3))
        found = client.respond_stream("x", background=True)
        assert "".join(found) == TEXT
        assert script.again == sorted(script.again)
        assert script.again
        assert found.response is not None
        assert found.response.text == TEXT


def test_resuming_by_hand(server: FakeServer, client: LLMClient) -> None:
    script = server.script = Background([])
    assert "".join(client.resume(ID)) == TEXT
    found = client.resume(ID, starting_after=5)
    assert "".join(found) == TEXT[3:]
    assert found.response is not None
    assert list(client.resume(ID, starting_after=len(events()) - 2)) == []
    assert script.again == [-1, 5, len(events()) - 2]


def test_resuming_ends_where_nothing_comes(server: FakeServer, client: LLMClient) -> None:
    """Three times in a row in this test; any new event allows as many again."""
    two = sum(len(written(event)) for event in events()[:5])
    one_more = len(written(events()[5]))
    script = server.script = Background([two, 0, 0, one_more, 0, 0, 0, 0])
    found = client.respond_stream("x", background=True)
    pieces = [next(found) for _ in range(3)]
    assert pieces == list(TEXT[:3])
    with pytest.raises(StreamInterruptedError, match=r"resume\('resp_1', starting_after=5\)"):
        next(found)
    assert script.again == [4, 4, 4, 5, 5, 5]
    assert (found.id, found.sequence_number) == (ID, 5)
    script.cuts.clear()
    assert "".join(client.resume(ID, starting_after=5)) == TEXT[3:]


@pytest.mark.parametrize(
    "data", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"]
)
def test_a_response_without_an_id_cannot_be_resumed(
    server: FakeServer, client: LLMClient, data: bytes
) -> None:
    server.script = raw(data)
    with pytest.raises((LLMConnectionError, StreamInterruptedError)):
        next(client.respond_stream("x", background=True))
    assert len(server.seen) == 1


def test_silence_is_a_loss_too(server: FakeServer, client: LLMClient) -> None:
    def script(handler: Handler) -> None:
        if handler.request_seen.method == "GET":
            return stream(*map(written, events()[5:]))(handler)
        handler.events(*map(written, events()[:5]))
        handler.wait_for_hangup()

    server.script = script
    found = client.respond_stream("x", background=True)
    assert next(found) == TEXT[0]
    (connected,) = client._server._sockets
    connected.settimeout(0.01)
    assert "".join(found) == TEXT[1:]
    assert len(server.seen) == 2


def test_a_closed_client_does_not_resume(server: FakeServer, client: LLMClient) -> None:
    def script(handler: Handler) -> None:
        handler.events(*map(written, events()[:5]))
        handler.wait_for_hangup()

    server.script = script
    found = client.respond_stream("x", background=True)
    assert next(found) == TEXT[0]
    client.close()
    with pytest.raises(StreamInterruptedError):
        list(found)
    assert len(server.seen) == 1
