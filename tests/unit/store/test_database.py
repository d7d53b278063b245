"""A store in a file: starts, versions, damage, full disks, and what is left of what was erased."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from sheily_server.errors import StoreError, StoreFullError
from sheily_server.store.base import A_DAY, SWEEP_S
from sheily_server.store.database import Database
from sheily_server.store.opening import open_store
from tests.support.models import ROOT
from tests.support.records import NOW, failed, file_store, noise, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "responses.db"


def refusal(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        file_store(path).close()
    assert caught.value.message.startswith(f"LLM_STORE is {str(path)!r}, which ")
    return caught.value.message


def everything(path: Path) -> bytes:
    """The bytes of the database and of all files beside it."""
    return b"".join(each.read_bytes() for each in sorted(path.parent.iterdir()))


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *(str(each) for each in arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def changed(path: Path, *statements: str) -> None:
    """Changes a database behind the store's back."""
    database = sqlite3.connect(path, isolation_level=None)
    for each in statements:
        database.execute(each)
    database.close()


# --- starts ---------------------------------------------------------------------------------------


def test_what_was_stored_is_there_after_a_restart(path: Path) -> None:
    store = file_store(path)
    assert store.durable
    kept = [record(str(n), noise(n, 500), previous=f"resp_{n - 1}") for n in range(20)]
    for each in kept:
        store.put(each)
    owner = store.owner("scope")
    store.close()
    store = file_store(path)
    assert [store.get(each.id, "anna") for each in kept] == kept
    assert store.owner("scope") == owner
    store.close()


def test_what_was_running_has_failed(path: Path) -> None:
    store = file_store(path)
    for name, status in enumerate(("queued", "in_progress", "completed", "cancelled")):
        store.put(record(str(name), status=status))
    store.close()
    store = file_store(path)
    for name, status in enumerate(("queued", "in_progress")):
        assert store.get(f"resp_{name}", "anna") == failed(record(str(name), status=status))
    for name, status in enumerate(("completed", "cancelled"), 2):
        assert store.get(f"resp_{name}", "anna") == record(str(name), status=status)
    store.close()


def test_what_became_too_old_between_two_servers_is_erased(path: Path) -> None:
    store = file_store(path, days=30)
    for n in range(30):
        store.put(record(str(n), noise(n, 100_000), created=NOW - n * A_DAY))
    store.close()
    size = path.stat().st_size
    file_store(path, days=10).close()
    assert path.stat().st_size < size
    store = file_store(path, days=3650)
    assert [n for n in range(30) if store.get(f"resp_{n}", "anna")] == list(range(11))
    store.close()


def test_a_lower_bound_shrinks_the_file(path: Path) -> None:
    store = file_store(path, megabytes=40)
    for n in range(100):
        store.put(record(str(n), noise(n, 100_000), created=NOW + n))
    store.close()
    assert path.stat().st_size > 20 << 20
    store = file_store(path, megabytes=16)
    assert path.stat().st_size <= 12 << 20
    kept = [n for n in range(100) if store.get(f"resp_{n}", "anna")]
    assert kept == list(range(kept[0], 100))
    assert len(kept) > 20
    store.close()


OPENS = """
import sys
from pathlib import Path
from tests.support.records import file_store
file_store(Path(sys.argv[1])).close()
"""


def test_a_second_server(path: Path) -> None:
    store = file_store(path)
    store.put(record("1"))
    for _ in range(2):
        second = run(OPENS, path)
        assert "which is in use by another process, perhaps another server." in second.stderr
    store.put(record("2"))
    store.close()
    assert run(OPENS, path).returncode == 0


def test_a_later_version(path: Path) -> None:
    file_store(path).close()
    changed(path, "PRAGMA user_version = 2")
    before = path.read_bytes()
    assert "was written by a later version of this server (schema 2;" in refusal(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "PRAGMA user_version = 0",
        "CREATE TABLE more (x)",
        "DROP INDEX responses_by_age",
        "DROP TABLE meta",
        "ALTER TABLE responses ADD COLUMN x",
        "CREATE TRIGGER t AFTER INSERT ON responses BEGIN DELETE FROM responses; END",
        "CREATE VIEW v AS SELECT 1",
    ],
)
def test_other_tables(path: Path, statement: str) -> None:
    file_store(path).close()
    changed(path, statement)
    assert "has other tables than this server makes: it is damaged" in refusal(path)


@pytest.mark.parametrize(
    "statement", ["DELETE FROM meta", "UPDATE meta SET value = 'x'", "UPDATE meta SET value = 1"]
)
def test_no_salt(path: Path, statement: str) -> None:
    file_store(path).close()
    changed(path, statement)
    assert "is damaged (it has no salt)" in refusal(path)


# --- erasing --------------------------------------------------------------------------------------


