"""The rest of OpenAI's contract over HTTP: choices, logprobs, tools, formats, tokens, trimming."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.conftest import Serve, make
from tests.support.serving import Server, completion

pytestmark = pytest.mark.http

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
CALL = '{"name": "weather", "parameters": {"city": "A Coruña"}}'
PYTHON_CALL = "<|python_tag|>[weather(city='A Coruña')]"
WORDS = "w " * 100


@pytest.fixture(scope="module")
def llama3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose model takes tools."""
    server = make(tmp_path_factory.mktemp("server"), "--dialect", "llama3")
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.stop()


def show(server: Server, **fields: Any) -> Any:
    """The Submit command that a request becomes, without its times; its last user message is
    `show`."""
    answer = server.complete("show", **fields)
    assert answer.status == 200, answer.body
    command = json.loads(answer.json()["choices"][0]["message"]["content"])
    assert 0 < command.pop("arrived") < command.pop("deadline")
    return command


def error_of(server: Server, **fields: Any) -> Any:
    answer = server.complete("show", **fields)
    assert answer.status == 400
    streamed = server.complete("show", stream=True, **fields)
    assert (streamed.status, streamed.error()) == (400, answer.error())
    return answer.error()


def predicting(content: Any) -> dict[str, Any]:
    """The field `prediction`."""
    return {"prediction": {"type": "content", "content": content}}


# n


def test_several_choices(server: Server) -> None:
    body = server.complete("each", n=3).json()
    assert [
        (choice["index"], choice["message"]["content"], choice["finish_reason"])
        for choice in body["choices"]
    ] == [(i, f"answer {i}", "stop") for i in range(3)]
    assert body["usage"]["completion_tokens"] == 6
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 6


def test_several_choices_in_a_stream(server: Server) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, done = server.complete("each", n=2, **options).events()
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 4
    seen = [
        (choice["index"], choice["delta"], choice["finish_reason"])
        for chunk in chunks
        for choice in chunk["choices"]
    ]
    role = {"role": "assistant", "content": ""}
    assert seen == [
        (0, role, None),
        (1, role, None),
        (1, {"content": "answer"}, None),
        (1, {"content": " 1"}, None),
        (1, {}, "stop"),
        (0, {"content": "answer"}, None),
        (0, {"content": " 0"}, None),
        (0, {}, "stop"),
    ]
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)


def test_as_many_choices_as_run_at_once(server: Server) -> None:
    assert len(server.complete("each", n=16).json()["choices"]) == 16
    error = error_of(server, n=17)
    assert (error["param"], error["code"]) == ("n", "invalid_value")
    assert "LLM_PARALLEL" in error["message"]


def test_cut_choices_say_so(server: Server) -> None:
    body = server.complete("one two three", n=2, max_tokens=2).json()
    assert [c["finish_reason"] for c in body["choices"]] == ["length", "length"]
    assert body["usage"]["completion_tokens"] == 4


# logprobs


def test_logprobs(server: Server) -> None:
    body = server.complete("one dós", logprobs=True, top_logprobs=2).json()
    logprobs = body["choices"][0]["logprobs"]
    assert logprobs["refusal"] is None
    top = [
        {"token": f"alt{i}", "logprob": -0.5 - i, "bytes": list(f"alt{i}".encode())}
        for i in range(2)
    ]
    assert logprobs["content"] == [
        {"token": text, "logprob": -0.5, "bytes": list(text.encode()), "top_logprobs": top}
        for text in ("one", " dós")
    ]


def test_logprobs_without_alternatives(server: Server) -> None:
    (choice,) = server.complete("one", logprobs=True).json()["choices"]
    assert [token["top_logprobs"] for token in choice["logprobs"]["content"]] == [[]]
    (choice,) = server.complete("one", logprobs=False).json()["choices"]
    assert choice["logprobs"] is None


