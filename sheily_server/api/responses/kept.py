"""What is kept of responses: written while one is made, read by the turns after it, and what is
said of one that the server did not end."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_fields
from typing import Any

import msgspec
from msgspec.structs import replace

from ...errors import InvalidRequestError, StoreFullError, UnknownItemError, UnknownResponseError
from ...store.base import RUNNING, Record, Store
from ...templates.base import Message
from ..jobs import Job, Jobs
from . import answer, items
from . import protocol as wire

log = logging.getLogger(__name__)

Hold = Callable[[int], None]
"""Takes room for so many bytes, or raises QueueFullError."""
_READING = threading.Lock()
"""What is stored small may be large, and have no room: one at a time."""
INTERRUPTED = "The server ended while it worked on this response."


def unbounded(n_bytes: int) -> None:
    """Has room for everything."""


@dataclass(slots=True, kw_only=True)
class Keeper:
    """Writes the record of one response. `messages` are the conversation with its input, whose last
    message the answer `continues` or not; `wanted` is false if nothing is to be kept."""

    store: Store
    job: Job
    messages: Sequence[Message]
    wanted: bool
    continues: bool = False

    def begin(self, response: answer.Response) -> None:
        """Keeps a response that is being made, so that it is known if the server is killed."""
        self.job.body = msgspec.json.encode(response)
        self._put(response, ())

    def end(self, response: answer.Response, events: Sequence[bytes] = ()) -> answer.Response:
        """Keeps a response that has ended, with the events of its stream. Returns the response,
        which says so if it could not be kept."""
        problem = self._put(response, events)
        if problem:
            told = replace(response.sheily, stored=False, not_stored_because=problem)
            response = replace(response, sheily=told)
        self.job.kept = not problem
        self.job.body = msgspec.json.encode(response)
        return response

    def _put(self, response: answer.Response, events: Sequence[bytes]) -> str:
        """Returns why the record was not written; empty if it was, or was not to be."""
        if not self.wanted:
            return ""
        record = Record(
            id=response.id,
            owner=self.job.owner,
            created=response.created_at,
            status=response.status,
            body=msgspec.json.encode(response),
            items=self.job.items,
            context=items.packed(
                items.talk_with(self.messages, response.output, continues=self.continues)
            ),
            previous=response.previous_response_id,
            events=b"\n".join(events),
        )
        with self.job.lock:
            if self.job.erased:
                return "It was deleted while it was made."
            try:
                self.store.put(record)
            except StoreFullError as error:
                log.warning("%s could not be stored: %s", response.id, error)
                if response.status not in RUNNING:
                    with contextlib.suppress(Exception):  # else it would seem to be running
                        self.store.delete(record.id, record.owner)
                return str(error)
            except Exception:
                log.exception("%s could not be stored", response.id)
                return "The store failed; the server's log says how."
        return ""


def erase(store: Store, jobs: Jobs, id: str, owner: str) -> None:
    """Erases a response; ends it first if it runs in the background. Raises UnknownResponseError,
    and StoreError, after which a running one goes on and is kept."""
    job = jobs.find(id, owner)
    if job is None:
        if not store.delete(id, owner):
            raise UnknownResponseError(id)
        return
    with job.lock:
        store.delete(id, owner)
        job.erased = True
    if job.log is not None:
        job.cancel()
    jobs.forget(job)


def read(store: Store, owner: str, id: str, hold: Hold) -> Record | None:
    """Returns a record of this owner, once there is room for it; None without one. Raises
    ServiceError."""
    with _READING:
        found = store.get(id, owner)
        if found is not None:
            hold(sum(map(len, (found.body, found.items, found.context, found.events))))
    return found


def conversation(
    store: Store, owner: str, previous: str | None, hold: Hold = unbounded
) -> list[Message]:
    """Returns the messages up to a response and with it. Raises ServiceError."""
    if previous is None:
        return []
    found = read(store, owner, previous, hold)
    if found is None:
        raise InvalidRequestError(
            f"Previous response with id {previous[:100]!r} not found.",
            "previous_response_id",
            "previous_response_not_found",
        )
    if found.status in RUNNING:
        raise InvalidRequestError(
            f"The response {previous[:100]!r} has not ended yet.", "previous_response_id"
        )
    return items.unpacked(found.context)


def resolved(
    store: Store, owner: str, given: Sequence[wire.Item], hold: Hold = unbounded
) -> list[wire.Item]:
    """Returns items with what references stand for in their place. Raises UnknownItemError,
    QueueFullError, and InvalidRequestError if they stand for too much."""
    seen: dict[str, dict[str, _Kept]] = {}
    found: list[wire.Item] = []
    n_read = n_bytes = 0
    for i, item in enumerate(given):
        if not isinstance(item, wire.ItemReference):
            found.append(item)
            continue
        place = f"input[{i}].id"
        response = items.response_of(item.id)
        if response is None:
            raise UnknownItemError(item.id, place)
        if response not in seen:
            record = read(store, owner, response, hold)
            n_read += 0 if record is None else len(record.body) + len(record.items)
            seen[response] = {} if record is None else _items_in(record)
        kept = seen[response].get(item.id)
        n_bytes += 0 if kept is None else kept.n_bytes  # each time: many may stand for one
        if max(n_read, n_bytes) > 2 * items.MAX_BYTES:
            raise InvalidRequestError("The references stand for too many bytes.", place)
        if kept is None:
            raise UnknownItemError(item.id, place)
        found.append(items.item_of(kept.fields))
    return found


@dataclass(frozen=True, slots=True)
class _Kept:
    """An item of a record, and its bytes in JSON."""

    fields: dict[str, Any]
    n_bytes: int


def _items_in(record: Record) -> dict[str, _Kept]:
    output = msgspec.json.decode(record.body)["output"]
    return {
        each["id"]: _Kept(each, len(msgspec.json.encode(each)))
        for each in [*msgspec.json.decode(record.items), *output]
    }


def interrupted(record: Record) -> Record:
    """Returns the record of a response that was being made when the server ended: it has failed."""
    body = msgspec.json.decode(record.body)
    body["status"] = "failed"
    body["incomplete_details"] = None
    body["error"] = {"code": "server_error", "message": INTERRUPTED}
    body["sheily"] = {**body.get("sheily", {}), "error_code": "interrupted"}
    return with_fields(record, status="failed", body=msgspec.json.encode(body))
