"""GET / and its icon: who gets the page, who JSON, and what neither of them says."""

from __future__ import annotations

import json
import re

import pytest

from tests.server.conftest import Serve
from tests.support.serving import Server

pytestmark = pytest.mark.http

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def test_a_browser_gets_the_page(server: Server) -> None:
    answer = server.get("/", Accept=BROWSER, Host=f"localhost:{server.port}")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert {"Accept", "Accept-Language", "Origin"} <= set(answer.headers["vary"].split(", "))
    text = answer.body.decode()
    assert f"http://localhost:{server.port}/v1/chat/completions" in text
    assert "fake-model" in text
    spanish = server.get("/", Accept=BROWSER, **{"Accept-Language": "es-ES"}).body.decode()
    assert '<html lang="es">' in spanish
    assert '<html lang="en">' in server.get("/?lang=en", Accept=BROWSER).body.decode()


def test_others_get_json(server: Server) -> None:
    for accept in ("*/*", "application/json"):
        answer = server.get("/", Accept=accept)
        assert answer.status == 200
        body = answer.json()
        assert (body["name"], body["state"], body["model"]) == ("SHEILY", "ready", "fake-model")
        for path in body["links"].values():
            assert server.get(path).status in (200, 405), path  # the chat takes POST


def test_the_icon(server: Server) -> None:
    answer = server.get("/favicon.ico")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert answer.body.startswith(b"<svg")


def test_it_needs_no_key_and_tells_none(serve: Serve) -> None:
    server = serve(api_key=("a-secret-key",))
    server.wait_for("ready")
    page = server.get("/", Accept=BROWSER)
    found = server.get("/")
    assert (page.status, found.status, server.get("/favicon.ico").status) == (200, 200, 200)
    assert b"LLM_API_KEY" in page.body
    health = server.health()
    for answer in (page, found):
        assert b"a-secret-key" not in answer.body
    told = found.json()
    assert (told["state"], told["model"]) == (health["state"], health["model"])
    for path in ("/v1/models", "/v1", "/index.html", "/favicon.ico/x"):
        assert server.get(path).status == 401, path
    assert server.ask("POST", "/", b"{}").status == 405


def test_foreign_hosts_get_nothing(server: Server) -> None:
    for path in ("/", "/favicon.ico"):
        answer = server.get(path, Accept=BROWSER, Host="evil.example")
        assert (answer.status, answer.error()["code"]) == (403, "host_not_allowed")


def test_foreign_pages_cannot_read_it(server: Server) -> None:
    answer = server.get("/", Accept=BROWSER, Origin="http://evil.example")
    assert "access-control-allow-origin" not in answer.headers


def test_without_the_page(serve: Serve) -> None:
    server = serve(page="off", api_key=("a-secret-key",))
    for path in ("/", "/favicon.ico"):
        assert server.get(path, Accept=BROWSER).status == 401
        found = server.get(path, Authorization="Bearer a-secret-key")
        assert (found.status, found.error()["code"]) == (404, "not_found")
        assert "GET / " not in found.error()["message"] + " "
    paths = server.get("/openapi.json", Authorization="Bearer a-secret-key").json()["paths"]
    assert not {"/", "/favicon.ico"} & set(paths)


def test_without_a_model_it_is_there_too(serve: Serve) -> None:
    server = serve(missing=True)
    server.wait_for("failed")
    assert server.get("/").json()["state"] == "failed"
    assert b'data-state="failed"' in server.get("/", Accept=BROWSER).body


def test_its_outcome_is_counted_by_its_route(server: Server) -> None:
    server.get("/", Accept=BROWSER)
    text = server.get("/metrics").body.decode()
    assert re.search(r'sheily_requests_total\{outcome="ok",route="/"\} [1-9]', text)


def test_a_page_with_a_strange_name_in_its_head(server: Server) -> None:
    body = server.get("/", Accept=BROWSER, Host="[::1]").body.decode()
    found = re.search(r'data-words="([^"]*)"', body)
    assert found is not None
    assert json.loads(found[1].replace("&quot;", '"').replace("&#x27;", "'"))["ready"] == "Ready"
    assert 'data-origin="http://[::1]"' in body
