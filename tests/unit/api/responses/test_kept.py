"""Records of responses: of those that a server left behind, and what their readers get."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgspec
import pytest
from openai.types.responses import Response

from sheily_server.api.jobs import Job, Jobs
from sheily_server.api.responses import answer, background, encode, items, kept
from sheily_server.api.responses import protocol as wire
from sheily_server.backend.sampling import OPENAI
from sheily_server.budget import Budget
from sheily_server.errors import (
    InvalidRequestError,
    StoreError,
    UnknownItemError,
    UnknownResponseError,
)
from sheily_server.store.base import Record
from sheily_server.templates.base import Message
from tests.support.records import memory_store
from tests.support.responses import EVENT, events_of

KEY = "a" * 32
TALK = [Message("user", "hello")]


def blank(**fields: Any) -> answer.Response:
    request = wire.ResponseRequest(input="hello", **fields)
    return encode.blank(request, key=KEY, model="m", sampling=OPENAI)


def record(**fields: Any) -> Record:
    response = blank(**fields)
    return Record(
        id=response.id,
        owner="",
        created=response.created_at,
        status=response.status,
        body=msgspec.json.encode(response),
        items=b"[]",
        context=items.packed(TALK),
    )


@pytest.mark.parametrize("in_background", [False, True])
def test_what_was_running_when_the_server_ended_has_failed(in_background: bool) -> None:
    before = record(background=in_background)
    after = kept.interrupted(before)
    body = Response.model_validate_json(after.body)
    assert (after.status, body.status) == ("failed", "failed")
    assert body.error is not None
    assert (body.error.code, body.error.message) == ("server_error", kept.INTERRUPTED)
    assert body.id == after.id == before.id
    assert items.unpacked(after.context) == TALK


@pytest.mark.parametrize("after", [-1, 0, 41])
def test_a_reader_who_comes_back_to_it_gets_one_event_more(after: int) -> None:
    found = kept.interrupted(record(background=True))
    data = b"".join(part or b"" for part in background.replay(found, after))
    (event,) = events_of(data)
    assert event["type"] == "response.failed"
    assert event["sequence_number"] == after + 1
    assert event["response"] == json.loads(found.body)
    EVENT.validate_python(event)


def test_one_that_was_not_in_the_background_is_not_streamed_again() -> None:
    with pytest.raises(InvalidRequestError, match="background"):
        background.replay(record(), -1)


@pytest.mark.parametrize(
    ("owner", "status", "code"),
    [
        ("", "in_progress", "invalid_value"),
        ("another", "completed", "previous_response_not_found"),
    ],
)
def test_a_conversation_that_is_not_there_or_not_over(owner: str, status: str, code: str) -> None:
    store = memory_store()
    assert kept.conversation(store, "", None) == []
    found = dataclasses.replace(record(), owner=owner, status=status)
    store.put(found)
    with pytest.raises(InvalidRequestError) as caught:
        kept.conversation(store, "", found.id)
    assert (caught.value.param, caught.value.code) == ("previous_response_id", code)
    if owner:
        assert kept.conversation(store, owner, found.id) == TALK


def test_an_erased_response_is_not_written_again() -> None:
    store = memory_store()
    response = blank()
    job = Job(response.id, "", b"")
    keeper = kept.Keeper(store=store, job=job, messages=TALK, wanted=True)
    keeper.begin(response)
    assert store.get(response.id, "") is not None
    job.erased = True
    store.delete(response.id, "")
    told = keeper.end(msgspec.structs.replace(response, status="completed"))
    assert told.sheily.stored is False
    assert store.get(response.id, "") is None


def test_what_could_not_be_erased_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    store, jobs, response = memory_store(), Jobs(1, Budget(0)), blank()
    job = Job(response.id, "", b"")
    keeper = kept.Keeper(store=store, job=job, messages=TALK, wanted=True)
    keeper.begin(response)
    jobs.add(job)

    def broken(id: str, owner: str) -> bool:
        raise StoreError("The disk is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(store, "delete", broken)
        with pytest.raises(StoreError):
            kept.erase(store, jobs, response.id, "")
    assert jobs.find(response.id, "") is job
    told = keeper.end(msgspec.structs.replace(response, status="completed"))
    assert told.sheily.stored is True
    found = store.get(response.id, "")
    assert found is not None
    assert found.status == "completed"


def test_a_store_that_breaks_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        durable = True

        def put(self, record: Record) -> None:
            raise OSError("torn out")

    response = blank()
    job = Job(response.id, "", b"")
    keeper = kept.Keeper(store=Broken(), job=job, messages=TALK, wanted=True)  # type: ignore[arg-type]
    told = keeper.end(msgspec.structs.replace(response, status="completed"))
    assert told.sheily.stored is False
    assert "torn out" in caplog.text


def test_references_are_bounded_by_what_they_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    store = memory_store()
    found = record()
    store.put(found)
    reference = [wire.ItemReference(f"msg_{KEY}o0")]
    with pytest.raises(UnknownItemError):
        kept.resolved(store, "", reference)
    monkeypatch.setattr(items, "MAX_BYTES", 10)
    with pytest.raises(InvalidRequestError, match="too many bytes") as caught:
        kept.resolved(store, "", reference)
    assert caught.value.param == "input[0].id"


def test_each_reference_to_the_same_item_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    store = memory_store()
    large = wire.MessageItem(role="user", content="x" * 700)
    store.put(dataclasses.replace(record(), items=msgspec.json.encode(items.listed([large], KEY))))
    reference = wire.ItemReference(f"msg_{KEY}i0")
    monkeypatch.setattr(items, "MAX_BYTES", 1200)
    assert len(kept.resolved(store, "", [reference] * 2)) == 2
    with pytest.raises(InvalidRequestError, match="too many bytes") as caught:
        kept.resolved(store, "", [reference] * 3)
    assert caught.value.param == "input[2].id"


def test_what_is_not_there_cannot_be_erased() -> None:
    store = memory_store()
    with pytest.raises(UnknownResponseError):
        kept.erase(store, Jobs(1, Budget(0)), "resp_1", "")
