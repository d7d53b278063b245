"""Responses that are kept: by their id, as history, for their owner; and what cannot be kept."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sheily_server.api.responses.answer import Response
from sheily_server.api.responses.encode import Writer
from sheily_server.chat.turn import Turn
from sheily_server.errors import StoreFullError
from sheily_server.store.base import Record, Store
from sheily_server.web import app
from tests.server.conftest import Serve
from tests.support.responses import PATH, post, respond, stream, text_of
from tests.support.serving import Answer, Endpoint, Server, read_until
from tests.support.waiting import WAIT, until

pytestmark = pytest.mark.http


def prompt(body: dict[str, Any]) -> str:
    """The prompt that the engine got, of an answer to `show`."""
    return "".join(text for text, _ in json.loads(text_of(body))["segments"])


def get(server: Endpoint, id: str, rest: str = "", key: str = "") -> Answer:
    return server.ask("GET", f"{PATH}/{id}{rest}", None, bearer(key))


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


@contextmanager
def opened(server: Endpoint, **fields: Any) -> Iterator[socket.socket]:
    """A connection on which a response was asked for, and nothing was read yet."""
    body = json.dumps(fields).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as connection:
        connection.sendall(head.encode() + body)
        yield connection


def putting(
    server: Server, monkeypatch: pytest.MonkeyPatch, before: Callable[[Record], None]
) -> None:
    """Has something done before each record is kept."""
    kind = type(server.app._service.store)
    original = kind.put

    def put(self: Store, record: Record) -> None:
        before(record)
        original(self, record)

    monkeypatch.setattr(kind, "put", put)


def id_in(beginning: bytes) -> str:
    """The id of the response that a stream begins with."""
    return beginning.split(b'"id":"')[1].split(b'"')[0].decode()


@pytest.mark.parametrize("streams", [False, True])
def test_a_response_is_there_by_its_id(server: Server, streams: bool) -> None:
    body = stream(server, "a b")[-1]["response"] if streams else respond(server, "a b")
    assert get(server, body["id"]).json() == body
    again = server.get(f"/responses/{body['id']}")
    assert again.json() == body


def test_what_is_not_to_be_kept_is_not(server: Server) -> None:
    body = respond(server, "a", store=False)
    assert body["store"] is False
    answer = get(server, body["id"])
    assert answer.status == 404
    assert answer.error() == {
        "message": f"Response with id '{body['id']}' not found.",
        "type": "invalid_request_error",
        "param": "id",
        "code": "response_not_found",
    }
    for rest in ("/input_items", "?stream=true"):
        assert get(server, body["id"], rest).error() == answer.error()
    assert server.ask("POST", f"{PATH}/{body['id']}/cancel").error() == answer.error()
    assert server.ask("DELETE", f"{PATH}/{body['id']}").error() == answer.error()


def test_a_deleted_response_is_gone(server: Server) -> None:
    id = respond(server, "a")["id"]
    answer = server.ask("DELETE", f"{PATH}/{id}")
    assert answer.json() == {"id": id, "object": "response", "deleted": True}
    assert get(server, id).status == 404
    assert server.ask("DELETE", f"{PATH}/{id}").status == 404


# As history


def test_a_conversation_goes_on(server: Server) -> None:
    first = respond(server, "one", instructions="Be brief.")
    second = respond(server, [{"role": "user", "content": "two"}], previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    last = respond(server, "show", previous_response_id=second["id"], instructions="Be kind.")
    whole = [
        {"role": "system", "content": "Be kind."},
        *[{"role": role, "content": "one"} for role in ("user", "assistant")],
        *[{"role": role, "content": "two"} for role in ("user", "assistant")],
        {"role": "user", "content": "show"},
    ]
    assert prompt(last) == prompt(respond(server, whole))
    assert "brief" not in prompt(respond(server, "show", previous_response_id=second["id"]))


def test_an_answer_that_goes_on_is_one_message_of_the_conversation(server: Server) -> None:
    begun = [
        {"role": "user", "content": "one two"},
        {"role": "assistant", "content": "I said "},
    ]
    rest = respond(server, begun, continue_final_message=True)
    assert text_of(rest) == "one two"
    more = respond(server, [], previous_response_id=rest["id"], continue_final_message=True)
    last = respond(server, "show", previous_response_id=more["id"])
    whole = [
        begun[0],
        {"role": "assistant", "content": "I said one twoone two"},
        {"role": "user", "content": "show"},
    ]
    assert prompt(last) == prompt(respond(server, whole))


def test_deleting_an_earlier_response_breaks_no_conversation(server: Server) -> None:
    first = respond(server, "one")
    second = respond(server, "two", previous_response_id=first["id"])
    server.ask("DELETE", f"{PATH}/{first['id']}")
    assert "one" in prompt(respond(server, "show", previous_response_id=second["id"]))


def test_a_branch(server: Server) -> None:
    first = respond(server, "one")["id"]
    assert "three" not in prompt(respond(server, "show", previous_response_id=first))
    respond(server, "three", previous_response_id=first)
    assert "three" not in prompt(respond(server, "show", previous_response_id=first))


def test_history_is_cut_as_on_the_chat_route(serve: Serve) -> None:
    server = serve(max_history=2)
    server.wait_for("ready")
    first = respond(server, "one")
    second = respond(server, "two", previous_response_id=first["id"])
    last = respond(server, "show", previous_response_id=second["id"])
    assert last["sheily"] == {"dropped_messages": 4}
    third = respond(server, "three", previous_response_id=last["id"])
    assert third["sheily"]["dropped_messages"] > 0


def test_a_conversation_has_an_end(server: Server) -> None:
    items = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}] * 512
    first = respond(server, items[:600], truncation="auto")
    answer = post(server, items[:600], previous_response_id=first["id"], truncation="auto")
    assert (answer.status, answer.error()["param"]) == (400, "input")
    assert "at most 1024" in answer.error()["message"]


def test_long_conversations_together_are_bounded(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short request may go on with a long conversation: it counts as a long body does."""
    monkeypatch.setattr(app, "LARGE_BODIES", 2)
    monkeypatch.setattr(app, "MAX_BODY_BYTES", 200_000)
    server = serve(parallel=2, context_size=1_000_000, max_tokens=10)
    server.wait_for("ready")
    id = respond(server, "x " * 60_000)["id"]
    (item,) = get(server, id, "/input_items").json()["data"]
    with opened(server, input="hang", previous_response_id=id):
        server.wait_for_engine("submit", 2)
        for answer in (
            post(server, "next", previous_response_id=id),
            post(server, [{"type": "item_reference", "id": item["id"]}]),
            get(server, id, "/input_items"),
        ):
            assert (answer.status, answer.error()["code"]) == (429, "queue_full")
        respond(server, "small")
    until(lambda: post(server, "next", previous_response_id=id).status == 200)


