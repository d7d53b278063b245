"""Bodies of requests, against the real app with a fake engine behind it, by WSGI.

An input is a line such as `POST /v1/chat/completions`, and the body behind it.
"""

from __future__ import annotations

import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

from sheily_server.backend.supervisor import Supervisor
from sheily_server.config import Config
from sheily_server.web.app import App
from tests.robustness.fuzz import json_schemas
from tests.robustness.fuzz.mutate import STRINGS, changed, mutated
from tests.robustness.fuzz.running import HANG_S, HangError, Target, UnplannedError, seeds
from tests.support.models import EMPTY_GGUF
from tests.support.records import memory_store

DOCUMENTED = {200, 400, 404, 413}
GOOD_EVERY = 10
CHAT, SIMPLE = "/v1/chat/completions", "/chat"
TOKENIZE, DETOKENIZE = "/v1/tokenize", "/v1/detokenize"
COMMAND = (sys.executable, "-m", "tests.robustness.fuzz.steady_engine")
_FAILS = re.compile(r"\s*fail(-early)? ")
_MODEL = "fuzzed"

Json = dict[str, Any]


@contextmanager
def opened(folder: Path) -> Iterator[Target]:
    model = folder / f"{_MODEL}.gguf"
    model.write_bytes(EMPTY_GGUF)
    config = Config(
        model_path=model, context_size=512, max_tokens=64, timeout=3.0, log_level="error"
    )
    supervisor = Supervisor(config, command=COMMAND)
    supervisor.start()
    try:
        end = time.monotonic() + 30
        while supervisor.health().state != "ready":
            assert time.monotonic() < end, supervisor.health()
            time.sleep(0.01)
        checker = _Checker(App(config, supervisor, memory_store()), supervisor)
        kept = seeds("bodies")
        yield Target(lambda random: make(random, kept), checker.check)
    finally:
        supervisor.stop()


class _Checker:
    def __init__(self, app: App, supervisor: Supervisor) -> None:
        self._app = app
        self._supervisor = supervisor
        self._n = 0

    def check(self, data: bytes) -> str:
        head, _, body = data.partition(b"\n")
        path = head.decode("latin-1").removeprefix("POST ")
        began = time.monotonic()
        status, answer = self._ask(path, body)
        outcome = _judged(status, answer, planned=_planned(body))
        if time.monotonic() - began > HANG_S:
            raise HangError(f"took {time.monotonic() - began:.1f} s")
        self._n += 1
        if self._n % GOOD_EVERY == 0 or status >= 500:
            self._good()
        return f"{path} {outcome}"

    def _good(self) -> None:
        """What comes next is answered, by the same engine, with nothing left of what was."""
        health = self._supervisor.health()
        assert (health.state, health.restarts) == ("ready", 0), health
        assert health.running + health.queued == 0, health
        status, body = self._ask(CHAT, b'{"messages": [{"role": "user", "content": "one two"}]}')
        assert status == 200, (status, body)
        assert json.loads(body)["choices"][0]["message"]["content"] == "one two", body

    def _ask(self, path: str, body: bytes) -> tuple[int, bytes]:
        found: list[int] = []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[..., None]:
            found.append(int(status[:3]))
            return lambda data: None

        chunks: Any = self._app(
            {
                "REQUEST_METHOD": "POST",
                "PATH_INFO": path,
                "QUERY_STRING": "",
                "SERVER_NAME": "localhost",
                "SERVER_PORT": "80",
                "SERVER_PROTOCOL": "HTTP/1.1",
                "HTTP_HOST": "localhost",
                "CONTENT_TYPE": "application/json",
                "CONTENT_LENGTH": str(len(body)),
                "wsgi.version": (1, 0),
                "wsgi.url_scheme": "http",
                "wsgi.input": io.BytesIO(body),
                "wsgi.errors": sys.stderr,
                "wsgi.multithread": True,
                "wsgi.multiprocess": False,
                "wsgi.run_once": False,
            },
            start_response,
        )
        try:
            return found[0], b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()


def _judged(status: int, answer: bytes, planned: bool) -> str:
    """The outcome's name. Raises for a status that is not documented, or a wrong shape."""
    if status == 200 and answer.startswith((b"data: ", b": ")):
        *blocks, end = answer.decode().split("\n\n")
        assert end == "", answer
        last = blocks[-1].removeprefix("data: ")
        if last == "[DONE]":
            return "streamed"
        error = json.loads(last)
        status = 500
    elif status == 200:
        body = json.loads(answer)
        assert isinstance(body, dict), answer
        assert {"choices", "response", "tokens", "text"} & set(body), answer
        return "200"
    else:
        error = json.loads(answer)
    assert set(error) == {"error"}, answer
    assert set(error["error"]) == {"message", "type", "param", "code"}, answer
    message, code = error["error"]["message"], error["error"]["code"]
    assert isinstance(message, str), answer
    assert message, answer
    if status == 504 and not planned:
        raise HangError(answer.decode())
    if status >= 500 and (not planned or code == "internal_error"):
        raise UnplannedError(answer.decode())
    assert status >= 500 or status in DOCUMENTED, (status, answer)
    return f"{status} {code}" if status < 500 else "as it was told"


