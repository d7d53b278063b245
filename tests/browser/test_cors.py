"""Browser pages that call the LLM server itself: loopback pages may, others may not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.browser.conftest import FOREIGN_HOST, OpenPage
from tests.support import models
from tests.support.real_server import RealServer

# What a page's script can make of a chat call: the status, a header and the body, or the error.
CALL = """async ([url, stream]) => {
    const body = { messages: [{ role: "user", content: "hi" }], max_tokens: 4, stream };
    try {
        const answer = await fetch(url, {
            method: "POST",
            headers: { "Content-Type": "application/json", "Authorization": "Bearer none" },
            body: JSON.stringify(body),
        });
        let text = "";
        const decoder = new TextDecoder();
        const reader = answer.body.getReader();
        for (;;) {
            const { done, value } = await reader.read();
            if (done) break;
            text += decoder.decode(value, { stream: true });
        }
        return { status: answer.status, id: answer.headers.get("X-Request-Id"), text };
    } catch (error) {
        return { error: error.name };
    }
}"""
HEALTH = """async (url) => {
    try { return (await (await fetch(url)).json()).state; } catch (error) { return error.name; }
}"""


class BlankPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def page_port() -> Iterator[int]:
    """The port of a server of blank pages, under whatever name it is called."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BlankPage) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def calls_from(open_page: OpenPage, origin: str, server: RealServer, stream: bool) -> Any:
    page = open_page()
    page.goto(origin)
    return page.evaluate(CALL, [f"{server.url}/v1/chat/completions", stream])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_loopback_page_may(
    open_page: OpenPage, smollm2_server: RealServer, page_port: int, name: str, stream: bool
) -> None:
    got = calls_from(open_page, f"http://{name}:{page_port}", smollm2_server, stream)
    assert got.get("status") == 200, got
    assert got["id"].startswith("req_")
    assert got["text"].endswith("data: [DONE]\n\n") == stream
    assert '"finish_reason":' in got["text"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_foreign_page_may_not(
    open_page: OpenPage, smollm2_server: RealServer, page_port: int, stream: bool
) -> None:
    origin = f"http://{FOREIGN_HOST}:{page_port}"
    n_requests = smollm2_server.log.count(" 200 ")
    assert calls_from(open_page, origin, smollm2_server, stream) == {"error": "TypeError"}
    assert smollm2_server.log.count(" 200 ") == n_requests  # the preflight kept it from the model
    page = open_page()
    page.goto(origin)
    assert page.evaluate(HEALTH, f"{smollm2_server.url}/health") == "TypeError"


@pytest.mark.parametrize("stream", [False, True])
def test_a_foreign_page_that_is_configured_may(
    open_page: OpenPage, page_port: int, stream: bool
) -> None:
    """Which also shows that nothing but its origin kept it out above."""
    origin = f"http://{FOREIGN_HOST}:{page_port}"
    with RealServer(models.tiny_llama3(), context_size=512, cors_origins=origin) as server:
        server.wait_for_state("ready")
        got = calls_from(open_page, origin, server, stream)
        assert got.get("status") == 200, got
        loopback = calls_from(open_page, f"http://127.0.0.1:{page_port}", server, stream)
        assert loopback == {"error": "TypeError"}
