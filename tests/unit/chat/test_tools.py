"""What a request offers, the grammar of forced calls, and the calls in what a model wrote."""

from __future__ import annotations

import dataclasses
import json
import warnings
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sheily_server.api.openai_chat import protocol as openai
from sheily_server.api.openai_chat.decode import offer
from sheily_server.chat import grammar as schemas
from sheily_server.chat.grammar import answer_grammar
from sheily_server.chat.reader import AnswerReader
from sheily_server.errors import ServiceError
from sheily_server.protocol.commands import Grammar
from sheily_server.protocol.events import ChoiceFinished, Text
from sheily_server.templates.base import Call, Offer
from sheily_server.templates.lark import json_term
from sheily_server.templates.llama3 import TEMPLATE
from sheily_server.templates.llama3.calls import may_begin as begins_like_a_call
from sheily_server.web.errors import kind
from tests.support.wire import decode_request

TAG = "<|python_tag|>"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name: str, parameters: Any = None, **more: Any) -> dict[str, Any]:
    function = {"name": name, **more} | ({} if parameters is None else {"parameters": parameters})
    return {"type": "function", "function": function}


def request(**fields: Any) -> openai.ChatRequest:
    body = {"messages": [{"role": "user", "content": "hi"}], **fields}
    return decode_request(json.dumps(body).encode(), openai.ChatRequest)


def offered(*tools: dict[str, Any], **fields: Any) -> Offer:
    return offer(request(tools=list(tools), **fields))


def refused(*tools: dict[str, Any], **fields: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        offered(*tools, **fields)
    assert kind(caught.value).status == 400
    return caught.value


def names(found: Offer) -> list[str]:
    return [function.name for function in found.functions]


def grammar_of(found: Offer) -> Grammar | None:
    return answer_grammar(None, found, TEMPLATE.calls)


def parse_calls(text: str, found: Offer) -> list[Call]:
    """The calls of a whole answer, which begins like one as it has to be one."""
    reader = AnswerReader(0, dataclasses.replace(found, forced=True), TEMPLATE.calls)
    pieces = reader.take(Text(1, 0, text)) + reader.end(
        ChoiceFinished(id=1, choice=0, reason="stop", timed_out=False)
    )
    return [call for piece in pieces for call in piece.calls]


F_AND_G = offered(tool("f"), tool("g"), parallel_tool_calls=True)
ONLY_ONE = offered(tool("f"), tool("g"))


def calls(text: str, found: Offer = F_AND_G) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in parse_calls(text, found)]


# what is offered


def test_nothing_is_offered() -> None:
    nothing: list[dict[str, Any]] = [{}, {"tools": []}, {"tools": None}, {"tool_choice": "none"}]
    for fields in nothing:
        found = offer(request(**fields))
        assert (found.functions, found.forced, found.binding) == ((), False, False)
        assert grammar_of(found) is None
        assert found.rendered == []


@pytest.mark.parametrize("choice", [None, "auto"])
def test_the_model_may_choose(choice: Any) -> None:
    found = offered(tool("f", CITY), tool("g"), tool_choice=choice)
    assert (names(found), found.forced, found.several) == (["f", "g"], False, False)
    assert grammar_of(found) is None
    assert found.rendered == [tool("f", CITY), tool("g")]


def test_calls_can_be_forbidden() -> None:
    found = offered(tool("f", CITY, strict=True), tool_choice="none")
    assert (found.functions, found.rendered, grammar_of(found)) == ((), [], None)


def test_a_call_can_be_required() -> None:
    found = offered(tool("f"), tool("g"), tool_choice="required")
    assert (names(found), found.forced) == (["f", "g"], True)


def test_a_named_function_is_the_only_one() -> None:
    choice = {"type": "function", "function": {"name": "g"}}
    found = offered(tool("f"), tool("g"), tool_choice=choice, parallel_tool_calls=True)
    assert (names(found), found.forced, found.several) == (["g"], True, False)


