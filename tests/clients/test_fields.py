"""What each request field does to the answer of a running model, as docs/api says it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.real_server import RealServer

COMPLETIONS = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "Name a river."}]
NUMBERS = "one two three four five six seven eight nine ten"
# Of each token of its answer SmolLM2 is sure: it is the same in a batch.
REPEAT = [{"role": "user", "content": f"Repeat this word for word: {NUMBERS}."}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Madrid", "Paris"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}


class Asker:
    """Greedy short answers, unless the fields say something else."""

    def __init__(self, server: RealServer) -> None:
        self.http = httpx.Client(base_url=server.url, timeout=60)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json=body)

    def ask(self, **fields: Any) -> Any:
        """The completion, which has to be one."""
        defaults = {"messages": QUESTION, "temperature": 0, "max_tokens": 8}
        response = self.post(COMPLETIONS, **(defaults | fields))
        assert response.status_code == 200, response.text
        return response.json()

    def say(self, **fields: Any) -> str:
        return str(self.ask(**fields)["choices"][0]["message"]["content"])

    def refused(self, *, path: str = COMPLETIONS, **fields: Any) -> dict[str, Any]:
        """The error object of a 400."""
        body = {"messages": QUESTION} | fields if path == COMPLETIONS else fields
        response = self.post(path, **body)
        assert response.status_code == 400, response.text
        error: dict[str, Any] = response.json()["error"]
        return error


@pytest.fixture(scope="module")
def real(words: RealServer) -> Iterator[Asker]:
    asker = Asker(words)
    with asker.http:
        yield asker


@pytest.fixture(scope="module")
def noise(tools: RealServer) -> Iterator[Asker]:
    asker = Asker(tools)
    with asker.http:
        yield asker


def test_the_model_may_be_named_or_not(real: Asker) -> None:
    name = real.http.get("/v1/models").json()["data"][0]["id"]
    for model in (name, f"{name}.gguf", "", None):
        assert real.ask(model=model)["model"] == name
    response = real.post(COMPLETIONS, messages=QUESTION, model="gpt-4o")
    assert response.status_code == 404
    assert response.json()["error"]["param"] == "model"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_length_of_an_answer(noise: Asker, name: str) -> None:
    fields = {"max_tokens": None, "ignore_eos": True}
    answer = noise.ask(**(fields | {name: 5}))
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["choices"][0]["finish_reason"] == "length"
    for wanted in (1_000_000, 64_000):
        answer = noise.ask(stop=["e"], **(fields | {name: wanted, "ignore_eos": None}))
        assert list(answer["sheily"]["clamped"]) == [name]


@pytest.mark.parametrize("fields", [{"top_p": 1e-6}, {"top_k": 1}, {"min_p": 1}])
def test_what_leaves_only_the_best_token(noise: Asker, fields: dict[str, Any]) -> None:
    greedy = noise.say(max_tokens=12)
    assert noise.say(max_tokens=12, temperature=1, seed=1, **fields) == greedy
    assert noise.say(max_tokens=12, temperature=1, seed=1) != greedy


def test_temperature_and_seed(noise: Asker) -> None:
    texts = [noise.say(temperature=1, seed=seed) for seed in (1, 2)]
    assert texts[0] != texts[1]
    assert noise.say(temperature=1, seed=1) == texts[0]
    assert noise.say(seed=1) == noise.say(seed=2)


@pytest.mark.parametrize(
    "fields", [{"presence_penalty": 2}, {"frequency_penalty": 2}, {"repeat_penalty": 5}]
)
def test_penalties_end_repetition(noise: Asker, fields: dict[str, Any]) -> None:
    fields = {"max_tokens": 60, "messages": [{"role": "user", "content": "go on"}]} | fields
    plain = noise.say(max_tokens=60, messages=fields["messages"])
    assert noise.say(**fields) != plain


def test_logit_bias_chooses_a_token(noise: Asker) -> None:
    [token] = noise.post("/tokenize", text="river").json()["tokens"]
    assert noise.say(logit_bias={str(token): 100}, max_tokens=3) == "riverriverriver"
    assert noise.refused(logit_bias={"128256": 1})["param"] == "logit_bias"


def test_ignore_eos_goes_on_to_the_limit(real: Asker) -> None:
    fields = {"messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 60}
    assert real.ask(**fields)["choices"][0]["finish_reason"] == "stop"
    answer = real.ask(**fields, ignore_eos=True)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 60


def test_truncation_trims_or_is_an_error(noise: Asker) -> None:
    long = [
        {"role": role, "content": f"{i} " + "word " * 240}
        for i, role in enumerate(("user", "assistant", "user", "assistant", "user"))
    ]
    for truncation in (None, "error"):
        error = noise.refused(messages=long, truncation=truncation)
        assert error["code"] == "context_length_exceeded"
    answer = noise.ask(messages=long, truncation="trim")
    assert 1 <= answer["sheily"]["dropped_messages"] <= 4
    assert noise.refused(messages=long, truncation="cut")["param"] == ("truncation")
    huge = [{"role": "user", "content": "word " * 2000}]
    assert noise.refused(messages=huge, truncation="trim")["code"] == "context_length_exceeded"


def test_n_has_a_limit(noise: Asker) -> None:
    answer = noise.ask(n=3, temperature=1, seed=1)
    texts = {choice["message"]["content"] for choice in answer["choices"]}
    assert len(texts) == 3
    assert noise.refused(n=4)["param"] == "n"


def test_logprobs_are_there_when_asked_for(noise: Asker) -> None:
    assert noise.ask()["choices"][0]["logprobs"] is None
    [token, *_] = noise.ask(logprobs=True)["choices"][0]["logprobs"]["content"]
    assert token["top_logprobs"] == []
    [token, *_] = noise.ask(logprobs=True, top_logprobs=20)["choices"][0]["logprobs"]["content"]
    assert len(token["top_logprobs"]) == 20
    assert token["logprob"] == token["top_logprobs"][0]["logprob"]  # greedy


def test_a_prediction_makes_the_answer_no_other(real: Asker) -> None:
    def details(answer: Any) -> tuple[int, int]:
        found = answer["usage"]["completion_tokens_details"]
        right, wrong = found["accepted_prediction_tokens"], found["rejected_prediction_tokens"]
        assert answer["timings"]["draft_n"] >= right + wrong
        assert answer["timings"]["draft_n_accepted"] >= right
        return right, wrong

    question = {"messages": REPEAT, "max_tokens": 24}
    plain = real.ask(**question)
    assert details(plain) == (0, 0)
    said = plain["choices"][0]["message"]["content"]
    assert NUMBERS in said.lower()
    # Whether anything is drafted goes by what steps take on this machine, beside other programs:
    # that it is, where it saves time, is shown by tests/unit/engine/scheduling/test_drafts.py.
    for n in (1, 1, 2, 2):
        answer = real.ask(**question, n=n, prediction={"type": "content", "content": said})
        texts = [choice["message"]["content"].lower() for choice in answer["choices"]]
        assert [NUMBERS in text for text in texts] == [True] * n
        right, rejected = details(answer)
        assert right <= answer["usage"]["completion_tokens"]
        assert rejected <= answer["timings"]["draft_n"] - answer["timings"]["draft_n_accepted"]
    wrong = real.ask(**question, prediction={"type": "content", "content": "No, none at all."})
    assert NUMBERS in wrong["choices"][0]["message"]["content"].lower()
    long = {"type": "content", "content": "x" * 262_145}
    assert real.refused(prediction=long)["param"] == "prediction"


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "someone"},
        {"metadata": {"key": "value"}},
        {"store": False},
        {"service_tier": "default"},
        {"reasoning_effort": "none"},
        {"prompt_cache_key": "key"},
        {"safety_identifier": "someone"},
        {"parallel_tool_calls": False},
        {"verbosity": "medium"},
        {"modalities": ["text"]},
        {"prompt_cache_retention": "in_memory"},
        {"messages": [QUESTION[0] | {"name": "someone"}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "text",
                            "text": "Name a river.",
                            "prompt_cache_breakpoint": {"type": "ephemeral"},
                        }
                    ],
                }
            ]
        },
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_has_no_effect_is_taken(noise: Asker, fields: dict[str, Any]) -> None:
    plain, with_field = noise.ask(), noise.ask(**fields)
    assert with_field["choices"] == plain["choices"]
    assert with_field["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"]
    assert with_field["sheily"] == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"store": True},
        {"service_tier": "flex"},
        {"verbosity": "low"},
        {"reasoning_effort": "high"},
        {"prompt_cache_options": {"mode": "explicit"}},
        {"prompt_cache_retention": "24h"},
        {"id_slot": 0},
        {"cache_prompt": True, "keep_alive": "5m"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_has_no_effect_is_named(noise: Asker, fields: dict[str, Any]) -> None:
    plain, with_field = noise.ask(), noise.ask(**fields)
    assert with_field["choices"] == plain["choices"]
    assert with_field["sheily"] == {"ignored": list(fields)}


@pytest.mark.parametrize(
    "fields",
    [
        {"modalities": ["text", "audio"]},
        {"audio": {"voice": "alloy", "format": "wav"}},
        {"web_search_options": {}},
        {"function_call": {"name": "f"}},
        {"moderation": {}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_cannot_be_had_is_refused_by_name(noise: Asker, fields: dict[str, Any]) -> None:
    assert noise.refused(**fields)["param"] == next(iter(fields))


def test_response_formats(real: Asker) -> None:
    assert real.say(response_format={"type": "text"}) == real.say()
    any_object = real.ask(response_format={"type": "json_object"}, max_tokens=200)["choices"][0]
    assert any_object["message"]["content"].startswith("{")
    if any_object["finish_reason"] == "stop":
        assert isinstance(json.loads(any_object["message"]["content"]), dict)
    for strict in (None, False, True):
        form = {"type": "json_schema", "json_schema": {"name": "c", "schema": CITY}}
        form["json_schema"] |= {"strict": strict}  # type: ignore[operator]
        text = real.say(response_format=form, max_tokens=40)
        assert json.loads(text)["city"] in ("Madrid", "Paris")


def test_a_schema_that_cannot_be_honoured(real: Asker) -> None:
    form = {"name": "c", "schema": {"type": "string", "pattern": "(?<=a)[bc]"}}
    strict = {"type": "json_schema", "json_schema": form | {"strict": True}}
    place = "response_format.json_schema.schema.pattern"
    assert real.refused(response_format=strict)["param"] == place
    answer = real.ask(response_format={"type": "json_schema", "json_schema": form}, max_tokens=40)
    assert answer["sheily"]["relaxed"] == [place]


@pytest.mark.parametrize("choice", [None, "auto", "none", "required"])
def test_tool_choices(noise: Asker, choice: str | None) -> None:
    answer = noise.ask(tools=[TOOL], tool_choice=choice, max_tokens=40)["choices"][0]
    called = choice == "required"
    assert answer["finish_reason"] in (["tool_calls", "length"] if called else ["stop", "length"])
    assert ("tool_calls" in answer["message"]) is called
    assert (answer["message"]["content"] is None) is called


def test_parallel_tool_calls_allow_several(noise: Asker) -> None:
    def count(seed: int, **fields: Any) -> int:
        fields |= {"tools": [TOOL], "tool_choice": "required", "max_tokens": 200}
        choice = noise.ask(**fields, temperature=1, seed=seed)["choices"][0]
        calls = choice["message"].get("tool_calls", [])
        assert len({call["id"] for call in calls}) == len(calls)
        return len(calls)

    seeds = range(20)
    assert {count(seed, parallel_tool_calls=False) for seed in seeds} == {1}
    # Noise ends behind a call about as often as it goes on.
    assert max(count(seed) for seed in seeds) > 1
    assert max(count(seed, parallel_tool_calls=True) for seed in seeds) > 1


def test_a_response_has_every_field(noise: Asker) -> None:
    answer = noise.ask()
    assert set(answer) == {
        "id",
        "object",
        "created",
        "model",
        "system_fingerprint",
        "choices",
        "usage",
        "timings",
        "sheily",
    }
    assert set(answer["choices"][0]) == {"index", "message", "finish_reason", "logprobs"}
    assert set(answer["choices"][0]["message"]) == {"role", "content", "refusal"}
    assert set(answer["usage"]["prompt_tokens_details"]) == {"cached_tokens"}
    assert set(answer["usage"]["completion_tokens_details"]) == {
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
        "text_tokens",
        "reasoning_tokens",
        "audio_tokens",
    }
    assert all(value is None or value >= 0 for value in answer["timings"].values())
    assert answer["system_fingerprint"].startswith("fp_")
    assert noise.ask()["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_tokens_of_a_text_and_back(real: Asker) -> None:
    text = "¿Qué hora es? 😀"
    found = real.post("/v1/tokenize", text=text).json()
    assert found["count"] == len(found["tokens"]) == len(found["pieces"])
    assert real.post("/v1/detokenize", tokens=found["tokens"]).json()["text"] == text
    assert real.refused(path="/tokenize", text="a", messages=QUESTION)["param"] == "text"
    assert real.refused(path="/detokenize", tokens=[10**9])["param"] == "tokens"


def test_tokens_of_messages_are_those_of_the_prompt(noise: Asker) -> None:
    for tools in (None, [TOOL]):
        found = noise.post("/tokenize", messages=QUESTION, tools=tools).json()
        usage = noise.ask(messages=QUESTION, tools=tools)["usage"]
        assert found["count"] == usage["prompt_tokens"]


def test_the_route_for_scripts(noise: Asker) -> None:
    history = [*QUESTION, {"role": "assistant", "content": "The Ebro."}]
    fields = {"system": "Be brief.", "history": history, "message": "Another?", "max_tokens": 4}
    one = noise.post("/chat", **fields, temperature=0).json()
    messages = [
        {"role": "system", "content": "Be brief."},
        *history,
        {"role": "user", "content": "Another?"},
    ]
    other = noise.post("/chat", messages=messages, max_tokens=4, temperature=0).json()
    assert one["response"] == other["response"]
    assert one["usage"]["prompt_tokens"] == other["usage"]["prompt_tokens"]
    assert noise.refused(path="/chat", message="x", messages=messages)["param"] == "message"
    assert noise.refused(path="/chat", message="x", stream=True)["param"] == "stream"
