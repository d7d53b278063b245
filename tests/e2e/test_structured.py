"""Answers that follow a schema, and forced and strict function calls, with the real engine.

The tiny Llama 3 has random weights: nothing but the grammar makes what it writes valid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field

from tests.e2e.asking import Answer, assert_alive, complete, post, stream, tokens_of
from tests.support.real_server import RealServer

FORMATS = jsonschema.FormatChecker(["uuid", "email", "ipv4"])


def is_date(value: object) -> bool:
    """By its form: the grammar knows no leap years."""
    return re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", str(value)) is not None


FORMATS.checks("date")(is_date)


def strict_object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


DIGIT = {"type": "integer", "minimum": 0, "maximum": 9}
WORD = {"type": "string", "maxLength": 8}
NODE = strict_object(value=DIGIT, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})

# Each lets an answer end: with random weights a free string may go on for ever.
SCHEMAS: dict[str, dict[str, Any]] = {
    "enum": {"enum": ["red", "gr\u00fcn", 3, None, True, {"a": []}]},
    "const": {"const": {"a": [1, 'quote " line \n end \u00e9']}},
    "integer range": {"type": "integer", "minimum": -5, "maximum": 17},
    "exclusive range": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 4},
    "multiple": {"type": "integer", "minimum": 0, "maximum": 100, "multipleOf": 7},
    "boolean or null": {"type": ["boolean", "null"]},
    "lengths": {"type": "string", "minLength": 3, "maxLength": 8},
    "pattern": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
    "pattern without anchors": {"type": "string", "pattern": "[0-9]{3}", "maxLength": 9},
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "object": strict_object(name=WORD, age=DIGIT),
    "optional properties": {
        "type": "object",
        "properties": {"a": DIGIT, "b": DIGIT, "c": DIGIT},
        "required": ["b"],
        "additionalProperties": False,
    },
    "nested arrays": {
        "type": "array",
        "minItems": 1,
        "maxItems": 3,
        "items": {
            "type": "array",
            "maxItems": 2,
            "items": {"type": "array", "maxItems": 2, "items": DIGIT},
        },
    },
    "items": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2, "maxItems": 4},
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "boolean"}, DIGIT],
        "items": False,
        "minItems": 2,
    },
    "anyOf": {"anyOf": [{"type": "null"}, DIGIT, {"type": "array", "items": DIGIT, "maxItems": 2}]},
    "oneOf": {"oneOf": [strict_object(a=DIGIT), strict_object(b=DIGIT)]},
    "allOf": {
        "allOf": [
            {"type": "object", "properties": {"a": DIGIT}, "required": ["a"]},
            {"properties": {"a": {"minimum": 5}}},
        ],
        "additionalProperties": False,
        "properties": {"a": {}},
    },
    "reference": {
        "$defs": {"digit": DIGIT, "pair": strict_object(x={"$ref": "#/$defs/digit"})},
        "type": "array",
        "items": {"$ref": "#/$defs/pair"},
        "maxItems": 2,
    },
    "recursive reference": {"$defs": {"node": NODE}, "$ref": "#/$defs/node"},
    "pattern properties": {
        "type": "object",
        "patternProperties": {"^x_[a-z]{1,3}$": {"type": "null"}},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 2,
    },
    "odd names": strict_object(**{'a"b\n%json {} """': DIGIT, "": DIGIT, "\u00f1 \\ /": DIGIT}),
}


def form(schema: Any, **more: Any) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True} | more,
    }


def ask(server: RealServer, schema: Any, **fields: Any) -> Answer:
    options = {"max_tokens": 200, "temperature": 1, "seed": 1} | fields
    return complete(server, "Give me something.", response_format=form(schema), **options)


