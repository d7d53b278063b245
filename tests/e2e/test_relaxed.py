"""Schemas as libraries send them, without `strict`: what no grammar can follow is left out and
told, and the answer follows the rest. Random weights: nothing else makes it valid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from openai import OpenAI
from pydantic import BaseModel, Field, SecretStr

from sheily_server.chat.relaxing import relaxed
from tests.e2e.asking import Answer, assert_alive, complete, stream, tokens_of
from tests.e2e.test_structured import strict_object, tool, validate
from tests.support.real_server import RealServer

LONGEST = 2000
"""Characters that are counted with the default of LLM_PARALLEL."""
FORM = "response_format.json_schema.schema"
PARAMETERS = "tools[0].function.parameters"
DECIMAL = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"
EMAIL = (
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+"
    r"[A-Za-z]{2,}$"
)
DIGIT = {"type": "integer", "minimum": 0, "maximum": 9}


class Account(BaseModel):
    """What instructor, mirascope and magentic make of Python's own types."""

    tags: set[Literal["a", "b"]] = Field(max_length=3)
    password: SecretStr
    home: Path
    photo: bytes
    counts: dict[Literal["up", "down"], Annotated[int, Field(ge=0, le=9)]]


# As Zod 4 writes z.object({...}), which the AI SDK sends.
ZOD = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "scores": {
            "type": "object",
            "propertyNames": {"type": "string", "enum": ["x", "y"]},
            "additionalProperties": DIGIT,
            "required": ["x", "y"],
        },
        "any": {
            "type": "object",
            "propertyNames": {"type": "string"},
            "additionalProperties": DIGIT,
            "maxProperties": 1,
        },
        "note": {"type": "string", "maxLength": 10_000},
        "maybe": {"anyOf": [{"not": {}}, DIGIT]},
        "port": DIGIT | {"format": "int32"},
    },
    "required": ["scores", "any", "note", "maybe", "port"],
    "additionalProperties": False,
}

