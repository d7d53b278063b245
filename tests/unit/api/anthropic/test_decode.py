"""What a body of /v1/messages asks for, and what is refused or named in it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from sheily_server.api.anthropic import decode
from sheily_server.api.anthropic import protocol as wire
from sheily_server.api.anthropic.conversation import MAX_PARTS, conversation
from sheily_server.api.anthropic.neutral import EFFECTLESS, NEUTRAL
from sheily_server.chat.generation import Generation
from sheily_server.chat.grammar import AnswerSchema
from sheily_server.chat.sampling import Wanted
from sheily_server.errors import ContextExceededError, InvalidRequestError, ServiceError
from sheily_server.templates.base import Message, ToolCall
from tests.support.markdown import section, whole

USER = {"role": "user", "content": "hi"}
TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {"a": {}}}}
OTHER = {"name": "g", "description": "d", "input_schema": {"type": "object"}, "type": "custom"}
SHAPES = (wire.MessagesRequest, wire.CountTokensRequest)


def body(**fields: Any) -> bytes:
    return json.dumps({"max_tokens": 9, "messages": [USER], **fields}).encode()


def asked(strict: bool = False, **fields: Any) -> Generation:
    found = decode.read(body(**fields), strict)
    talk = conversation(found.request.system, found.request.messages)
    return decode.generation(found, talk, None)


def ignored(strict: bool = False, **fields: Any) -> list[str]:
    return list(decode.read(body(**fields), strict).ignored)


def refused(strict: bool = False, **fields: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        asked(strict, **fields)
    assert caught.value.message
    return caught.value


def talk(*turns: Any, system: Any = None) -> list[Message]:
    return list(asked(messages=list(turns), system=system).messages)


# --- options --------------------------------------------------------------------------------------


def test_options() -> None:
    found = asked(temperature=0.5, top_p=0.25, top_k=7, stop_sequences=["a", "b"], max_tokens=10**6)
    sampling = found.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.25, 7)
    assert (found.stop, found.max_tokens, found.n) == (["a", "b"], 10**6, 1)
    plain = asked()
    assert plain.sampling == Wanted()
    assert (plain.stop, plain.form, plain.offer.functions) == ([], None, ())


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "1"}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
        ({"stop_sequences": ["x", ""]}, "stop_sequences[1]"),
        ({"stop_sequences": ["é" * 129]}, "stop_sequences[0]"),
        ({"messages": []}, "messages"),
        ({"messages": [USER] * 513}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": "hi"}, "messages"),
        ({"system": 1}, "system"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_is_out_of_range(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


def test_max_tokens_is_required_for_answers_alone() -> None:
    data = json.dumps({"messages": [USER]}).encode()
    with pytest.raises(ServiceError) as caught:
        decode.read(data)
    assert (caught.value.param, caught.value.code) == ("max_tokens", "missing_required_parameter")
    assert decode.read_count(data).ignored == ()
    assert decode.read_count(body()).ignored == ("max_tokens",)


# --- conversations --------------------------------------------------------------------------------


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def result(content: Any, id: str = "1", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **more}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


IMAGE = {"type": "image", "source": {}}
CALL = {"type": "tool_use", "id": "1", "name": "f", "input": {"a": [1, "é"]}}


def test_texts() -> None:
    assert talk(USER) == [Message("user", "hi")]
    assert talk(USER, system="s") == [Message("system", "s"), Message("user", "hi")]
    blocks = [text("one", cache_control={"type": "ephemeral"}), text("two", citations=None)]
    assert talk(user(*blocks), system=blocks) == [
        Message("system", "one\ntwo"),
        Message("user", "one\ntwo"),
    ]
    empties: list[Any] = ["", [], None]
    for empty in empties:
        assert talk(USER, system=empty) == [Message("user", "hi")]
    said = talk(USER, {"role": "system", "content": "now"}, USER)
    assert [each.role for each in said] == ["user", "system", "user"]


def test_an_answer_s_blocks_are_one_text() -> None:
    assert talk(USER, assistant(text("The R"), text("hine")), USER)[1] == Message(
        "assistant", "The Rhine"
    )


def test_turns_of_one_role_are_one_turn() -> None:
    assert talk(USER, user(text("more")), USER) == [Message("user", "hi\nmore\nhi")]
    said = talk(USER, assistant(text("a")), assistant(text("b"), CALL), user(result("r")))
    assert said[1] == Message(
        "assistant",
        "ab",
        tool_calls=(ToolCall("f", CALL["input"], id="1"),),  # type: ignore[arg-type]
    )
    # What comes behind a call does not go before it.
    said = talk(USER, assistant(CALL), assistant(text("b")), USER)
    assert [(each.role, each.text) for each in said[1:3]] == [("assistant", ""), ("assistant", "b")]


def test_calls_and_results() -> None:
    second = {**CALL, "id": "2", "input": {}}
    said = talk(
        USER,
        assistant(text("Let me see."), CALL, second),
        user(
            result([text("a"), text("b")]),
            result("no such file", "2", is_error=True),
            text("And now?"),
        ),
    )
    assert said[1].tool_calls == (ToolCall("f", {"a": [1, "é"]}, id="1"), ToolCall("f", {}, id="2"))
    assert said[1].text == "Let me see."
    assert said[2:] == [
        Message("tool", "a\nb", tool_call_id="1"),
        Message("tool", "Error: no such file", tool_call_id="2"),
        Message("user", "And now?"),
    ]
    empties: list[Any] = [None, "", []]
    for nothing in empties:
        assert talk(user(result(nothing)))[0] == Message("tool", "", tool_call_id="1")
    assert talk(user(result("r", is_error=False)))[0].text == "r"
    assert [each.role for each in talk(user(text("x"), result("r"), text("y")))] == [
        "user",
        "tool",
        "user",
    ]


def test_documents_that_are_text() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "the text"}
    whole = {"type": "document", "source": source, "title": "T", "context": "C"}
    inside = {"type": "document", "source": {"type": "content", "content": [text("a"), text("b")]}}
    found = {"type": "search_result", "title": "T", "source": "http://x", "content": [text("a")]}
    expected = ["T\nC\nthe text", "a\nb", "T\nhttp://x\na"]
    for block, said in zip((whole, inside, found), expected, strict=True):
        assert talk(user(block))[0].text == said
        assert talk(user(result([block])))[0].text == said
    assert talk(user(text("Read:"), whole))[0].text == "Read:\nT\nC\nthe text"


@pytest.mark.parametrize(
    ("turn", "place"),
    [
        (user(text("x"), {"type": "image", "source": {}}), "content[1].type"),
        (user({"source": {}, "type": "image"}), "content[0].type"),
        (user({"type": "document", "source": {"type": "base64"}}), "content[0].source.type"),
        (user({"type": "document", "source": {"type": "url"}}), "content[0].source.type"),
        (user({"type": "document", "source": {"type": "file"}}), "content[0].source.type"),
        (
            user({"type": "document", "source": {"type": "content", "content": [IMAGE]}}),
            "content[0].source.content[0].type",
        ),
        (user(result([IMAGE])), "content[0].content[0].type"),
        (user(result([{"type": "tool_reference"}])), "content[0].content[0].type"),
        (user({"type": "container_upload"}), "content[0].type"),
        (user(CALL), "content[0].type"),
        (assistant(result("x")), "content[0].type"),
        (assistant({"type": "server_tool_use"}), "content[0].type"),
    ],
)
def test_what_is_not_text_is_refused_with_its_place(turn: Any, place: str) -> None:
    error = refused(messages=[USER, turn])
    assert error.param == f"messages[1].{place}"
    assert "reads text only" in error.message


def test_thoughts_are_left_out_and_named() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    turns = [USER, assistant(thought, hidden, text("a"), thought), USER]
    assert talk(*turns)[1] == Message("assistant", "a")
    names = ["messages[].content[].thinking", "messages[].content[].redacted_thinking"]
    assert ignored(messages=turns) == names
    error = refused(strict=True, messages=turns)
    assert (error.param, error.code) == ("messages[1].content[0]", "unsupported_parameter")


def test_the_answer_goes_on_with_the_last_message() -> None:
    assert asked(messages=[USER, assistant(text("The"))]).continues
    assert not asked(messages=[USER]).continues
    assert not asked(messages=[USER, assistant()]).continues
    assert not asked(messages=[USER, assistant(text("a"), CALL)]).continues
    assert not asked(messages=[assistant(text("The"))]).continues


def test_each_message_has_its_place_in_the_body() -> None:
    turns = [USER, assistant(CALL), user(result("a"), result("b"), text("c"))]
    request = decode.read(body(messages=turns, system="s")).request
    found = conversation(request.system, request.messages)
    expected = ["system", "messages[0]", "messages[1]", *["messages[2]"] * 3]
    assert [found.place(f"messages[{i}]") for i in range(6)] == expected
    assert found.place("messages[2].tool_calls") == "messages[1]"
    for other in (None, "messages", "tools[0]", "messages[99]"):
        assert found.place(other) == other


def test_many_results_in_one_turn_are_bounded() -> None:
    assert len(talk(user(*[result("x")] * MAX_PARTS))) == MAX_PARTS
    assert refused(messages=[user(*[result("x")] * (MAX_PARTS + 1))]).param == "messages"


def test_arguments_that_are_too_deep() -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"a": deep}
    error = refused(messages=[USER, assistant(text("x"), {**CALL, "input": deep})])
    assert error.param == "messages[1].content[1].input"
    assert refused(tools=[{**TOOL, "input_schema": deep}]).param == "tools[0].input_schema"


# --- tools ----------------------------------------------------------------------------------------


def test_tools() -> None:
    offer = asked(tools=[TOOL, {**OTHER, "strict": True}]).offer
    assert (offer.forced, offer.several, offer.binding) == (False, True, True)
    first, second = offer.functions
    assert (first.name, first.parameters, first.strict) == ("f", TOOL["input_schema"], False)
    assert (second.description, second.strict, second.place) == ("d", True, "tools[1].input_schema")


@pytest.mark.parametrize(
    ("choice", "names", "forced", "several"),
    [
        ({"type": "auto"}, ["f", "g"], False, True),
        ({"type": "auto", "disable_parallel_tool_use": True}, ["f", "g"], False, False),
        ({"type": "any"}, ["f", "g"], True, True),
        ({"type": "any", "disable_parallel_tool_use": True}, ["f", "g"], True, False),
        ({"type": "tool", "name": "g"}, ["g"], True, False),
        ({"type": "none"}, [], False, False),
    ],
)
def test_tool_choices(choice: Any, names: list[str], forced: bool, several: bool) -> None:
    offer = asked(tools=[TOOL, OTHER], tool_choice=choice).offer
    assert [function.name for function in offer.functions] == names
    assert (offer.forced, offer.several) == (forced, several)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool", "name": "f"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "h"}}, "tool_choice.name"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [TOOL], "tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [TOOL, TOOL]}, "tools[1].name"),
        ({"tools": [{**TOOL, "name": "a b"}]}, "tools[0].name"),
        ({"tools": [{**TOOL, "name": "a" * 129}]}, "tools[0].name"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL, {"name": "bash", "type": "bash_20250124"}]}, "tools[1].type"),
        (
            {
                "tools": [{"name": "f", "input_schema": {"type": "array"}}],
                "tool_choice": {"type": "any"},
            },
            "tools[0].input_schema",
        ),
    ],
)
def test_tools_that_cannot_be(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


def test_a_tool_of_anthropic_s_is_refused_by_its_name() -> None:
    error = refused(tools=[{"type": "web_search_20250305", "name": "web_search"}])
    assert "web_search_20250305" in error.message
    assert error.code == "unsupported_parameter"


def test_auto_and_none_need_no_tools() -> None:
    for kind in ("auto", "none"):
        assert not asked(tool_choice={"type": kind}).offer.functions


# --- structured answers ---------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FORM = {"type": "json_schema", "schema": SCHEMA}


def test_answers_that_follow_a_schema() -> None:
    for fields, place in (
        ({"output_config": {"format": FORM}}, "output_config.format.schema"),
        ({"output_format": FORM}, "output_format.schema"),
        ({"output_config": {"format": FORM}, "output_format": FORM}, "output_config.format.schema"),
    ):
        schema = asked(**fields).form
        assert isinstance(schema, AnswerSchema)
        assert (schema.schema, schema.place, schema.strict) == (SCHEMA, place, True)
    assert asked(output_config={}).form is None
    large = {"type": "json_schema", "schema": {"enum": ["x" * 70_000]}}
    assert refused(output_format=large).param == "output_format.schema"
    assert refused(output_format={"type": "xml", "schema": {}}).param == "output_format.type"


# --- what has no effect ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", EFFECTLESS)
def test_what_has_no_effect_is_accepted_and_named(name: str) -> None:
    for shape in (decode.read, decode.read_count):
        names = set(shape(body(**{name: {"some": "thing"}})).ignored)
        assert names - {"max_tokens"} == {name}
        for value in (None, *EFFECTLESS[name]):
            assert not set(shape(body(**{name: value})).ignored) - {"max_tokens"}
    error = refused(strict=True, **{name: {"some": "thing"}})
    assert (error.param, error.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize("name", NEUTRAL)
def test_what_would_change_the_answer_is_refused(name: str) -> None:
    body: dict[str, Any] = {name: [{"some": "thing"}]}
    error = refused(**body)
    assert (error.param, error.code) == (name, "unsupported_parameter")
    for value in (None, *NEUTRAL[name]):
        assert ignored(**{name: value}) == []


def test_what_asks_for_what_is_done_anyway_is_not_named() -> None:
    mark: dict[str, Any] = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    said: dict[str, Any] = {
        "system": [text("s", **mark)],
        "messages": [
            user(text("hi", **mark)),
            assistant(text("x", parsed_output=None), {**CALL, **mark, "caller": None}),
            user(result([text("r", **mark)], **mark)),
        ],
        "tools": [{**TOOL, **mark, "eager_input_streaming": True}],
        "metadata": {"user_id": "u"},
        "output_config": {"effort": "high"},
        **mark,
    }
    assert ignored(**said) == []
    assert ignored(strict=True, **said) == []


def test_names_of_users_have_no_effect() -> None:
    names = {"user_profile_id": "u", "workspace_id": "w", "metadata": {"user_id": "x"}}
    assert ignored(True, **names) == []


def test_unknown_fields_are_named_wherever_they_are() -> None:
    names = ignored(
        mood=1,
        tools=[{**TOOL, "defer_loading": True}],
        messages=[user(text("hi", x=1))],
        output_config={"effort": "low", "task_budget": {}},
    )
    assert sorted(names) == [
        "messages[].content[].x",
        "mood",
        "output_config.effort",
        "output_config.task_budget",
        "tools[].defer_loading",
    ]


# --- docs/api/messages.md -------------------------------------------------------------------------


def test_each_field_has_a_row() -> None:
    rows = section("docs/api/messages.md", "Request fields").entries
    named = [row[0].strip("`") for row in rows]
    fields = {*wire.MessagesRequest.__struct_fields__, *NEUTRAL, *EFFECTLESS}
    assert sorted(named) == sorted(fields)
    counted = section("docs/api/messages.md", "`POST /v1/messages/count_tokens`").body
    taken = counted.split("It takes")[1].split(";")[0]
    assert set(re.findall(r"`(\w+)`", taken)) == set(wire.CountTokensRequest.__struct_fields__)
    assert f"{MAX_PARTS:,} texts and results" in whole("docs/api/messages.md")


# --- errors ---------------------------------------------------------------------------------------


def test_errors_of_the_core_in_the_words_of_this_api() -> None:
    request = decode.read(body(system="s")).request
    found = conversation(request.system, request.messages)
    error = decode.reworded(InvalidRequestError("m", "messages[1]"), found.place)
    assert (error.param, error.message) == ("messages[0]", "m")
    long = decode.reworded(ContextExceededError(n_context=256, n_prompt=300), found.place)
    assert long.message.startswith("prompt is too long: 300 tokens > 255 maximum")
    assert (long.param, long.code) == ("messages", "context_length_exceeded")
    unread = ContextExceededError(n_context=256, n_prompt=300, at_least=True)
    assert "at least 300 tokens > 255 maximum" in decode.reworded(unread, found.place).message


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b'{"max_tokens": 1, "messages": [1]}',
        b'{"max_tokens": 1, "messages": [{"role": "user", "content": [1, {"type": 1}]}]}',
        b'{"max_tokens": 1, "messages": {"role": []}}',
        b'{"max_tokens": 1, "messages": [{"role": ["user"], "content": [{"type": "x"}]}]}',
        b'{"max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "tools": [1]}',
        b'{"max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "document", '
        b'"source": 1}]}]}',
        b'{"max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "tool_result", '
        b'"content": [[]]}]}]}',
    ],
)
def test_other_shapes_are_refused(data: bytes) -> None:
    for read in (decode.read, decode.read_count):
        with pytest.raises(InvalidRequestError):
            read(data)
