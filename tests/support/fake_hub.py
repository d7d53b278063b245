"""A stand-in for the Hugging Face Hub: one repository, its files, and faults on demand.

It answers what huggingface_hub asks of the real one when a file is brought: the model's page as
JSON, HEAD and GET of `resolve/` with its headers, and the redirect to where large files lie.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPO = "maker/Model-GGUF"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """`token`: what a gated file needs. `cut_after`: bytes after which each of the next `cuts`
    answers ends. `lie`: serves other bytes than those that were hashed."""

    files: dict[str, bytes]
    address: str = ""
    token: str | None = None
    private: bool = False
    cut_after: int = 0
    cuts: int = 0
    lie: bool = False
    hashed: bool = True
    ranges: list[str | None] = field(default_factory=list)
    tokens_at_cdn: list[str | None] = field(default_factory=list)


@contextlib.contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = self.path.partition("?")[0]
            given = self.headers.get("Authorization")
            if path == f"/api/models/{REPO}" and not hub.private:
                self._page()
            elif path.startswith(f"/{REPO}/resolve/") and not hub.private:
                name = path.removeprefix(f"/{REPO}/resolve/").partition("/")[2]
                if hub.token is not None and given != f"Bearer {hub.token}":
                    code = "GatedRepo"
                    self._send(401 if given is None else 403, {"X-Error-Code": code})
                else:
                    self._resolve(name)
            elif path.startswith("/cdn/"):
                hub.tokens_at_cdn.append(given)
                self._content(path.removeprefix("/cdn/"))
            else:
                self._send(404, {"X-Error-Code": "RepoNotFound"})

        def _page(self) -> None:
            siblings = [{"rfilename": name} for name in ["README.md", *hub.files]]
            page = {"id": REPO, "siblings": siblings, "cardData": {"license": "llama3.2"}}
            body = json.dumps(page).encode()
            self._send(200, {"Content-Type": "application/json"}, body)

        def _resolve(self, name: str) -> None:
            content = hub.files[name]
            digest = hashlib.sha256(content).hexdigest() if hub.hashed else "abc"
            port = hub.address.rpartition(":")[2]
            self._send(
                302,
                {
                    # Another host, as the real one redirects to.
                    "Location": f"http://localhost:{port}/cdn/{name}",
                    "X-Repo-Commit": COMMIT,
                    "X-Linked-Etag": f'"{digest}"',
                    "X-Linked-Size": str(len(content)),
                },
            )

        def _content(self, name: str) -> None:
            content = hub.files[name]
            if hub.lie:
                content = content[::-1]
            wanted = self.headers.get("Range")
            headers = {"Content-Type": "application/octet-stream"}
            status, first = 200, 0
            if wanted is not None:
                status, first = 206, int(wanted.removeprefix("bytes=").rstrip("-"))
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            if self.command == "GET":
                hub.ranges.append(wanted)
            self._send(status, headers, content[first:])

        def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.cuts and self.path.startswith("/cdn/"):
                hub.cuts -= 1
                self.wfile.write(body[: hub.cut_after])
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
