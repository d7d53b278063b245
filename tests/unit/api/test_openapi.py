"""The OpenAPI document and the pages in docs/api against what they describe: routes, structs,
decoder."""

from __future__ import annotations

import re
import typing
from typing import Any

import msgspec
import pytest
from openai.types import completion_create_params as completion_params
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params

from sheily_server.api import openapi, simple, tokens
from sheily_server.api.anthropic import answer as anthropic_answer
from sheily_server.api.anthropic import protocol as anthropic
from sheily_server.api.completions import protocol as completions
from sheily_server.api.openai_chat import answer as openai_answer
from sheily_server.api.openai_chat import protocol as openai
from sheily_server.api.openai_chat.neutral import EFFECTLESS, NEUTRAL
from sheily_server.api.responses import protocol as responses
from sheily_server.api.routes import ROUTES, open_paths
from sheily_server.backend.supervisor import Supervisor
from sheily_server.config import Config
from sheily_server.errors import ServiceError
from sheily_server.web.app import App
from tests.support.models import ROOT
from tests.support.records import memory_store
from tests.support.wire import decode_request

DOCUMENT = openapi.document(ROUTES)
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = [
    (path, method, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]
REQUESTS: dict[str, Any] = {
    "/v1/chat/completions": openai.ChatRequest,
    "/v1/completions": completions.CompletionRequest,
    "/v1/responses": responses.ResponseRequest,
    "/chat": simple.SimpleChatRequest,
    "/v1/tokenize": tokens.TokenizeRequest,
    "/v1/detokenize": tokens.DetokenizeRequest,
    "/v1/messages": anthropic.MessagesRequest,
    "/v1/messages/count_tokens": anthropic.CountTokensRequest,
}
DIALECTS = {route.path: route.dialect for route in ROUTES}
EXAMPLES = [
    pytest.param(path, example["value"], id=f"{path}-{name}")
    for path, _, operation in OPERATIONS
    if path in REQUESTS
    for name, example in operation["requestBody"]["content"]["application/json"]["examples"].items()
]


def routes() -> set[tuple[str, str]]:
    config = Config()
    app = App(config, Supervisor(config), memory_store())
    return {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app._map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(child) for child in value.values()))
    if isinstance(value, list):
        return set[str]().union(*(references(child) for child in value))
    return set()


def test_every_route_is_documented_and_every_document_is_a_route() -> None:
    assert {(path, method) for path, method, _ in OPERATIONS} == routes()


def test_operations_have_names_of_their_own() -> None:
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(ids)) == len(ids)


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    named = {name.removeprefix("#/components/schemas/") for name in references(DOCUMENT)}
    assert named == set(SCHEMAS)


def test_every_route_but_the_open_ones_may_need_a_key() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert schemes["key"]["scheme"] == "bearer"
    assert schemes["x-api-key"]["name"] == "x-api-key"
    for path, _, operation in OPERATIONS:
        is_open = path in open_paths(ROUTES)
        assert operation["security"] == ([] if is_open else [{"key": []}, {"x-api-key": []}, {}]), (
            path
        )
        assert ("401" in operation["responses"]) != is_open, path


def test_the_document_is_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(DOCUMENT)) == DOCUMENT


@pytest.mark.parametrize(("path", "example"), EXAMPLES)
def test_examples_are_accepted(path: str, example: Any) -> None:
    assert decode_request(msgspec.json.encode(example), REQUESTS[path])


@pytest.mark.parametrize("path", REQUESTS)
def test_each_request_has_an_example(path: str) -> None:
    assert path in [example.values[0] for example in EXAMPLES]


@pytest.mark.parametrize("path", REQUESTS)
def test_a_request_s_schema_has_the_struct_s_fields_and_those_of_the_tables(path: str) -> None:
    shape, dialect = REQUESTS[path], DIALECTS[path]
    schema = SCHEMAS[shape.__name__]
    tables = set(dialect.neutral) | set(dialect.effectless)
    assert set(schema["properties"]) == set(shape.__struct_fields__) | tables
    assert "additionalProperties" not in schema  # unknown fields are accepted


@pytest.mark.parametrize("name", EFFECTLESS)
def test_what_is_without_effect_in_the_document_is_accepted_with_any_value(name: str) -> None:
    assert set(SCHEMAS["ChatRequest"]["properties"][name]) == {"description"}
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}
    values: list[Any] = [None, True, 1, "x", [], {"some": "thing"}]
    for value in values:
        assert decode_request(msgspec.json.encode(body | {name: value}), openai.ChatRequest)


@pytest.mark.parametrize("name", sorted(set(NEUTRAL) - set(openai.ChatRequest.__struct_fields__)))
def test_what_is_neutral_in_the_document_is_accepted(name: str) -> None:
    values = SCHEMAS["ChatRequest"]["properties"][name]["enum"]
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}
    for value in values:
        assert decode_request(msgspec.json.encode(body | {name: value}), openai.ChatRequest)
    other = msgspec.json.encode(body | {name: {"some": "thing"}})
    with pytest.raises(ServiceError) as caught:
        decode_request(other, openai.ChatRequest)
    assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")


