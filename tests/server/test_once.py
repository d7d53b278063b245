"""`Idempotency-Key`: a response in the background is begun once, however often it is asked for."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Serve, Start
from tests.server.test_background import cancel, ended
from tests.server.test_kept_responses import bearer
from tests.support.responses import PATH, events_of, joined
from tests.support.serving import Answer, Endpoint, Server
from tests.support.waiting import until

pytestmark = pytest.mark.http


def ask(
    server: Endpoint,
    input: str,
    key: str | None,
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> Answer:
    body = {"input": input, "background": True, **fields}
    given = {} if key is None else {"Idempotency-Key": key}
    return server.ask(
        "POST",
        PATH,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **given, **(headers or {})},
    )


def id_of(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return str(json.loads(answer.body)["id"])


def is_replayed(answer: Answer) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


def test_the_same_key_and_body_is_the_same_response(server: Server) -> None:
    answer = ask(server, "one two", "a-key")
    first = id_of(answer)
    assert not is_replayed(answer)
    assert is_replayed(ask(server, "one two", "a-key"))
    ended(server, first)
    again = ask(server, "one two", "a-key")
    assert (id_of(again), is_replayed(again)) == (first, True)
    assert json.loads(again.body)["status"] == "completed"
    assert len(server.engine_lines("submit ")) == 1
    others = {
        id_of(ask(server, "one two", "another-key")),
        id_of(ask(server, "one two three", "a-key")),
        id_of(ask(server, "one two", None)),
    }
    assert len(others | {first}) == 4


def test_a_repeated_stream_is_the_whole_stream(server: Server) -> None:
    first = ask(server, "one two three", "stream", stream=True)
    again = ask(server, "one two three", "stream", stream=True)
    assert (is_replayed(first), is_replayed(again)) == (False, True)
    assert again.body == first.body
    assert joined(events_of(again.body)) == "one two three"


def test_a_repeated_stream_follows_one_that_is_being_made(server: Server) -> None:
    streams: list[list[dict[str, Any]]] = []

    def follow() -> None:
        answer = ask(server, "slow 5 0.1", "running", stream=True)
        streams.append(events_of(answer.body))

    threads = [threading.Thread(target=follow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(streams) == 4
    assert all(events == streams[0] for events in streams)
    assert streams[0][-1]["type"] == "response.completed"


def test_many_at_once_begin_one(server: Server) -> None:
    before = len(server.engine_lines("submit "))
    ids: list[str] = []
    ready = threading.Barrier(8)

    def begin() -> None:
        ready.wait()
        ids.append(id_of(ask(server, "just one", "at-once")))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1
    ended(server, ids[0])
    assert len(server.engine_lines("submit ")) == before + 1


def test_a_repeat_needs_no_room_for_a_new_one(serve: Serve) -> None:
    server = serve(background=1)
    server.wait_for("ready")
    id = id_of(ask(server, "hang", "only"))
    assert ask(server, "hang", "next").status == 429
    assert id_of(ask(server, "hang", "only")) == id
    assert cancel(server, id).status == 200


def test_what_was_deleted_is_made_anew(server: Server) -> None:
    id = id_of(ask(server, "hang", "anew"))
    until(lambda: server.engine_lines("submit "))
    assert server.ask("DELETE", f"{PATH}/{id}").status == 200
    again = ask(server, "hang", "anew")
    assert (id_of(again), is_replayed(again)) == (id, False)
    # The end of the first one takes nothing from the second.
    until(lambda: server.engine_lines("cancel "))
    assert json.loads(server.ask("GET", f"{PATH}/{id}").body)["status"] in ("queued", "in_progress")
    assert json.loads(cancel(server, id).body)["status"] == "cancelled"


def test_a_key_of_another_caller_is_another_response(serve: Serve) -> None:
    server = serve(api_key=("first-key", "second-key"))
    server.wait_for("ready")
    ids = {id_of(ask(server, "one", "shared", bearer(key))) for key in ("first-key", "second-key")}
    assert len(ids) == 2


@pytest.mark.parametrize("key", ["with space", "ñ", "x" * 256])
def test_a_key_that_is_none(server: Server, key: str) -> None:
    answer = ask(server, "one", key)
    assert answer.status == 400, answer.body
    assert json.loads(answer.body)["error"]["param"] == "Idempotency-Key"


def test_one_that_a_killed_server_made_has_failed_under_its_key(
    start: Start, tmp_path: Path
) -> None:
    file = str(tmp_path / "responses.db")
    first = start(LLM_STORE=file).listening()
    id = id_of(ask(first, "hang-late", "killed"))
    first.wait_for_engine("submit ")
    first.process.kill()
    first.ended()
    second = start(LLM_STORE=file).listening()
    again = ask(second, "hang-late", "killed")
    assert (id_of(again), is_replayed(again)) == (id, True)
    body = json.loads(again.body)
    assert (body["status"], body["sheily"]["error_code"]) == ("failed", "interrupted")


def test_without_the_background_it_has_no_effect(server: Server) -> None:
    answers = [ask(server, "one", "ahead", background=False) for _ in range(2)]
    assert len({id_of(answer) for answer in answers}) == 2