def test_logprobs_in_a_stream(server: Server) -> None:
    *chunks, _ = server.complete("one two", logprobs=True, stream=True).events()
    found = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [[t["token"] for t in f["content"]] if f else None for f in found] == [
        None,
        ["one"],
        [" two"],
        None,
    ]


# tools


@pytest.mark.parametrize("text", [CALL, PYTHON_CALL, f"[{CALL}]"])
def test_a_call(llama3: Server, text: str) -> None:
    body = llama3.complete(text, tools=[WEATHER]).json()
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "tool_calls"
    message = choice["message"]
    assert (message["role"], message["content"]) == ("assistant", None)
    (call,) = message["tool_calls"]
    assert call.pop("id").startswith("call_")
    function = {"name": "weather", "arguments": '{"city": "A Coruña"}'}
    assert call == {"type": "function", "function": function}


def test_a_call_in_a_stream(llama3: Server) -> None:
    *chunks, done = llama3.complete(CALL, tools=[WEATHER], stream=True).events()
    assert done == "[DONE]"
    first, *calls, end = (chunk["choices"][0] for chunk in chunks)
    assert first["delta"] == {"role": "assistant", "content": ""}
    parts = [part for choice in calls for part in choice["delta"]["tool_calls"]]
    assert len(parts) == len(calls) > 3
    assert parts[0].pop("id").startswith("call_")
    function = {"name": "weather", "arguments": ""}
    assert parts[0] == {"index": 0, "type": "function", "function": function}
    assert all(set(part) == {"index", "function"} for part in parts[1:])
    joined = "".join(part["function"]["arguments"] for part in parts)
    assert joined == '{"city": "A Coruña"}'
    assert (end["delta"], end["finish_reason"]) == ({}, "tool_calls")


@pytest.mark.parametrize(("parallel", "count"), [(None, 2), (False, 1), (True, 2)])
def test_several_calls(llama3: Server, parallel: Any, count: int) -> None:
    text = f"{CALL}; {CALL}"
    body = llama3.complete(text, tools=[WEATHER], parallel_tool_calls=parallel).json()
    calls = body["choices"][0]["message"]["tool_calls"]
    assert len(calls) == count
    assert len({call["id"] for call in calls}) == count
    events = llama3.complete(
        text, tools=[WEATHER], parallel_tool_calls=parallel, stream=True
    ).events()
    deltas = [c["choices"][0]["delta"] for c in events[:-1]]
    parts = [part for delta in deltas for part in delta.get("tool_calls", [])]
    assert [part["index"] for part in parts if "id" in part] == list(range(count))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", ["no call at all", '{"a": 1}', CALL.replace("weather", "other")])
def test_what_is_no_call_is_text(llama3: Server, text: str, stream: bool) -> None:
    answer = llama3.complete(text, tools=[WEATHER], stream=stream)
    if stream:
        events = answer.events()[:-1]
        deltas = [event["choices"][0] for event in events]
        assert "".join(d["delta"].get("content", "") for d in deltas) == text
        assert deltas[-1]["finish_reason"] == "stop"
    else:
        (choice,) = answer.json()["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == (text, "stop")
        assert "tool_calls" not in choice["message"]


@pytest.mark.parametrize(("most", "arguments"), [(2, ""), (4, '{"city": '), (5, '{"city": "A')])
def test_a_call_cut_off_has_its_arguments_so_far(llama3: Server, most: int, arguments: str) -> None:
    (choice,) = llama3.complete(CALL, tools=[WEATHER], max_tokens=most).json()["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", None)
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": arguments}
    events = llama3.complete(CALL, tools=[WEATHER], max_tokens=most, stream=True).events()[:-1]
    choices = [event["choices"][0] for event in events]
    parts = [part for choice in choices for part in choice["delta"].get("tool_calls", [])]
    assert parts[0]["function"]["name"] == "weather"
    assert "".join(part["function"]["arguments"] for part in parts) == arguments
    assert not any(choice["delta"].get("content") for choice in choices)
    assert choices[-1]["finish_reason"] == "length"


def test_a_call_that_was_cut_off_goes_back(llama3: Server) -> None:
    asked = {"role": "user", "content": CALL}
    (choice,) = llama3.complete(CALL, tools=[WEATHER], max_tokens=5).json()["choices"]
    message = choice["message"]
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "?"}
    show = {"role": "user", "content": "show"}
    body = {"messages": [asked, message, result, show]}
    answer = llama3.ask("POST", "/v1/chat/completions", body).json()
    assert r"{\\\"city\\\": \\\"A\\\"}" in json.dumps(answer)