def validate(text: str, schema: Any) -> None:
    jsonschema.validate(json.loads(text), schema, format_checker=FORMATS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_random_weights_follow_every_schema(llama3_server: RealServer, name: str) -> None:
    for seed in range(4):
        answer = ask(llama3_server, SCHEMAS[name], seed=seed)
        assert answer.choice["finish_reason"] == "stop"
        validate(answer.text, SCHEMAS[name])


@pytest.mark.parametrize("name", ["enum", "object", "date", "pattern", "reference", "odd names"])
def test_a_small_model_follows_a_schema(smollm2_server: RealServer, name: str) -> None:
    for temperature in (0, 1):
        answer = ask(smollm2_server, SCHEMAS[name], temperature=temperature, max_tokens=100)
        assert answer.choice["finish_reason"] == "stop"
        validate(answer.text, SCHEMAS[name])


def test_what_may_be_endless_is_valid_when_it_ends(llama3_server: RealServer) -> None:
    endless: list[dict[str, Any]] = [
        {"type": "string"},
        {"type": "object"},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "string", "format": "email"},
        {"type": "array"},
        {},
    ]
    n_ended = 0
    for schema in endless:
        for seed in range(3):
            answer = ask(llama3_server, schema, seed=seed, max_tokens=60)
            if answer.choice["finish_reason"] == "stop":
                n_ended += 1
                validate(answer.text, schema)
            else:
                assert answer.choice["finish_reason"] == "length"
    assert n_ended


@pytest.mark.parametrize("temperature", [0, 2])
def test_a_json_object(llama3_server: RealServer, temperature: float) -> None:
    for seed in range(6):
        answer = complete(
            llama3_server,
            response_format={"type": "json_object"},
            temperature=temperature,
            seed=seed,
            max_tokens=80,
        )
        assert answer.text.startswith("{")
        if answer.choice["finish_reason"] == "stop":
            assert isinstance(json.loads(answer.text), dict)


def test_json_is_written_without_free_blanks(llama3_server: RealServer) -> None:
    """A weak model could write nothing but blanks for ever."""
    schema = strict_object(a=DIGIT, b={"type": "array", "items": DIGIT, "minItems": 2})
    for seed in range(5):
        text = ask(llama3_server, schema, seed=seed).text
        assert text == json.dumps(json.loads(text))


def test_json_cut_off_says_length(llama3_server: RealServer) -> None:
    schema = strict_object(a={"type": "string", "minLength": 50, "maxLength": 60})
    answer = ask(llama3_server, schema, max_tokens=5)
    assert answer.choice["finish_reason"] == "length"
    assert answer.body["usage"]["completion_tokens"] == 5
    assert answer.text.startswith('{"a": "')
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(answer.text)
    *_, last = stream(llama3_server, response_format=form(schema), max_tokens=5)
    assert last["choices"][0]["finish_reason"] == "length"


def test_every_choice_follows_the_schema(llama3_server: RealServer) -> None:
    answer = ask(llama3_server, SCHEMAS["object"], n=4)
    texts = [choice["message"]["content"] for choice in answer.body["choices"]]
    assert len(set(texts)) > 1
    for text in texts:
        validate(text, SCHEMAS["object"])


def test_a_stream_follows_the_schema(llama3_server: RealServer) -> None:
    chunks = stream(llama3_server, response_format=form(SCHEMAS["object"]), seed=3)
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    validate(text, SCHEMAS["object"])


def test_answers_with_different_schemas_side_by_side(llama3_server: RealServer) -> None:
    """Each has its own grammar, free ones beside them none."""
    names = [*SCHEMAS, None]

    def one(number: int) -> None:
        name = names[number % len(names)]
        if name is None:
            assert complete(llama3_server, max_tokens=20, seed=number).status == 200
        else:
            validate(ask(llama3_server, SCHEMAS[name], seed=number).text, SCHEMAS[name])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(2 * len(names))))


def test_other_parameters_do_not_break_a_schema(llama3_server: RealServer) -> None:
    schema = SCHEMAS["object"]
    brace = tokens_of(llama3_server, "}")[0]
    options: list[dict[str, Any]] = [
        {"ignore_eos": True},
        {"logit_bias": {str(brace): -100}},
        {"logit_bias": {str(brace): 100}},
        {"temperature": 2, "top_k": 3, "min_p": 0.5, "repeat_penalty": 10},
        {"temperature": 0, "frequency_penalty": 2, "presence_penalty": 2},
        {"top_p": 0.01},
        {"logprobs": True, "top_logprobs": 20},
    ]
    for fields in options:
        answer = ask(llama3_server, schema, **fields)
        assert answer.choice["finish_reason"] == "stop", fields
        validate(answer.text, schema)


