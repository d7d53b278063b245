"""What the server process says to the engine process: one command a frame, as typed records."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from ..tuned import KVType, Tuned


class Segment(NamedTuple):
    """A piece of a prompt.

    `special` is True for one marker of the prompt format, which is one control token of the
    vocabulary. It is False for text, in which nothing is recognized as a marker.
    """

    text: str
    special: bool


class PromptFormat(msgspec.Struct, frozen=True):
    """How one model wants its prompts: the name of a template, and what its file adds to it.

    `default_system` is the system text of a conversation that brings none (ChatML only).
    """

    name: str
    default_system: str | None = None


class Start(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The first command: what to load, and how to compute.

    Sizes in tokens; `threads` 0 means all CPUs, `kernel` "auto" what the native library takes when
    nothing is said. `speculation`: whether tokens are drafted. `tuned`: the file that some of the
    settings are from, which hold on one CPU alone.
    """

    model_path: str
    context_size: int
    parallel: int
    threads: int
    log_level: str
    chunk: int = 128
    kernel: str = "auto"
    kv_type: KVType = "f16"
    tuned: Tuned | None = None
    speculation: bool = True


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """As `sheily_native.SamplingParams`, which this side of the process boundary cannot import.

    `ignore_eos` forbids the tokens that end an answer.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    logit_bias: dict[int, float] = {}
    ignore_eos: bool = False


class Grammar(msgspec.Struct, frozen=True):
    """What an answer has to follow, in llguidance's dialect of Lark; `param` is the request's field
    that it came from. `schemas` are the JSON Schemas in it, as JSON, by their places in the
    request."""

    lark: str
    param: str
    schemas: dict[str, str] = {}


class Submit(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """A request: its prompt as segments, and when to end.

    `max_tokens` None: as many as the context has room for, at most `max_tokens_cap`. `arrived` and
    `deadline` are times of time.monotonic(), whose clock both processes share. `n` answers are
    wanted, each with a seed of its own; `top_logprobs` None: no logprobs, else that many
    alternatives for each token. `visible` are control tokens whose text is part of the answer.
    `prediction` is a text that the answer may repeat. `scope` names the caller, as far as callers
    are told apart: what one has said is of no effect on another.
    """

    id: int
    segments: list[Segment]
    sampling: Sampling
    max_tokens: int | None
    max_tokens_cap: int
    stop: list[str]
    deadline: float
    n: int = 1
    top_logprobs: int | None = None
    grammar: Grammar | None = None
    visible: list[str] = []
    prediction: str | None = None
    arrived: float = 0.0
    scope: str = ""


class Tokenize(msgspec.Struct, tag=True, frozen=True):
    """Asks for the token ids of a prompt or a text: answered with Tokenized."""

    id: int
    segments: list[Segment]
    deadline: float = math.inf


class Detokenize(msgspec.Struct, tag=True, frozen=True):
    """Asks for the text of tokens: answered with Detokenized, or Refused for ids out of range."""

    id: int
    tokens: list[int]


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Nobody waits for this request any more."""

    id: int


Command = Start | Submit | Cancel | Tokenize | Detokenize
