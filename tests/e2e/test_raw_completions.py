"""POST /v1/completions with real models: raw prompts, and the log-probabilities of their tokens."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.e2e.asking import assert_alive, complete, post, tokens_of
from tests.support.real_server import RealServer

TEXT = "The capital of France is Paris. The capital of Spain is Madrid. The capital of Italy is"
NEAR = 0.3
"""How much a log-probability differs when the sum behind it is added up in another order: see
"Equality of answers" in docs/architecture.md."""


def write(server: RealServer, prompt: Any, **fields: Any) -> list[Any]:
    """The choices of a completion, greedy unless something else is said."""
    answer = post(server, "/v1/completions", {"prompt": prompt, "temperature": 0} | fields)
    assert answer.status == 200, answer.body
    choices: list[Any] = answer.body["choices"]
    return choices


def near(found: list[float], wanted: list[float]) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all(math.isclose(one, other, abs_tol=NEAR) for one, other in pairs)


def chat_prompt(server: RealServer, text: str) -> list[int]:
    """The ids of the prompt that a message becomes."""
    body = {"messages": [{"role": "user", "content": text}]}
    ids: list[int] = post(server, "/tokenize", body).body["tokens"]
    return ids


def test_the_ids_of_a_chat_s_prompt_are_answered_like_the_chat(smollm2_server: RealServer) -> None:
    text = "Name the capital of France."
    fields = {"temperature": 0, "max_tokens": 12}
    chat = complete(smollm2_server, text, **fields)
    [raw] = write(smollm2_server, chat_prompt(smollm2_server, text), max_tokens=12)
    assert raw["text"] == chat.text
    assert raw["finish_reason"] == chat.choice["finish_reason"]


def test_markers_are_control_tokens_only_where_that_is_said(smollm2_server: RealServer) -> None:
    text = "Name the capital of France."
    ids = chat_prompt(smollm2_server, text)
    prompt = post(smollm2_server, "/detokenize", {"tokens": ids}).body["text"]
    assert prompt.count("<|im_start|>") == 3

    def usage(**fields: Any) -> int:
        body = {"prompt": prompt, "max_tokens": 0, "echo": True} | fields
        answer = post(smollm2_server, "/v1/completions", body).body
        assert answer["choices"][0]["text"] == prompt
        count: int = answer["usage"]["prompt_tokens"]
        return count

    assert usage(parse_special=True) == len(ids)
    assert usage() == len(tokens_of(smollm2_server, prompt)) > len(ids) + 20


def test_the_log_probabilities_of_a_prompt_are_those_of_generating_it(
    smollm2_server: RealServer,
) -> None:
    """What was generated greedily, sent as the prompt: the same tokens, each the likeliest."""
    ids = tokens_of(smollm2_server, TEXT)
    [made] = write(smollm2_server, ids, max_tokens=30, logprobs=3, echo=True, ignore_eos=True)
    generated = made["logprobs"]["tokens"][len(ids) :]
    whole = tokens_of(smollm2_server, made["text"])
    assert len(whole) == len(ids) + 30  # the text is read as it was written
    [again] = write(smollm2_server, whole, max_tokens=0, logprobs=3, echo=True)
    assert again["text"] == made["text"]
    assert again["logprobs"]["tokens"][len(ids) :] == generated
    assert again["logprobs"]["text_offset"] == made["logprobs"]["text_offset"]
    first, *found = again["logprobs"]["token_logprobs"]
    assert first is None
    assert near(found, made["logprobs"]["token_logprobs"][1:])
    likeliest = again["logprobs"]["top_logprobs"][len(ids) + 1 :]
    for value, top in zip(found[len(ids) :], likeliest, strict=True):
        assert max(top.values()) - value < NEAR
    assert sum(found[len(ids) - 1 :]) > sum(found[: len(ids) - 1])


def test_log_probabilities_do_not_depend_on_what_is_cached(smollm2_server: RealServer) -> None:
    fields = {"max_tokens": 0, "echo": True, "logprobs": 0}
    prompt = " and".join(["a river", "a stone"] * 60)  # of more than one step
    results = [write(smollm2_server, prompt, **fields)[0]["logprobs"] for _ in range(2)]
    assert near(results[0]["token_logprobs"][1:], results[1]["token_logprobs"][1:])
    [beside, other] = write(smollm2_server, [prompt, prompt + " too"], **fields)
    assert near(beside["logprobs"]["token_logprobs"][1:], results[0]["token_logprobs"][1:])
    n = len(results[0]["tokens"])
    assert near(other["logprobs"]["token_logprobs"][1:n], results[0]["token_logprobs"][1:])


def test_a_likelier_continuation_has_the_greater_sum(smollm2_server: RealServer) -> None:
    """As lm-eval chooses among answers: by the tokens behind the context, without the last."""
    context = "Question: What is the capital of France?\nAnswer:"
    n = len(tokens_of(smollm2_server, context))
    prompts = [tokens_of(smollm2_server, context + city) for city in (" Paris", " table")]
    found = write(smollm2_server, prompts, max_tokens=1, echo=True, logprobs=1, seed=1234)
    sums = [sum(one["logprobs"]["token_logprobs"][n:-1]) for one in found]
    assert [len(one["logprobs"]["tokens"]) for one in found] == [len(p) + 1 for p in prompts]
    assert sums[0] > sums[1] + 3


def test_several_prompts_are_answered_as_each_alone(smollm2_server: RealServer) -> None:
    prompts = [f"{i}, {i + 1}, {i + 2}," for i in range(9)]  # more than there are slots
    found = write(smollm2_server, prompts, max_tokens=4)
    assert [one["index"] for one in found] == list(range(9))
    alone = [write(smollm2_server, prompt, max_tokens=4)[0]["text"] for prompt in prompts]
    equal = [one["text"] == other for one, other in zip(found, alone, strict=True)]
    assert sum(equal) >= 8  # two tokens may be nearly as likely


def test_the_best_of_several_is_chosen(smollm2_server: RealServer) -> None:
    fields = {"max_tokens": 6, "temperature": 1.5, "seed": 5, "logprobs": 0}
    every = write(smollm2_server, "Once", n=4, **fields)
    means = [sum(logs := one["logprobs"]["token_logprobs"]) / len(logs) for one in every]
    answer = {"prompt": "Once", "n": 1, "best_of": 4} | fields
    body = post(smollm2_server, "/v1/completions", answer).body
    best = every[means.index(max(means))]
    assert [(one["text"], one["index"]) for one in body["choices"]] == [(best["text"], 0)]
    assert body["usage"]["completion_tokens"] == 24


def test_bos_is_added_once_and_not_told(llama3_server: RealServer) -> None:
    text = "hello there"
    ids = tokens_of(llama3_server, text)
    fields = {"echo": True, "max_tokens": 0, "logprobs": 0}
    bos = "<|begin_of_text|>"
    [bos_id] = chat_prompt(llama3_server, "x")[:1]
    for prompt in (text, ids):
        [choice] = write(llama3_server, prompt, **fields)
        assert choice["text"] == text
        assert len(choice["logprobs"]["tokens"]) == len(ids)
        assert None not in choice["logprobs"]["token_logprobs"]  # all have BOS before them
    for prompt in ([bos_id, *ids], bos + text):
        [choice] = write(llama3_server, prompt, parse_special=True, **fields)
        assert choice["text"] == bos + text
        assert choice["logprobs"]["token_logprobs"][0] is None
    usage = post(llama3_server, "/v1/completions", {"prompt": ids, "max_tokens": 1}).body["usage"]
    assert usage["prompt_tokens"] == len(ids) + 1
    [empty] = write(llama3_server, "", max_tokens=2)
    assert empty["finish_reason"] in ("stop", "length")


@pytest.mark.parametrize("scores", [True, False])
def test_a_prompt_may_fill_the_context(llama3_server: RealServer, scores: bool) -> None:
    """With the BOS that is added to it."""
    [word] = tokens_of(llama3_server, " word")
    fields: dict[str, Any] = {"max_tokens": 0, "echo": True}
    if scores:
        fields["logprobs"] = 0
    [choice] = write(llama3_server, [word] * 1023, **fields)
    assert choice["text"] == " word" * 1023
    body = {"prompt": [word] * 1023, "max_tokens": 1}
    error = post(llama3_server, "/v1/completions", body).error
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    assert_alive(llama3_server)


def test_ids_that_are_no_tokens(smollm2_server: RealServer) -> None:
    error = post(smollm2_server, "/v1/completions", {"prompt": [[1], [49152]]}).error
    assert error["param"] == "prompt[1]"
    assert_alive(smollm2_server)