SCHEMAS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "pydantic": (
        Account.model_json_schema(),
        [
            "properties.tags.uniqueItems",
            "properties.password.format",
            "properties.home.format",
            "properties.photo.format",
        ],
    ),
    "zod": (ZOD, ["properties.note.maxLength", "properties.port.format"]),
    "decimal": (
        strict_object(price={"anyOf": [DIGIT, {"type": "string", "pattern": DECIMAL}]}),
        ["properties.price.anyOf[1].pattern"],
    ),
    "email": (
        strict_object(email={"type": "string", "pattern": EMAIL, "maxLength": 30}),
        ["properties.email.pattern"],
    ),
    "discriminated": (
        {
            "$defs": {
                "Cat": strict_object(kind={"const": "cat"}, lives=DIGIT),
                "Dog": strict_object(kind={"const": "dog"}, tail={"type": "boolean"}),
            },
            **strict_object(pet={"oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}),
        },
        [],
    ),
    "overlapping": (
        strict_object(n={"oneOf": [DIGIT, DIGIT | {"minimum": 5}, {"type": "null"}]}),
        ["properties.n.oneOf"],
    ),
    "not": (
        strict_object(n=DIGIT | {"not": {"const": 3}}),
        ["properties.n.not"],
    ),
    "unknown": (
        strict_object(n=DIGIT, s={"type": "string", "pattern": r"^(a|b)\1$"}),
        ["properties.s.pattern"],
    ),
    "costly": (
        strict_object(n=DIGIT, m={"enum": [1, 2]}, p={"type": "integer", "multipleOf": 9_999_991}),
        ["properties.p.multipleOf"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def ending(llama3_server: RealServer) -> dict[str, int]:
    """A bias for what ends strings and lists, which may else go on for ever."""
    texts = ('"', '"}', '",', '"]', "]", "}", ",")
    return {str(tokens_of(llama3_server, text)[0]): 60 for text in texts}


def form(schema: Any, strict: bool | None = None) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": strict}}


def left_of(schema: dict[str, Any], places: list[str]) -> dict[str, Any]:
    """What the answer has to follow, apart from what the engine itself left out."""
    found, told = relaxed(schema, "", LONGEST)
    rest = json.dumps(found)
    if [place.removeprefix(".") for place in told] != places:  # the engine's part, in these tests
        rest = rest.replace('"oneOf"', '"anyOf"').replace('"multipleOf": 9999991', '"title": ""')
        rest = rest.replace(json.dumps(r"^(a|b)\1$"), '""')
    return json.loads(rest)  # type: ignore[no-any-return]


def ask(server: RealServer, bias: dict[str, int], **fields: Any) -> Answer:
    return complete(server, "Go.", max_tokens=150, logit_bias=bias, **fields)


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_answer_follows_what_is_left(
    llama3_server: RealServer, ending: dict[str, int], name: str
) -> None:
    schema, places = SCHEMAS[name]
    left = left_of(schema, places)
    for seed in range(3):
        answer = ask(llama3_server, ending, response_format=form(schema), seed=seed)
        assert answer.body["sheily"].get("relaxed", []) == [f"{FORM}.{place}" for place in places]
        assert answer.choice["finish_reason"] == "stop"
        validate(answer.text, left)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_forced_call_follows_what_is_left(
    llama3_server: RealServer, ending: dict[str, int], name: str
) -> None:
    schema, places = SCHEMAS[name]
    fields: dict[str, Any] = {
        "tools": [tool("f", schema)],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    answer = ask(llama3_server, ending, **fields)
    told = [f"{PARAMETERS}.{place}" for place in places]
    assert answer.body["sheily"].get("relaxed", []) == told
    [call] = answer.choice["message"]["tool_calls"]
    validate(call["function"]["arguments"], left_of(schema, places))


@pytest.mark.parametrize("name", [name for name, (_, places) in SCHEMAS.items() if places])
def test_a_strict_one_is_refused(llama3_server: RealServer, name: str) -> None:
    schema, _ = SCHEMAS[name]
    if name == "zod":
        schema = strict_object(a={"type": "string", "format": "password"})
    refused = complete(llama3_server, response_format=form(schema, strict=True))
    assert refused.status == 400
    assert refused.error["param"].startswith(f"{FORM}.")
    tools = [tool("f", schema, strict=True)]
    refused = complete(llama3_server, tools=tools, tool_choice="required")
    assert refused.status == 400
    assert refused.error["param"].startswith(f"{PARAMETERS}.")
    assert_alive(llama3_server)


def test_a_stream_tells_it_first_and_last(llama3_server: RealServer) -> None:
    schema = strict_object(n={"enum": [1, 2], "not": {"const": 3}})
    chunks = stream(llama3_server, response_format=form(schema), max_tokens=30)
    told = [chunk.get("sheily") for chunk in chunks]
    place = f"{FORM}.properties.n.not"
    assert (told[0], told[-1]) == ({"relaxed": [place]}, {"relaxed": [place]})
    assert not any(told[1:-1])


RIVER = strict_object(river={"enum": ["Ebro", "Tajo"]}, length=DIGIT)
WEATHER = strict_object(city={"enum": ["Paris", "Madrid"]})


@pytest.mark.parametrize("strict", [True, False])
def test_functions_beside_a_response_format(llama3_server: RealServer, strict: bool) -> None:
    """The answer is of the form, or a call that follows its function's schema."""
    fields = {
        "tools": [tool("weather", WEATHER, strict=strict)],
        "response_format": form(RIVER, strict=strict),
        "parallel_tool_calls": False,
    }
    n_calls = n_texts = 0
    for seed in range(24):
        answer = complete(llama3_server, "Go.", max_tokens=60, seed=seed, **fields)
        if answer.choice["finish_reason"] == "tool_calls":
            [call] = answer.choice["message"]["tool_calls"]
            validate(call["function"]["arguments"], WEATHER)
            n_calls += 1
        else:
            assert answer.choice["finish_reason"] == "stop"
            validate(answer.text, RIVER)
            n_texts += 1
    assert n_calls
    assert n_texts


def test_a_forced_call_wins(llama3_server: RealServer) -> None:
    fields = {
        "tools": [tool("weather", WEATHER, strict=True)],
        "response_format": form(RIVER),
        "parallel_tool_calls": False,
    }
    named = {"type": "function", "function": {"name": "weather"}}
    for choice in ("required", named):
        answer = complete(llama3_server, "Go.", max_tokens=60, tool_choice=choice, **fields)
        [call] = answer.choice["message"]["tool_calls"]
        validate(call["function"]["arguments"], WEATHER)


def test_python_types_come_back(llama3_server: RealServer, ending: dict[str, int]) -> None:
    """As instructor does it: a forced function that is not strict, read by pydantic."""
    with OpenAI(base_url=f"{llama3_server.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(
            model="llama3-tiny",
            messages=[{"role": "user", "content": "Make an account."}],
            tools=[
                {
                    "type": "function",
                    "function": {"name": "Account", "parameters": Account.model_json_schema()},
                }
            ],
            tool_choice={"type": "function", "function": {"name": "Account"}},
            max_tokens=150,
            logit_bias=ending,
        )
    [call] = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    account = Account.model_validate_json(call.function.arguments)
    assert isinstance(account.tags, set)
    assert isinstance(account.home, Path)
