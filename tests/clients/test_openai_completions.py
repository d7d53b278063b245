"""The official `openai` package's `completions`, and the bodies that other clients send."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai import BadRequestError, OpenAI
from openai.types import Completion

from tests.e2e.asking import post
from tests.support.real_server import RealServer

WORDS = "SmolLM2-135M-Instruct.Q4_1"
PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def client(words: RealServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{words.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_a_completion(client: OpenAI) -> None:
    made = client.completions.create(model=WORDS, prompt=PROMPT, max_tokens=3, temperature=0)
    assert made.object == "text_completion"
    assert made.choices[0].text.startswith(" Paris")
    assert made.choices[0].finish_reason == "length"
    assert made.usage is not None
    assert made.usage.completion_tokens == 3


def test_a_stream_is_the_answer_in_pieces(client: OpenAI) -> None:
    options: dict[str, Any] = {"model": WORDS, "prompt": [PROMPT, "1, 2, 3,"], "max_tokens": 6}
    options |= {"temperature": 0, "echo": True, "logprobs": 2}
    whole = client.completions.create(**options)
    chunks = list(
        client.completions.create(**options, stream=True, stream_options={"include_usage": True})
    )
    *parts, usage = chunks
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 12
    for choice in whole.choices:
        own = [part.choices[0] for part in parts if part.choices[0].index == choice.index]
        assert "".join(part.text for part in own) == choice.text
        assert [part.finish_reason for part in own if part.finish_reason] == ["length"]
        columns = [part.logprobs for part in own if part.logprobs is not None]
        assert choice.logprobs is not None
        for name in ("tokens", "text_offset"):
            joined = [each for column in columns for each in getattr(column, name)]
            assert joined == getattr(choice.logprobs, name)


def test_the_columns_fit_the_text(client: OpenAI) -> None:
    """Characters of several tokens included: a token is where its character begins."""
    prompt = "日本語 😀 ñ"
    made = client.completions.create(
        model=WORDS, prompt=prompt, max_tokens=4, echo=True, logprobs=5, temperature=0
    )
    [choice] = made.choices
    assert choice.text.startswith(prompt)
    columns = choice.logprobs
    assert columns is not None
    assert columns.tokens and columns.token_logprobs and columns.top_logprobs  # noqa: PT018
    assert columns.text_offset == sorted(columns.text_offset or [])
    for token, offset in zip(columns.tokens, columns.text_offset or [], strict=True):
        if not token.startswith("bytes:"):
            assert choice.text[offset:].startswith(token)
    assert any(token.startswith("bytes:\\x") for token in columns.tokens)
    assert columns.token_logprobs[0] is None
    for token, value, top in zip(
        columns.tokens[1:], columns.token_logprobs[1:], columns.top_logprobs[1:], strict=True
    ):
        assert top[token] == value
        assert len(top) in (5, 6)


def test_errors_name_the_field(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.completions.create(model=WORDS, prompt=PROMPT, suffix=".")
    assert caught.value.param == "suffix"
    with pytest.raises(BadRequestError) as caught:
        client.completions.create(model=WORDS, prompt="word " * 2000)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
    assert caught.value.message.find("This model's maximum context length is 1024 tokens") >= 0


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"prompt": PROMPT, "max_tokens": 5}, id="litellm"),
        pytest.param({"prompt": "Name a river", "stream": False, "temperature": 0.1}, id="llama"),
        pytest.param({"prompt": "hi\n\nBEGIN RESPONSE:", "max_tokens": 5}, id="dspy"),
        pytest.param(
            {"max_tokens": 5, "prompt": "user:\nhi\n\nassistant:\n", "stop": ["\nuser:"]}, id="ai"
        ),
        pytest.param({"max_tokens": 5, "n": 1, "stream": False, "prompt": ["hi"]}, id="lcjs"),
        pytest.param(
            {
                "prompt": "2+2=",
                "max_tokens": 16,
                "temperature": 0,
                "stop": ["\n", "Q:", "</s>", "<|im_end|>", "###"],
                "seed": 1234,
            },
            id="lm-eval",
        ),
        pytest.param(
            {
                "prompt": [[504, 3575, 282, 4649, 314, 7042], [504, 3575]],
                "temperature": 0,
                "max_tokens": 1,
                "logprobs": 1,
                "seed": 1234,
                "echo": True,
            },
            id="lm-eval-loglikelihood",
        ),
    ],
)
def test_bodies_of_other_clients(words: RealServer, body: dict[str, Any]) -> None:
    answer = post(words, "/v1/completions", {"model": WORDS} | body)
    assert answer.status == 200, answer.body
    assert answer.body["sheily"] == {}
    assert all(one["finish_reason"] in ("stop", "length") for one in answer.body["choices"])
    for one in answer.body["choices"]:
        if "echo" in body:  # the package's types lack the null that OpenAI documents
            assert one["logprobs"]["token_logprobs"].pop(0) is None
            assert one["logprobs"]["top_logprobs"].pop(0) is None
    Completion.model_validate(answer.body, strict=True)
