"""The calls in what a model wrote, whole or in parts."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sheily_server.chat.reader import AnswerReader
from sheily_server.protocol.events import ChoiceFinished, Text
from sheily_server.templates.base import Call, CallSyntax, Function, Offer
from sheily_server.templates.chatml import HERMES
from sheily_server.templates.llama3 import TEMPLATE

TAG = "<|python_tag|>"
LLAMA3 = TEMPLATE.calls
assert LLAMA3 is not None


def read(
    text: str,
    found: Offer,
    *,
    size: int = 10**6,
    reason: str = "stop",
    syntax: CallSyntax | None = LLAMA3,
    bound: bool = False,
) -> tuple[str, list[Call], str | None]:
    """The text, the calls and the end of an answer that arrives in parts of some characters."""
    reader = AnswerReader(0, found, syntax, bound=bound)
    pieces = []
    for begin in range(0, len(text), size):
        pieces += reader.take(Text(1, 0, text[begin : begin + size]))
    pieces += reader.end(ChoiceFinished(id=1, choice=0, reason=reason, timed_out=False))
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for part in (part for piece in pieces for part in piece.parts):
        if part.name is not None:
            assert part.index not in names
            names[part.index] = part.name
        arguments[part.index] = arguments.get(part.index, "") + part.arguments
    calls = [call for piece in pieces for call in piece.calls]
    assert calls == [Call(names[index], arguments[index]) for index in range(len(names))]
    return "".join(piece.text for piece in pieces), calls, pieces[-1].finish


def parse_calls(text: str, found: Offer) -> list[Call]:
    """The calls of a whole answer."""
    return read(text, found)[1]


F_AND_G = Offer((Function("f"), Function("g")), several=True)
ONLY_ONE = Offer((Function("f"), Function("g")))
FORCED = Offer((Function("f"), Function("g")), forced=True, several=True)


def calls(text: str, found: Offer = F_AND_G) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in parse_calls(text, found)]


# what was written


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "f", "parameters": {"a": 1}}',
        '  {"name":"f","parameters":{"a":1}}\n',
        '{"type": "function", "name": "f", "parameters": {"a": 1}}',
        '{"name": "f", "arguments": {"a": 1}}',
        '{"name": "f", "arguments": "{\\"a\\": 1}"}',
        '[{"name": "f", "parameters": {"a": 1}}]',
        f'{TAG}{{"name": "f", "parameters": {{"a": 1}}}}',
        f"{TAG} f(a=1)",
        f"{TAG}f.call(a=1)",
        f"{TAG}[f(a=1)]",
        "[f(a=1)]",
        "[f.call(a=1)]",
        "[f(a=1),]",
        "[\n  f(\n    a=1,\n  )\n]",
        '{"type":"function","function":{"name":"f","parameters":{"a":1}}}',
        '{"type": "function", "function": {"arguments": {"a": 1}, "name": "f"}}',
        '{"function": "f", "parameters": {"a": 1}}',
        '{"parameters": {"a": 1}, "name": "f"}',
        '{"arguments": "{\\"a\\": 1}", "name": "f"}',
        '{"id": "call_1", "name": "f", "arguments": {"a": 1}, "index": [0]}',
        '{"name": "f", "parameters": {"a": 1}}}',
        '{"name": "f", "parameters": {"a": 1}',
        '{"name": "f", "parameters": {"a": 1',
        '{"name": "f", "parameters": {"a": 1,}}',
        "{'name': 'f', 'parameters': {'a': 1}}",
        "[f(a=1)",
        "[f(a=1",
        '[{"name": "f", "parameters": {"a": 1}}',
        '```json\n{"name": "f", "parameters": {"a": 1}}\n```',
        "```\n[f(a=1)]\n```\n",
        '`{"name": "f", "parameters": {"a": 1}}`',
    ],
)
def test_the_forms_of_a_call(text: str) -> None:
    for size in (1, 2, 7, len(text)):
        said, found, finish = read(text, F_AND_G, size=size)
        assert (said, finish) == ("", "tool_calls")
        assert found == [Call("f", '{"a": 1}')]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}}',
        '{"name": "f", "parameters": {"a": 1}};{"name": "g", "parameters": {}};',
        '{"name": "f", "parameters": {"a": 1}}\n{"name": "g", "parameters": {}}',
        '{"name": "f", "parameters": {"a": 1}}{"name": "g"}',
        '{"name": "f", "parameters": {"a": 1}}, {"name": "g", "parameters": {}}',
        '[{"name": "f", "parameters": {"a": 1}}, {"name": "g", "parameters": {}}]',
        "[f(a=1), g()]",
        f"{TAG}[f(a=1), g.call()]",
    ],
)
def test_several_calls(text: str) -> None:
    assert calls(text) == [("f", {"a": 1}), ("g", {})]
    assert calls(text, ONLY_ONE) == [("f", {"a": 1})]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("[f(a='x', b=\"y\", c=1.5, d=-2, e=True, g=None)]",
         {"a": "x", "b": "y", "c": 1.5, "d": -2, "e": True, "g": None}),
        ("[f(a=true, b=false, c=null, d=[[1]])]", {"a": True, "b": False, "c": None, "d": [[1]]}),
        ("[f(a=[1, {'b': (2, 3)}], c={})]", {"a": [1, {"b": [2, 3]}], "c": {}}),
        ("[f(a='¿Qué? 😀', b='it\\'s', c='a\\nb', d=\'\'\'x\'\'\')]",
         {"a": "¿Qué? 😀", "b": "it's", "c": "a\nb", "d": "x"}),
        (r"[f(a='\d+\\d', b='C:\windows')]", {"a": r"\d+\d", "b": r"C:\windows"}),
        ("[f(a={1: 2})]", {"a": {"1": 2}}),
        ("[f(a=1, a=2)]", {"a": 2}),
        ("[f(a=0x1F, b=1_000, c=+1, d=.5, e=1.)]", {"a": 31, "b": 1000, "c": 1, "d": 0.5, "e": 1}),
        ("[f(city=Paris)]", {"city": "Paris"}),
        ("[f ]", None),
        ('{"name": "f", "parameters": {"a": 1, "a": 2}}', {"a": 2}),
        ('{"name": "f", "parameters": {"a": "]) ; {\\u00e9"}}', {"a": "]) ; {é"}),
        ('{"name": "f", "parameters": {"a": {"b": [[], {}]}}}', {"a": {"b": [[], {}]}}),
        ('{"name": "f", "parameters": {"a": "two\nlines", "b": ""}}', {"a": "two\nlines", "b": ""}),
        ('{"name": "f", "parameters": {"a": "x\\ud83d\\ude00y"}}', {"a": "x😀y"}),
        ('{"name": "f", "parameters": {"a": "\\ud800", "b": "\\ude00"}}',
         {"a": "\ufffd", "b": "\ufffd"}),
        ('{"name": "f", "parameters": {"a": NaN, "b": -Infinity, "c": 1e999}}',
         {"a": None, "b": None, "c": None}),
        ('{"name": "f", "arguments": "{\\"a\\": NaN}"}', {"a": None}),
        ('{"name": "f"}', {}),
        ('{"name": "f"', {}),
        ('{"name": "f", "arguments": "{}"}', {}),
        ('{"name": "f", "arguments": ""}', {}),
        ('{"name": "f", "arguments": " null"}', {}),
        ('{"name": "f", "arguments": "{"}', {}),
        ('{"name": "f", "arguments": null}', {}),
        ('{"name": "f", "arguments": {"a": ', {"a": None}),
        ('{"name": "f", "arguments": {"a": "x', {"a": "x"}),
    ],
)  # fmt: skip
def test_arguments(text: str, arguments: dict[str, Any] | None) -> None:
    expected = [] if arguments is None else [("f", arguments)]
    assert calls(text) == expected
    one_by_one = read(text, F_AND_G, size=1)[1]
    assert [(call.name, json.loads(call.arguments)) for call in one_by_one] == expected


def typed(**properties: Any) -> Offer:
    definitions = {"count": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "$defs": definitions}
    return Offer((Function("f", parameters=schema),), several=True)


@pytest.mark.parametrize(
    ("schema", "written", "read_as"),
    [
        ({"type": "integer"}, '"5"', "5"),
        ({"type": "integer"}, '" -5 "', "-5"),
        ({"type": "integer"}, "5.0", "5"),
        ({"type": "number"}, '"2.5"', "2.5"),
        ({"type": ["number", "null"]}, '"2.5"', "2.5"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, '"7"', "7"),
        ({"$ref": "#/$defs/count"}, '"7"', "7"),
        ({"type": "boolean"}, '"true"', "true"),
        ({"type": "boolean"}, '"False"', "false"),
        ({"type": "array", "items": {"type": "integer"}}, '["1", 2]', "[1, 2]"),
        ({"type": "array"}, '"[1, [2]]"', "[1, [2]]"),
        ({"type": "object"}, '"{\\"a\\": 1}"', '{"a": 1}'),
        ({"properties": {"b": {"type": "integer"}}}, '{"b": "1"}', '{"b": 1}'),
        ({"additionalProperties": {"type": "integer"}}, '{"b": "1"}', '{"b": 1}'),
        ({"type": "integer"}, '"five"', '"five"'),
        ({"type": "integer"}, '"5 apples"', '"5 apples"'),
        ({"type": "integer"}, '""', '""'),
        ({"type": "integer"}, '"true"', '"true"'),
        ({"type": "string"}, '"5"', '"5"'),
        ({"type": ["string", "integer"]}, '"5"', '"5"'),
        ({"type": 5}, '"5"', '"5"'),
        ({"$ref": "#/$defs/none"}, '"5"', '"5"'),
        ({"$ref": "#"}, '"5"', '"5"'),
        ({"anyOf": [{"type": "integer"}, {}]}, '"5"', '"5"'),
        (True, '"5"', '"5"'),
        (["x"], '"5"', '"5"'),
    ],
)
def test_values_are_of_the_type_that_the_schema_wants(
    schema: Any, written: str, read_as: str
) -> None:
    text = f'{{"name": "f", "parameters": {{"a": {written}}}}}'
    expected = f'{{"a": {read_as}}}' if "$ref" not in str(schema) or read_as == "7" else None
    for size in (1, 1000):
        [call] = read(text, typed(a=schema), size=size)[1]
        assert call.arguments == (expected or f'{{"a": {written}}}')


def test_a_reference_to_itself_ends() -> None:
    loop = typed(a={"$ref": "#/properties/a"}, b={"anyOf": [{"$ref": "#/properties/b"}]})
    [call] = parse_calls('{"name": "f", "parameters": {"a": "1", "b": "1"}}', loop)
    assert call.arguments == '{"a": "1", "b": "1"}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        TAG,
        "[]",
        "{}",
        "null",
        "f",
        "Hello, world.",
        '{"answer": 5}',
        '{"name": "f", "parameters": [1]}',
        '{"name": "f", "parameters": 5}',
        '{"name": "f", "arguments": "[1]"}',
        '{"name": 5, "parameters": {}}',
        '{"name": null}',
        '{"type": "object", "name": "f"}',
        '{"parameters": {"a": 1}}',
        '{"parameters": {"a": 1}',
        '["name", "f"]',
        '[[{"name": "f", "parameters": {}}]]'[:1],
        "[f(1)]",
        "[f(*[1])]",
        "[f(**{'a': 1})]",
        "[f(a==1)]",
        "[f(a)]",
        "[f[0](a=1)]",
        "[f]",
        "f(a=1)",
        "{f(a=1)}",
        "import os",
        "\0",
        "```python\nf(a=1)\n```",
        "`{`",
        "</tool_call>",
        '{"name": "h", "parameters": {}}',
        "[h()]",
        "[f.g(a=1)]",
        "[x.f.call()]",
        "[F()]",
        '{"name": "", "parameters": {}}',
        "[" * 20_000,
        '{"a":' * 20_000,
        "(" * 20_000,
        "\\" * 20_000,
        "{" * 20_000,
        "`" * 20_000,
        '{"function": ' * 20_000,
        '{"parameters": ' * 20_000,
        '{"id": "' + "x" * 20_000,
    ],
    ids=lambda text: repr(text[:30]),
)  # fmt: skip
def test_what_is_no_call_is_text_to_the_letter(text: str) -> None:
    for offer in (F_AND_G, ONLY_ONE):
        assert read(text, offer) == (text, [], "stop")
        assert read(text, offer, size=5) == (text, [], "stop")


def test_nothing_is_a_call_where_nothing_is_offered() -> None:
    for text in ('{"name": "f", "parameters": {}}', "[f()]", "[]"):
        assert read(text, Offer((), several=True)) == (text, [], "stop")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('Sure: {"name": "f", "parameters": {}}', "Sure:"),
        ("I look.\n\n[f()]", "I look."),
        ('Sure:\n```json\n{"name": "f"}\n```\nThere.', "Sure:\n\nThere."),
        ('{"name": "f", "parameters": {}} is what I would call', "is what I would call"),
        ('{"name": "f"}\n\nI am done.\n', "I am done."),
        ('{"x": {"name": "f"}}', '{"x":'),
        ('[1] {"name": "f"}', "[1]"),
        (f'Well. {TAG}{{"name": "f"}}', "Well."),
        ('{{"name": "f"}}', "{"),
    ],
)
def test_text_around_a_call_is_said_beside_it(text: str, said: str) -> None:
    for size in (1, 3, 1000):
        assert read(text, F_AND_G, size=size) == (said, [Call("f", "{}")], "tool_calls")


def test_a_call_of_an_unknown_function_beside_another_is_text() -> None:
    assert read("[f(), h()]", F_AND_G)[:2] == ("h()]", [Call("f", "{}")])
    text = '{"name": "f"}; {"name": "h"}'
    assert read(text, F_AND_G)[:2] == ('{"name": "h"}', [Call("f", "{}")])


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("[f(a=lambda: 1)]", '{"a": "lambda"}', ": 1)]"),
        ("[f(a=g())]", '{"a": "g"}', "())]"),
        ('{"name": "f", "parameters": {"a": "x" y}}', '{"a": "x"}', ""),
        ('{"name": "f", "parameters": {"a": %}}', '{"a": null}', "%}}"),
        ("[f(a=" + "9" * 10_000 + ")]", '{"a": null}', "\n"),
    ],
)
def test_what_goes_wrong_in_arguments_ends_the_call(text: str, arguments: str, said: str) -> None:
    found = read(text, F_AND_G, size=1)
    assert found[1] == [Call("f", arguments)]
    assert said == "\n" or found[0] == said


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_arguments_have_a_depth_that_is_taken_back(bracket: str) -> None:
    deep = '{"name": "f", "parameters": {"a": ' + bracket * 99
    [call] = parse_calls(deep, F_AND_G)
    assert json.loads(call.arguments)
    [call] = parse_calls(deep + bracket * 5000, F_AND_G)
    assert json.loads(call.arguments)
    assert call.arguments.count("[") + call.arguments.count("{") == 100


# parts


def parts(offer: Offer, *texts: str) -> list[list[str]]:
    """What can be sent after each of the texts."""
    reader = AnswerReader(0, offer, LLAMA3)
    found = []
    for text in texts:
        pieces = reader.take(Text(1, 0, text))
        sent = [piece.text for piece in pieces if piece.text]
        found.append(
            sent + [part.name or part.arguments for piece in pieces for part in piece.parts]
        )
    return found


@pytest.mark.parametrize("offer", [F_AND_G, FORCED])
def test_arguments_go_out_as_they_come(offer: Offer) -> None:
    came = (
        '{"name": "',
        'f", "para',
        'meters": ',
        "{",
        '"ci',
        'ty": "A Co',
        'ruña"',
        ', "n": 1',
        "}}",
    )
    went: Any = ([], [], [], ["f", "{"], [], ['"city": "A Co'], ['ruña"'], [', "n": '], ["1}", ""])
    assert parts(offer, *came) == list(went)
    assert parts(offer, "[f(", "a=[1, ", "2", "], b='x", "y')]") == [
        [],
        ["f", '{"a": [1'],
        [],
        [', 2], "b": "x'],
        ['y"}', ""],
    ]


def test_what_cannot_become_a_call_any_more_goes_out_at_once() -> None:
    assert parts(F_AND_G, '{"', "a", "nswer", '": "') == [[], [], ['{"answer'], ['": "']]
    assert parts(F_AND_G, '{"name": "', "Alice", '"}') == [[], ['{"name": "Alice'], ['"}']]
    assert parts(F_AND_G, "[", "1", ", 2]") == [[], ["[1"], [", 2]"]]
    assert parts(F_AND_G, "<b", ">x", " <|py", "x") == [["<b"], [">x"], [], [" <|pyx"]]


@pytest.mark.parametrize(
    ("text", "offer", "expected"),
    [
        ('{"name": "f", "parameters": {"a": "x', FORCED, ("", [Call("f", '{"a": "x')])),
        ('{"name": "f", "parameters": {"a": 1', FORCED, ("", [Call("f", '{"a": 1')])),
        ('{"name": "f", "parameters": {"a": 1}', F_AND_G, ("", [Call("f", '{"a": 1}')])),
        ('{"name": "f', F_AND_G, ("", [Call("f", "")])),
        ('{"name": "', FORCED, ("", [])),
        ("{", FORCED, ("", [])),
        ("{", F_AND_G, ("{", [])),
        ("", FORCED, ("", [])),
        ("[f(a", F_AND_G, ("", [Call("f", "")])),
        ('Well. {"name": "g"', F_AND_G, ("Well.", [Call("g", "")])),
        (TAG + "{", F_AND_G, ("", [])),
        ('{"name": "f", "arguments": "{\\"a\\": 1', F_AND_G, ("", [Call("f", '{"a": 1')])),
        ('{"name": "f"}; {"na', F_AND_G, ('{"na', [Call("f", "{}")])),
    ],
)
def test_a_call_that_is_cut_off(text: str, offer: Offer, expected: tuple[str, list[Call]]) -> None:
    assert read(text, offer, reason="length") == (*expected, "length")


def test_one_forced_function_is_known_before_its_name() -> None:
    named = Offer((Function("f"),), forced=True)
    assert read("{", named, reason="length") == ("", [Call("f", "")], "length")


def test_where_a_grammar_binds_only_a_beginning_is_a_call() -> None:
    """The grammar leaves text free, so that a call in it need not follow its schema."""
    for text in ('Sure: {"name": "f"}', '`{"name": "f"}`', "x  [f()] "):
        assert read(text, F_AND_G, size=1, bound=True) == (text, [], "stop")
    assert read('{"name": "f"}', F_AND_G, bound=True) == ("", [Call("f", "{}")], "tool_calls")


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>\n',
        '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n',
        '<tool_call>[{"name": "f", "arguments": {"a": 1}}]</tool_call>',
        '{"name": "f", "arguments": {"a": 1}}',
    ],
)
def test_calls_in_tags(text: str) -> None:
    for size in (1, 4, 1000):
        found = read(text, F_AND_G, size=size, syntax=HERMES.calls)
        assert found == ("", [Call("f", '{"a": 1}')], "tool_calls")
    twice = f"Both:\n{text}\n{text}"
    found = read(twice, F_AND_G, syntax=HERMES.calls)
    assert found == ("Both:", [Call("f", '{"a": 1}')] * 2, "tool_calls")


def test_a_tag_that_is_cut_off_is_no_text() -> None:
    assert read("<tool_call>\n", F_AND_G, reason="length", syntax=HERMES.calls)[:2] == ("", [])


# anything


def test_many_calls_are_read() -> None:
    one = '{"name": "f", "parameters": {}}'
    assert len(calls("; ".join([one] * 2000))) == 2000
    assert len(calls("[" + ", ".join(["f()"] * 2000) + "]")) == 2000


hostile_pieces = st.sampled_from(
    ['{"name": "f"', '"parameters": ', '{"function": ', '"arguments": "', "}", "{", "[", "]", "f(",
     ")", "a=", "'", '"', "\\", ",", "; ", TAG, "1", "NaN", "\\ud800", "f.call", " ", "\n", "é",
     "😀", "**", "lambda: ", "```json\n", "`", "<tool_call>", "</tool_call>", "x"]
)  # fmt: skip
answers = st.lists(hostile_pieces, max_size=14).map("".join) | st.text(max_size=30)


@given(answers, st.integers(1, 5), st.sampled_from(["stop", "length"]), st.booleans())
@example("[f(a='\\400')]", 1, "stop", False)
def test_any_text_is_calls_that_can_be_sent_or_text(
    text: str, size: int, reason: str, tagged: bool
) -> None:
    syntax = HERMES.calls if tagged else LLAMA3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read(text, F_AND_G, size=size, reason=reason, syntax=syntax)
    assert found == read(text, F_AND_G, reason=reason, syntax=syntax)
    said, made, finish = found
    if not made:
        assert text.startswith(said)
        assert said == text or reason == "length"
    for i, call in enumerate(made):
        assert call.name in ("f", "g")
        call.arguments.encode()
        if reason == "stop" or i + 1 < len(made):
            value = json.loads(call.arguments, parse_constant=lambda name: pytest.fail(name))
            assert isinstance(value, dict)
    assert finish == ("tool_calls" if made and reason == "stop" else reason)
    for offer in (FORCED, ONLY_ONE):
        read(text, offer, size=size, reason=reason, syntax=syntax)


@pytest.mark.parametrize(
    "piece",
    ['{"parameters": ', '{"function": ', '{"id": "', "[", "`", "<", " ", '{"name": "f", ', "f(",
     "{'type': ", '{"name": "f", "parameters": {"a": "', '"x" ', "[f(", "\\", "[f(a='", "\\ud800"],
)  # fmt: skip
def test_no_text_is_read_again_and_again(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the characters that are taken, instead of the time."""
    from sheily_server.templates.source import Source

    taken = 0
    take = Source._take

    def counting(self: Source, text: str) -> str:
        nonlocal taken
        taken += len(text)
        return take(self, text)

    monkeypatch.setattr(Source, "_take", counting)
    text = piece * 2000
    for offer in (F_AND_G, FORCED):
        taken = 0
        read(text, offer, size=3)
        assert taken <= 4 * len(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
json_arguments = st.dictionaries(st.text(max_size=6), json_values, max_size=3)
python_arguments = st.dictionaries(
    st.text("abcdxyz", min_size=1, max_size=3).filter(str.isidentifier), json_values, max_size=3
)


@given(
    st.lists(st.tuples(st.sampled_from("fg"), json_arguments), min_size=1, max_size=3),
    st.integers(1, 9),
)
def test_calls_written_as_json_are_read_as_they_were(
    wanted: list[tuple[str, Any]], size: int
) -> None:
    for ascii_only in (True, False):
        objects = [
            json.dumps({"name": name, "parameters": value}, ensure_ascii=ascii_only)
            for name, value in wanted
        ]
        for text in ("; ".join(objects), "[" + ", ".join(objects) + "]", TAG + "\n".join(objects)):
            found = read(text, F_AND_G, size=size)
            expected = [(name, json.dumps(value, ensure_ascii=False)) for name, value in wanted]
            assert found[0] == ""
            assert [(call.name, call.arguments) for call in found[1]] == expected


@given(st.lists(st.tuples(st.sampled_from("fg"), python_arguments), min_size=1, max_size=3))
def test_calls_written_as_python_are_read_as_they_were(wanted: list[tuple[str, Any]]) -> None:
    written = [
        f"{name}({', '.join(f'{key}={item!r}' for key, item in value.items())})"
        for name, value in wanted
    ]
    assert calls("[" + ", ".join(written) + "]") == wanted