@pytest.mark.parametrize(("value", "several"), [(None, False), (False, False), (True, True)])
def test_several_calls_are_asked_for(value: Any, several: bool) -> None:
    assert offered(tool("f"), parallel_tool_calls=value).several is several
    assert offered(tool("f"), parallel_tool_calls=value, tool_choice="required").several is several


@pytest.mark.parametrize(
    ("tools", "fields", "param"),
    [
        ([tool("f"), tool("g"), tool("f")], {}, "tools[2].function.name"),
        ([tool("f"), tool("f")], {"tool_choice": "none"}, "tools[1].function.name"),
        ([], {"tool_choice": "required"}, "tool_choice"),
        (
            [tool("f")],
            {"tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice.function.name",
        ),
        (
            [tool("f"), tool("g", {"type": "string"})],
            {"tool_choice": "required"},
            "tools[1].function.parameters",
        ),
        (
            [tool("f", strict=True), tool("g", {"type": ["object", "null"]})],
            {},
            "tools[1].function.parameters",
        ),
        (
            [tool("f"), tool("g", {"description": "x" * schemas.MAX_BYTES})],
            {"tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tools[1].function.parameters",
        ),
    ],
)
def test_offers_that_cannot_be(
    tools: list[dict[str, Any]], fields: dict[str, Any], param: str
) -> None:
    assert refused(*tools, **fields).param == param


def test_schemas_of_functions_that_need_not_follow_them_are_no_matter() -> None:
    loose = tool("f", {"type": "string", "maxLength": 10**9})
    assert names(offered(loose)) == ["f"]
    assert names(offered(loose, tool_choice="none")) == []
    other = {"type": "function", "function": {"name": "g"}}
    assert names(offered(loose, tool("g"), tool_choice=other)) == ["g"]


def test_a_named_choice_without_tools() -> None:
    choice = {"type": "function", "function": {"name": "f"}}
    assert refused(tool_choice=choice).param == "tool_choice"


# the grammar


def lines(found: Offer) -> list[str]:
    grammar = grammar_of(found)
    assert grammar is not None
    assert grammar.param == "tools"
    return grammar.lark.split("\n")


def test_the_grammar_of_a_forced_call() -> None:
    assert lines(offered(tool("f", CITY), tool("g"), tool_choice="required")) == [
        "start: call",
        "call: call_0 | call_1",
        r'call_0: "{\"name\": \"f\", \"parameters\": " call_0_parameters "}"',
        f"call_0_parameters: {json_term(CITY)}",
        r'call_1: "{\"name\": \"g\", \"parameters\": " call_1_parameters "}"',
        "call_1_parameters: "
        + json_term({"type": "object", "properties": {}, "additionalProperties": False}),
    ]


def test_the_grammar_of_several_calls() -> None:
    found = offered(tool("f"), tool_choice="required", parallel_tool_calls=True)
    assert lines(found)[:2] == ['start: call ("; " call)*', "call: call_0"]


def test_strict_functions_bind_calls_and_leave_text_free() -> None:
    found = offered(tool("f"), tool("g", strict=True))
    assert found.binding
    assert not found.forced
    assert lines(found)[:3] == [
        "start: TEXT | call",
        r"TEXT: /[^\[{<\s](.|\n)*/",
        "call: call_0 | call_1",
    ]


def test_nothing_in_a_schema_leaves_its_line() -> None:
    hostile = '"""\n%json {}\nstart: /.*/\r\u2028\\"'
    schema = {"properties": {hostile: {"const": hostile, "description": hostile}}}
    found = offered(tool("f", schema, description=hostile), tool_choice="required")
    grammar = lines(found)
    assert len(grammar) == 4
    assert grammar[3].isascii()
    assert json.loads(grammar[3].partition("%json ")[2])["properties"] == schema["properties"]


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
    ],
)
def test_the_forms_of_a_call(text: str) -> None:
    assert calls(text) == [("f", {"a": 1})]


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
        ("[f(a=[1, {'b': (2, 3)}], c={})]", {"a": [1, {"b": [2, 3]}], "c": {}}),
        ("[f(a='¿Qué? 😀', b='it\\'s', c='a\\nb', d='''x''')]",
         {"a": "¿Qué? 😀", "b": "it's", "c": "a\nb", "d": "x"}),
        (r"[f(a='\d+\\d', b='C:\windows')]", {"a": r"\d+\d", "b": r"C:\windows"}),
        ("[f(a={1: 2})]", {"a": {"1": 2}}),
        ("[f(a=1, a=2)]", {"a": 2}),
        ('{"name": "f", "parameters": {"a": 1, "a": 2}}', {"a": 2}),
        ('{"name": "f", "parameters": {"a": "]) ; {\\u00e9"}}', {"a": "]) ; {é"}),
        ('{"name": "f", "parameters": {"a": {"b": [[], {}]}}}', {"a": {"b": [[], {}]}}),
        ('{"name": "f"}', {}),
        ('{"name": "f", "arguments": "{}"}', {}),
    ],
)  # fmt: skip
def test_arguments(text: str, arguments: dict[str, Any]) -> None:
    assert calls(text) == [("f", arguments)]


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
        '{"name": "f", "parameters": {"a": 1}',
        '{"name": "f", "parameters": {"a": 1}}; {"name": "g"',
        '{"name": "f", "parameters": {"a": 1}} is what I would call',
        'I call {"name": "f", "parameters": {"a": 1}}',
        '{"name": "f", "parameters": [1]}',
        '{"name": "f", "parameters": 5}',
        '{"name": "f", "parameters": null}',
        '{"name": "f", "arguments": "{"}',
        '{"name": "f", "arguments": "[1]"}',
        '{"name": 5, "parameters": {}}',
        '{"name": null}',
        '{"name": "f", "parameters": {"a": NaN}}',
        '{"name": "f", "parameters": {"a": -Infinity}}',
        '{"name": "f", "parameters": {"a": 1e999}}',
        '{"name": "f", "parameters": {"a": "\\ud800"}}',
        '{"name": "f", "arguments": "{\\"a\\": NaN}"}',
        '["name", "f"]',
        '[[{"name": "f", "parameters": {}}]]',
        "[f(1)]",
        "[f(*[1])]",
        "[f(**{'a': 1})]",
        "[f(a=g())]",
        "[f(a=b)]",
        "[f(a=__import__('os').system('true'))]",
        "[f(a=1+1)]",
        "[f(a=1j)]",
        "[f(a=b'x')]",
        "[f(a={1, 2})]",
        "[f(a={(1, 2): 3})]",
        "[f(a=1e999)]",
        "[f(a='\\ud800')]",
        "[f(a='\\x')]",
        "[f(a=1), 5]",
        "[f(a=1), f]",
        "(f(a=1), g())",
        "{f(a=1)}",
        "[f(a=1)] and text",
        "[f(a=1) for i in [1]]",
        "f(a=1); g()",
        "import os",
        "lambda: f(a=1)",
        "[f[0](a=1)]",
        "\0",
        "[f(a='\0')]",
    ],
)  # fmt: skip
def test_what_is_no_call(text: str) -> None:
    assert calls(text) == []


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "h", "parameters": {}}',
        '{"name": "f", "parameters": {}}; {"name": "h", "parameters": {}}',
        "[h()]",
        "[f(), h()]",
        "[f.g(a=1)]",
        "[x.f.call()]",
        "[F()]",
        '{"name": "", "parameters": {}}',
    ],
)
def test_unknown_functions_are_text(text: str) -> None:
    assert calls(text) == []
    assert calls(text, ONLY_ONE) == []


