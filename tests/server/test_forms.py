"""The form of an answer in the fields of llama-server and vLLM, arguments of templates, and the
text of a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from sheily_server.protocol.commands import Bias
from tests.server.conftest import Serve, make
from tests.support.serving import Server

pytestmark = pytest.mark.http

PATHS = ("/v1/chat/completions", "/v1/completions", "/chat")
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
RECURSIVE = 'start: x_root\nx_root: "a" x_root | ""'
TALK = [{"role": "system", "content": "S"}, {"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def llama3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = make(tmp_path_factory.mktemp("llama3"), "--dialect", "llama3", context_size=1024)
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.stop()


def asked(server: Server, path: str, **fields: Any) -> tuple[Any, list[str]]:
    """The Submit command that a request becomes, and what was named as without effect."""
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "show"}]},
        "/v1/completions": {"prompt": "show"},
        "/chat": {"message": "show"},
    }
    said = bodies[path]
    answer = server.ask("POST", path, said | fields)
    assert answer.status == 200, answer.body
    body = answer.json()
    if path == "/chat":
        return json.loads(body["response"]), body["sheily"].get("ignored", [])
    [choice] = body["choices"]
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    return json.loads(text), body["sheily"].get("ignored", [])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"response_format": {"type": "json_object", "schema": CITY}}, "response_format.schema"),
        ({"json_schema": CITY}, "json_schema"),
        ({"guided_json": CITY}, "guided_json"),
        ({"guided_json": json.dumps(CITY)}, "guided_json"),
        ({"structured_outputs": {"json": CITY}}, "structured_outputs.json"),
    ],
)
def test_schemas_in_the_fields_of_other_servers(
    server: Server, path: str, fields: dict[str, Any], place: str
) -> None:
    submit, ignored = asked(server, path, **fields)
    assert json.loads(submit["grammar"]["schemas"][place]) == CITY
    assert submit["grammar"]["loose"] == [place]
    assert ignored == []


def test_what_a_schema_cannot_have_is_left_out_and_said(server: Server) -> None:
    schema = CITY | {"properties": {"city": {"type": "string", "format": "password"}}}
    submit, _ = asked(server, PATHS[0], json_schema=schema)
    assert submit["grammar"]["relaxed"] == ["json_schema.properties.city.format"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("fields", "lark", "place"),
    [
        ({"grammar": 'root ::= "a" root | ""'}, RECURSIVE, "grammar"),
        ({"grammar": 'start: "a"'}, 'start: x_start\nx_start: "a"', "grammar"),
        ({"guided_grammar": 'start: "a"'}, 'start: x_start\nx_start: "a"', "guided_grammar"),
        ({"guided_regex": "a|b"}, "start: /a|b/", "guided_regex"),
        ({"guided_choice": ["a", 'b"']}, 'start: "a" | "b\\""', "guided_choice"),
        ({"structured_outputs": {"regex": "a"}}, "start: /a/", "structured_outputs.regex"),
        ({"structured_outputs": {"choice": ["a"]}}, 'start: "a"', "structured_outputs.choice"),
        (
            {"structured_outputs": {"grammar": 'start: "a"'}},
            'start: x_start\nx_start: "a"',
            "structured_outputs.grammar",
        ),
    ],
)  # fmt: skip
def test_grammars_in_the_fields_of_other_servers(
    server: Server, path: str, fields: dict[str, Any], lark: str, place: str
) -> None:
    submit, ignored = asked(server, path, **fields)
    assert (submit["grammar"]["lark"], submit["grammar"]["param"]) == (lark, place)
    assert submit["grammar"].get("schemas", {}) == {}
    assert ignored == []


def test_what_does_not_change_a_form_is_named(server: Server) -> None:
    fields = {
        "guided_regex": "a",
        "guided_decoding_backend": "outlines",
        "guided_whitespace_pattern": " *",
    }
    assert asked(server, PATHS[0], **fields)[1] == [
        "guided_decoding_backend",
        "guided_whitespace_pattern",
    ]
    outputs = {"regex": "a", "disable_any_whitespace": True}
    _, ignored = asked(server, PATHS[0], structured_outputs=outputs)
    assert ignored == ["structured_outputs.disable_any_whitespace"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"grammar": "root ::="}, None, ""),
        ({"grammar": "root ::= <|im_end|>"}, "grammar", "cannot name tokens"),
        ({"grammar": 'root ::= "a" root'}, "grammar", "no answer can follow it to an end"),
        ({"guided_grammar": "start: <[5]>"}, "guided_grammar", "cannot name tokens"),
        ({"guided_regex": "(?=a)"}, "guided_regex", "group"),
        ({"guided_choice": []}, "guided_choice", "nothing to choose from"),
        ({"grammar": "x" * 70_000}, "grammar", "65536"),
        ({"guided_json": "nonsense"}, "guided_json", "not JSON"),
        ({"guided_regex": "a", "json_schema": {}}, "guided_regex", "json_schema and guided_regex"),
        (
            {"response_format": {"type": "json_object"}, "grammar": 'start: "a"'},
            "grammar",
            "response_format and grammar exclude each other",
        ),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag", ""),
        ({"grammar": 'start: "a"', "grammar_lazy": True}, "grammar_lazy", ""),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(
    server: Server, path: str, fields: dict[str, Any], param: str | None, words: str
) -> None:
    if param is None:  # an empty answer is one
        assert asked(server, path, **fields)[0]["grammar"]["lark"].endswith('""')
        return
    body = {"messages": TALK} if path != "/v1/completions" else {"prompt": "hi"}
    answer = server.ask("POST", path, body | fields)
    assert answer.status == 400
    assert answer.error()["param"] == param
    assert words in answer.error()["message"]


def test_beside_functions(llama3: Server) -> None:
    path, choice = PATHS[0], {"guided_choice": ["yes", "no"]}
    free, _ = asked(llama3, path, tools=[WEATHER], **choice)
    assert 'text: "yes" | "no"' in free["grammar"]["lark"]
    assert "call_0" in free["grammar"]["lark"]
    assert free["grammar"]["param"] == "guided_choice"
    forced, _ = asked(llama3, path, tools=[WEATHER], tool_choice="required", **choice)
    assert '"yes"' not in forced["grammar"]["lark"]
    rules, _ = asked(llama3, path, tools=[WEATHER], grammar='root ::= "a" root | "b"')
    assert "text: x_root" in rules["grammar"]["lark"]
    assert rules["grammar"]["lark"].endswith('\nx_root: "a" x_root | "b"')


@pytest.mark.parametrize("path", PATHS)
def test_a_bias_by_texts(server: Server, path: str) -> None:
    submit, ignored = asked(server, path, logit_bias=[[5, -1], [" river", 2.5], ["sea", False]])
    assert msgspec.convert(submit["sampling"]["logit_bias"], Bias) == Bias.of({5: -1})
    assert submit["bias_texts"] == {" river": 2.5, "sea": -100.0}
    assert ignored == []


def test_arguments_of_the_template(llama3: Server, server: Server) -> None:
    given = {"date_string": "1 May 1886", "enable_thinking": False, "x": None, "y": [1]}
    unknown = ["chat_template_kwargs.enable_thinking", "chat_template_kwargs.y"]
    for path in ("/v1/chat/completions", "/chat"):
        submit, ignored = asked(llama3, path, chat_template_kwargs=given)
        assert "Today Date: 1 May 1886\n" in "".join(text for text, _ in submit["segments"])
        assert ignored == unknown
    for path in ("/tokenize", "/apply-template"):
        answer = llama3.ask("POST", path, {"messages": TALK, "chat_template_kwargs": given}).json()
        assert answer["sheily"]["ignored"] == unknown
    assert "Today Date: 1 May 1886\n" in answer["prompt"]
    for place, path in ((server, "/v1/chat/completions"), (llama3, "/v1/completions")):
        _, ignored = asked(place, path, chat_template_kwargs=given)
        assert ignored == ["chat_template_kwargs.date_string", *unknown]
    for wrong in ({"date_string": 5}, {"date_string": "x" * 101}, {"tools_in_user_message": "no"}):
        body = {"messages": TALK, "chat_template_kwargs": wrong}
        error = llama3.ask("POST", "/v1/chat/completions", body).error()
        assert error["param"] == f"chat_template_kwargs.{next(iter(wrong))}"


def test_strictly_read_a_template_takes_its_own_arguments_alone(serve: Serve) -> None:
    server = serve("--dialect", "llama3", strict="on", context_size=1024)
    server.wait_for("ready")
    good = {"messages": TALK, "chat_template_kwargs": {"date_string": "x"}}
    assert server.ask("POST", PATHS[0], good).status == 200
    bad = {"messages": TALK, "chat_template_kwargs": {"enable_thinking": True}}
    for path in (PATHS[0], "/apply-template"):
        error = server.ask("POST", path, bad).error()
        assert error["param"] == "chat_template_kwargs.enable_thinking"
        assert error["code"] == "unknown_parameter"


def test_the_text_of_a_prompt(llama3: Server, server: Server) -> None:
    def prompt(place: Server, **fields: Any) -> str:
        answer = place.ask("POST", "/apply-template", {"messages": TALK} | fields)
        assert answer.status == 200, answer.body
        text: str = answer.json()["prompt"]
        return text

    assert prompt(server, model="fake-model") == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert '"name": "weather"' in prompt(llama3, tools=[WEATHER])
    begun = [*TALK, {"role": "assistant", "content": "The"}]
    end = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    assert prompt(llama3, messages=begun).endswith(f"{end}The")
    assert prompt(llama3, messages=begun, continue_final_message=False).endswith(end)
    assert prompt(llama3, messages=begun, add_generation_prompt=True).endswith(end)
    for body, param in (
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": TALK, "model": "gpt-4o"}, "model"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content"),
    ):
        assert server.ask("POST", "/apply-template", body).error()["param"] == param
    named = server.ask("POST", "/apply-template", {"messages": TALK, "mood": 1}).json()
    assert named["sheily"] == {"ignored": ["mood"]}
