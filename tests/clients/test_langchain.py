"""`langchain-openai`: chat, streaming, tools and structured output, as its users write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from openai import DefaultHttpxClient
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from tests.support.real_server import RealServer

WORDS = "SmolLM2-135M-Instruct.Q4_1"
TOOLS = "llama3-tiny"
QUESTION = "How is the weather in Paris?"

# The openai package's own doing: it writes out models that hold parsed objects.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

Chat = Callable[..., ChatOpenAI]


class Weather(BaseModel):
    """The weather in a city. Closed: random weights would add properties without end."""

    model_config = ConfigDict(extra="forbid")

    city: Literal["Madrid", "Paris"] = Field(description="where")
    unit: Literal["celsius", "fahrenheit"] = "celsius"
    days: int = Field(ge=1, le=7)


def weather(city: Literal["Madrid", "Paris"]) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


WEATHER = StructuredTool.from_function(weather)


@pytest.fixture(scope="module")
def http() -> Iterator[DefaultHttpxClient]:
    with DefaultHttpxClient() as client:
        yield client


@pytest.fixture(scope="module")
def words_chat(words: RealServer, http: DefaultHttpxClient) -> Chat:
    return chat_at(words, WORDS, http)


@pytest.fixture(scope="module")
def tools_chat(tools: RealServer, http: DefaultHttpxClient) -> Chat:
    return chat_at(tools, TOOLS, http)


def chat_at(server: RealServer, model: str, http: DefaultHttpxClient) -> Chat:
    def chat(**options: Any) -> ChatOpenAI:
        options = {"max_tokens": 80, "temperature": 0} | options
        return ChatOpenAI(
            base_url=f"{server.url}/v1",
            api_key=SecretStr("none"),
            model=model,
            http_client=http,
            max_retries=0,
            **options,
        )

    return chat


def test_a_chat_of_several_roles(words_chat: Chat) -> None:
    messages = [
        SystemMessage("Be brief."),
        HumanMessage([{"type": "text", "text": "Name a river."}]),
        AIMessage("The Ebro."),
        HumanMessage("Another one?"),
    ]
    answer = words_chat(max_tokens=8).invoke(messages)
    assert answer.text
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] <= 8
    assert answer.response_metadata["model_name"] == WORDS
    assert answer.response_metadata["finish_reason"] in ("length", "stop")


def test_a_batch(words_chat: Chat) -> None:
    answers = words_chat(max_tokens=4).batch(["One?", "Two?", "Three?"])
    assert [isinstance(answer, AIMessage) for answer in answers] == [True] * 3


def test_a_stream_with_usage_is_the_answer_in_pieces(words_chat: Chat) -> None:
    chat = words_chat(max_tokens=12, stream_usage=True)
    chunks = list(chat.stream(QUESTION))
    assert "".join(chunk.text for chunk in chunks) == chat.invoke(QUESTION).text
    usages = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert [usage["output_tokens"] for usage in usages] == [12]


def test_every_option_of_a_normal_use(words_chat: Chat) -> None:
    chat = words_chat(
        max_tokens=4,
        n=1,
        seed=3,
        top_p=0.9,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        logit_bias={5: 1},
        stop_sequences=["\n\n"],
        logprobs=True,
        top_logprobs=2,
        reasoning_effort="low",
        service_tier="auto",
        store=False,
        metadata={"a": "b"},
        extra_body={"top_k": 40, "repeat_penalty": 1.1},
    )
    logprobs = chat.invoke(QUESTION).response_metadata["logprobs"]["content"]
    assert len(logprobs[0]["top_logprobs"]) == 2


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_tools_that_need_not_be_called(tools_chat: Chat, choice: str | None) -> None:
    bound = tools_chat(max_tokens=6).bind_tools([WEATHER], tool_choice=choice)
    answer = bound.invoke(QUESTION)
    assert answer.text
    assert not answer.tool_calls


@pytest.mark.parametrize("choice", ["any", "weather"])
@pytest.mark.parametrize("strict", [None, True])
def test_a_call_and_its_result(tools_chat: Chat, choice: str, strict: bool | None) -> None:
    bound = tools_chat().bind_tools(
        [WEATHER], tool_choice=choice, strict=strict, parallel_tool_calls=False
    )
    call = bound.invoke(QUESTION)
    results = [WEATHER.invoke(each) for each in call.tool_calls]
    assert [result.content[:9] for result in results] == ["sunny in "]
    following = tools_chat(max_tokens=4).bind_tools([WEATHER])
    assert following.invoke([HumanMessage(QUESTION), call, *results]).text


def test_a_call_in_a_stream_and_its_result(tools_chat: Chat) -> None:
    bound = tools_chat().bind_tools([WEATHER], tool_choice="any")
    first, *others = bound.stream(QUESTION)
    call = sum(others, start=first)
    assert isinstance(call, AIMessageChunk)
    assert call.response_metadata["finish_reason"] == "tool_calls"
    [result] = [WEATHER.invoke(each) for each in call.tool_calls]
    assert tools_chat(max_tokens=4).invoke([HumanMessage(QUESTION), call, result]).text


@pytest.mark.parametrize("strict", [None, True])
def test_structured_output_by_schema(words_chat: Chat, strict: bool | None) -> None:
    model = words_chat().with_structured_output(Weather, method="json_schema", strict=strict)
    assert isinstance(model.invoke(QUESTION), Weather)


def test_structured_output_in_a_stream(words_chat: Chat) -> None:
    model = words_chat().with_structured_output(Weather, method="json_schema")
    assert isinstance(list(model.stream(QUESTION))[-1], Weather)


@pytest.mark.parametrize("strict", [None, True])
def test_structured_output_by_function(tools_chat: Chat, strict: bool | None) -> None:
    model = tools_chat().with_structured_output(Weather, method="function_calling", strict=strict)
    assert isinstance(model.invoke(QUESTION), Weather)


def test_structured_output_in_json_mode(words_chat: Chat) -> None:
    model = words_chat(max_tokens=300).with_structured_output(
        Weather, method="json_mode", include_raw=True
    )
    answer = model.invoke(f"{QUESTION} Answer as JSON.")
    assert isinstance(answer, dict)
    assert answer["raw"].text.startswith("{")


def test_structured_output_keeps_the_raw_message(words_chat: Chat) -> None:
    model = words_chat().with_structured_output(Weather, method="json_schema", include_raw=True)
    answer = model.invoke(QUESTION)
    assert isinstance(answer, dict)
    assert answer["parsing_error"] is None
    following = [HumanMessage(QUESTION), answer["raw"], HumanMessage("And now?")]
    assert words_chat(max_tokens=2).invoke(following)
