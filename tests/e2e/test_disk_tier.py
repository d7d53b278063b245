"""The disk tier with a real model: what outlives the server, for whom, and what does not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sheily_server.kvstore.folder import TAG
from tests.support import models
from tests.support.real_server import RealServer
from tests.support.waiting import WAIT, until

CHAT = "/v1/chat/completions"
KIND = {"Content-Type": "application/json"}
TEXT = "The quick brown fox number {} jumps over the lazy dog. "


@contextlib.contextmanager
def server(cache: Path, **settings: Any) -> Iterator[RealServer]:
    settings = {"context_size": 1024, "speculation": "off", **settings}
    with RealServer(models.tiny_llama3(), cache_dir=cache, **settings) as made:
        made.wait_for_state("ready")
        yield made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def call(
    server: RealServer,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    connection = server.connection(WAIT)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(
            method, path, data, {"Content-Type": "application/json", **(headers or {})}
        )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def long_text(n: int = 30, first: int = 0) -> str:
    return "".join(TEXT.format(i) for i in range(first, first + n))


def ask(
    server: RealServer, *texts: str, headers: dict[str, str] | None = None, **fields: Any
) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]
    body = {"messages": messages, "temperature": 0, "max_tokens": 8, "ignore_eos": True}
    status, data = call(server, "POST", CHAT, body | fields, headers)
    assert status == 200, data
    found: dict[str, Any] = json.loads(data)
    return found


def state(server: RealServer) -> Any:
    """What the engine told last; None before it told anything."""
    return server.health()["cache_disk"]


def from_disk(answer: dict[str, Any]) -> int:
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == answer["timings"]["cache_n"]
    n: int = answer["timings"]["cache_disk_n"]
    return n


def text_of(answer: dict[str, Any]) -> str:
    text: str = answer["choices"][0]["message"]["content"]
    return text


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("??/*.kv"))


def test_a_conversation_goes_on_after_a_restart(cache: Path) -> None:
    with server(cache) as first:
        answer = ask(first, long_text())
        assert from_disk(answer) == 0
    n = answer["usage"]["prompt_tokens"]
    assert len(files(cache)) == n // 256 + 1
    with server(cache) as second:
        again = ask(second, long_text())
        assert from_disk(again) == n - 1  # the last one's logits are computed
        assert text_of(again) == text_of(answer)
        more = ask(second, long_text(), text_of(answer), "And then?")
        assert more["timings"]["cache_n"] >= n
        until(lambda: (tier := state(second)) and tier["tokens_read"] >= n - 1)
        assert state(second)["errors"] == 0
        assert state(second)["bytes"] > 0
        metrics = call(second, "GET", "/metrics")[1].decode()
        assert f"sheily_disk_cached_tokens_total {n - 1}.0" in metrics
    with server(cache) as third:
        assert from_disk(ask(third, long_text(20))) > 256  # in part, in the middle of a block
        assert ask(third, long_text(), text_of(answer), "And then?")["timings"]["cache_n"] >= n


def test_an_engine_that_died_is_no_loss(cache: Path) -> None:
    with server(cache) as running:
        answer = ask(running, long_text())
        n = answer["usage"]["prompt_tokens"]
        until(lambda: (tier := state(running)) and tier["files_written"] == n // 256 + 1)
        os.kill(running.engine_pid(), signal.SIGKILL)
        until(lambda: running.health()["engine_restarts"] == 1)
        running.wait_for_state("ready")
        again = ask(running, long_text())
        assert from_disk(again) == n - 1
        assert text_of(again) == text_of(answer)


def test_what_runs_is_written_when_the_server_ends(cache: Path) -> None:
    messages = [{"role": "user", "content": long_text(15)}]
    body = {"messages": messages, "max_tokens": 700, "ignore_eos": True, "stream": True}
    with server(cache, drain_timeout=0.1) as running:
        connection = running.connection(WAIT)
        connection.request("POST", CHAT, json.dumps(body), KIND)
        response = connection.getresponse()
        assert response.status == 200
        assert any(b'"content":"' in response.readline() for _ in range(20))
        assert files(cache) == []
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(WAIT)
        connection.close()
    assert files(cache)


@pytest.mark.parametrize(
    "fields", [{"store": False}, {"prompt_cache_retention": "in_memory"}], ids=["store", "memory"]
)
def test_what_is_to_be_kept_in_memory_never_reaches_the_disk(
    cache: Path, fields: dict[str, Any]
) -> None:
    with server(cache) as running:
        ask(running, long_text(), **fields)
        assert ask(running, long_text(), **fields)["timings"]["cache_n"] > 256
        assert not [each for each in cache.rglob("*") if each.is_file() and each.name != TAG]
        ask(running, "Short.")
    assert len(files(cache)) == 1
    assert [each for each in cache.glob("n??/*") if each.stat().st_size > 100] == []


def test_a_salt_keeps_prompts_apart(cache: Path) -> None:
    with server(cache) as running:
        ask(running, long_text(), cache_salt="a")
        assert ask(running, long_text(), cache_salt="b")["timings"]["cache_n"] == 0
        assert ask(running, long_text())["timings"]["cache_n"] == 0
        assert ask(running, long_text(), cache_salt="a")["timings"]["cache_n"] > 256
    with server(cache) as running:
        assert from_disk(ask(running, long_text(), cache_salt="c")) == 0
        assert from_disk(ask(running, long_text(), cache_salt="b")) > 256
        messages = [{"role": "user", "content": "x"}]
        status, data = call(running, "POST", CHAT, {"messages": messages, "cache_salt": ""})
        assert (status, json.loads(data)["error"]["param"]) == (400, "cache_salt")


@pytest.mark.parametrize(
    ("settings", "apart"),
    [({}, True), ({"cache_scope": "all"}, False), ({"cache_scope": "key"}, True)],
    ids=["default", "all", "key"],
)
def test_keys_share_nothing_unless_they_may(
    cache: Path, settings: dict[str, Any], apart: bool
) -> None:
    one, two = ({"Authorization": f"Bearer {key}"} for key in ("key-one", "key-two"))
    with server(cache, api_key="key-one,key-two", **settings) as running:
        ask(running, long_text(), headers=one)
        other = ask(running, long_text(), headers=two)
        assert (other["timings"]["cache_n"] == 0) is apart
        assert ask(running, long_text(), headers=one)["timings"]["cache_n"] > 256


def test_a_deleted_response_takes_its_blocks_along(cache: Path) -> None:
    def respond(server: RealServer, text: str, **fields: Any) -> dict[str, Any]:
        body = {"input": text, "temperature": 0, "max_output_tokens": 8} | fields
        status, data = call(server, "POST", "/v1/responses", body)
        assert status == 200, data
        found: dict[str, Any] = json.loads(data)
        return found

    def owners() -> list[Path]:
        return list((cache / "owners").glob("*"))

    with server(cache) as running:
        first = respond(running, long_text(20))
        until(lambda: len(owners()) == 1)
        n_first = len(files(cache))
        second = respond(running, long_text(20, first=100))
        third = respond(running, "More.", previous_response_id=second["id"])
        before = respond(running, long_text(20), store=False)
        assert before["usage"]["input_tokens_details"]["cached_tokens"] > 256
        until(lambda: len(owners()) == 3)
        n = len(files(cache))
        assert call(running, "DELETE", f"/v1/responses/{first['id']}")[0] == 200
        until(lambda: len(files(cache)) == n - n_first)
        call(running, "DELETE", f"/v1/responses/{second['id']}")
        until(lambda: len(owners()) == 1)
        assert len(files(cache)) >= n - n_first - 1  # the third has the first block too
        call(running, "DELETE", f"/v1/responses/{third['id']}")
        until(lambda: not files(cache))
        until(lambda: not list(cache.glob("n??/*")) or _only_dates(cache))


def _only_dates(cache: Path) -> bool:
    return all(each.stat().st_size == 18 for each in cache.glob("n??/*"))


TOMORROW = """
import datetime