def test_text_beside_a_call(llama3: Server) -> None:
    text = f"Sure:\n```json\n{CALL}\n```"
    (choice,) = llama3.complete(text, tools=[WEATHER]).json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Sure:", "tool_calls")
    assert len(choice["message"]["tool_calls"]) == 1


def test_what_cannot_become_a_call_streams_at_once(llama3: Server) -> None:
    events = llama3.complete('{ "answer": [1, 2]}', tools=[WEATHER], stream=True).events()[:-1]
    contents = [event["choices"][0]["delta"].get("content") for event in events]
    assert contents == ["", '{ "answer":', " [1,", " 2]}", None]


@pytest.mark.parametrize("dialect", ["chatml", "hermes"])
def test_calls_of_chatml_models(serve: Serve, dialect: str) -> None:
    server = serve("--dialect", dialect)
    server.wait_for("ready")
    call = '{"name": "weather", "arguments": {"city": "Lugo"}}'
    if dialect == "hermes":
        call = f"<tool_call>\n{call}\n</tool_call>"
    for fields in ({}, {"tool_choice": "required"}):
        body = server.complete(f"{call}\n{call}", tools=[WEATHER], **fields).json()
        (choice,) = body["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == (None, "tool_calls")
        found = [call["function"] for call in choice["message"]["tool_calls"]]
        assert found == [{"name": "weather", "arguments": '{"city": "Lugo"}'}] * 2
    shown = show(server, tools=[WEATHER], tool_choice="required")
    assert ("<tool_call>" in shown["grammar"]["lark"]) == (dialect == "hermes")


def test_without_tools_a_call_is_text(llama3: Server) -> None:
    for fields in ({}, {"tools": [WEATHER], "tool_choice": "none"}):
        (choice,) = llama3.complete(CALL, **fields).json()["choices"]
        assert choice["message"]["content"] == CALL


def test_every_choice_has_its_own_calls(llama3: Server) -> None:
    body = llama3.complete(CALL, tools=[WEATHER], n=2).json()
    ids = [choice["message"]["tool_calls"][0]["id"] for choice in body["choices"]]
    assert len(set(ids)) == 2


def test_calls_and_results_go_back(llama3: Server) -> None:
    message = llama3.complete(CALL, tools=[WEATHER]).json()["choices"][0]["message"]
    talk = [
        {"role": "user", "content": "Weather?"},
        message,
        {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "25 C"},
        {"role": "user", "content": "show"},
    ]
    body = {"messages": talk, "tools": [WEATHER]}
    answer = llama3.ask("POST", "/v1/chat/completions", body).json()
    submit = json.loads(answer["choices"][0]["message"]["content"])
    prompt = "".join(text for text, _special in submit["segments"])
    assert CALL in prompt
    assert 'ipython<|end_header_id|>\n\n"25 C"<|eot_id|>' in prompt


def test_what_tools_ask_of_the_engine(llama3: Server) -> None:
    assert show(llama3)["visible"] == []
    submit = show(llama3, tools=[WEATHER])
    assert (submit["visible"], submit["grammar"]) == (["<|python_tag|>"], None)
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        grammar = show(llama3, tools=[WEATHER], tool_choice=choice)["grammar"]
        assert grammar["param"] == "tools"
        assert "weather" in grammar["lark"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {
                "tools": [WEATHER],
                "tool_choice": {"type": "function", "function": {"name": "x"}},
            },
            "tool_choice.function.name",
        ),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "any"}, "tool_choice"),
    ],
)
def test_tools_that_cannot_be(llama3: Server, fields: dict[str, Any], param: str) -> None:
    assert error_of(llama3, **fields)["param"] == param