def test_a_response_larger_than_all_may_be_goes_alone(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LARGE_BODIES", 1)
    monkeypatch.setattr(app, "MAX_BODY_BYTES", 100_000)
    server = serve(context_size=1_000_000, max_tokens=10)
    server.wait_for("ready")
    id = respond(server, "x " * 45_000)["id"]
    assert get(server, id, "/input_items").status == 200


def test_references_stand_for_items(server: Server) -> None:
    first = respond(server, "one")
    (item,) = get(server, first["id"], "/input_items").json()["data"]
    (output,) = first["output"]
    mine = [{"type": "item_reference", "id": item["id"]}, {"id": output["id"]}]
    body = respond(server, [*mine, {"role": "user", "content": "show"}])
    again = [
        *[{"role": role, "content": "one"} for role in ("user", "assistant")],
        {"role": "user", "content": "show"},
    ]
    assert prompt(body) == prompt(respond(server, again))
    listed = get(server, body["id"], "/input_items?order=asc").json()["data"]
    assert [each["id"] for each in listed[:2]] == [item["id"], output["id"]]


@pytest.mark.parametrize("id", ["msg_1", f"msg_{'0' * 32}o0", f"msg_{'0' * 32}o99"])
def test_references_to_nothing(server: Server, id: str) -> None:
    answer = post(server, [{"type": "item_reference", "id": id}])
    assert answer.status == 404
    assert answer.error()["param"] == "input[0].id"
    assert answer.error()["code"] == "item_not_found"
    assert id in answer.error()["message"]


def test_a_reference_to_an_item_that_the_response_has_not(server: Server) -> None:
    id = respond(server, "a")["output"][0]["id"].replace("o0", "o1")
    assert post(server, [{"type": "item_reference", "id": id}]).status == 404


# Input items


def test_input_items_come_in_pages(server: Server) -> None:
    items = [{"role": "user", "content": f"m{i}"} for i in range(5)]
    items.append({"role": "user", "content": "end", "id": "msg_mine"})
    id = respond(server, items, instructions="never listed")["id"]

    def page(rest: str) -> tuple[list[str], bool]:
        answer = get(server, id, f"/input_items{rest}")
        assert answer.status == 200, answer.body
        body = answer.json()
        data = body["data"]
        assert body["object"] == "list"
        if data:
            assert (body["first_id"], body["last_id"]) == (data[0]["id"], data[-1]["id"])
        return [each["content"][0]["text"] for each in data], body["has_more"]

    everything = ["m0", "m1", "m2", "m3", "m4", "end"]
    assert page("") == (everything[::-1], False)
    assert page("?order=asc") == (everything, False)
    assert page("?order=asc&limit=2") == (["m0", "m1"], True)
    assert page("?order=desc&limit=2&after=msg_mine") == (["m4", "m3"], True)
    assert page("?order=asc&limit=2&after=msg_mine") == ([], False)
    for rest, param in [
        ("?limit=0", "limit"),
        ("?limit=101", "limit"),
        ("?limit=x", "limit"),
        ("?order=up", "order"),
        ("?after=msg_none", "after"),
    ]:
        answer = get(server, id, f"/input_items{rest}")
        assert (answer.status, answer.error()["param"]) == (400, param)


@pytest.mark.parametrize(
    ("rest", "param"),
    [
        ("?stream=maybe", "stream"),
        ("?stream=true&starting_after=-1", "starting_after"),
        ("?stream=true&starting_after=99999999999999999999", "starting_after"),
        ("?stream=true&starting_after=x", "starting_after"),
        ("?starting_after=3", "starting_after"),
        ("?stream=true", "stream"),
    ],
)
def test_queries_that_cannot_be(server: Server, rest: str, param: str) -> None:
    id = respond(server, "a")["id"]
    answer = get(server, id, rest)
    assert (answer.status, answer.error()["param"]) == (400, param)


def test_queries_of_the_clients_have_no_effect(server: Server) -> None:
    body = respond(server, "a")
    rest = "?include[]=message.output_text.logprobs&stream=false&include_obfuscation=false"
    assert get(server, body["id"], rest).json() == body


# Owners


def test_another_key_s_responses_are_not_there(serve: Serve) -> None:
    server = serve(api_key=("mine", "theirs"))
    server.wait_for("ready")
    mine = respond(server, "a", headers=bearer("mine"))
    assert get(server, mine["id"], key="mine").json() == mine
    for method, rest in [
        ("GET", ""),
        ("GET", "/input_items"),
        ("GET", "?stream=true"),
        ("POST", "/cancel"),
        ("DELETE", ""),
    ]:
        answer = server.ask(method, f"{PATH}/{mine['id']}{rest}", None, bearer("theirs"))
        assert answer.status == 404, (method, rest)
        assert answer.error()["code"] == "response_not_found"
    theirs = {"headers": bearer("theirs")}
    answer = post(server, "a", previous_response_id=mine["id"], **theirs)
    assert answer.error()["code"] == "previous_response_not_found"
    reference = [{"type": "item_reference", "id": mine["output"][0]["id"]}]
    assert post(server, reference, **theirs).status == 404
    assert get(server, mine["id"], key="mine").status == 200


# Readers who are gone


@pytest.mark.parametrize("streams", [False, True])
def test_a_lost_reader_cancels_and_what_was_said_is_kept(
    server: Server, streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts: list[Record] = []
    putting(server, monkeypatch, puts.append)
    with opened(server, input="hang-late", stream=streams) as connection:
        if streams:
            read_until(connection, b"once")
        else:
            until(lambda: puts)
    until(lambda: len(puts) == 2)
    assert [record.status for record in puts] == ["in_progress", "cancelled"]
    id = puts[0].id
    body = get(server, id).json()
    assert (body["status"], body["usage"], body["completed_at"]) == ("cancelled", None, None)
    if streams:
        assert text_of(body) == "once"
        assert body["output"][0]["status"] == "incomplete"
    assert "hang-late" in prompt(respond(server, "show", previous_response_id=id))


def test_a_response_that_is_being_made(server: Server) -> None:
    with opened(server, input="hang-late", stream=True) as connection:
        id = id_in(read_until(connection, b"once"))
        body = get(server, id).json()
        assert (body["status"], body["output"]) == ("in_progress", [])
        assert get(server, id, "/input_items").json()["data"][0]["content"][0]["text"] == (
            "hang-late"
        )
        answer = server.ask("POST", f"{PATH}/{id}/cancel")
        assert (answer.status, answer.error()["param"]) == (400, "id")
        assert get(server, id, "?stream=true").error()["param"] == "stream"
        early = post(server, "a", previous_response_id=id)
        assert early.error()["param"] == "previous_response_id"
        assert server.ask("DELETE", f"{PATH}/{id}").status == 200
        assert get(server, id).status == 404
    until(lambda: not server.app._service.jobs._jobs)
    assert get(server, id).status == 404


def test_a_response_that_was_deleted_while_it_was_made_says_so(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Writer.finished

    def finished(self: Writer, turn: Turn) -> Response:
        assert server.ask("DELETE", f"{PATH}/{self.id}").status == 200
        return original(self, turn)

    monkeypatch.setattr(Writer, "finished", finished)
    body = respond(server, "a b")
    assert text_of(body) == "a b"
    assert body["sheily"]["stored"] is False
    assert get(server, body["id"]).status == 404


def test_a_failure_is_kept(server: Server) -> None:
    events = stream(server, "fail engine_error")
    body = get(server, events[0]["response"]["id"]).json()
    assert body == events[-1]["response"]
    assert (body["status"], body["error"]["code"]) == ("failed", "server_error")


# A store that is full


@pytest.mark.parametrize("streams", [False, True])
def test_what_cannot_be_kept_is_answered_and_says_so(
    server: Server, streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(record: Record) -> None:
        raise StoreFullError("The disk is full.")

    putting(server, monkeypatch, full)
    body = stream(server, "a b")[-1]["response"] if streams else respond(server, "a b")
    assert (body["status"], text_of(body)) == ("completed", "a b")
    assert body["sheily"] == {"stored": False, "not_stored_because": "The disk is full."}
    assert get(server, body["id"]).status == 404


def test_a_response_that_only_began_to_be_kept_is_not_there(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(record: Record) -> None:
        if record.status == "completed":
            raise StoreFullError("The disk is full.")

    putting(server, monkeypatch, full)
    assert get(server, respond(server, "a")["id"]).status == 404
