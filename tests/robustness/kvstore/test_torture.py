"""Servers that share a cache directory, under load, while engines and servers are killed and files
are damaged: no token is ever wrong, nothing crashes by itself, every request is answered or told.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from tests.robustness.faults.report import amount, note
from tests.robustness.kvstore.damage import DIRECTORY_GONE, ONE_FILE, WAYS, damage, files_of
from tests.robustness.kvstore.questions import Messages, Outcome, ask, conversations, difference
from tests.support import models
from tests.support.real_server import RealServer
from tests.support.waiting import until

N_QUESTIONS = 24
N_CLIENTS = 3
BLOCK_TOKENS = 256
TOLD = {"engine_crashed", "restarting", "loading", "shutting_down"}
"""What a request may be told while the engine is gone."""
_SETTINGS = {"context_size": 2048, "max_tokens": 64, "parallel": 2, "drain_timeout": 5}
_LONGEST_PAUSE_S = 1.5
_LEAST_FILE = 64 << 10
_TOLD_PAUSE_S = 0.1


@pytest.fixture(scope="module")
def questions() -> list[Messages]:
    return conversations(16, N_QUESTIONS)


@pytest.fixture(scope="module")
def right(questions: list[Messages]) -> list[Outcome]:
    """What a server without the tier answers."""
    with RealServer(models.tiny_llama3(), **_SETTINGS) as server:
        server.wait_for_state("ready")
        answers = [ask(server, messages) for messages in questions]
    assert all(answer.kind == "answered" for answer in answers)
    return answers


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, questions: list[Messages]) -> Path:
    """A directory that has all questions."""
    folder = tmp_path_factory.mktemp("filled")
    with serving(folder) as server:
        kept(server, questions, folder)
    return folder


@contextmanager
def serving(folder: Path) -> Iterator[RealServer]:
    """A server with the tier in this folder, ready."""
    with RealServer(models.tiny_llama3(), cache_dir=folder, **_SETTINGS) as server:
        server.wait_for_state("ready")
        yield server


def kept(server: RealServer, questions: list[Messages], folder: Path) -> None:
    """Asks all, and waits until the writer has nothing more to do."""
    for messages in questions:
        assert ask(server, messages).kind == "answered"
    until(lambda: _still(folder), what="for the files to be written")


def _still(folder: Path) -> bool:
    before = files_of(folder)
    time.sleep(0.3)
    return bool(before) and before == files_of(folder)


def check(server: RealServer, questions: list[Messages], right: list[Outcome]) -> list[int]:
    """Asks all, which must be answered rightly; the tokens of each that were cached."""
    found = [ask(server, messages) for messages in questions]
    wrong = [
        why for one, other in zip(right, found, strict=True) if (why := difference(one, other))
    ]
    assert not wrong, wrong
    return [answer.cached for answer in found]


def test_wrong_answers_are_told_apart(right: list[Outcome]) -> None:
    """What the other tests rest on: an answer to another text is not taken for the right one."""
    others = [difference(one, other) for one, other in pairwise(right)]
    assert sum(map(bool, others)) > len(others) / 2


# --- at rest: each way by itself ------------------------------------------------------------------


def test_a_restart_goes_on_from_the_files(
    filled: Path, tmp_path: Path, questions: list[Messages], right: list[Outcome]
) -> None:
    folder = tmp_path / "cache"
    shutil.copytree(filled, folder)
    with serving(folder) as server:
        assert check(server, questions, right)[0] >= BLOCK_TOKENS


@pytest.mark.parametrize("way", WAYS)
def test_damaged_files_give_no_wrong_token(
    way: str, filled: Path, tmp_path: Path, questions: list[Messages], right: list[Outcome]
) -> None:
    folder = tmp_path / "cache"
    shutil.copytree(filled, folder)
    choose = Random(way)
    if way != DIRECTORY_GONE:
        for path in files_of(folder):
            ONE_FILE[way](path, choose)
    with serving(folder) as server:
        if way == DIRECTORY_GONE:
            damage(folder, way, choose)
        check(server, questions, right)
        assert server.health()["engine_restarts"] == 0


def test_files_that_cannot_be_written_whole(
    tmp_path: Path, questions: list[Messages], right: list[Outcome]
) -> None:
    """As on a full disk: a block is longer than a file may be. What comes later is kept again."""
    with serving(tmp_path) as server:
        processes = server.pids
        for pid in processes:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (_LEAST_FILE, resource.RLIM_INFINITY))
        check(server, questions, right)
        small = [path for path in files_of(tmp_path) if path.stat().st_size > _LEAST_FILE]
        assert small == []
        for pid in processes:
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        kept(server, conversations(17, 2), tmp_path)
        assert server.health()["engine_restarts"] == 0
    with serving(tmp_path) as server:
        check(server, questions, right)


# --- under load: two servers, one directory, drawn moments ----------------------------------------


class Servers:
    """Two servers on one directory; each may be killed and is then started anew."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._kills = [0, 0]
        self.ended: list[RealServer] = []
        """Those that are being ended, too."""
        self.running = [self._start(), self._start()]

    def _start(self) -> RealServer:
        self._folder.mkdir(mode=0o700, exist_ok=True)  # it may just have been taken away
        server = RealServer(models.tiny_llama3(), cache_dir=self._folder, **_SETTINGS)
        self._stack.callback(server.kill)
        server.wait_for_state("ready")
        return server

    def kill_engine(self, which: int) -> None:
        server = self.running[which]
        server.wait_for_state("ready")
        os.kill(server.engine_pid(), signal.SIGKILL)
        self._kills[which] += 1
        until(lambda: server.health()["engine_restarts"] >= self._kills[which])

    def end(self, which: int, politely: bool) -> None:
        """Ends a server, and starts the next one in the same place."""
        server = self.running[which]
        self._look(which)
        self.ended.append(server)
        if politely:
            assert server.stop() == 0, server.log[-3000:]
        else:
            server.kill()
        self._kills[which] = 0
        self.running[which] = self._start()

    def look(self) -> None:
        for which in range(2):
            self._look(which)

    def _look(self, which: int) -> None:
        """The engine has died as often as it was killed, and nothing was thrown."""
        server = self.running[which]
        server.wait_for_state("ready")
        assert server.health()["engine_restarts"] == self._kills[which], server.log[-3000:]
        assert "Traceback" not in server.log, server.log[-3000:]


