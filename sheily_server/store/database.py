"""A store in an SQLite file: what is on the disk, how it is erased, and its bounds.

The connection has the file for itself (`locking_mode=EXCLUSIVE`): a second server is refused, and
there is no shared memory (`-shm`), whose writes could kill the process on a full disk. New pages go
to the log first (`-wal`), which `synchronous=FULL` brings to the disk at each commit. Everything
that is freed is overwritten (`secure_delete`), in the log by copying it back and truncating it.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import StoreError, StoreFullError
from .base import A_DAY, RUNNING, SALT_BYTES, SWEEP_S, Record, owner_of
from .files import APPLICATION_ID, LOG, UnfitError, check_beside
from .packing import UnpackError, pack, unpack

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
"""In the header, as `user_version`. A database of a later version is left alone."""
_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE responses (owner TEXT NOT NULL, id TEXT NOT NULL, created INTEGER NOT NULL, "
    "status TEXT NOT NULL, previous TEXT, block BLOB NOT NULL, PRIMARY KEY (owner, id))",
    "CREATE INDEX responses_by_age ON responses (created)",
)
_PUT = (
    "INSERT INTO responses (owner, id, created, status, previous, block) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (owner, id) DO UPDATE SET created = excluded.created, status = excluded.status, "
    "previous = excluded.previous, block = excluded.block"
)
_GET = "SELECT created, status, previous, block FROM responses WHERE owner = ? AND id = ?"
_OLDEST = (
    f"SELECT rowid, length(block) FROM responses WHERE status NOT IN {RUNNING} AND created < ? "
    "ORDER BY created, rowid LIMIT 1000"
)
_PAGE = 4096
_ANY_AGE = 1 << 62
_SPARE_PAGES = 64
"""Pages of the tree and the index that a record may need beside those of its block."""
_VACUUMED_PAGES = 256
"""Pages that go back to the file system with a DELETE: few, as each is copied."""
_MOST_RESERVE = 64 << 20


class Database:
    """Implements `Store`. One lock is around the connection; texts are packed outside of it.

    The file and its log together stay below `megabytes`: of these a reserve is for the log, which
    has at most what was not copied back, what is being freed, and what is being put. So each of the
    three may have a quarter of the reserve. Pages that are free inside the file do not count, as
    they are used again.
    """

    durable = True

    def __init__(
        self, path: Path, *, days: int, megabytes: int, now: Callable[[], float] = time.time
    ) -> None:
        """Opens the file, which `files.prepare` has checked. Raises UnfitError."""
        self._path = path
        self._lifetime = days * A_DAY
        self._now = now
        self._megabytes = megabytes
        reserve = min((megabytes << 20) // 4, _MOST_RESERVE)
        self._most_pages = ((megabytes << 20) - reserve) // _PAGE
        self._part = reserve // 4
        self._lock = threading.Lock()
        self._next_sweep = 0.0
        self._unmarked: dict[tuple[str, str], Record] = {}
        """Records that failed with the last server, where the full disk has them still running."""
        self._erasing = False
        """Whether something was freed whose bytes may still be in the log."""
        with _unfit():
            self._db = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False
            )
        try:
            with _unfit():
                self._begin()
                self._salt = self._meta("salt")
                self._tidy()
        except BaseException:
            self._db.close()
            raise

    def owner(self, scope: str) -> str:
        return owner_of(scope, self._salt)

    def put(self, record: Record) -> None:
        block = pack(record)
        with self._lock, _not_stored():
            self._sweep()
            self._make_room(len(block))
            with self._transaction():
                self._run(
                    _PUT,
                    record.owner,
                    record.id,
                    record.created,
                    record.status,
                    record.previous,
                    block,
                )
            self._unmarked.pop((record.owner, record.id), None)

    def get(self, id: str, owner: str) -> Record | None:
        if not id.isascii():  # no id of ours, and perhaps nothing that SQLite takes as text
            return None
        with self._lock, _failed("read"):
            unmarked = self._unmarked.get((owner, id))
            rows = [] if unmarked else self._run(_GET, owner, id)
        if not rows:
            return unmarked
        created, status, previous, block = rows[0]
        if status not in RUNNING and created < self._now() - self._lifetime:
            return None
        with _failed("read"):
            return unpack(
                block, id=id, owner=owner, created=created, status=status, previous=previous
            )

    def delete(self, id: str, owner: str) -> bool:
        if not id.isascii():
            return False
        with self._lock, _failed("erased"):
            if self._erasing:  # also where the last try removed the row, but not its traces
                self._erase()
            if not self._run(_GET, owner, id):
                return False
            self._erasing = True
            with self._transaction():
                self._run("DELETE FROM responses WHERE owner = ? AND id = ?", owner, id)
            self._unmarked.pop((owner, id), None)
            self._erase()
            return True

    def close(self) -> None:
        with self._lock:
            try:
                self._db.close()
            except sqlite3.Error:
                log.warning("the store of responses was not closed cleanly", exc_info=True)

    def interrupt(self, interrupted: Callable[[Record], Record]) -> int:
        """Replaces what was running when the last server ended; returns how many. Raises
        UnfitError. Only for the start, before anything else is put."""
        with _unfit():
            found = self._run(f"SELECT owner, id FROM responses WHERE status IN {RUNNING}")
        for owner, id in found:
            try:
                record = self.get(id, owner)
            except StoreError as error:
                raise UnfitError(
                    "has a response that the last server left unfinished, which cannot be marked "
                    f"as failed: {error.message.rstrip('.')}"
                ) from None
            if record is not None:
                marked = interrupted(record)
                try:
                    self.put(marked)
                except StoreFullError:  # the next start tries again
                    self._unmarked[owner, id] = marked
        return len(found)

    def _run(self, sql: str, *values: Any) -> list[Any]:
        """Runs a statement to its end and returns the rows: one that is not at its end would keep
        the log from being truncated."""
        return self._db.execute(sql, values).fetchall()

    def _number(self, pragma: str) -> int:
        return int(self._run(f"PRAGMA {pragma}")[0][0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite has rolled back after most failures
                if self._db.in_transaction:
                    self._run("ROLLBACK")
            raise

    # --- the start ----------------------------------------------------------------------------

    def _begin(self) -> None:
        """Takes the file and brings it into our form. Raises UnfitError and sqlite3.Error."""
        for setting in (
            "locking_mode = EXCLUSIVE",  # before anything is read
            "trusted_schema = OFF",
            "cell_size_check = ON",
            "temp_store = MEMORY",  # no text gets into a temporary file
            "secure_delete = ON",
        ):
            self._run(f"PRAGMA {setting}")
        tables = {sql for (sql,) in self._run("SELECT sql FROM sqlite_master") if sql}
        id, version = self._number("application_id"), self._number("user_version")
        if id == 0 and not tables:
            self._run(f"PRAGMA page_size = {_PAGE}")
            self._run("PRAGMA auto_vacuum = INCREMENTAL")
        elif id != APPLICATION_ID:
            raise UnfitError("is the SQLite database of another program")
        elif version > SCHEMA_VERSION:
            raise UnfitError(
                f"was written by a later version of this server (schema {version}; this one knows "
                f"{SCHEMA_VERSION})"
            )
        elif version != SCHEMA_VERSION or tables != set(_SCHEMA):
            raise UnfitError("has other tables than this server makes: it is damaged")
        (mode,) = self._run("PRAGMA journal_mode = WAL")[0]
        if mode != "wal":
            raise UnfitError("is in a file system where SQLite cannot keep a log beside it")
        self._run("PRAGMA synchronous = FULL")
        self._run("PRAGMA wal_autocheckpoint = 0")
        if not tables:
            self._make()
        check_beside(self._path)  # nobody has put a log of their own there meanwhile
        problem = self._run("PRAGMA quick_check(1)")[0][0]
        if problem != "ok":
            raise UnfitError(f"is damaged ({' '.join(problem.split())})")

    def _make(self) -> None:
        with self._transaction():
            for table in _SCHEMA:
                self._run(table)
            self._run("INSERT INTO meta VALUES ('salt', ?)", secrets.token_bytes(SALT_BYTES))
            self._run(f"PRAGMA application_id = {APPLICATION_ID}")
            self._run(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _meta(self, name: str) -> bytes:
        rows = self._run("SELECT value FROM meta WHERE name = ?", name)
        if not rows or not isinstance(rows[0][0], bytes) or len(rows[0][0]) != SALT_BYTES:
            raise UnfitError(f"is damaged (it has no {name})")
        return rows[0][0]

    def _tidy(self) -> None:
        """Drops what is too old, or too much since the bound was lowered, and shrinks the file."""
        self._erasing = True  # by the last server, which may have been killed
        self._next_sweep = self._now() + SWEEP_S
        try:
            while self._drop(self._now() - self._lifetime):
                pass
            while self._used() > self._most_pages and self._drop():
                pass
            while self._number("freelist_count") and self._number("page_count") > self._most_pages:
                self._erase(self._part // _PAGE)
            self._erase()
        except sqlite3.Error as error:
            if not _is_full(error):
                raise
            log.warning("the disk is full: no response can be stored, and none is erased")
        self._run(f"PRAGMA max_page_count = {self._most_pages}")

    # --- bounds -------------------------------------------------------------------------------

    def _used(self) -> int:
        """Returns how many pages have something in them."""
        return self._number("page_count") - self._number("freelist_count")

    def _make_room(self, size: int) -> None:
        """Drops the oldest finished records until this many bytes fit, and a 64th of everything
        more. Raises StoreFullError."""
        if size > self._part:
            raise StoreFullError(
                f"It takes {size} bytes, and one response may take {self._part} with LLM_STORE_MB="
                f"{self._megabytes}."
            )
        if self._erasing or self._log_bytes() > self._part:
            self._truncate_log()
        needed = size // (_PAGE - 4) + _SPARE_PAGES
        if self._used() + needed <= self._most_pages:
            return
        while self._used() + needed > self._most_pages - self._most_pages // 64:
            if not self._drop():
                break
        if self._used() + needed > self._most_pages:
            raise StoreFullError(
                f"There is no room for it: LLM_STORE_MB allows {self._megabytes} MiB."
            )

    def _sweep(self) -> None:
        """Drops some of what is too old, now and then; goes on with the next call if it is much."""
        if self._now() >= self._next_sweep and not self._drop(self._now() - self._lifetime):
            self._next_sweep = self._now() + SWEEP_S

    def _drop(self, before: float = _ANY_AGE) -> bool:
        """Drops the oldest finished records that were created before a time, a batch that fits into
        the log. Returns whether there was any."""
        rows: list[tuple[int]] = []
        total = 0
        for rowid, size in self._run(_OLDEST, before):
            total += size
            if rows and total > self._part:
                break
            rows.append((rowid,))
        if not rows:
            return False
        self._erasing = True
        with self._transaction():
            self._db.executemany("DELETE FROM responses WHERE rowid = ?", rows)
        self._truncate_log()
        return True

    def _log_bytes(self) -> int:
        try:
            return os.stat(f"{self._path}{LOG}").st_size
        except FileNotFoundError:
            return 0

    def _erase(self, n_pages: int = _VACUUMED_PAGES) -> None:
        """Gives free pages back, at most so many, and leaves nothing of them in the log."""
        # execute() would free one page only: each step of this statement frees one.
        self._db.executescript(f"PRAGMA incremental_vacuum({n_pages})")
        self._truncate_log()

    def _truncate_log(self) -> None:
        if self._run("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]:
            raise sqlite3.OperationalError("the log could not be copied back")
        self._erasing = False


def _is_full(error: BaseException) -> bool:
    return "is full" in str(error)


def _words(error: BaseException) -> str:
    """Returns the first line of SQLite's words."""
    return " ".join(str(error).split())