# what the engine is asked for


def test_response_formats(server: Server) -> None:
    assert show(server, response_format={"type": "text"})["grammar"] is None
    grammar = show(server, response_format={"type": "json_object"})["grammar"]
    assert grammar["param"] == "response_format"
    schema = {"type": "integer", "minimum": 3}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    grammar = show(server, response_format=form)["grammar"]
    assert grammar["param"] == "response_format.json_schema.schema"
    assert json.loads(grammar["lark"].partition("%json ")[2])["minimum"] == 3


UNIQUE = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}


@pytest.mark.parametrize("strict", [None, False])
def test_what_was_left_out_of_a_schema_is_told(server: Server, strict: bool | None) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": UNIQUE, "strict": strict}}
    place = "response_format.json_schema.schema.uniqueItems"
    assert server.complete("hi", response_format=form).json()["sheily"] == {"relaxed": [place]}
    stream = server.complete("hi", response_format=form, stream=True)
    told = [chunk["sheily"] for chunk in stream.events()[:-1] if "sheily" in chunk]
    assert told == [{"relaxed": [place]}] * 2
    answer = server.ask("POST", "/chat", {"message": "hi", "response_format": form}).json()
    assert answer["sheily"] == {"relaxed": [place]}
    assert server.ask("POST", "/chat", {"message": "hi"}).json()["sheily"] == {}


def test_a_strict_schema_is_left_as_it_is(server: Server) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": UNIQUE, "strict": True}}
    grammar = show(server, response_format=form)["grammar"]
    assert (grammar["loose"], grammar["relaxed"]) == ([], [])
    assert json.loads(*grammar["schemas"].values()) == UNIQUE


def test_a_forced_call_wins_over_a_response_format(llama3: Server) -> None:
    """And a function that is not strict is followed as far as it can be."""
    function = {"name": "f", "parameters": {"properties": {"a": UNIQUE}}}
    fields = {
        "tools": [{"type": "function", "function": function}],
        "response_format": {"type": "json_object"},
    }
    place = "tools[0].function.parameters"
    for choice in ("required", {"type": "function", "function": {"name": "f"}}):
        grammar = show(llama3, tool_choice=choice, **fields)["grammar"]
        assert list(grammar["schemas"]) == grammar["loose"] == [place]
        assert grammar["relaxed"] == [f"{place}.properties.a.uniqueItems"]
    grammar = show(llama3, **fields)["grammar"]
    assert list(grammar["schemas"]) == grammar["loose"] == [place, "response_format"]


def test_a_refusal_of_the_engine_names_the_field(server: Server) -> None:
    for stream in (False, True):
        answer = server.complete("refuse logit_bias no such token", stream=stream)
        assert answer.status == 400
        error = answer.error()
        assert (error["param"], error["message"]) == ("logit_bias", "no such token")


# prediction


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a guess", "a guess"),
        ([{"type": "text", "text": "a "}, {"type": "text", "text": "guess"}], "a guess"),
        ("", None),
        ([], None),
    ],
)
def test_a_prediction_is_all_the_engine_gets_more(
    server: Server, content: Any, text: str | None
) -> None:
    plain, more = show(server, seed=1), show(server, seed=1, **predicting(content))
    assert plain.pop("id") < more.pop("id")
    assert plain.pop("prediction") is None
    assert more.pop("prediction") == text
    assert plain == more