class Load:
    """Clients that ask the servers again and again, each question greedily."""

    def __init__(self, servers: Servers, questions: list[Messages], right: list[Outcome]) -> None:
        self._servers = servers
        self._questions = questions
        self._right = right
        self._ended = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._threads = [
            threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(N_CLIENTS)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(300)

    @property
    def has_ended(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def _client(self, number: int) -> None:
        choose = Random(number)
        while not self._ended.is_set():
            which = choose.randrange(len(self._questions))
            server = self._servers.running[choose.randrange(2)]
            found = ask(server, self._questions[which], stream=choose.random() < 0.5)
            why = self._wrong(server, self._right[which], found)
            self.outcomes[found.code if found.kind == "error" else found.kind] += 1
            if found.kind != "answered":
                time.sleep(_TOLD_PAUSE_S)
            if why:
                self.wrong.append(f"question {which}: {why}")

    def _wrong(self, server: RealServer, right: Outcome, found: Outcome) -> str:
        if found.kind == "answered":
            return difference(right, found)
        if found.kind == "error":
            return "" if found.code in TOLD else f"told {found.code}"
        # Nobody was there to tell, where its server was ended.
        return "" if server in self._servers.ended else found.code


def test_drawn_moments(tmp_path: Path, questions: list[Messages], right: list[Outcome]) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    times = amount(5, 300)
    choose = Random(times)
    done: Counter[str] = Counter()
    began = time.monotonic()
    with ExitStack() as stack:
        servers = Servers(folder, stack)
        with Load(servers, questions, right) as load:
            for moment in range(times):
                time.sleep(choose.random() * _LONGEST_PAUSE_S)
                # Each kind of act once at the beginning, then as they are drawn.
                act = moment if moment < 4 else choose.choices(range(4), (3, 2, 1, 4))[0]
                which = choose.randrange(2)
                if act == 0:
                    servers.kill_engine(which)
                    done["engines killed"] += 1
                elif act in (1, 2):
                    servers.end(which, politely=act == 2)
                    done["servers ended" if act == 2 else "servers killed"] += 1
                else:
                    done["files damaged"] += damage(folder, choose.choice(WAYS), choose)
                assert not load.wrong, load.wrong[:10]
            servers.look()
        assert load.has_ended, "a request has no end"
        assert not load.wrong, load.wrong[:10]
        servers.look()
    assert load.outcomes["answered"] > times
    note(
        "cache directory, drawn moments",
        times,
        "no wrong token, no crash, every request answered or told",
        seconds=time.monotonic() - began,
        **{name.replace(" ", "_"): n for name, n in (done + load.outcomes).items()},
    )
