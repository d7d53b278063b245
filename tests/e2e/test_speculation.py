"""Speculation as users meet it: the same answers sooner, and what the usage says of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import models
from tests.e2e.asking import complete, stream
from tests.e2e.test_smollm2 import CLOSE, parting_gap
from tests.real_server import RealServer

TEXT = (
    "The old lighthouse stood on a rock at the end of the bay. Every evening at six the keeper "
    "climbed the stairs, lit the great lamp, and wrote the weather into a black book. On Sundays "
    "his daughter rowed across the bay with bread, newspapers and letters."
)
COPY = f"Repeat the following text word for word:\n\n{TEXT}"
QUESTIONS = [COPY, "Tell me about rivers.", "Count from one to thirty.", "¿Qué es un volcán?"]


@pytest.fixture(scope="module")
def plain_server() -> Iterator[RealServer]:
    with RealServer(models.smollm2(), context_size=2048, speculation="off") as server:
        server.wait_for_state("ready")
        yield server


@pytest.mark.parametrize("question", QUESTIONS)
def test_greedy_answers_are_the_same_with_and_without(
    smollm2_server: RealServer, plain_server: RealServer, question: str
) -> None:
    options = {"temperature": 0, "max_tokens": 80}
    fast, plain = (complete(s, question, **options) for s in (smollm2_server, plain_server))
    if fast.text != plain.text:
        assert parting_gap(question, fast.text, plain.text) < CLOSE
    assert plain.body["timings"]["draft_n"] == 0


def test_a_copy_is_drafted_from_the_prompt(smollm2_server: RealServer) -> None:
    body = complete(smollm2_server, COPY, temperature=0, max_tokens=60).body
    assert body["timings"]["draft_n_accepted"] > 20
    details = body["usage"]["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] == details["rejected_prediction_tokens"] == 0
    assert 40 < body["usage"]["completion_tokens"] <= 60


def test_a_prediction_that_is_right(smollm2_server: RealServer) -> None:
    options = {"temperature": 0, "max_tokens": 60}
    question = "Tell me about the moon."
    plain = complete(smollm2_server, question, **options)
    prediction = {"type": "content", "content": plain.text}
    again = complete(smollm2_server, question, prediction=prediction, **options)
    if again.text != plain.text:
        assert parting_gap(question, again.text, plain.text) < CLOSE
        return
    details = again.body["usage"]["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] > 40
    assert details["rejected_prediction_tokens"] < 20


def test_a_prediction_that_is_wrong_changes_nothing(smollm2_server: RealServer) -> None:
    question = "Tell me about the sun."
    options = {"temperature": 0, "max_tokens": 40}
    plain = complete(smollm2_server, question, **options)
    wrong = " ".join([*plain.text.split()[:2], "zebras xylophone quartz." * 10])
    prediction = {"type": "content", "content": wrong}
    other = complete(smollm2_server, question, prediction=prediction, **options)
    assert other.text == plain.text or parting_gap(question, other.text, plain.text) < CLOSE
    details = other.body["usage"]["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] < 8
    assert 0 < details["rejected_prediction_tokens"] < 64


def test_drafted_tokens_are_streamed_stopped_and_limited_as_others(
    smollm2_server: RealServer,
) -> None:
    chunks = stream(smollm2_server, COPY, temperature=0, stop=["keeper"], logprobs=True)
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
    assert "keeper" not in text
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    tokens = [
        t for c in chunks for t in (c["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    known = "".join(token["token"] for token in tokens)
    assert len(known) > 40
    assert text.startswith(known)
    for n in (1, 2, 5, 33):
        body = complete(smollm2_server, COPY, temperature=0, max_tokens=n).body
        assert body["usage"]["completion_tokens"] == n


def test_the_pipeline_s_answer_is_drafted_from_its_context(smollm2_server: RealServer) -> None:
    reply = smollm2_server.client.process_pipeline(
        "Repeat the document word for word.", TEXT, temperature=0, max_tokens=60
    )
    assert reply.raw["timings"]["draft_n_accepted"] > 10


def test_the_next_turn_goes_on_from_the_ids_that_were_generated(
    llama3_server: RealServer,
) -> None:
    # Random weights say what no tokenizer would write: the same text has other ids when read.
    for seed in range(20):
        first = complete(llama3_server, "one", temperature=1, seed=seed, max_tokens=12)
        if first.text == first.text.strip() and "\ufffd" not in first.text:
            break  # the template would trim others
    messages = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "two"},
    ]
    usage = complete(llama3_server, messages=messages, max_tokens=1).body["usage"]
    n_known = first.body["usage"]["prompt_tokens"] + 12 - 1
    assert usage["prompt_tokens_details"]["cached_tokens"] == n_known