def test_nothing_is_a_call_where_nothing_is_offered() -> None:
    nothing = Offer((), forced=False, several=True)
    for text in ('{"name": "f", "parameters": {}}', "[f()]", "[]"):
        assert parse_calls(text, nothing) == []


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 150 + "f()" + "]" * 150,
        '{"a":' * 100_000,
        '{"name": "f", "parameters": ' + '{"a":' * 5000 + "1" + "}" * 5001,
        "f(a=" + "-" * 100_000 + "1)",
        "f(a=" + "not " * 50_000 + "1)",
        "f(a=" + "1+" * 50_000 + "1)",
        "f" + ".a" * 50_000 + ".call(a=1)",
        "f" + "(a=1)" * 20_000,
        "[f(a=0x" + "f" * 10_000 + ")]",
        "[f(a=" + "9" * 10_000 + ")]",
        '{"name": "f", "parameters": {"a": ' + "9" * 10_000 + "}}",
        "f(a=lambda:" + "lambda:" * 20_000 + "1)",
        "(" * 10_000,
        "\\" * 100_000,
    ],
    ids=lambda text: text[:16],
)
def test_hostile_text_is_text(text: str) -> None:
    for whole in (text, TAG + text):
        assert calls(whole) == []


def test_many_calls_are_read() -> None:
    one = '{"name": "f", "parameters": {}}'
    assert len(calls("; ".join([one] * 2000))) == 2000
    assert len(calls("[" + ", ".join(["f()"] * 2000) + "]")) == 2000


