"""An engine without a model, for tests: it speaks `sheily_server.protocol.messages` as the real one
does, and each request's last user message says how it is to be answered.

`python -m tests.support.fake_engine [--log FILE] [--dialect NAME] [--gate FILE] [--load WAY]
[--stay] [--deaf] FD`

The first word of the last user message is the order, what follows are its arguments:

    show                the Submit command itself, as JSON
    measure             as show, or TooLong when prompt and answer are more than the context
    each                choice i of the answer is `answer i`, the last choice begins and ends first
    slow N SECONDS      N tokens `w0 w1 ...`, with a pause before each
    hang                admitted, then silence; `hang-early`: silence; `hang-late`: one token first
    wait                admitted, then silence without a slot
    trim N WORDS        TooLong until the prompt has no more than N words, and counts no further
    too-long P C        TooLong, with P prompt tokens and C for the completion
    fail CODE           RequestFailed after Admitted; `fail-early CODE`: instead of it
    refuse PARAM WORDS  Refused
    timed-out           one token, then Finished because of the deadline
    stopped I WORDS     the words, then the end by the request's stop string of that place
    say WORDS           the words, as far as the line goes
    steps N NAME WORDS  (Llama 3) a call of NAME with {"step": k}, until N results are there; then
                        the words
    crash               one token, then SIGKILL; `crash-early`: before Admitted
    abort               admitted, then SIGABRT; `abort-early`: before Admitted; `segv`: SIGSEGV;
                        `abort-cancelled`: once it is cancelled
    shout N             N bytes on stderr in one line, with an escape in it, then exit code 3
    exit CODE WORDS     leaves with CODE, after WORDS on stderr
    nonsense            sends a frame that no decoder takes
    close               closes the socket

Any other text comes back word by word, in each choice; a word's log-probability is -0.5 and its
alternatives are `alt0`, `alt1`, ... Every word of a prediction is drafted, in every choice; right
are those that the answer has in the same place. A byte of text is a token with its number; a marker
is one too, above 255; Detokenize refuses 999 and what is above.

    stall               admitted; from then on its step stands still, as it tells itself;
                        `stall-reading`: or what it reads
    stop                admitted, then SIGSTOP

The answer to a raw prompt is its own words, unless they begin with an order. A word is a token of
such a prompt; its log-probability is -0.25, but for the first.

`--load` is `ok`, `fail` (LoadFailed), `crash` or `exit`; `--gate FILE` stops the load at a quarter
until the file is there. `--log FILE` gets a line for each command that comes in, and `eof` at the
socket's end. A wedged engine: `--stay` lives on when the socket ends, `--deaf` reads nothing once
it is ready; both for minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from sheily_server.protocol.channel import Channel
from sheily_server.protocol.commands import (
    Cancel,
    Detokenize,
    PromptFormat,
    RawPrompt,
    Segment,
    Start,
    Submit,
    Tokenize,
)
from sheily_server.protocol.events import (
    Admitted,
    Beat,
    ChoiceFinished,
    Detokenized,
    Event,
    Finished,
    LoadFailed,
    Loading,
    Prompted,
    PromptToken,
    Ready,
    Refused,
    RequestFailed,
    Started,
    Text,
    Tokenized,
    TokenLogprob,
    TooLong,
)
from tests.support import fake_script

COMMAND = (sys.executable, "-m", "tests.support.fake_engine")
PATIENCE_S = 100.0
WORD = re.compile(r"\s*\S+|\s+")
LOAD_FAILURE = "the file has no chat template that is known"
LOAD_LAST_WORDS = "GGML_ASSERT(false) failed while loading"


class Log:
    """Lines in a file that another process reads while it grows."""

    def __init__(self, path: str | None) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._file = os.open(path, flags, 0o600) if path else None

    def __call__(self, line: str) -> None:
        if self._file is not None:
            os.write(self._file, f"{line}\n".encode())


def last_user_text(segments: Sequence[Segment]) -> str:
    """The text of the last user message in a prompt, ChatML's or Llama 3's."""
    texts = [segment.text for segment in segments]
    for i in range(len(texts) - 1, -1, -1):
        if texts[i].startswith("user\n"):
            return texts[i].removeprefix("user\n")
        if texts[i] == "user":
            text = texts[i + 2].strip()
            # The template puts the tools, as indented JSON, before the first message's text.
            return text.rpartition("}\n\n")[2] if text.startswith("Given the following") else text
    return ""


def raw_text(prompt: RawPrompt) -> str:
    """The text of a raw prompt, whose ids are bytes."""
    return prompt.text or bytes(prompt.ids).decode("utf-8", "replace")


def convert(command: Tokenize | Detokenize) -> Event:
    """What the fake tokenizer answers."""
    if isinstance(command, Detokenize):
        if max(command.tokens, default=0) >= 999:
            return Refused(command.id, "tokens", "999 is not a token.")
        text = bytes(token for token in command.tokens if token < 256)
        return Detokenized(command.id, text.decode("utf-8", "replace"))
    tokens: list[int] = []
    pieces: list[bytes] = []
    for segment in command.segments:
        data = segment.text.encode()
        tokens += [256 + len(data)] if segment.special else data
        pieces += [data] if segment.special else [bytes([byte]) for byte in data]
    return Tokenized(command.id, tokens, pieces)


class Answer:
    """Carries out one request's order, in a thread of its own."""

    def __init__(
        self, submit: Submit, channel: Channel, cancelled: threading.Event, context_size: int
    ) -> None:
        self._submit = submit
        self._context_size = context_size
        self._channel = channel
        self._cancelled = cancelled
        self._said: Sequence[str] = ()
        texts = [segment.text for segment in submit.segments] + list(map(raw_text, submit.prompts))
        self._n_prompt = sum(len(text.split()) or 1 for text in texts)

    def run(self) -> None:
        prompts = self._submit.prompts
        text = raw_text(prompts[0]) if prompts else last_user_text(self._submit.segments)
        order, *arguments = text.split() or [""]
        orders: dict[str, Callable[[list[str]], None]] = {
            "show": self._show,
            "measure": self._measure,
            "each": self._each,
            "slow": self._slow,
            "hang": self._hang,
            "wait": self._wait,
            "trim": self._trim,
            "abort": self._abort,
            "abort-early": self._abort_early,
            "abort-cancelled": self._abort_cancelled,
            "segv": self._segv,
            "shout": self._shout,
            "hang-early": self._hang_early,
            "hang-late": self._hang_late,
            "too-long": self._too_long,
            "fail": self._fail,
            "fail-early": self._fail_early,
            "refuse": self._refuse,
            "timed-out": self._timed_out,
            "stopped": self._stopped,
            "say": lambda _: self._answer(WORD.findall(fake_script.said(text))),
            "steps": self._steps,
            "crash": self._crash,
            "crash-early": self._crash_early,
            "exit": self._exit,
            "nonsense": self._nonsense,
            "close": self._close,
            "stall": self._stall,
            "stall-reading": self._stall_reading,
            "stop": self._stop,
        }
        if order in orders:
            orders[order](arguments)
        elif prompts:
            self._write_on()
        else:
            self._answer(WORD.findall(text))

    def _send(self, *events: Event) -> None:
        if not self._cancelled.is_set():
            self._channel.send_events(list(events))

    def _admit(self) -> None:
        id = self._submit.id
        started = (Started(id, choice) for choice in range(self._submit.n_choices))
        lengths = [len(raw_text(prompt).split()) for prompt in self._submit.prompts]
        grammar = self._submit.grammar
        relaxed = [] if grammar is None else grammar.relaxed
        longest = max(lengths, default=None)
        self._send(Admitted(id, self._n_prompt, relaxed, longest), *started)

    def _write_on(self) -> None:
        """Answers each raw prompt with its own words."""
        self._admit()
        id, n_tokens = self._submit.id, 0
        for choice in range(self._submit.n_choices):
            words = WORD.findall(raw_text(self._submit.prompts[choice // self._submit.n]))
            if self._submit.echo:
                self._send(Prompted(id, choice, [self._told(i, w) for i, w in enumerate(words)]))
            said = words[: self._submit.max_tokens]
            self._send(*(self._text(choice, word) for word in said))
            reason = "stop" if len(said) == len(words) else "length"
            self._send(ChoiceFinished(id=id, choice=choice, reason=reason, timed_out=False))
            n_tokens += len(said)
        self._end(n_tokens)

    def _told(self, i: int, word: str) -> PromptToken:
        if not i or not self._submit.scores:
            return PromptToken(word.encode())
        return PromptToken(word.encode(), -0.25, [(b"alt", -0.125)])

    def _tokens(self, words: Sequence[str], pause: float = 0.0) -> int:
        """Sends words, to each choice, until max_tokens or a Cancel; how many of them."""
        limit = self._submit.max_tokens
        for i, word in enumerate(words[:limit]):
            if self._cancelled.wait(pause) if pause else self._cancelled.is_set():
                return i
            self._send(*(self._text(choice, word) for choice in range(self._submit.n)))
            self._said = words[: i + 1]
        return min(len(words), limit)

    def _text(self, choice: int, word: str) -> Text:
        wanted = self._submit.top_logprobs
        if wanted is None:
            return Text(self._submit.id, choice, word)
        top = [(f"alt{i}".encode(), -0.5 - i) for i in range(wanted)]
        return Text(self._submit.id, choice, word, [TokenLogprob(word.encode(), -0.5, top)])

    def _finish(
        self, n: int, reason: str = "stop", timed_out: bool = False, stop: str | None = None
    ) -> None:
        for choice in range(self._submit.n):
            self._send(
                ChoiceFinished(
                    id=self._submit.id,
                    choice=choice,
                    reason=reason,
                    timed_out=timed_out,
                    stop=stop,
                )
            )
        self._end(n * self._submit.n)

    def _end(self, n: int) -> None:
        drafts = WORD.findall(self._submit.prediction or "")
        right = sum(draft == word for draft, word in zip(drafts, self._said, strict=False))
        accepted, drafted = right * self._submit.n, len(drafts) * self._submit.n
        self._send(
            Finished(
                id=self._submit.id,
                prompt_tokens=self._n_prompt,
                cached_tokens=1,
                completion_tokens=n,
                queued_s=0.0,
                prefill_s=0.001,
                decode_s=0.01,
                drafted_tokens=drafted,
                accepted_tokens=accepted,
                accepted_prediction_tokens=accepted,
                rejected_prediction_tokens=drafted - accepted,
            )
        )

    def _answer(self, words: Sequence[str], pause: float = 0.0) -> None:
        self._admit()
        n = self._tokens(words, pause)
        self._finish(n, "stop" if n == len(words) else "length")

    def _steps(self, arguments: list[str]) -> None:
        self._answer(WORD.findall(fake_script.step(self._submit.segments, arguments)))

    def _show(self, arguments: list[str]) -> None:
        self._answer([msgspec.json.encode(self._submit).decode()])

    def _measure(self, arguments: list[str]) -> None:
        n_answer = self._submit.room
        if self._n_prompt + n_answer > self._context_size:
            self._send(TooLong(id=self._submit.id, prompt_tokens=self._n_prompt, room=n_answer))
        else:
            self._show(arguments)

    def _each(self, arguments: list[str]) -> None:
        self._admit()
        for choice in reversed(range(self._submit.n)):
            self._send(self._text(choice, "answer"), self._text(choice, f" {choice}"))
            self._send(
                ChoiceFinished(id=self._submit.id, choice=choice, reason="stop", timed_out=False)
            )
        self._end(2 * self._submit.n)

    def _slow(self, arguments: list[str]) -> None:
        n, pause = int(arguments[0]), float(arguments[1])
        self._answer([f"w{i} " for i in range(n)], pause)

    def _hang(self, arguments: list[str]) -> None:
        self._admit()

    def _wait(self, arguments: list[str]) -> None:
        self._send(Admitted(self._submit.id, self._n_prompt))

    def _trim(self, arguments: list[str]) -> None:
        limit = int(arguments[0])
        if self._n_prompt > limit:
            self._send(TooLong(id=self._submit.id, prompt_tokens=limit + 1, room=1, at_least=True))
        else:
            self._show(arguments)

    def _hang_early(self, arguments: list[str]) -> None:
        pass

    def _hang_late(self, arguments: list[str]) -> None:
        self._admit()
        self._tokens(["once"])

    def _too_long(self, arguments: list[str]) -> None:
        self._send(
            TooLong(
                id=self._submit.id,
                prompt_tokens=int(arguments[0]),
                room=int(arguments[1]),
            )
        )

    def _fail(self, arguments: list[str]) -> None:
        self._admit()
        self._fail_early(arguments)

    def _fail_early(self, arguments: list[str]) -> None:
        self._send(RequestFailed(self._submit.id, arguments[0], "as it was told"))

    def _refuse(self, arguments: list[str]) -> None:
        self._send(Refused(self._submit.id, arguments[0], " ".join(arguments[1:])))

    def _timed_out(self, arguments: list[str]) -> None:
        self._admit()
        self._finish(self._tokens(["half"]), "length", timed_out=True)

    def _stopped(self, arguments: list[str]) -> None:
        self._admit()
        n = self._tokens(WORD.findall(" ".join(arguments[1:])))
        self._finish(n, stop=self._submit.stop[int(arguments[0])])

    def _crash(self, arguments: list[str]) -> None:
        self._admit()
        self._tokens(["last"])
        self._crash_early(arguments)

    def _crash_early(self, arguments: list[str]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _abort(self, arguments: list[str]) -> None:
        self._admit()
        self._abort_early(arguments)

    def _abort_early(self, arguments: list[str]) -> None:
        os.kill(os.getpid(), signal.SIGABRT)

    def _segv(self, arguments: list[str]) -> None:
        self._admit()
        os.kill(os.getpid(), signal.SIGSEGV)

    def _abort_cancelled(self, arguments: list[str]) -> None:
        self._admit()
        self._cancelled.wait()
        self._abort_early(arguments)

    def _shout(self, arguments: list[str]) -> None:
        with os.fdopen(2, "wb") as stderr:
            stderr.write(b"\x1b[31m" + b"x" * int(arguments[0]) + b"\n")
        os._exit(3)

    def _exit(self, arguments: list[str]) -> None:
        os.write(2, (" ".join(arguments[1:]) + "\n").encode())
        os._exit(int(arguments[0]))

    def _nonsense(self, arguments: list[str]) -> None:
        self._channel.send_frame(struct.pack("<I", 3) + b"\xc1\xc1\xc1")

    def _close(self, arguments: list[str]) -> None:
        self._channel.close()

    def _stall(self, arguments: list[str]) -> None:
        self._admit()
        self._channel.send_events([Beat(step_s=1e6)])

    def _stall_reading(self, arguments: list[str]) -> None:
        self._admit()
        self._channel.send_events([Beat(reading_s=1e6)])

    def _stop(self, arguments: list[str]) -> None:
        self._admit()
        os.kill(os.getpid(), signal.SIGSTOP)


class FakeEngine:
    """Reads commands and starts an Answer for each Submit."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._log = Log(options.log)
        self._channel = Channel(socket.socket(fileno=options.fd))
        self._cancels: dict[int, threading.Event] = {}

    def run(self) -> None:
        """Never returns."""
        start = self._channel.receive_command()
        if not isinstance(start, Start):
            self._leave()
        self._log(f"start {os.getpid()} {msgspec.json.encode(start).decode()}")
        threading.Thread(target=self._beat, daemon=True).start()
        self._load(start)
        if self._options.deaf:
            time.sleep(PATIENCE_S)
        while True:
            command = self._channel.receive_command()
            if isinstance(command, Submit):
                self._log(f"submit {command.id}")
                self._begin(command, start.context_size)
            elif isinstance(command, Tokenize | Detokenize):
                self._log(f"{type(command).__name__.lower()} {command.id}")
                self._channel.send_events([convert(command)])
            elif isinstance(command, Cancel):
                self._log(f"cancel {command.id}")
                if command.id in self._cancels:  # else it was no Submit
                    self._cancels[command.id].set()
            elif command is None:
                self._leave()

    def _beat(self) -> None:
        while True:
            try:
                self._channel.send_events([Beat(idle_s=0.0, kv_cells_used=5, kv_cells_cached=7)])
            except OSError:
                return
            time.sleep(0.1)

    def _load(self, start: Start) -> None:
        self._channel.send_events([Loading(0.25)])
        while self._options.gate and not Path(self._options.gate).exists():
            time.sleep(0.005)
        if self._options.load == "fail":
            self._channel.send_events([LoadFailed(LOAD_FAILURE)])
            return
        if self._options.load == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._options.load == "exit":
            os.write(2, f"E {LOAD_LAST_WORDS}\n".encode())
            os._exit(3)
        with contextlib.suppress(OSError):  # a server that reads no lines
            os.write(2, b"I the fake model is loaded\n")
        self._channel.send_events(
            [
                Loading(1.0),
                Ready(
                    prompt_format=PromptFormat(self._options.dialect),
                    model_bytes=10**9,
                    kv_bytes=10**8,
                    n_ctx_train=8192,
                    n_threads=start.threads,
                    fingerprint="fp_fake",
                ),
            ]
        )

    def _begin(self, submit: Submit, context_size: int) -> None:
        cancelled = self._cancels[submit.id] = threading.Event()
        answer = Answer(submit, self._channel, cancelled, context_size)
        threading.Thread(target=answer.run, daemon=True).start()

    def _leave(self) -> NoReturn:
        self._log("eof")
        if self._options.stay:
            time.sleep(PATIENCE_S)
        os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log")
    parser.add_argument("--gate")
    parser.add_argument("--dialect", default="chatml")
    parser.add_argument("--load", default="ok", choices=["ok", "fail", "crash", "exit"])
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--deaf", action="store_true")
    parser.add_argument("fd", type=int)
    try:
        FakeEngine(parser.parse_args()).run()
    except OSError:  # the server process is gone
        os._exit(0)


if __name__ == "__main__":
    main()