def _planned(body: bytes) -> bool:
    """Whether the fake engine may have been told to fail."""
    with suppress(ValueError, RecursionError):
        left = [json.loads(body)]
        while left:
            part = left.pop()
            if isinstance(part, str) and _FAILS.match(part):
                return True
            left += part.values() if isinstance(part, dict) else ()
            left += part if isinstance(part, list) else ()
    return False


# --- inputs ---------------------------------------------------------------------------------------


def make(random: Random, kept: list[bytes]) -> bytes:
    if kept and random.random() < 0.1:
        return mutated(random.choice(kept), random, kept)
    path = random.choice((CHAT, CHAT, CHAT, CHAT, SIMPLE, TOKENIZE, DETOKENIZE))
    document: Any = _DOCUMENTS[path](random)
    for _ in range(random.choice((0, 0, 0, 1, 1, 2, 4))):
        document = changed(document, random)
    body = json.dumps(document, ensure_ascii=random.random() < 0.7).encode("utf-8", "surrogatepass")
    if random.random() < 0.002:
        body += b" " * (4 * 1024 * 1024 - len(body) + random.choice((0, 1)))
    elif random.random() < 0.08:
        body = mutated(body, random)
    elif random.random() < 0.01:
        encoding = random.choice(("utf-16", "utf-32", "utf-8-sig"))
        body = body.decode("utf-8", "replace").encode(encoding)
    elif random.random() < 0.002:
        n = 100_000
        body = random.choice((b"[" * n + b"]" * n, b'{"a":' * n + b"1" + b"}" * n))
    return f"POST {path}\n".encode() + body


_WORDS = (
    "hello",
    "one two three",
    "¿Dónde está la torre?",
    "漢字",
    "😀 é",
    "a\nb\tc",
    "{}",
    "x" * 200,
)
_ORDERS = (
    "show",
    "each",
    "measure",
    "timed-out",
    "fail engine_error",
    "fail-early engine_error",
    "fail schema_too_complex",
    "fail-early timeout",
    "too-long 600 20",
    "refuse logit_bias 7 is not a token",
)


def _text(random: Random) -> str:
    chance = random.random()
    if chance < 0.1:
        return random.choice(_ORDERS)
    if chance < 0.3:
        return random.choice(STRINGS)
    return " ".join(random.choice(_WORDS) for _ in range(random.choice((1, 1, 2, 30))))


def _content(random: Random) -> Any:
    if random.random() < 0.7:
        return _text(random)
    return [{"type": "text", "text": _text(random)} for _ in range(random.choice((0, 1, 1, 3)))]


def _calls(random: Random) -> list[Json]:
    arguments = json.dumps(random.choice(({}, {"a": 1}, {"city": "é"}, {"a": {"b": [1, None]}})))
    function = {"name": random.choice(("f", "get_weather")), "arguments": arguments}
    call: Json = {"id": f"call_{random.randrange(9)}", "type": "function", "function": function}
    return [call for _ in range(random.choice((1, 1, 2)))]


def _messages(random: Random) -> list[Json]:
    messages: list[Json] = []
    if random.random() < 0.5:
        messages.append(
            {"role": random.choice(("system", "developer")), "content": _content(random)}
        )
    for _ in range(random.choice((0, 0, 1, 2, 12))):
        messages.append({"role": "user", "content": _content(random)})
        if random.random() < 0.2:
            messages.append(
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": _calls(random),
                    "refusal": None,
                    "reasoning_content": _text(random),
                }
            )
            messages.append({"role": "tool", "tool_call_id": "call_1", "content": _text(random)})
        messages.append({"role": "assistant", "content": _content(random)})
    messages.append({"role": "user", "content": _content(random)})
    return messages


def _tools(random: Random) -> list[Json]:
    return [
        {
            "type": "function",
            "function": {
                "name": random.choice(("f", "get_weather", "a-b_c")),
                "description": _text(random),
                "parameters": json_schemas.schema(random) | {"type": "object"},
                "strict": random.choice((True, False, None)),
            },
        }
        for _ in range(random.choice((1, 1, 2, 5)))
    ]


