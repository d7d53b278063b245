"""Unknown fields of bodies, found by the types of structs: their places, how many, how soon."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from sheily_server.api.openai_chat import decode
from sheily_server.api.openai_chat.protocol import ChatRequest
from sheily_server.api.unknown import MOST_CHARACTERS, MOST_NAMED, KnownFields
from sheily_server.errors import ServiceError


class Square(Struct, tag_field="kind", tag="square"):
    side: int


class Line(Struct, tag_field="kind", tag="line"):
    ends: list[int]
    parts: list[Square | Line] | None = None


class Plain(Struct, rename={"name": "Name"}):
    name: str = ""


class Alone(Struct, tag_field="kind", tag="alone"):
    plain: Plain


class Root(Struct):
    count: int = 0
    shape: Square | Line | None = None
    shapes: Annotated[list[Square | Line], Meta(max_length=9)] | None = None
    choice: Literal["a", "b"] | Plain | None = None
    text: str | list[Square] | None = None
    nested: list[list[Plain]] | None = None
    alone: Alone | None = None
    anything: Any = None
    free: dict[str, Any] | None = None


KNOWN = KnownFields(Root)
SQUARE = {"kind": "square", "side": 1}


def unknown(raw: dict[str, Any]) -> dict[str, str]:
    msgspec.convert(raw, Root)  # as the reader does first
    return KNOWN.unknown(raw)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"shape": SQUARE, "shapes": [SQUARE, {"ends": [1], "kind": "line"}], "choice": "a"},
        {"choice": {"Name": "x"}, "text": "x", "nested": [[{"Name": "x"}], []], "shape": None},
        {"anything": {"x": [{"y": 1}]}, "free": {"x": {"y": 1}}},
        {"alone": {"plain": {}}},
        {"alone": {"kind": "alone", "plain": {}}},
    ],
)
def test_nothing_is_unknown(raw: dict[str, Any]) -> None:
    assert unknown(raw) == {}


@pytest.mark.parametrize(
    ("raw", "kind", "place"),
    [
        ({"x": 1}, "x", "x"),
        ({"x": None}, "x", "x"),
        ({"": 1}, "", ""),
        ({".x": 1}, ".x", ".x"),
        ({"kind": 1}, "kind", "kind"),
        ({"shape": SQUARE | {"x": 1}}, "shape.x", "shape.x"),
        ({"shape": {"x": 1, "side": 1, "kind": "square"}}, "shape.x", "shape.x"),
        ({"shape": SQUARE | {"ends": [1]}}, "shape.ends", "shape.ends"),
        ({"shapes": [SQUARE, SQUARE | {"x": 1}]}, "shapes[].x", "shapes[1].x"),
        ({"choice": {"name": "x"}}, "choice.name", "choice.name"),
        ({"text": [SQUARE, SQUARE, SQUARE | {"x": 1}]}, "text[].x", "text[2].x"),
        ({"nested": [[], [{}, {"x": 1}]]}, "nested[][].x", "nested[1][1].x"),
        ({"alone": {"plain": {"x": 1}}}, "alone.plain.x", "alone.plain.x"),
        ({"shapes": [SQUARE | {"[7]": 1}]}, "shapes[].[7]", "shapes[0].[7]"),
        (
            {"shape": {"kind": "line", "ends": [], "parts": [SQUARE | {"x": {"y": 1}}]}},
            "shape.parts[].x",
            "shape.parts[0].x",
        ),
    ],
    ids=repr,
)
def test_the_kind_and_the_first_place(raw: dict[str, Any], kind: str, place: str) -> None:
    assert unknown(raw) == {kind: place}


def test_one_of_each_kind_in_the_order_of_the_body() -> None:
    raw = {"shapes": [SQUARE | {"x": 1, "y": 1}, SQUARE | {"y": 1, "z": 1}], "x": 1}
    assert list(unknown(raw)) == ["shapes[].x", "shapes[].y", "shapes[].z", "x"]
    assert list(unknown(raw).values()) == ["shapes[0].x", "shapes[0].y", "shapes[1].z", "x"]


def test_many_of_one_kind_hide_no_other() -> None:
    many = {"text": [SQUARE | {"x": 1}] * 1000, "last": 1}
    assert list(unknown(many)) == ["text[].x", "last"]


def test_names_are_counted_and_cut() -> None:
    found = unknown({f"{i}": 1 for i in range(1000)})
    assert list(found) == [f"{i}" for i in range(MOST_NAMED)]
    assert len(unknown({"text": [SQUARE | {f"{i}": 1} for i in range(1000)]})) == MOST_NAMED
    assert list(unknown({"é" * 1000: 1})) == ["é" * MOST_CHARACTERS]


def test_a_struct_within_itself() -> None:
    line: dict[str, Any] = {"kind": "line", "ends": [], "x": 1}
    for _ in range(5):
        line = {"kind": "line", "ends": [], "parts": [line]}
    assert list(unknown({"shape": line})) == ["shape" + ".parts[]" * 5 + ".x"]


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=5))
def test_the_fields_of_a_body_are_its_own_or_unknown(raw: dict[str, Any]) -> None:
    foreign = [name for name in raw if name not in Root.__struct_fields__]
    assert list(unknown({name: raw[name] for name in foreign})) == foreign


# --- hostile bodies: as much work as bytes --------------------------------------------------------

SIZE = 4 * 2**20


def filled(start: bytes, item: bytes, end: bytes) -> bytes:
    """JSON of that many bytes, with an item again and again."""
    n = (SIZE - len(start) - len(end)) // (len(item) + 1)
    return start + b",".join([item] * n) + end


USER = b'{"role":"user","content":"x"}'
HOSTILE = {
    "fields": filled(b'{"messages":[%s],' % USER, b'"fffffff":0', b"}"),
    "many fields": b'{"messages":[%s],%s}'
    % (USER, b",".join(b'"%06x":0' % i for i in range(SIZE // 12))),
    "empty messages": filled(b'{"messages":[', b"{}", b"]}"),
    "lists of lists": filled(b'{"messages":[', b"[]", b"]}"),
    "parts": filled(
        b'{"messages":[{"role":"user","content":[', b'{"type":"text","text":"","x":1}', b"]}]}"
    ),
    "calls": filled(
        b'{"messages":[{"role":"assistant","tool_calls":[',
        b'{"id":"","function":{"name":"f","arguments":"","x":1}}',
        b"]}]}",
    ),
    "stops": filled(b'{"messages":[%s],"stop":[' % USER, b'"a"', b"]}"),
}
EXPECTED: dict[str, tuple[str, ...] | str] = {
    "fields": ("fffffff",),
    "many fields": tuple(f"{i:06x}" for i in range(MOST_NAMED)),
    "empty messages": "messages",
    "lists of lists": "messages",
    "parts": ("messages[].content[].x",),
    "calls": ("messages[].tool_calls[].function.x",),
    "stops": "stop",
}


class Counted(dict[str, Any]):
    """A body's object that counts how often its fields are gone through."""

    looks = 0

    def items(self) -> Any:
        Counted.looks += 1
        return super().items()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_read_or_refused_by_its_field(name: str) -> None:
    body, expected = HOSTILE[name], EXPECTED[name]
    assert SIZE * 0.9 < len(body) <= SIZE
    if isinstance(expected, tuple):
        assert decode.read(body).ignored == expected
    else:
        with pytest.raises(ServiceError) as caught:
            decode.read(body)
        assert caught.value.param == expected


def test_each_object_is_looked_at_once() -> None:
    parts = [Counted(type="text", text="", x=1) for _ in range(1000)]
    raw = {"messages": [{"role": "user", "content": parts}]}
    known = KnownFields(ChatRequest)
    Counted.looks = 0
    assert list(known.unknown(raw)) == ["messages[].content[].x"]
    assert Counted.looks == len(parts)


def test_lists_without_structs_are_not_gone_through() -> None:
    class Untouched(list[Any]):
        def __iter__(self) -> Any:
            raise AssertionError

    raw = {"shape": {"kind": "line", "ends": Untouched()}, "anything": Untouched()}
    assert KNOWN.unknown(raw) == {}


def test_a_full_report_ends_the_search() -> None:
    squares = [Counted(SQUARE) for _ in range(1000)]
    Counted.looks = 0
    raw = {f"{i}": 1 for i in range(MOST_NAMED)} | {"text": squares}
    assert len(KNOWN.unknown(raw)) == MOST_NAMED
    assert Counted.looks == 0