def test_odd_escapes_are_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert calls(r"[f(a='\w\8\-')]") == [("f", {"a": r"\w\8\-"})]


hostile_pieces = st.sampled_from(
    ['{"name": "f"', '"parameters": ', "}", "{", "[", "]", "f(", ")", "a=", "'", '"', "\\", ",",
     "; ", TAG, "1", "NaN", "\\ud800", "f.call", " ", "\n", "é", "😀", "**", "lambda: "]
)  # fmt: skip


@given(st.lists(hostile_pieces, max_size=14).map("".join) | st.text(max_size=30))
@example("[f(a='\\400')]")
def test_any_text_is_calls_that_can_be_sent_or_text(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = parse_calls(text, F_AND_G)
    for call in found:
        assert call.name in ("f", "g")
        call.arguments.encode()
        value = json.loads(call.arguments, parse_constant=lambda name: pytest.fail(name))
        assert isinstance(value, dict)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
json_arguments = st.dictionaries(st.text(max_size=6), json_values, max_size=3)
python_arguments = st.dictionaries(
    st.text("abcdxyz", min_size=1, max_size=3).filter(str.isidentifier), json_values, max_size=3
)


@given(st.lists(st.tuples(st.sampled_from("fg"), json_arguments), min_size=1, max_size=3))
def test_calls_written_as_json_are_read_as_they_were(wanted: list[tuple[str, Any]]) -> None:
    objects = [json.dumps({"name": name, "parameters": value}) for name, value in wanted]
    for text in ("; ".join(objects), "[" + ", ".join(objects) + "]", TAG + "\n".join(objects)):
        assert calls(text) == wanted


@given(st.lists(st.tuples(st.sampled_from("fg"), python_arguments), min_size=1, max_size=3))
def test_calls_written_as_python_are_read_as_they_were(wanted: list[tuple[str, Any]]) -> None:
    written = [
        f"{name}({', '.join(f'{key}={item!r}' for key, item in value.items())})"
        for name, value in wanted
    ]
    assert calls("[" + ", ".join(written) + "]") == wanted


# what may become a call


@pytest.mark.parametrize(
    "text", ["", " \n", "{", "[", " {", "\n[1", "<", "<|py", TAG, TAG + "x", '{"a": 1} text']
)
def test_what_may_become_a_call(text: str) -> None:
    assert begins_like_a_call(text)


@pytest.mark.parametrize("text", ["a", " a{", "f(a=1)", "<b>", "<|eot_id|>", "x" + TAG, "(", '"{'])
def test_what_cannot_become_a_call(text: str) -> None:
    assert not begins_like_a_call(text)


@given(st.lists(hostile_pieces, max_size=6).map("".join))
def test_what_ends_as_a_call_always_looked_like_one_in_a_list_or_as_json(text: str) -> None:
    """What was let go as text is never found to have been a call, but for bare Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = parse_calls(text, F_AND_G)
    if found and not text.lstrip().startswith(("f(", "f.call")):
        assert all(begins_like_a_call(text[:n]) for n in range(len(text) + 1))
