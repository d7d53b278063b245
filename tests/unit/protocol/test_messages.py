"""The frames between the two processes: every message arrives as it was sent, nonsense is told."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_server.protocol.channel import Channel, encode_command
from sheily_server.protocol.commands import (
    Bias,
    Cancel,
    Command,
    Detokenize,
    Grammar,
    PromptFormat,
    Sampling,
    Segment,
    Start,
    Submit,
    Tokenize,
)
from sheily_server.protocol.events import (
    Admitted,
    ChoiceFinished,
    Detokenized,
    Event,
    Finished,
    LoadFailed,
    Loading,
    Ready,
    Refused,
    RequestFailed,
    Started,
    Text,
    Tokenized,
    TokenLogprob,
    TooLong,
)
from sheily_server.protocol.frames import MAX_FRAME_BYTES, ProtocolError

COMMANDS: list[Command] = [
    Start(model_path="/models/é.gguf", context_size=4096, parallel=4, threads=0, log_level="info"),
    Submit(
        id=2**40,
        segments=[Segment("<|im_start|>", True), Segment("user\n\0😀", False)],
        sampling=Sampling(
            temperature=0.0,
            top_k=40,
            top_p=0.5,
            min_p=0.1,
            repeat_penalty=1.1,
            frequency_penalty=-2.0,
            presence_penalty=2.0,
            seed=-(2**63),
            logit_bias=Bias.of({128_255: -100.0, 0: 1.5}),
            ignore_eos=True,
        ),
        max_tokens=2048,
        stop=["END", "\n"],
        deadline=280.0,
        n=4,
        top_logprobs=0,
        grammar=Grammar('start: %json {"const": "\\u00e9"}', "response_format"),
        visible=["<|python_tag|>"],
    ),
    Submit(
        id=1,
        segments=[],
        sampling=Sampling(seed=2**63 - 1),
        max_tokens=5,
        stop=[],
        deadline=0.5,
    ),
    Cancel(7),
    Tokenize(8, [Segment("<|im_end|>", True), Segment("", False)]),
    Detokenize(9, [0, 2**31 - 1]),
]
EVENTS: list[Event] = [
    Loading(0.5),
    Ready(
        prompt_format=PromptFormat("chatml", "be brief"),
        model_bytes=1,
        kv_bytes=2,
        n_ctx_train=3,
        n_threads=4,
        fingerprint="fp_1",
    ),
    Ready(
        prompt_format=PromptFormat("llama3"),
        model_bytes=2**62,
        kv_bytes=2,
        n_ctx_train=3,
        n_threads=4,
        fingerprint="fp_2",
    ),
    LoadFailed("no"),
    Admitted(1, 5),
    Started(1, 0),
    TooLong(id=1, prompt_tokens=5000, room=1),
    Refused(1, "logit_bias", "5 is no token."),
    Tokenized(1, [5, 2**31 - 1], [b"\xff\x00", b""]),
    Detokenized(1, "\ufffd"),
    Text(1, 0, "caf\u00e9 \0"),
    Text(1, 3, "", [TokenLogprob(b"\xc3", -0.5, [(b"\xa9", -1.0), (b"", float("-inf"))])]),
    ChoiceFinished(id=1, choice=2, reason="length", timed_out=True),
    ChoiceFinished(id=1, choice=2, reason="stop", timed_out=False, stop="\u00e9"),
    Finished(
        id=1,
        prompt_tokens=1,
        cached_tokens=2,
        completion_tokens=3,
        queued_s=0.1,
        prefill_s=0.2,
        decode_s=0.3,
    ),
    RequestFailed(1, "timeout", "late"),
]


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    channel = Channel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


@pytest.fixture
def channels() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = (Channel(end) for end in socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


def test_commands_arrive_as_they_were_sent(channels: tuple[Channel, Channel]) -> None:
    server, engine = channels
    for command in COMMANDS:
        server.send_frame(encode_command(command))
    assert [engine.receive_command() for _ in COMMANDS] == COMMANDS


def test_segments_stay_named_tuples(channels: tuple[Channel, Channel]) -> None:
    server, engine = channels
    server.send_frame(encode_command(COMMANDS[1]))
    command = engine.receive_command()
    assert isinstance(command, Submit)
    assert command.segments[0].special is True


def test_events_travel_together_in_one_frame(channels: tuple[Channel, Channel]) -> None:
    server, engine = channels
    engine.send_events(EVENTS)
    engine.send_events([])  # which is no frame at all
    engine.send_events([Loading(1.0)])
    assert server.receive_events() == EVENTS
    assert server.receive_events() == [Loading(1.0)]


def test_a_large_frame_arrives_whole(channels: tuple[Channel, Channel]) -> None:
    server, engine = channels
    text = "é" * (3 * 1024 * 1024)
    sender = threading.Thread(target=engine.send_events, args=([Text(1, 0, text)],))
    sender.start()
    assert server.receive_events() == [Text(1, 0, text)]
    sender.join(20)


def test_frames_of_many_threads_do_not_mix(channels: tuple[Channel, Channel]) -> None:
    server, engine = channels
    n_threads, n_each = 4, 50

    def send(number: int) -> None:
        for i in range(n_each):
            submit = Submit(
                id=number * n_each + i,
                segments=[],
                sampling=Sampling(),
                max_tokens=1,
                stop=["x" * 500],
                deadline=1.0,
            )
            server.send_frame(encode_command(submit))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(n_threads)]
    for thread in threads:
        thread.start()
    ids = []
    for _ in range(n_threads * n_each):
        command = engine.receive_command()
        assert isinstance(command, Submit)
        ids.append(command.id)
    for thread in threads:
        thread.join(20)
    assert sorted(ids) == list(range(n_threads * n_each))


def test_the_other_end_closed_is_none(channels: tuple[Channel, Channel]) -> None:
    server, engine = channels
    engine.close()
    assert server.receive_events() is None
    with pytest.raises(BrokenPipeError):
        server.send_frame(encode_command(Cancel(7)))


def test_closing_wakes_a_thread_that_receives(channels: tuple[Channel, Channel]) -> None:
    server, _engine = channels
    received: list[Any] = []
    thread = threading.Thread(target=lambda: received.append(server.receive_events()))
    thread.start()
    server.close()
    thread.join(20)
    assert received == [None]


def test_closing_wakes_a_thread_that_sends(channels: tuple[Channel, Channel]) -> None:
    """A wedged engine reads nothing: the server process must still come to its end."""
    server, _engine = channels
    outcome: list[str] = []
    began = threading.Event()

    def send() -> None:
        began.set()
        try:
            server.send_frame(
                encode_command(
                    Submit(
                        id=1,
                        segments=[],
                        sampling=Sampling(),
                        max_tokens=1,
                        stop=["x" * 20_000_000],
                        deadline=1.0,
                    )
                )
            )
        except OSError:
            outcome.append("OSError")

    thread = threading.Thread(target=send)
    thread.start()
    assert began.wait(20)
    server.close()
    thread.join(20)
    assert outcome == ["OSError"]


def test_a_frame_that_the_other_end_would_not_take_is_not_sent(
    channels: tuple[Channel, Channel],
) -> None:
    server, engine = channels
    with pytest.raises(ProtocolError):
        server.send_frame(encode_command(Detokenize(1, [2**31] * (MAX_FRAME_BYTES // 5 + 1))))
    server.send_frame(encode_command(Cancel(7)))
    assert engine.receive_command() == Cancel(7)


def test_closing_twice_is_closing_once(channels: tuple[Channel, Channel]) -> None:
    channels[0].close()
    channels[0].close()


@pytest.mark.parametrize("cut", [1, 3, 4, 6])
def test_a_frame_cut_off_is_the_end(pair: tuple[Channel, socket.socket], cut: int) -> None:
    channel, raw = pair
    payload = msgspec.msgpack.encode([Loading(0.5)])
    raw.sendall((struct.pack("<I", len(payload)) + payload)[:cut])
    raw.close()
    assert channel.receive_events() is None


def test_the_wire_format(pair: tuple[Channel, socket.socket]) -> None:
    channel, raw = pair
    channel.send_frame(encode_command(Cancel(7)))
    (length,) = struct.unpack("<I", raw.recv(4, socket.MSG_WAITALL))
    assert msgspec.msgpack.decode(raw.recv(length, socket.MSG_WAITALL)) == {
        "type": "Cancel",
        "id": 7,
    }


def framed(payload: bytes) -> bytes:
    return struct.pack("<I", len(payload)) + payload


@pytest.mark.parametrize(
    "frame",
    [
        framed(b""),
        framed(b"\xc1"),
        framed(msgspec.msgpack.encode({"type": "Loading", "fraction": 0.5})),  # not in a list
        framed(msgspec.msgpack.encode([{"type": "Nothing"}])),
        framed(msgspec.msgpack.encode([{"type": "Loading", "fraction": "half"}])),
        framed(msgspec.msgpack.encode([{"type": "Loading"}])),
        framed(
            msgspec.msgpack.encode([{"type": "Text", "id": 1, "choice": 0, "text": "x"}])[:-1]
            + b"\xff"
        ),
        framed(b"\x91\x82\xa4type\xa7Loading\xa1x" + b"\x91" * 100_000),
        struct.pack("<I", MAX_FRAME_BYTES + 1),
        b"\xff\xff\xff\xff",
    ],
)
def test_nonsense_is_a_protocol_error(pair: tuple[Channel, socket.socket], frame: bytes) -> None:
    channel, raw = pair
    raw.sendall(frame)
    with pytest.raises(ProtocolError):
        channel.receive_events()


@given(st.binary(max_size=200))
def test_any_bytes_are_events_the_end_or_a_protocol_error(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    theirs.sendall(framed(data))
    theirs.close()
    assert outcome(channel) in ("events", "error")
    channel.close()


def outcome(channel: Channel) -> str:
    try:
        return "end" if channel.receive_events() is None else "events"
    except ProtocolError:
        return "error"