def test_required_fields_of_answers_are_those_that_are_always_sent() -> None:
    details = openai_answer.CompletionTokensDetails(
        accepted_prediction_tokens=0, rejected_prediction_tokens=0, text_tokens=1
    )
    usage = openai_answer.Usage(
        prompt_tokens=1,
        completion_tokens=1,
        total_tokens=2,
        prompt_tokens_details=openai_answer.CachedTokens(),
        completion_tokens_details=details,
    )
    timings = openai_answer.Timings(
        predicted_n=3,
        queued_ms=0,
        prompt_ms=0,
        predicted_ms=0,
        prompt_per_second=None,
        predicted_per_second=None,
        draft_n=0,
        draft_n_accepted=0,
    )
    least = openai_answer.ChatCompletion(
        id="id",
        created=0,
        model="m",
        system_fingerprint="fp",
        choices=[],
        usage=usage,
        timings=timings,
        sheily=openai_answer.Extension(),
    )
    chunk = openai_answer.ChatCompletionChunk(
        id="id", created=0, model="m", system_fingerprint="fp", choices=[]
    )
    delta = openai_answer.Delta()
    others = (
        usage,
        details,
        timings,
        openai_answer.Extension(),
        openai_answer.AnswerMessage(content=None),
    )
    for answer in (least, chunk, delta, *others):
        sent = msgspec.json.decode(msgspec.json.encode(answer))
        assert set(SCHEMAS[type(answer).__name__]["required"]) == set(sent)


def test_what_tells_events_apart_is_always_sent() -> None:
    for event in (anthropic_answer.Ping(), anthropic_answer.BlockStop(0)):
        sent = msgspec.json.decode(msgspec.json.encode(event))
        assert set(SCHEMAS[type(event).__name__]["required"]) == set(sent)


def test_no_description_keeps_the_source_s_indentation() -> None:
    for schema in SCHEMAS.values():
        assert "\n  " not in schema.get("description", "")


# --- docs/api/chat-completions.md -----------------------------------------------------------------

ROW = re.compile(r"^\| `([a-z_]+)` \| (.+) \| (.+) \|$", re.MULTILINE)
TABLE = (ROOT / "docs" / "api" / "chat-completions.md").read_text(encoding="utf-8")
RESPONSES = (ROOT / "docs" / "api" / "responses.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, str]:
    """The rows of the table under a heading: a field, and the tests that show it."""
    section = TABLE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return {name: tests for name, _, tests in ROW.findall(section)}


@pytest.mark.parametrize(
    ("heading", "shape"),
    [
        ("Request fields", openai.ChatRequest),
        ("`POST /tokenize`", tokens.TokenizeRequest),
        ("`POST /apply-template`", tokens.TemplateRequest),
        ("`POST /detokenize`", tokens.DetokenizeRequest),
    ],
)
def test_each_field_has_a_row(heading: str, shape: Any) -> None:
    expected = set(shape.__struct_fields__)
    if shape is openai.ChatRequest:
        expected |= set(NEUTRAL) | set(EFFECTLESS)
    assert set(rows(heading)) == expected


def test_the_table_of_chat_names_what_only_it_has() -> None:
    own = set(simple.SimpleChatRequest.__struct_fields__) - set(openai.Options.__struct_fields__)
    assert set(rows("`POST /chat`")) == own


def test_each_field_that_the_official_package_can_send_has_a_row() -> None:
    base = completion_create_params.CompletionCreateParamsBase
    official = set(typing.get_type_hints(base)) | {"stream"}
    assert official <= set(rows("Request fields"))


def test_the_table_of_completions_has_each_field() -> None:
    """Those that the chat routes do not have, and what means something else here."""
    page = (ROOT / "docs" / "api" / "completions.md").read_text(encoding="utf-8")
    own = set(completions.CompletionRequest.__struct_fields__)
    own -= set(openai.Options.__struct_fields__)
    assert {name for name, _, _ in ROW.findall(page)} == own | {"max_tokens"}
    base = completion_params.CompletionCreateParamsBase
    official = set(typing.get_type_hints(base)) | {"stream"}
    assert official <= own | set(openai.Options.__struct_fields__)


def test_the_table_of_responses_has_each_field() -> None:
    expected = set(responses.ResponseRequest.__struct_fields__)
    expected |= set(responses.NEUTRAL) | set(responses.EFFECTLESS)
    section = RESPONSES.split("## Request fields\n")[1].split("\n### ")[0]
    assert {name for name, _, _ in ROW.findall(section)} == expected
    official = set(typing.get_type_hints(response_create_params.ResponseCreateParamsBase))
    assert official | {"stream"} <= expected


def test_queries_are_parameters() -> None:
    parameters = DOCUMENT["paths"]["/v1/responses/{id}"]["get"]["parameters"]
    assert [(each["name"], each["in"]) for each in parameters] == [
        ("id", "path"),
        ("stream", "query"),
        ("starting_after", "query"),
        ("include", "query"),
        ("include_obfuscation", "query"),
    ]


@pytest.mark.parametrize(
    "place",
    sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TABLE + RESPONSES))),
    ids=lambda place: "::".join(place),
)
def test_the_tests_that_the_table_names_exist(place: tuple[str, str]) -> None:
    path, name = place
    source = (ROOT / path).read_text(encoding="utf-8")
    assert f"def {name}(" in source if name else source