def pieces(path: Path) -> list[bytes]:
    """Parts of the stored blocks of two records, as they are in the files."""
    found = []
    for each in ("1", "2"):
        block = sqlite_block(path, each)
        found += [block[i : i + 40] for i in range(20, len(block) - 60, 1000)]
    there = everything(path)
    whole = [part for part in found if part in there]  # others are on two pages
    assert len(whole) > 30
    return whole


def sqlite_block(path: Path, name: str) -> bytes:
    database = sqlite3.connect(path)
    (block,) = database.execute("SELECT block FROM responses WHERE id = ?", (f"resp_{name}",))
    database.close()
    found: bytes = block[0]
    return found


@pytest.mark.parametrize("in_log", [False, True])
def test_nothing_is_left_of_what_was_deleted(path: Path, in_log: bool) -> None:
    store = file_store(path)
    for name in ("1", "2"):
        store.put(record(name, noise(name, 30_000), status="in_progress"))
        store.put(record(name, noise(name, 30_000)))
    store.put(record("3", noise("3", 30_000)))
    store.close()
    parts = pieces(path)
    store = file_store(path)
    if in_log:
        for name in ("1", "2"):
            store.put(record(name, noise(name, 30_000)))
    assert all(part in everything(path) for part in parts)
    for name in ("1", "2"):
        assert store.delete(f"resp_{name}", "anna")
    left = everything(path)
    assert not [part for part in parts if part in left]
    for trace in (b"resp_1", b"resp_2"):
        assert trace not in left
    assert b"resp_3" in left
    store.close()


def test_nothing_is_left_of_what_is_too_old(path: Path) -> None:
    now = [float(NOW)]
    store = open_store(path, days=1, megabytes=16, interrupted=failed, now=lambda: now[0])
    for name in ("1", "2"):
        store.put(record(name, noise(name, 30_000)))
    store.close()
    parts = pieces(path)
    store = open_store(path, days=1, megabytes=16, interrupted=failed, now=lambda: now[0])
    assert all(part in everything(path) for part in parts)
    now[0] += A_DAY + SWEEP_S + 1
    store.put(record("3", created=int(now[0])))
    left = everything(path)
    assert not [part for part in parts if part in left]
    assert b"resp_1" not in left
    store.close()


def test_what_was_deleted_gives_its_room_back(path: Path) -> None:
    store = file_store(path)
    empty = path.stat().st_size
    for n in range(5):
        store.put(record(str(n), noise(n, 100_000)))
    for n in range(5):
        assert store.delete(f"resp_{n}", "anna")
    assert path.stat().st_size <= empty + 8 * 4096
    store.close()


def test_the_files_stay_below_the_bound_at_every_moment(path: Path) -> None:
    store = file_store(path, megabytes=16)
    largest = 0

    def look() -> int:
        nonlocal largest
        largest = max(largest, sum(each.stat().st_size for each in path.parent.iterdir()))
        return 0

    store._db.set_progress_handler(look, 20)
    for n in range(70):
        size = (150_000, 400_000, 800_000)[n % 3]
        body = Random(n).randbytes(size)
        store.put(replace(record(str(n % 80), created=NOW + n), body=body))
        look()
    assert 12 << 20 < largest <= 16 << 20
    store.close()


# --- damage ---------------------------------------------------------------------------------------


def damaged(path: Path, first: int, last: int) -> None:
    """Overwrites pages of a file, counted from 0."""
    with path.open("r+b") as file:
        file.seek(first * 4096)
        file.write(b"\xa5" * 4096 * (last - first))


def full_of(path: Path, count: int) -> None:
    store = file_store(path)
    for n in range(count):
        store.put(record(str(n), noise(n, 1_000)))
    store.close()


