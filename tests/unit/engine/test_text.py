"""Text from bytes against the whole text decoded at once, for every way of cutting it."""

from __future__ import annotations

import doctest
import itertools

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sheily_server.engine import text as text_module
from sheily_server.engine.text import TextStream

thorough = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def oracle(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The text up to the stop string that is complete first, the longest of several, and that."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


def may_begin_a_stop(text: str, stops: list[str]) -> int:
    """Length of the longest end of the text that is a proper beginning of a stop string."""
    return max(
        (
            size
            for stop in stops
            for size in range(1, min(len(stop), len(text) + 1))
            if text.endswith(stop[:size])
        ),
        default=0,
    )


def decoded_so_far(data: bytes) -> str:
    """The characters that no further byte can change, found by trying to complete the last one."""
    for size in (3, 2, 1):
        tail = data[-size:]
        if len(data) < size:
            continue
        for more in (b"\x80", b"\x80\x80", b"\x80\x80\x80", b"\xbf", b"\xbf\xbf", b"\xbf\xbf\xbf"):
            try:
                if len((tail + more).decode()) == 1:
                    return data[:-size].decode(errors="replace")
            except UnicodeDecodeError:
                pass
    return data.decode(errors="replace")


def push_all(pieces: list[bytes], stops: list[str]) -> tuple[str, str | None]:
    stream = TextStream(stops)
    sent = "".join([stream.push(piece) for piece in pieces])
    sent += stream.finish()
    assert stream.stopped == (stream.stop is not None)
    return sent, stream.stop


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


small = st.text("abé漢😀\ufffd", max_size=20)
stops = st.text("abé漢😀\ufffd", min_size=1, max_size=5) | st.text("ab", min_size=1, max_size=9)
stop_lists = st.lists(stops, max_size=3)
# Few letters, so that stop strings are found; and bytes around every edge of UTF-8.
edge_bytes = st.lists(
    st.sampled_from([0x61, 0x7F, 0x80, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC3, 0xE0, 0xED, 0xEF, 0xF0])
    | st.sampled_from([0xF4, 0xF5, 0xFF])
    | st.integers(0, 255),
    max_size=12,
).map(bytes)
any_bytes = st.one_of(
    small.map(str.encode),
    st.text("ab", max_size=30).map(str.encode),
    st.text(max_size=20).map(str.encode),
    st.binary(max_size=20),
    edge_bytes,
    st.lists(small.map(str.encode) | edge_bytes, max_size=4).map(b"".join),
)
places = st.lists(st.integers(0, 100), max_size=8)


@thorough
@given(any_bytes, stop_lists, places)
@example(b"ab", ["abc", "b"], [1])
@example(b"xabcabd", ["abcabd", "ca"], [1, 2, 3, 4, 5, 6])
@example(b"aabaabaaab", ["aabaaa"], [3, 5])
@example(b"aabaaabaaac", ["aabaaac"], [7])
def test_every_way_of_cutting_gives_the_same_text(
    data: bytes, stops: list[str], places: list[int]
) -> None:
    expected = oracle(data.decode(errors="replace"), stops)
    assert push_all(cut(data, places), stops) == expected


@thorough
@given(any_bytes, stop_lists)
def test_byte_by_byte_nothing_is_held_back_longer_than_needed(
    data: bytes, stops: list[str]
) -> None:
    stream = TextStream(stops)
    sent = ""
    for read in range(1, len(data) + 1):
        sent += stream.push(data[read - 1 : read])
        text, stop = oracle(decoded_so_far(data[:read]), stops)
        if data[read - 2 : read] >= b"\xed\xa0" and data[read - 2 : read] <= b"\xed\xbf":
            continue  # half a surrogate: Python's decoder looks at one more byte
        assert stream.stop == stop
        assert sent == (text if stop else text[: len(text) - may_begin_a_stop(text, stops)])


@thorough
@given(small, stop_lists.filter(bool), places)
def test_no_stop_string_is_ever_sent(text: str, stops: list[str], places: list[int]) -> None:
    sent, stop = push_all(cut(text.encode(), places), stops)
    assert not any(each in sent for each in stops)
    assert (stop is not None) == any(each in text for each in stops)


def test_a_character_split_over_pieces_is_held() -> None:
    stream = TextStream([])
    pieces = [bytes([byte]) for byte in "é😀".encode()]
    assert [stream.push(piece) for piece in pieces] == ["", "é", "", "", "", "😀"]
    assert stream.finish() == ""


def test_an_incomplete_character_at_the_end_is_replaced_once() -> None:
    stream = TextStream([])
    assert stream.push("ok 😀".encode()[:-1]) == "ok "
    assert stream.finish() == "\ufffd"
    assert stream.finish() == ""


def test_bytes_that_can_become_nothing_are_replaced_at_once() -> None:
    stream = TextStream([])
    assert stream.push(b"a\xffb") == "a\ufffdb"
    assert stream.push(b"\xc3") == ""
    assert stream.push(b"x") == "\ufffdx"


def test_a_beginning_that_comes_to_nothing_is_sent() -> None:
    stream = TextStream(["\n\nUser:"])
    assert stream.push(b"Hi\n") == "Hi"
    assert stream.push(b"\nUs") == ""
    assert stream.push(b"ed") == "\n\nUsed"
    assert stream.push(b"\n") == ""
    assert not stream.stopped
    assert stream.finish() == "\n"
    assert stream.finish() == ""


def test_after_a_stop_nothing_is_sent() -> None:
    stream = TextStream(["END"])
    assert stream.push(b"one EN") == "one "
    assert stream.push(b"D two END") == ""
    assert stream.stopped
    assert stream.push(b"three") == ""
    assert stream.finish() == ""


def test_the_stop_string_that_is_complete_first_wins() -> None:
    assert push_all([b"abcd"], ["abcd", "bc"]) == ("a", "bc")
    assert push_all([b"abcd"], ["bcd", "abcd"]) == ("", "abcd")
    assert push_all([b"xaby"], ["b", "a"]) == ("x", "a")


def test_a_long_stop_string_costs_no_more_for_each_character() -> None:
    size = 200_000
    stream = TextStream(["a" * size + "b"])
    assert stream.push(b"a" * size) == ""
    assert stream.push(b"a" * 10) == "a" * 10
    assert stream.push(b"b") == ""
    assert stream.stopped


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        TextStream(["a", ""])


def test_the_example_in_the_documentation_is_right() -> None:
    result = doctest.testmod(text_module)
    assert result.attempted > 0
    assert result.failed == 0