def test_what_a_prediction_was_good_for(server: Server) -> None:
    body = server.complete("one two three", **predicting("one two four five")).json()
    assert body["choices"][0]["message"]["content"] == "one two three"
    assert body["usage"]["completion_tokens"] == 3
    assert drafts(body["usage"]) == (2, 2)
    assert (body["timings"]["draft_n"], body["timings"]["draft_n_accepted"]) == (4, 2)


def drafts(usage: Any) -> tuple[int, int]:
    """Right and wrong tokens of the prediction."""
    details = usage["completion_tokens_details"]
    assert details["text_tokens"] == usage["completion_tokens"]
    return details["accepted_prediction_tokens"], details["rejected_prediction_tokens"]


def test_a_prediction_in_a_stream(server: Server) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    fields = options | predicting("one three")
    *_, last, usage, done = server.complete("one two", **fields).events()
    assert done == "[DONE]"
    assert drafts(usage["usage"]) == (1, 1)
    assert (last["timings"]["draft_n"], last["timings"]["draft_n_accepted"]) == (2, 1)
    *_, usage, done = server.complete("one two", **options).events()
    assert drafts(usage["usage"]) == (0, 0)


def test_a_prediction_serves_every_choice(server: Server) -> None:
    body = server.complete("one two", n=3, **predicting("one three")).json()
    assert drafts(body["usage"]) == (3, 3)


def test_a_prediction_on_the_simple_route(server: Server) -> None:
    body = server.simple(message="one two", **predicting("one two")).json()
    assert body["response"] == "one two"
    assert drafts(body["usage"]) == (2, 0)


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ("x" * 262_145, "prediction"),
        (5, "prediction.content"),
        ([{"type": "image_url", "image_url": {"url": "x"}}], "prediction.content[0].type"),
    ],
    ids=["long", "number", "image"],
)
def test_predictions_that_cannot_be(server: Server, content: Any, param: str) -> None:
    assert error_of(server, **predicting(content))["param"] == param


def test_a_long_prediction(server: Server) -> None:
    assert show(server, **predicting("x" * 262_144))["prediction"] == "x" * 262_144


# what has no effect, and what cannot be


def test_fields_without_effect_change_nothing(server: Server) -> None:
    plain = show(server, seed=1)
    more = show(
        server,
        seed=1,
        metadata={"a": "b"},
        service_tier="auto",
        reasoning_effort="low",
        prompt_cache_key="k",
        modalities=["text"],
        truncation="error",
    )
    assert plain.pop("id") < more.pop("id")
    assert plain == more


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat", "/tokenize"])
def test_parts_that_are_no_text_are_named(server: Server, path: str, kind: str) -> None:
    parts = [{"type": "text", "text": "what is this?"}, {"type": kind, kind: {"url": "x"}}]
    body = {"messages": [{"role": "user", "content": parts}]}
    answer = server.ask("POST", path, body)
    assert answer.status == 400
    assert answer.error()["param"] == "messages[0].content[1].type"
    assert kind in answer.error()["message"]


# trimming


def crowded(last: str = "measure") -> list[dict[str, str]]:
    """A talk of more words than the context of 256 tokens has room for."""
    return [
        {"role": "system", "content": "S"},
        {"role": "user", "content": f"first {WORDS}"},
        {"role": "assistant", "content": f"second {WORDS}"},
        {"role": "user", "content": f"third {WORDS}"},
        {"role": "assistant", "content": "fourth"},
        {"role": "user", "content": last},
    ]


def test_trimming(server: Server) -> None:
    body = {"messages": crowded(), "truncation": "trim", "max_tokens": 100}
    answer = server.ask("POST", "/v1/chat/completions", body)
    assert answer.status == 200
    found = answer.json()
    assert found["sheily"] == {"dropped_messages": 2}
    prompt = json.loads(found["choices"][0]["message"]["content"])["segments"]
    texts = [text for text, special in prompt if not special]
    assert texts[0] == "system\nS"
    assert any(text.startswith("user\nthird") for text in texts)
    assert not any("first" in text or "second" in text for text in texts)
    *_, chunk, _done = server.ask("POST", "/v1/chat/completions", body | {"stream": True}).events()
    assert chunk["sheily"] == {"dropped_messages": 2}
    simple = server.ask("POST", "/chat", body)
    assert simple.json()["dropped_messages"] == 2


