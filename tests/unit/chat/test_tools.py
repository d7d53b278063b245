"""What a request offers, and the grammar of forced calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sheily_server.api.openai_chat import protocol as openai
from sheily_server.api.openai_chat.decode import offer
from sheily_server.chat import grammar as schemas
from sheily_server.chat.grammar import answer_grammar
from sheily_server.errors import ServiceError
from sheily_server.protocol.commands import Grammar
from sheily_server.templates.base import Offer, Template
from sheily_server.templates.chatml import HERMES
from sheily_server.templates.chatml import TEMPLATE as CHATML
from sheily_server.templates.lark import json_term
from sheily_server.templates.llama3 import TEMPLATE
from sheily_server.web.errors import kind
from tests.support.wire import decode_request

LLAMA3 = TEMPLATE.calls
assert LLAMA3 is not None
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
    return answer_grammar(None, found, LLAMA3)


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
    assert (names(found), found.forced, found.several) == (["f", "g"], False, True)
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


@pytest.mark.parametrize(("value", "several"), [(None, True), (False, False), (True, True)])
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
            [tool("f"), tool("g", {"description": "x" * schemas.MAX_BYTES}, strict=True)],
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
        'start: call ("; " call)*',
        "call: call_0 | call_1",
        r'call_0: "{\"name\": \"f\", \"parameters\": " call_0_parameters "}"',
        f"call_0_parameters: {json_term(CITY)}",
        r'call_1: "{\"name\": \"g\", \"parameters\": " call_1_parameters "}"',
        "call_1_parameters: "
        + json_term({"type": "object", "properties": {}, "additionalProperties": False}),
    ]


def test_the_grammar_of_one_call() -> None:
    found = offered(tool("f"), tool_choice="required", parallel_tool_calls=False)
    assert lines(found)[:2] == ["start: call", "call: call_0"]
    choice = {"type": "function", "function": {"name": "f"}}
    assert lines(offered(tool("f"), tool_choice=choice))[0] == "start: call"


@pytest.mark.parametrize(
    ("template", "start", "call"),
    [
        (
            HERMES,
            r'start: call ("\n" call)*',
            r'call_0: "<tool_call>\n{\"name\": \"f\", \"arguments\": " call_0_parameters '
            r'"}\n</tool_call>"',
        ),
        (
            CHATML,
            r'start: call ("\n" call)*',
            r'call_0: "{\"name\": \"f\", \"arguments\": " call_0_parameters "}"',
        ),
    ],
)
def test_the_grammar_of_chatml(template: Template, start: str, call: str) -> None:
    grammar = answer_grammar(None, offered(tool("f"), tool_choice="required"), template.calls)
    assert grammar is not None
    found = grammar.lark.split("\n")
    assert (found[0], found[2]) == (start, call)


def test_strict_functions_bind_calls_and_leave_text_free() -> None:
    found = offered(tool("f"), tool("g", strict=True))
    assert found.binding
    assert not found.forced
    assert lines(found)[:3] == [
        'start: TEXT | call ("; " call)*',
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
