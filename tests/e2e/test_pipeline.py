"""process_pipeline: which documents fit, counted by the server's own tokenizer."""

from __future__ import annotations

import pytest

from tests.support.real_server import RealServer

LONG = "word " * 400


def test_all_documents_are_used_when_they_fit(llama3_server: RealServer) -> None:
    reply = llama3_server.client.process_pipeline("What?", ["one", " ", "two"], max_tokens=4)
    assert (reply.used, reply.left_out) == ((0, 2), ())


def test_whole_documents_are_left_out(llama3_server: RealServer) -> None:
    documents = [LONG, "short one", LONG, "short two"]
    reply = llama3_server.client.process_pipeline("What?", documents, max_tokens=300)
    assert reply.used == (0, 1, 3)
    assert reply.left_out == (2,)
    assert reply.usage["prompt_tokens"] + 300 <= 1024


def test_the_room_of_the_answer_counts(llama3_server: RealServer) -> None:
    few = llama3_server.client.process_pipeline("What?", [LONG, LONG], max_tokens=500)
    many = llama3_server.client.process_pipeline("What?", [LONG, LONG], max_tokens=10)
    assert len(few.used) == 1
    assert len(many.used) == 2


def test_a_document_that_can_never_fit(llama3_server: RealServer) -> None:
    with pytest.raises(ValueError, match="fits"):
        llama3_server.client.process_pipeline("What?", "word " * 2000)


def test_no_documents_at_all(llama3_server: RealServer) -> None:
    reply = llama3_server.client.process_pipeline("What?", [], max_tokens=4)
    assert (reply.used, reply.left_out) == ((), ())