@contextmanager
def _unfit() -> Iterator[None]:
    """Turns SQLite's errors at the start into UnfitError."""
    try:
        yield
    except sqlite3.Error as error:
        words = _words(error)
        if "locked" in words or "busy" in words:
            raise UnfitError("is in use by another process, perhaps another server") from None
        if "malformed" in words or "not a database" in words:
            raise UnfitError(f"is damaged ({words})") from None
        raise UnfitError(f"cannot be used ({words})") from None


@contextmanager
def _failed(what: str) -> Iterator[None]:
    """Logs SQLite's errors and raises StoreError."""
    try:
        yield
    except (sqlite3.Error, UnpackError) as error:
        log.error("a response could not be %s: %s", what, _words(error))
        raise StoreError(
            f"The response could not be {what}: the server's store failed, and its log says why."
        ) from None


@contextmanager
def _not_stored() -> Iterator[None]:
    """Logs why a record was not stored, and raises StoreFullError for SQLite's errors."""
    try:
        yield
    except StoreFullError as error:
        log.warning("a response was not stored: %s", error)
        raise
    except sqlite3.Error as error:
        log.error("a response was not stored: %s", _words(error))
        reason = "The disk is full." if _is_full(error) else "The store cannot be written."
        raise StoreFullError(reason) from None
