"""Requests that schemathesis makes from /openapi.json, good and bad, and what must hold of every
answer: no 5xx, no status or content type that the document does not name, nothing that its schemas
do not allow, events of streams included."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sheily_server.api import openapi
from sheily_server.api.routes import ROUTES
from tests.support.real_server import RealServer

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis needs Python 3.11")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")
GOOD, BAD = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
COMPLETIONS = ("/v1/chat/completions", "post")
# The routes without /v1 are the same ones.
OPERATIONS = [
    (path, method)
    for path, item in openapi.document(ROUTES)["paths"].items()
    for method, operation in item.items()
    if not operation["operationId"].endswith("Alias")
]
WITH_BODY = [
    (path, method)
    for path, item in openapi.document(ROUTES)["paths"].items()
    for method, operation in item.items()
    if "requestBody" in operation
]
MOST_TOKENS = 3
MOST_CHOICES = 2


def tame(body: Any, keep_model: bool) -> None:
    """Makes a request cheap, and mostly one that names no model: else nearly all would be a 404."""
    if not isinstance(body, dict):
        return
    if not keep_model:
        body.pop("model", None)
    if type(body.get("n")) is int:
        body["n"] = min(body["n"], MOST_CHOICES)
    if "input" in body:
        limit = body.get("max_output_tokens")
        body["max_output_tokens"] = min(limit, MOST_TOKENS) if type(limit) is int else MOST_TOKENS
    if "messages" in body or "message" in body:
        limits = [body.get(name) for name in ("max_completion_tokens", "max_tokens")]
        if limits == [None, None]:
            body["max_tokens"] = MOST_TOKENS
        for name in ("max_completion_tokens", "max_tokens"):
            if type(body.get(name)) is int:
                body[name] = min(body[name], MOST_TOKENS)


def ask(server: RealServer, path: str, method: str, mode: Any, n: int) -> set[int]:
    """Sends that many requests of one operation; the statuses that came."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operation = schema[path][method.upper()]
    statuses: set[int] = set()

    # The same requests each time: by chance alone none of them might be good.
    @settings(
        max_examples=n,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), wild=st.integers(0, 9))
    def check(case: Any, wild: int) -> None:
        if mode is GOOD:  # it might mend what is bad
            tame(case.body, keep_model=wild == 0)
        response = case.call()
        statuses.add(response.status_code)
        assert mode is GOOD or response.status_code == 400, response.request.body
        case.validate_response(response, checks=CHECKS)

    check()
    assert server.health()["engine_restarts"] == 0
    return statuses


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_good_requests(tools: RealServer, path: str, method: str) -> None:
    n = 100 if method == "post" else 30
    statuses = ask(tools, path, method, GOOD, n)
    assert (404 if "{id}" in path else 200) in statuses


@pytest.mark.parametrize(("path", "method"), [each for each in OPERATIONS if each in WITH_BODY])
def test_bad_requests(tools: RealServer, path: str, method: str) -> None:
    n = 100 if (path, method) == COMPLETIONS else 30
    assert ask(tools, path, method, BAD, n) == {400}


def test_good_requests_to_a_real_model(words: RealServer) -> None:
    assert 200 in ask(words, *COMPLETIONS, GOOD, 15)


@pytest.mark.parametrize("path", openapi.document(ROUTES)["paths"])
def test_a_method_that_is_not_documented(tools: RealServer, path: str) -> None:
    known = {method.upper() for method in openapi.document(ROUTES)["paths"][path]}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - known:
        answer = httpx.request(method, tools.url + path.replace("{id}", "x"))
        assert answer.status_code == 405
        assert set(answer.headers["Allow"].split(", ")) - {"HEAD"} == known
        assert answer.json()["error"]["code"] == "method_not_allowed"