_TOOL_CHOICES = ("none", "auto", "required", {"type": "function", "function": {"name": "f"}})
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def _response_format(random: Random) -> Json:
    if random.random() < 0.4:
        return {"type": random.choice(("text", "json_object"))}
    schema = {"name": "answer", "schema": json_schemas.schema(random), "strict": True}
    return {"type": "json_schema", "json_schema": schema}


_OPTIONS: dict[str, Callable[[Random], Any]] = {
    "model": lambda random: random.choice((_MODEL, _MODEL, None, "gpt-4o")),
    "max_tokens": lambda random: random.choice((1, 5, 64, 65, 2**31)),
    "max_completion_tokens": lambda random: random.choice((1, 5, 64, 0)),
    "temperature": lambda random: random.choice((0, 0.7, 2, 2.1)),
    "top_p": lambda random: random.choice((1, 0.9, 1e-6, 0, -1)),
    "stop": lambda random: random.choice(("x", ["two"], ["a"] * 16, ["a"] * 17, ["é" * 128], "")),
    "seed": lambda random: random.choice((0, -1, 2**63 - 1, 2**63)),
    "presence_penalty": lambda random: random.choice((0, -2, 2, 2.5)),
    "frequency_penalty": lambda random: random.choice((0, -2, 2, 1e300)),
    "logit_bias": lambda random: {
        str(random.randrange(2**18)): random.choice((-100, 0, 5, 100))
        for _ in range(random.choice((1, 1, 3, 3, 300, 20_000)))
    },
    "response_format": _response_format,
    "top_k": lambda random: random.choice((0, 40, 10**6, -1, -2)),
    "min_p": lambda random: random.choice((0, 0.05, 1)),
    "repeat_penalty": lambda random: random.choice((1, 1.1, 0.01, 10)),
    "repetition_penalty": lambda random: random.choice((1, 1.1, 0)),
    "n_predict": lambda random: random.choice((-1, 1, 5, 0)),
    "ignore_eos": lambda random: random.choice((True, False)),
    "truncation": lambda random: random.choice(("error", "trim")),
    "prediction": lambda random: {"type": "content", "content": _content(random)},
    "user": _text,
    "metadata": lambda random: {"a": _text(random)},
    "store": lambda random: random.choice((False, False, True)),
    "service_tier": lambda random: random.choice(("auto", "default", "flex")),
    "reasoning_effort": lambda random: random.choice(_EFFORTS),
    "prompt_cache_key": _text,
    "safety_identifier": _text,
}
_CHAT_OPTIONS: dict[str, Callable[[Random], Any]] = _OPTIONS | {
    "stream": lambda random: random.choice((True, True, False)),
    "n": lambda random: random.choice((1, 2, 4, 5)),
    "logprobs": lambda random: random.choice((True, False)),
    "top_logprobs": lambda random: random.choice((0, 3, 20)),
    "tools": _tools,
    "tool_choice": lambda random: random.choice(_TOOL_CHOICES),
    "parallel_tool_calls": lambda random: random.choice((True, False)),
    "functions": lambda random: [tool["function"] for tool in _tools(random)],
    "function_call": lambda random: random.choice(("none", "auto", {"name": "f"})),
    "modalities": lambda random: ["text"],
    "verbosity": lambda random: random.choice(("medium", "low")),
}


def _some(random: Random, options: dict[str, Callable[[Random], Any]]) -> Json:
    chance = random.choice((0.0, 0.05, 0.1, 0.3))
    return {name: form(random) for name, form in options.items() if random.random() < chance}


def _chat(random: Random) -> Json:
    document: Json = {"messages": _messages(random)} | _some(random, _CHAT_OPTIONS)
    if document.get("stream") and random.random() < 0.3:
        document["stream_options"] = {"include_usage": random.choice((True, False))}
    return document


def _simple(random: Random) -> Json:
    if random.random() < 0.3:
        return {"messages": _messages(random)} | _some(random, _OPTIONS)
    document: Json = {"message": _text(random)} | _some(random, _OPTIONS)
    if random.random() < 0.4:
        document["history"] = _messages(random)[:-1]
    if random.random() < 0.3:
        document["system"] = _text(random)
    return document


def _tokenize(random: Random) -> Json:
    if random.random() < 0.5:
        return {"text": _text(random)}
    document: Json = {"messages": _messages(random)}
    return document | ({"tools": _tools(random)} if random.random() < 0.3 else {})


def _detokenize(random: Random) -> Json:
    ids = (0, 1, 97, 255, 256, 998, 999, 2**31 - 1, 2**31, -1)
    return {"tokens": [random.choice(ids[:5]) for _ in range(8)] + [random.choice(ids)]}


_DOCUMENTS: dict[str, Callable[[Random], Json]] = {
    CHAT: _chat,
    SIMPLE: _simple,
    TOKENIZE: _tokenize,
    DETOKENIZE: _detokenize,
}
