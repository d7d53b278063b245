"""What the server sends, to the byte: every endpoint, every error, as it was recorded.

`SHEILY_RECORD=1 python -m pytest tests/server/test_recorded.py` writes the files of `recorded/`
anew; what has changed is then for `git diff` to show.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sheily_server.shell import to_a_model
from tests.server.conftest import make
from tests.support.serving import Server, completion, read_until
from tests.support.waiting import WAIT, until

pytestmark = pytest.mark.http

FOLDER = Path(__file__).parent / "recorded"
RECORDS = os.environ.get("SHEILY_RECORD") == "1"

CHAT = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
INPUT = {"name": "weather", "input_schema": CITY}
CALL = '{"name": "weather", "parameters": {"city": "A Coruña"}}'
RESPONSE_CALL = {
    "input": CALL,
    "tools": [{"type": "function", "name": "weather", "parameters": CITY}],
    "stream": True,
}
ASKED = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Madrid"}'},
}
TOOL_HISTORY = [
    {"role": "user", "content": "one two"},
    {"role": "assistant", "content": None, "tool_calls": [ASKED]},
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    {"role": "user", "content": "three four"},
]


@dataclass(frozen=True)
class Exchange:
    """A request, and which of the servers below it is for; a body that is not bytes is sent as
    JSON. `raw` is sent in the place of everything else."""

    server: str
    name: str
    method: str = "POST"
    path: str = CHAT
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes | None = None

    @property
    def file(self) -> Path:
        return FOLDER / f"{self.server}-{self.name}.txt"


def chat(server: str, name: str, text: str, **fields: Any) -> Exchange:
    return Exchange(server, name, body=completion(text, **fields))


def post(name: str, path: str, **fields: Any) -> Exchange:
    return Exchange("ready", name, path=path, body=fields)


def get(server: str, name: str, path: str, **headers: str) -> Exchange:
    return Exchange(server, name, "GET", path, headers=tuple(headers.items()))


def messages(name: str, *messages: Any, **fields: Any) -> Exchange:
    return Exchange("ready", name, body={"messages": list(messages), **fields})


def anthropic(server: str, name: str, text: str, **fields: Any) -> Exchange:
    body = completion(text, **{"max_tokens": 50, **fields})
    return Exchange(server, name, path="/v1/messages", body=body)


def http11(head: str, body: str = "") -> bytes:
    return f"{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n{body}".encode()


HISTORY = [
    {"role": "system", "content": "Be brief."},
    *[{"role": role, "content": "a"} for role in ("user", "assistant") * 8],
    {"role": "user", "content": [{"type": "text", "text": text} for text in ("b ", "c")]},
]

EXCHANGES = [
    # Every endpoint.
    get("ready", "root", "/"),
    get("keys", "root-needs-none", "/"),
    get("missing", "root", "/"),
    get("ready", "health", "/health"),
    get("ready", "livez", "/livez"),
    get("ready", "openapi", "/openapi.json"),
    get("ready", "models", "/v1/models"),
    get("ready", "models-bare", "/models"),
    get("ready", "model", "/v1/models/fake-model"),
    get("ready", "model-unknown", "/v1/models/gpt-4o"),
    post("tokenize-text", "/v1/tokenize", text="añb"),
    post("tokenize-messages", "/tokenize", messages=[{"role": "user", "content": "hi"}]),
    post("tokenize-neither", "/v1/tokenize"),
    post("apply-template", "/apply-template", messages=[{"role": "user", "content": "hi"}]),
    post("tokenize-tools-alone", "/v1/tokenize", text="a", tools=[WEATHER]),
    post("detokenize", "/v1/detokenize", tokens=[104, 195, 179]),
    post("detokenize-no-token", "/v1/detokenize", tokens=[999]),
    post("simple", "/chat", message="uno dos", system="Be brief."),
    post("simple-messages", "/chat", messages=[{"role": "user", "content": "uno dos"}]),
    post("simple-neither", "/chat"),
    post("simple-both", "/chat", messages=[{"role": "user", "content": "a"}], system="b"),
    post("simple-history-role", "/chat", message="a", history=[{"role": "tool", "content": "b"}]),
    post("simple-stream", "/chat", message="a", stream=True),
    # Answers.
    chat("ready", "answer", "uno dós tres"),
    chat("ready", "answer-stream", "uno dós tres", stream=True),
    chat("ready", "answer-stream-usage", "uno dós tres", **STREAM),
    chat("ready", "answer-cut", "one two three", max_completion_tokens=2),
    chat("ready", "answer-stop", "one two three", stop=["two"], temperature=0, seed=7),
    chat("ready", "answer-timed-out", "timed-out"),
    chat("ready", "answer-timed-out-stream", "timed-out", **STREAM),
    chat("ready", "choices", "each", n=3),
    chat("ready", "choices-stream", "each", n=2, **STREAM),
    chat("ready", "logprobs", "one dós", logprobs=True, top_logprobs=2),
    chat("ready", "logprobs-stream", "one dós", logprobs=True, top_logprobs=1, **STREAM),
    chat("ready", "prediction", "a b c d", prediction={"type": "content", "content": "a b x d"}),
    post("completion", "/v1/completions", prompt="uno dós tres", max_tokens=2),
    post("completion-prompts", "/completions", prompt=["a b", "c"], n=2, best_of=2),
    post("completion-stream", "/v1/completions", prompt="uno dós", echo=True, logprobs=1, **STREAM),
    post("completion-scores", "/v1/completions", prompt="a b", max_tokens=0, echo=True, logprobs=1),
    post("completion-suffix", "/v1/completions", prompt="a", suffix="b"),
    post("completion-mixed", "/v1/completions", prompt=["a", [1]]),
    post("response", "/v1/responses", input="uno dós", metadata={"a": "b"}, colour="red"),
    post("response-stream", "/responses", input="uno dós", stream=True),
    post("response-background", "/v1/responses", input="uno", background=True),
    Exchange("llama3", "response-call-stream", "POST", "/v1/responses", RESPONSE_CALL),
    get("ready", "response-unknown", "/v1/responses/resp_0"),
    Exchange("ready", "response-delete-unknown", "DELETE", "/v1/responses/resp_0"),
    post("response-hosted-tool", "/v1/responses", input="a", tools=[{"type": "web_search"}]),
    post("response-no-previous", "/v1/responses", input="a", previous_response_id="resp_0"),
    anthropic("ready", "message", "uno dós tres", system="Be brief."),
    anthropic("ready", "message-stream", "uno dós tres", stream=True),
    anthropic("ready", "message-stop", "stopped 0 uno", stop_sequences=["END"], thinking={}),
    anthropic("llama3", "message-call", CALL, tools=[INPUT]),
    anthropic("llama3", "message-call-stream", CALL, tools=[INPUT], stream=True),
    post("message-tokens", "/v1/messages/count_tokens", messages=HISTORY[:2]),
    anthropic("ready", "message-failed-stream", "fail engine_error", stream=True),
    anthropic("ready", "message-too-long", "too-long 300 1"),
    anthropic("ready", "message-no-tokens", "a", max_tokens=None),
    chat("ready", "json-object", '{"a": 1}', response_format={"type": "json_object"}),
    messages(
        "trimmed",
        *[{"role": role, "content": "word " * 9} for role in ("user", "assistant") * 2],
        {"role": "user", "content": "trim 20"},
        truncation="trim",
    ),
    chat("ready", "ignored", "a", colour="red", store=True),
    chat("ready", "ignored-stream", "a", colour="red", store=True, stream=True),
    messages("history-whole", *HISTORY),
    post("history-cut", "/chat", messages=HISTORY),
    chat("llama3", "call", CALL, tools=[WEATHER]),
    chat("llama3", "call-stream", CALL, tools=[WEATHER], **STREAM),
    chat("llama3", "calls", f"{CALL}; {CALL}", tools=[WEATHER], parallel_tool_calls=True),
    chat("llama3", "no-call-stream", "no call", tools=[WEATHER], stream=True),
    Exchange("llama3", "history-of-calls", body={"messages": TOOL_HISTORY, "tools": [WEATHER]}),
    # What cannot be: the body.
    Exchange("ready", "body-no-json", body=b"{"),
    Exchange("ready", "body-nan", body=b'{"messages": [], "top_p": NaN}'),
    Exchange("ready", "body-list", body=b"[]"),
    Exchange("ready", "body-type", body=b"a=b", headers=(("Content-Type", "text/plain"),)),
    Exchange("ready", "body-encoding", body=b"{}", headers=(("Content-Encoding", "gzip"),)),
    Exchange("ready", "body-too-large", body=b" " * (4 * 1024 * 1024 + 1)),
    messages("messages-empty"),
    messages("message-role", {"role": "robot", "content": "a"}),
    messages("message-content", {"role": "user", "content": None}),
    messages("tool-history-chatml", *TOOL_HISTORY),
    messages("image", {"role": "user", "content": [{"type": "image_url", "image_url": {}}]}),
    chat("strict", "unknown-field", "a", colour="red"),
    chat("strict", "field-without-effect", "a", store=True),
    chat("ready", "unsupported-field", "a", audio={"voice": "x"}),
    chat("ready", "wrong-type", "a", temperature="warm"),
    chat("ready", "out-of-range", "a", temperature=5),
    chat("ready", "too-many-tokens", "a", max_tokens=101),
    chat("ready", "too-many-choices", "a", n=5),
    chat("ready", "top-logprobs-alone", "a", top_logprobs=2),
    chat("ready", "stream-options-alone", "a", stream_options={"include_usage": True}),
    chat("ready", "stops", "a", stop=["b"] * 17),
    chat("ready", "logit-bias", "a", logit_bias={"-1": 1}),
    chat("ready", "grammar", "a", grammar="root ::= <|im_end|>"),
    chat("ready", "two-forms", "a", grammar='root ::= "a"', guided_regex="a"),
    chat("ready", "tools-chatml", "a", tools=[WEATHER]),
    chat("ready", "schema", "a", response_format={"type": "json_schema", "json_schema": {}}),
    chat("ready", "model-of-others", "a", model="gpt-4o"),
    chat("llama3", "tool-choice", "a", tools=[WEATHER], tool_choice="sometimes"),
    # What the engine says.
    chat("ready", "context", "too-long 300 1"),
    chat("ready", "refused", "refuse response_format It is too large."),
    chat("ready", "failed", "fail engine_error"),
    chat("ready", "failed-stream", "fail engine_error", stream=True),
    chat("ready", "schema-too-complex", "fail-early schema_too_complex"),
    chat("ready", "timeout", "fail-early timeout"),
    chat("crash", "crash", "crash"),
    chat("crash", "crash-stream", "crash", stream=True),
    # Who may not, and where there is nothing.
    get("keys", "no-key", "/v1/models"),
    Exchange("keys", "wrong-key", body={}, headers=(("Authorization", "Bearer nope"),)),
    get("keys", "health-needs-none", "/health"),
    anthropic("keys", "message-no-key", "a"),
    get("ready", "host", "/health", Host="evil.example"),
    get("ready", "no-route", "/v2/models"),
    Exchange("ready", "no-method", "DELETE", "/v1/models"),
    Exchange("cors", "preflight", "OPTIONS", CHAT, headers=(("Origin", "http://a.example"),)),
    get("cors", "origin", "/v1/models", Origin="http://a.example"),
    get("cors", "other-origin", "/v1/models", Origin="http://b.example"),
    Exchange("ready", "no-http", raw=b"BEEP\r\n\r\n"),
    Exchange("ready", "large-head", raw=http11(f"GET / HTTP/1.1\r\nX: {'x' * 20_000}")),
    Exchange(
        "ready", "two-lengths", raw=http11("POST /chat HTTP/1.1\r\nTransfer-Encoding: gzip")
    ),
    # The other states.
    *[
        exchange
        for state in ("missing", "loading", "full")
        for exchange in (
            get(state, "health", "/health"),
            chat(state, "chat", "a"),
            chat(state, "chat-stream", "a", stream=True),
        )
    ],
]  # fmt: skip


@dataclass
class Servers:
    """Each server that is asked for, started once."""

    folder: Path
    running: dict[str, Server]
    held: list[socket.socket]

    def __call__(self, name: str) -> Server:
        if name not in self.running:
            folder = self.folder / name
            folder.mkdir()
            self.running[name] = getattr(self, f"_{name}")(folder)
        return self.running[name]

    def _ready(self, folder: Path, *arguments: str, **settings: Any) -> Server:
        server = make(folder, *arguments, **settings)
        self.running[folder.name] = server  # should it never be ready
        server.wait_for("ready")
        return server

    def _llama3(self, folder: Path) -> Server:
        return self._ready(folder, "--dialect", "llama3")

    def _strict(self, folder: Path) -> Server:
        return self._ready(folder, strict="on")

    def _keys(self, folder: Path) -> Server:
        return self._ready(folder, api_key=("sesame",))

    def _cors(self, folder: Path) -> Server:
        return self._ready(folder, cors_origins=("http://a.example",))

    def _crash(self, folder: Path) -> Server:
        return self._ready(folder)

    def _metrics(self, folder: Path) -> Server:
        return self._ready(folder)

    def _missing(self, folder: Path) -> Server:
        server = make(folder, missing=True)
        self.running[folder.name] = server
        server.wait_for("failed")
        return server

    def _loading(self, folder: Path) -> Server:
        server = make(folder, "--gate", str(folder / "gate"))
        self.running[folder.name] = server
        until(lambda: server.health()["progress"] == 0.25)
        return server

    def _full(self, folder: Path) -> Server:
        """One that has no place left."""
        server = self._ready(folder, parallel=1, queue=0)
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)
        self.held.append(connection)
        body = json.dumps(completion("hang-late", stream=True))
        head = f"POST {CHAT} HTTP/1.1\r\nContent-Type: application/json\r\nHost: localhost\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        read_until(connection, b"once")
        return server


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    found = Servers(tmp_path_factory.mktemp("recorded"), {}, [])
    try:
        yield found
    finally:
        for connection in found.held:
            connection.close()
        for server in found.running.values():
            server.stop()


def ask(server: Server, exchange: Exchange) -> tuple[str, bytes]:
    """The head of a response as lines, and its body."""
    if exchange.raw is not None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as opened:
            opened.sendall(exchange.raw)
            response = http.client.HTTPResponse(opened)
            response.begin()
            return head_of(response), response.read()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
    try:
        body = exchange.body
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = (JSON if data is not None else {}) | dict(exchange.headers)
        connection.request(exchange.method, exchange.path, data, headers)
        response = connection.getresponse()
        return head_of(response), response.read()
    finally:
        connection.close()


def head_of(response: http.client.HTTPResponse) -> str:
    lines = sorted(f"{name}: {value}" for name, value in response.getheaders())
    return "\n".join([f"{response.status} {response.reason}", *lines])


MASKS: list[tuple[str, str]] = [
    (r'"\{\\"type\\":\\"Submit\\".*\}"(?=,"role")', '"COMMAND"'),
    (r"(?m)^Date: .*$", "Date: DATE"),
    (r"(?m)^Content-Length: .*$", "Content-Length: LENGTH"),  # of what is masked below
    (r"\breq_[0-9a-f]{16}\b", "req_ID"),
    (r"\b(chatcmpl|cmpl)-[0-9a-f]{24}\b", r"\1-ID"),
    (r"\b(msg|toolu)_[0-9a-f]{24}\b", r"\1_ID"),
    (r"\bcall_(?!1\b)\w+", "call_ID"),
    (r"\b(resp|msg|fc)_[0-9a-f]{32}", r"\1_ID"),
    (r'"(created_at|completed_at)": ?\d+', r'"\1":SECONDS'),
    (r'"created": ?\d+', '"created":SECONDS'),
    (r'("\w+_ms"|"\w+_per_second"): ?[\d.]+', r"\1:NUMBER"),
    (r'("last_step_age_s"): ?(?:[\d.]+|null)', r"\1:NUMBER"),
    (r'("kv_cells_used"|"kv_cells_cached"): ?(?:\d+|null)', r"\1:NUMBER"),
    (r'("version"|version=)(: ?)?"[\w.+]+"', r'\1\2"VERSION"'),
]


def masked(text: str, folder: Path) -> str:
    """Without what differs from run to run."""
    text = text.replace(str(folder), "FOLDER")
    for name, line in zip(("FETCH", "SERVE"), to_a_model(), strict=True):
        text = text.replace(line, name)
    for pattern, words in MASKS:
        text = re.sub(pattern, words, text)
    return text


def readable(head: str, body: bytes) -> str:
    """A large document in lines, so that a change to it can be read."""
    text = body.decode()
    if "application/json" in head and len(body) > 10_000:
        return json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    return text


def check(file: Path, text: str) -> None:
    if RECORDS:
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda each: each.file.stem)
def test_the_answer_is_what_was_recorded(servers: Servers, exchange: Exchange) -> None:
    server = servers(exchange.server)
    if exchange.server == "crash":
        server.wait_for("ready")  # again
    head, body = ask(server, exchange)
    text = masked(f"{head}\n\n{readable(head, body)}\n", servers.folder)
    check(exchange.file, text)


def test_the_metrics_are_what_was_recorded(servers: Servers) -> None:
    """Their names, labels and words; not their values."""
    server = servers("metrics")
    for order, fields in (("one two", {}), ("fail engine_error", {}), ("one", STREAM)):
        server.complete(order, **fields)
    server.get("/v1/models")
    text = server.get("/metrics").body.decode()
    text = re.sub(r'(?m)^.*route="/health".*\n', "", text)  # asked until it was ready
    names = re.sub(r"(?m)^(?!#)(.*) \S+$", r"\1 N", text)
    check(FOLDER / "metrics.txt", masked(names, servers.folder))


def test_every_recording_is_of_something() -> None:
    named = [exchange.file.name for exchange in EXCHANGES]
    assert len(set(named)) == len(named)
    assert {path.name for path in FOLDER.iterdir()} == {*named, "metrics.txt"}