@pytest.mark.parametrize("truncation", [None, "error"])
def test_no_trimming(server: Server, truncation: Any) -> None:
    body = {"messages": crowded(), "truncation": truncation}
    answer = server.ask("POST", "/v1/chat/completions", body)
    assert answer.status == 400
    assert answer.error()["code"] == "context_length_exceeded"


def test_what_trimming_cannot_make_fit(server: Server) -> None:
    for last in (f"measure {WORDS * 3}", "too-long 300 1"):
        body = {"messages": crowded(last), "truncation": "trim"}
        answer = server.ask("POST", "/v1/chat/completions", body)
        assert answer.status == 400
        assert answer.error()["code"] == "context_length_exceeded"
    assert server.health()["active_requests"] == 0


# tokens


def test_tokens_of_a_text(server: Server) -> None:
    answer = server.ask("POST", "/tokenize", {"text": "hé<|im_end|>", "model": "fake-model"})
    assert answer.status == 200
    body = answer.json()
    assert body["tokens"] == list("hé<|im_end|>".encode())
    assert body["count"] == len(body["tokens"])
    assert body["pieces"][:4] == ["h", "\ufffd", "\ufffd", "<"]


def test_tokens_of_messages(server: Server) -> None:
    messages = completion("hi <|im_end|>")["messages"]
    body = server.ask("POST", "/tokenize", {"messages": messages}).json()
    markers = [piece for piece in body["pieces"] if piece.startswith("<|")]
    assert markers == ["<|im_start|>", "<|im_end|>", "<|im_start|>"]
    assert body["count"] == len(body["tokens"]) == len(body["pieces"])


def test_tokens_of_messages_with_tools(llama3: Server) -> None:
    messages = completion("hi")["messages"]
    with_tools = llama3.ask("POST", "/tokenize", {"messages": messages, "tools": [WEATHER]}).json()
    without = llama3.ask("POST", "/tokenize", {"messages": messages}).json()
    assert with_tools["count"] > without["count"] > 0


def test_text_of_tokens(server: Server) -> None:
    answer = server.ask("POST", "/detokenize", {"tokens": list("hé".encode())})
    assert (answer.status, answer.json()) == (200, {"text": "hé", "sheily": {}})
    for tokens, text in (([], ""), ([195], "\ufffd")):
        assert server.ask("POST", "/detokenize", {"tokens": tokens}).json()["text"] == text


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/tokenize", {}, 400, "text"),
        ("/tokenize", {"text": "x", "messages": []}, 400, "messages"),
        ("/tokenize", {"text": "x", "tools": [WEATHER]}, 400, "tools"),
        ("/tokenize", {"messages": [{"role": "assistant"}]}, 400, "messages[0].content"),
        ("/tokenize", {"messages": [], "x": 1}, 400, "messages"),
        ("/tokenize", {"text": "x", "model": "gpt"}, 404, "model"),
        ("/detokenize", {}, 400, "tokens"),
        ("/detokenize", {"tokens": [1, 999]}, 400, "tokens"),
        ("/detokenize", {"tokens": [-1]}, 400, "tokens[0]"),
        ("/detokenize", {"tokens": [1], "model": "gpt"}, 404, "model"),
    ],
)
def test_tokens_that_cannot_be(
    server: Server, path: str, body: dict[str, Any], status: int, param: str
) -> None:
    answer = server.ask("POST", path, body)
    assert (answer.status, answer.error()["param"]) == (status, param)


def test_nothing_is_left_running(server: Server, llama3: Server) -> None:
    for one in (server, llama3):
        assert one.health()["active_requests"] == 0
        assert one.health()["engine_restarts"] == 0