def test_the_simple_route_follows_a_schema_too(llama3_server: RealServer) -> None:
    body = {"message": "go", "response_format": form(SCHEMAS["object"]), "max_tokens": 100}
    validate(post(llama3_server, "/chat", body).body["response"], SCHEMAS["object"])


# what cannot be honoured


@pytest.mark.parametrize(
    ("schema", "word", "place"),
    [
        ({"not": {"type": "string"}}, "not", ".not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems", ".uniqueItems"),
        ({"if": {"const": 1}, "then": {"const": 1}}, "if", ""),
        ({"type": "string", "format": "no-such-format"}, "no-such-format", ".format"),
        ({"type": "string", "pattern": "(?=a)b"}, "look", ".pattern"),
        ({"type": "string", "pattern": "("}, "(", ".pattern"),
        ({"type": "string", "pattern": r"(a)\1"}, "ackref", ".pattern"),
        ({"type": "bogus"}, "bogus", ".type"),
        ({"type": 5}, "", ".type"),
        ({"enum": []}, "", ".enum"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "", ".type"),
        ({"$ref": "#/$defs/nowhere"}, "nowhere", ".$ref"),
        ({"$ref": "https://example.org/schema.json"}, "example.org", ".$ref"),
        ({"$ref": "file:///etc/passwd"}, "passwd", ".$ref"),
        ({"properties": 5}, "", ".properties"),
        ({"type": "array", "contains": {"const": 1}}, "contains", ".contains"),
        (
            {"properties": {"a": {}, "b": {"items": {"anyOf": [{}, {"format": "no"}]}}}},
            "no",
            ".properties.b.items.anyOf[1].format",
        ),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_a_schema_that_cannot_be_honoured_is_refused(
    llama3_server: RealServer, schema: Any, word: str, place: str
) -> None:
    answer = ask(llama3_server, schema)
    assert answer.status == 400
    assert answer.error["param"] == f"response_format.json_schema.schema{place}"
    assert word in answer.error["message"]
    assert len(answer.error["message"]) < 500
    assert "root:" not in answer.error["message"]
    assert_alive(llama3_server)


def nested(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = {"type": "array", "items": inner, "minItems": 1, "maxItems": 2000}
    return inner


HOSTILE: dict[str, Callable[[], Any]] = {
    "deep": lambda: nested(900, {}),
    "as deep as allowed": lambda: nested(30, {"const": 1}),
    "wide": lambda: {"anyOf": [{"const": i} for i in range(100_000)]},
    "many properties": lambda: strict_object(**{f"p{i}": DIGIT for i in range(450)}),
    "many optional properties": lambda: {
        "type": "object",
        "properties": {f"p{i}": {"type": "boolean"} for i in range(450)},
    },
    "long enum": lambda: {"enum": [f"value number {i}" for i in range(2500)]},
    "long const": lambda: {"const": "x" * 60_000},
    "huge repetition": lambda: {"type": "string", "minLength": 10**9},
    "huge array": lambda: {"type": "array", "minItems": 10**30},
    "repetition as large as allowed": lambda: nested(6, {"type": "string", "minLength": 2000}),
    "huge repetition in a pattern": lambda: {"type": "string", "pattern": "^a{1000000000}$"},
    "nested repetition": lambda: {"type": "string", "pattern": "^((a{1,999}){1,999}){1,999}$"},
    "exponential states": lambda: {"type": "string", "pattern": "^(.*a.{500}|.*b.{400})$"},
    "catastrophic": lambda: {"type": "string", "pattern": "^((a+)+)+b$"},
    "unicode classes": lambda: {"type": "string", "pattern": r"^(\p{L}{1,900}\p{N}){1,900}$"},
    "long pattern": lambda: {"type": "string", "pattern": "(a|b)" * 10_000},
    "deep pattern": lambda: {"type": "string", "pattern": "(" * 5000 + "a" + ")" * 5000},
    "endless reference": lambda: {"$ref": "#"},
    "references in a circle": lambda: {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        "$ref": "#/$defs/a",
    },
    "no end": lambda: {"$defs": {"a": strict_object(a={"$ref": "#/$defs/a"})}, "$ref": "#/$defs/a"},
    "doubling": lambda: {
        "$defs": {
            f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]}
            for i in range(30)
        }
        | {"d30": {"type": "integer"}},
        "$ref": "#/$defs/d0",
    },
    "doubling with choices": lambda: {
        "$defs": {
            f"d{i}": {
                "anyOf": [
                    {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}},
                    {"type": "array", "minItems": i, "items": {"$ref": f"#/$defs/d{i + 1}"}},
                ]
            }
            for i in range(20)
        }
        | {"d20": {"type": "integer"}},
        "$ref": "#/$defs/d0",
    },
    "allOf of anyOf": lambda: {
        "allOf": [{"anyOf": [{"minimum": i}, {"maximum": i}]} for i in range(20)]
    },
    "large numbers": lambda: {"type": "number", "minimum": -1e308, "maximum": 1e308},
    "a small multiple": lambda: {"type": "number", "multipleOf": 1e-300},
    "a large multiple": lambda: {"type": "integer", "multipleOf": 987654321, "minimum": 1},
    "options of the library": lambda: {
        "type": "integer",
        "x-guidance": {"whitespace_pattern": "(.|\n)*", "item_separator": "x", "lenient": True},
    },
    "options of the library inside": lambda: {
        "type": "array",
        "items": {"x-guidance": {"lenient": True}, "not": {}},
    },
    "a grammar in a string": lambda: {"%llguidance": {}, "lark": "start: /.*/"},
    "other drafts": lambda: {"$schema": "http://json-schema.org/draft-04/schema#", "type": "null"},
    "an unknown draft": lambda: {"$schema": "x:\n%json", "type": "null"},
    "an id": lambda: {"$id": "http://127.0.0.1:1/x", "type": "null"},
    "types and nothing else": lambda: {"type": []},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_refused_or_followed(llama3_server: RealServer, name: str) -> None:
    schema = HOSTILE[name]()
    answer = ask(llama3_server, schema, max_tokens=20)
    if answer.status == 200:
        if answer.choice["finish_reason"] == "stop":
            json.loads(answer.text)
    else:
        assert answer.status == 400
        assert answer.error["code"] in ("invalid_value", "invalid_json", "schema_too_complex")
    assert_alive(llama3_server)


INJECTIONS = [
    '"',
    "'",
    "\\",
    "\n",
    '"\nstart: /(.|\\n)*/\n',
    '"""',
    "%json {}",
    "\n%json {}\n",
    "%%lark",
    "%regex { }",
    '"}} | /.*/ | %json {"const": "',
    "/.*/",
    "<|eot_id|>",
    "<[128009]>",
    "\r\n\u2028\u2029\u0085",
    "\x00\x01\x7f",
    "{{ 7*7 }} {% raw %}",
    "😀\ufffe",
]


@pytest.mark.parametrize("text", INJECTIONS, ids=ascii)
def test_strings_in_a_schema_stay_strings(llama3_server: RealServer, text: str) -> None:
    """Wherever a schema takes a text, it cannot leave the JSON that it stands in."""
    for schema in (
        {"const": text},
        {"enum": [text, text + "x"], "title": text, "description": text, "$comment": text},
        strict_object(**{text: {"const": text}}),
        {"$defs": {text: DIGIT}, "type": "integer", "minimum": 0, "maximum": 9, "default": text},
    ):
        answer = ask(llama3_server, schema)
        assert answer.choice["finish_reason"] == "stop"
        validate(answer.text, schema)
    answer = complete(
        llama3_server,
        response_format=form({"const": text}, description=text),
        max_tokens=100,
    )
    assert json.loads(answer.text) == text
    named = form({}, name=text)
    refused = complete(llama3_server, response_format=named)
    assert (refused.status, refused.error["param"]) == (400, "response_format.json_schema.name")


# function calls

CITY = strict_object(city=WORD, unit={"enum": ["C", "F"]})
WITH_DEFS = {
    "$defs": {"day": {"enum": ["mon", "tue"]}},
    "properties": {"days": {"type": "array", "items": {"$ref": "#/$defs/day"}, "maxItems": 2}},
    "required": ["days"],
    "additionalProperties": False,
}


def tool(name: str, parameters: Any = None, **more: Any) -> dict[str, Any]:
    function = {"name": name, **more} | ({} if parameters is None else {"parameters": parameters})
    return {"type": "function", "function": function}


TOOLS = [tool("weather", CITY), tool("get-days_2", WITH_DEFS), tool("ping")]
PARAMETERS: dict[str, dict[str, Any]] = {
    "weather": CITY,
    "get-days_2": WITH_DEFS,
    "ping": {"maxProperties": 0},
}


def call(server: RealServer, **fields: Any) -> Answer:
    options = {"tools": TOOLS, "max_tokens": 200, "temperature": 1, "seed": 1} | fields
    return complete(server, "Do something.", **options)


def check_calls(choice: Any) -> list[str]:
    """The names of a choice's calls, each of which is valid."""
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    calls = choice["message"]["tool_calls"]
    for one in calls:
        function = one["function"]
        validate(function["arguments"], {"type": "object"} | PARAMETERS[function["name"]])
    assert len({one["id"] for one in calls}) == len(calls)
    return [one["function"]["name"] for one in calls]


def test_a_required_call_is_valid(llama3_server: RealServer) -> None:
    names = set()
    for seed in range(12):
        one = {"parallel_tool_calls": False} if seed % 2 else {}
        found = check_calls(call(llama3_server, tool_choice="required", seed=seed, **one).choice)
        assert len(found) == 1 or not one
        names.update(found)
    assert len(names) > 1


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_named_call_is_the_one(llama3_server: RealServer, name: str) -> None:
    choice = {"type": "function", "function": {"name": name}}
    for seed in range(4):
        answer = call(llama3_server, tool_choice=choice, seed=seed)
        assert check_calls(answer.choice) == [name]


def test_a_forced_call_of_the_small_llama_in_a_stream(llama3_server: RealServer) -> None:
    chunks = stream(llama3_server, tools=TOOLS, tool_choice="required", max_tokens=200, seed=2)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    parts = [part for delta in deltas for part in delta.get("tool_calls", [])]
    assert len(parts) > 3
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert not any(delta.get("content") for delta in deltas)
    whole = call(llama3_server, tool_choice="required", seed=2).choice
    check_calls(whole)
    for index, one in enumerate(whole["message"]["tool_calls"]):
        first, *rest = [part for part in parts if part["index"] == index]
        name = one["function"]["name"]
        assert first["function"] == {"name": name, "arguments": ""}
        joined = "".join(part["function"]["arguments"] for part in rest)
        assert joined == one["function"]["arguments"]


def test_several_calls_at_once(llama3_server: RealServer) -> None:
    """`; ` after a call goes on with another one; a bias makes that likely."""
    semicolon = tokens_of(llama3_server, ";")[0]
    counts = []
    for seed in range(6):
        answer = call(
            llama3_server,
            tool_choice="required",
            logit_bias={str(semicolon): 3},
            seed=seed,
            max_tokens=150,
        )
        if answer.choice["finish_reason"] == "tool_calls":
            counts.append(len(check_calls(answer.choice)))
        else:
            assert answer.choice["finish_reason"] == "length"
    single = call(
        llama3_server,
        tool_choice="required",
        parallel_tool_calls=False,
        logit_bias={str(semicolon): 20},
    )
    assert len(check_calls(single.choice)) == 1
    assert max(counts) > 1


def test_a_forced_call_cut_off_has_its_arguments_so_far(llama3_server: RealServer) -> None:
    """Anywhere, also inside its name. The model's own syntax is never text."""
    whole = call(llama3_server, tool_choice="required").choice["message"]["tool_calls"][0]
    seen = set()
    for most in range(1, 24):
        answer = call(llama3_server, tool_choice="required", max_tokens=most)
        assert answer.choice["finish_reason"] in ("length", "tool_calls")
        assert not answer.text
        for one in answer.choice["message"].get("tool_calls", [])[:1]:
            assert one["function"]["name"] == whole["function"]["name"]
            assert whole["function"]["arguments"].startswith(one["function"]["arguments"])
            seen.add(one["function"]["arguments"])
    assert len(seen) > 2


def test_strict_functions_with_auto(llama3_server: RealServer) -> None:
    """Text stays free; what begins like a call is a valid one."""
    strict = [tool("weather", CITY, strict=True), *TOOLS[1:]]
    brace = next(iter(tokens_of(llama3_server, '{"')))
    n_calls = 0
    for seed in range(6):
        free = call(llama3_server, tools=strict, seed=seed, max_tokens=20)
        if free.choice["finish_reason"] != "tool_calls":
            assert free.text[:1] not in ("{", "[", "<", " ")
        likely = call(llama3_server, tools=strict, seed=seed, logit_bias={str(brace): 30})
        if likely.choice["finish_reason"] == "tool_calls":
            n_calls += len(check_calls(likely.choice))
    assert n_calls


def test_without_strict_what_begins_like_a_call_may_be_text(llama3_server: RealServer) -> None:
    brace = next(iter(tokens_of(llama3_server, '{"')))
    answer = call(llama3_server, logit_bias={str(brace): 100}, max_tokens=5)
    assert answer.text == '{"' * 5
    assert answer.choice["finish_reason"] == "length"


def test_calls_that_are_forced_for_every_choice(llama3_server: RealServer) -> None:
    answer = call(llama3_server, tool_choice="required", n=3)
    for choice in answer.body["choices"]:
        check_calls(choice)


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"not": {}}, "tools[0].function.parameters.not"),
        (
            {"properties": {"a": {"format": "no-such"}}},
            "tools[0].function.parameters.properties.a.format",
        ),
        ({"type": "string"}, "tools[0].function.parameters"),
        ({"type": "array"}, "tools[0].function.parameters"),
        (nested(900, {}) | {"type": "object"}, "tools[0].function.parameters"),
        (
            {"properties": {"a": {"multipleOf": 9999991}}},
            "tools[0].function.parameters.properties.a.multipleOf",
        ),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_parameters_that_cannot_be_honoured(
    llama3_server: RealServer, parameters: Any, param: str
) -> None:
    tools = [tool("f", parameters, strict=True)]
    answer = call(llama3_server, tools=tools, tool_choice="required", max_tokens=5)
    assert answer.status == 400
    assert answer.error["param"] == param
    assert_alive(llama3_server)