class date(datetime.date):
    @classmethod
    def today(cls):
        return super().today() + datetime.timedelta(days=1)

datetime.date = date
"""


def test_five_drawn_turns_go_on_the_next_day(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The date near the beginning, and the ids of drawn answers, are those of the conversation."""
    drawn: dict[str, Any] = {"temperature": 1.5, "seed": 3, "max_tokens": 24}
    texts = [long_text(3)]
    with server(cache) as running:
        for turn in range(5):
            texts += [text_of(ask(running, *texts, **drawn)), f"Turn {turn}: go on, please."]
        expected = ask(running, *texts, **drawn)
    (tmp_path / "sitecustomize.py").write_text(TOMORROW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with server(cache) as running:
        answer = ask(running, *texts, **drawn)
        assert answer["usage"]["prompt_tokens"] == expected["usage"]["prompt_tokens"]
        assert from_disk(answer) == answer["usage"]["prompt_tokens"] - 1
        assert text_of(answer) == text_of(expected)
        # A new conversation begins with the new day, before the words of the user.
        assert from_disk(ask(running, "Something else", **drawn)) < 40


def test_a_foreign_folder_is_refused_with_a_sentence(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-m", "sheily_server", "--cache-dir", str(cache)],
        capture_output=True,
        text=True,
        timeout=WAIT,
    )
    assert done.returncode == 2
    assert f"LLM_CACHE_DIR is {cache}, which may be written to by others" in done.stderr


def test_bad_files_are_misses(cache: Path) -> None:
    with server(cache) as running:
        answer = ask(running, long_text())
    for i, path in enumerate(files(cache)):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1 << i
        path.write_bytes(data)
    with server(cache) as running:
        again = ask(running, long_text())
        assert from_disk(again) == 0
        assert text_of(again) == text_of(answer)
        until(lambda: (tier := state(running)) and tier["errors"] == 1)
    with server(cache) as running:  # the first one was written again, over the one that was bad
        assert from_disk(ask(running, long_text())) == 256
        until(lambda: (tier := state(running)) and tier["errors"] == 1)
