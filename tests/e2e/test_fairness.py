"""A person beside a flood of requests, on a real engine."""

from __future__ import annotations

import http.client
import json
import re
import threading

from tests.support import models
from tests.support.real_server import RealServer
from tests.support.waiting import WAIT, until

PARALLEL, QUEUE = 2, 32


def ask(server: RealServer, peer: str, **fields: object) -> int:
    """The status of an answer to a peer behind a trusted proxy."""
    body = {"messages": [{"role": "user", "content": "Name a river."}], "ignore_eos": True}
    headers = {"Content-Type": "application/json", "X-Forwarded-For": peer}
    connection = server.connection(WAIT)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body | fields), headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def answered(server: RealServer) -> int:
    """How many requests of any peer have been answered."""
    connection = server.connection(WAIT)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    found = re.search(
        r'^sheily_requests_total\{[^}]*"ok"[^}]*chat[^}]*\} (\d+)', text, re.MULTILINE
    )
    return int(found[1]) if found else 0


def test_a_person_does_not_wait_for_what_a_flood_has_in_the_queue() -> None:
    """Each time, fewer answers of the flood end than waited when the person asked."""
    with RealServer(
        models.tiny_llama3(),
        context_size=512,
        parallel=PARALLEL,
        queue=QUEUE,
        trusted_proxies="127.0.0.1",
    ) as server:
        server.wait_for_state("ready")
        over = threading.Event()

        def flood(i: int) -> None:
            while not over.is_set():
                try:
                    ask(server, "192.0.2.1", user=f"user {i}", max_tokens=30)
                except (OSError, http.client.HTTPException):
                    return

        threads = [threading.Thread(target=flood, args=(i,)) for i in range(PARALLEL + QUEUE + 6)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                until(lambda: server.health()["queued"] >= QUEUE - 2)
                before = answered(server)
                assert ask(server, "192.0.2.2", max_tokens=4) == 200
                assert 1 <= answered(server) - before < QUEUE // 2  # the person's is one
        finally:
            over.set()
            for thread in threads:
                thread.join()