@pytest.mark.parametrize("text", INJECTIONS, ids=ascii)
def test_strings_in_functions_stay_strings(llama3_server: RealServer, text: str) -> None:
    parameters = strict_object(**{text: {"const": text, "description": text}})
    tools = [tool("f", parameters, description=text)]
    named = {"type": "function", "function": {"name": "f"}}
    answer = call(llama3_server, tools=tools, tool_choice=named)
    [one] = answer.choice["message"]["tool_calls"]
    assert json.loads(one["function"]["arguments"]) == {text: text}
    refused = call(llama3_server, tools=[tool(f"f{text}", parameters)])
    assert (refused.status, refused.error["param"]) == (400, "tools[0].function.name")


def test_an_answer_of_ours_goes_back(llama3_server: RealServer) -> None:
    """Several calls in one message are rendered, though the official template has no way to."""
    message = call(llama3_server, tool_choice="required", parallel_tool_calls=False).choice[
        "message"
    ]
    [one] = message["tool_calls"]
    several = message | {"tool_calls": [one, one | {"id": "call_2"}]}
    for said in (message, several):
        results = [
            {"role": "tool", "tool_call_id": c["id"], "content": "25 C"} for c in said["tool_calls"]
        ]
        messages = [{"role": "user", "content": "Do something."}, said, *results]
        answer = complete(llama3_server, messages=messages, tools=TOOLS, max_tokens=3)
        assert answer.status == 200


# the official package


class Person(BaseModel):
    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=120)
    tags: list[str] = Field(max_length=0)


def test_pydantic_models_are_parsed(openai_client: OpenAI) -> None:
    completion = openai_client.chat.completions.parse(
        model="SmolLM2-135M-Instruct.Q4_1",
        messages=[{"role": "user", "content": "Invent a person."}],
        response_format=Person,
        max_tokens=100,
        temperature=0,
    )
    person = completion.choices[0].message.parsed
    assert isinstance(person, Person)