def test_a_damaged_file_at_the_start(path: Path) -> None:
    """Wherever it is damaged: a sentence, or a server that has what is whole."""
    full_of(path, 40)
    whole = path.read_bytes()
    sentences = []
    for page in range(len(whole) // 4096):
        path.write_bytes(whole)
        damaged(path, page, page + 1)
        try:
            store = file_store(path)
        except StoreError as error:
            sentences.append(error.message)
            continue
        for n in range(40):
            with suppress(StoreError):
                assert store.get(f"resp_{n}", "anna") in (record(str(n), noise(n, 1_000)), None)
        store.close()
    assert len(sentences) > 10
    assert not [each for each in sentences if not re.search("damaged|not an SQLite", each)]


def test_a_file_that_was_cut_off(path: Path) -> None:
    full_of(path, 40)
    with path.open("r+b") as file:
        file.truncate(5 * 4096)
    assert "is damaged" in refusal(path)


def test_a_file_that_is_damaged_while_it_is_used(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full_of(path, 400)
    store = file_store(path)
    store._db.execute("PRAGMA cache_size = 10")  # what is in memory is not damaged
    damaged(path, 3, path.stat().st_size // 4096)
    errors = []
    for n in range(400):
        try:
            assert store.get(f"resp_{n}", "anna") == record(str(n), noise(n, 1_000))
        except StoreError as error:
            errors.append(error)
    assert len(errors) > 200
    assert {error.code for error in errors} == {"store_failed"}
    assert not [error for error in errors if str(path) in error.message]
    with pytest.raises(StoreFullError, match=r"^The store cannot be written\.$"):
        store.put(record("resp_0"))
    with pytest.raises(StoreError, match="could not be erased"):
        store.delete("resp_0", "anna")
    assert "a response could not be read: database disk image is malformed" in caplog.text
    store.close()


def test_a_text_that_is_damaged(path: Path) -> None:
    full_of(path, 2)
    changed(path, "UPDATE responses SET block = x'00ff' WHERE id = 'resp_0'")
    store = file_store(path)
    with pytest.raises(StoreError, match="could not be read"):
        store.get("resp_0", "anna")
    assert store.get("resp_1", "anna") == record("1", noise(1, 1_000))
    assert store.delete("resp_0", "anna")
    store.close()


def test_a_damaged_response_that_was_running(path: Path) -> None:
    store = file_store(path)
    store.put(record("0", status="in_progress"))
    store.close()
    changed(path, "UPDATE responses SET block = x'00ff'")
    assert "which cannot be marked as failed: " in refusal(path)


# --- full disks -----------------------------------------------------------------------------------

LIMITED = """
import resource, sys
from pathlib import Path
from sheily_server.errors import StoreError
from tests.support.records import file_store, noise, record
store = file_store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
stored, reasons = [], set()
for n in range(60):
    try:
        store.put(record(str(n), noise(n, 10_000)))
        stored.append(n)
    except StoreError as error:
        reasons.add(f"{type(error).__name__}: {error}")
for n in stored:
    assert store.get(f"resp_{n}", "anna") == record(str(n), noise(n, 10_000))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
store.put(record("last"))
print(stored, reasons)
"""


@pytest.mark.parametrize("limit", [50_000, 123_457, 400_000])
def test_where_the_file_cannot_grow(path: Path, limit: int) -> None:
    """The limit of a file's size makes writes fail, as a disk's quota does."""
    done = run(LIMITED, path, limit)
    assert done.returncode == 0, done.stderr
    stored, _, reasons = done.stdout.partition("] ")
    assert "StoreFullError: The " in reasons
    numbers = [int(n) for n in stored.strip("[").split(", ") if n]
    assert 1 <= len(numbers) < 60
    assert "a response was not stored: " in done.stderr
    store = file_store(path)
    for n in numbers:
        assert store.get(f"resp_{n}", "anna") == record(str(n), noise(n, 10_000))
    assert store.get("resp_last", "anna") == record("last")
    store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", str(folder)]
    try:
        made = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        made = False
    if not made:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def filled(store: Database) -> list[int]:
    """Stores responses until the disk is full; returns which are stored."""
    for n in range(100):
        try:
            store.put(record(str(n), noise(n, 10_000)))
        except StoreFullError as error:
            assert error.message == "The disk is full."  # noqa: PT017 - there may be none
            return list(range(n))
    raise AssertionError("the disk was never full")


def all_there(store: Database, numbers: list[int]) -> bool:
    found = [store.get(f"resp_{n}", "anna") for n in numbers]
    return found == [record(str(n), noise(n, 10_000)) for n in numbers]


def test_a_full_disk(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, other = small_disk / "responses.db", small_disk / "other"
    other.write_bytes(b"x" * 300_000)
    store = file_store(path)
    stored = filled(store)
    assert len(stored) > 5
    assert all_there(store, stored)
    store.close()
    store = file_store(path)
    assert "the disk is full: no response can be stored" in caplog.text
    assert all_there(store, stored)
    with pytest.raises(StoreError):
        store.put(record("late", noise("late", 10_000)))
    store.close()
    other.unlink()
    store = file_store(path)
    assert all_there(store, stored)
    for n in stored:
        assert store.delete(f"resp_{n}", "anna")
    store.put(record("late", noise("late", 10_000)))
    store.close()


def test_a_full_disk_and_what_was_running(small_disk: Path) -> None:
    """It has failed for whoever asks, and on the disk once there is room."""
    path, other = small_disk / "responses.db", small_disk / "other"
    other.write_bytes(b"x" * 300_000)
    running = record("r", noise("r", 10_000), status="in_progress")
    store = file_store(path)
    store.put(running)
    filled(store)
    store.close()
    store = file_store(path)
    assert store.get("resp_r", "anna") == failed(running)
    assert store.get("resp_r", "bert") is None
    store.close()
    assert b"in_progress" in everything(path)
    other.unlink()
    store = file_store(path)
    assert store.get("resp_r", "anna") == failed(running)
    store.close()
    assert b"in_progress" not in path.read_bytes()
    store = file_store(path)
    assert store.get("resp_r", "anna") == failed(running)
    store.close()
