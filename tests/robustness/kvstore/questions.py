"""Greedy questions about texts that share beginnings, what they are answered, and whether another
answer is the same one."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from random import Random
from typing import Any

from benchmarks.common.words import WORDS
from tests.support.real_server import RealServer

ANSWER_TOKENS = 16
WAIT_S = 300.0
CLOSE = 0.1
"""What log-probabilities of the tiny model may differ by in another batch or chunk: in 600 answers
three at a time, without a tier, they did by up to 0.054. With this, 19 of 24 answers to a text of
which 200 words are others are seen to be wrong."""
_HEADERS = {"Content-Type": "application/json"}

Messages = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Token:
    """A token of an answer: its bytes, its log-probability, and how far the next best was."""

    data: bytes
    logprob: float
    ahead: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request came to: `answered`, `error` with its code, or `no answer` with why."""

    kind: str
    code: str = ""
    tokens: tuple[Token, ...] = ()
    cached: int = 0


def conversations(seed: int, number: int) -> list[Messages]:
    """So many questions: turns of conversations with beginnings of 300 to 1,200 tokens, twelve
    different ones, which are more than fit into the KV cells."""
    choose = Random(seed)
    beginnings = [" ".join(choose.choices(WORDS, k=choose.randrange(250, 1100))) for _ in range(12)]
    found: list[Messages] = []
    for n in range(number):
        turns = [("user", f"{beginnings[n % len(beginnings)]}. Which word is the {n}th?")]
        for _ in range(choose.randrange(3)):
            turns.append(("assistant", " ".join(choose.choices(WORDS, k=20))))
            turns.append(("user", f"And the {choose.choice(WORDS)}?"))
        found.append(tuple(turns))
    return found


def ask(server: RealServer, messages: Messages, stream: bool = False) -> Outcome:
    """One answer, read to its end."""
    body: dict[str, Any] = {
        "messages": [{"role": role, "content": text} for role, text in messages],
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": True,
        "top_logprobs": 2,
        "stream": stream,
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    connection = server.connection(WAIT_S)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), _HEADERS)
        response = connection.getresponse()
        data = response.read()
    except (OSError, http.client.HTTPException) as error:
        return Outcome("no answer", repr(error))
    finally:
        connection.close()
    if response.status != 200:
        return Outcome("error", json.loads(data)["error"]["code"])
    return _streamed(data) if stream else _whole([json.loads(data)])


def _streamed(data: bytes) -> Outcome:
    """Where the server was killed, a stream ends as if it were over, but for its last line."""
    blocks = data.decode().split("\n\n")
    events = [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]
    if events and events[-1] == "[DONE]":
        return _whole([json.loads(event) for event in events[:-1]])
    if events and "error" in (last := json.loads(events[-1])):
        return Outcome("error", last["error"]["code"])
    return Outcome("no answer", "a stream without its end")


def _whole(parts: list[dict[str, Any]]) -> Outcome:
    tokens: list[Token] = []
    cached = 0
    for part in parts:
        for choice in part["choices"]:
            for one in (choice.get("logprobs") or {}).get("content") or ():
                best, second = (top["logprob"] for top in one["top_logprobs"])
                tokens.append(Token(bytes(one["bytes"]), one["logprob"], best - second))
        if usage := part.get("usage"):
            cached = usage["prompt_tokens_details"]["cached_tokens"]
    return Outcome("answered", tokens=tuple(tokens), cached=cached)


def difference(right: Outcome, found: Outcome) -> str:
    """What is wrong with an answer beside the right one; nothing where they differ no more than
    batches make them. Behind a token that another could have been, they may go apart."""
    if len(found.tokens) != len(right.tokens):
        return f"{len(found.tokens)} tokens instead of {len(right.tokens)}"
    for at, (one, other) in enumerate(zip(right.tokens, found.tokens, strict=True)):
        if one.data != other.data:
            return f"token {at}: {one} is {other}" if one.ahead > 2 * CLOSE else ""
        if abs(one.logprob - other.logprob) > CLOSE:
            return f"token {at}: {one} is {other}"
    return ""
