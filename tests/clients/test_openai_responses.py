"""The official `openai` package's `responses`, sync and async, as its users use them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import (
    FunctionToolParam,
    Response,
    ResponseFunctionToolCall,
    ResponseInputParam,
    ResponseStreamEvent,
)
from pydantic import BaseModel, Field

from tests.support.real_server import RealServer
from tests.support.responses import EVENT
from tests.support.waiting import until

WORDS = "SmolLM2-135M-Instruct.Q4_1"
TOOLS = "llama3-tiny"
QUESTION = "How is the weather in Paris?"

# The package's own doing: it writes out models that hold parsed objects.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")


class Weather(BaseModel):
    """The weather in a city."""

    city: Literal["Madrid", "Paris"]
    days: int = Field(ge=1, le=7)


WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Madrid", "Paris"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def client(words: RealServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{words.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def tools_client(tools: RealServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{tools.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def joined(events: list[Any]) -> str:
    return "".join(each.delta for each in events if each.type == "response.output_text.delta")


def numbers(events: list[Any]) -> list[int]:
    return [each.sequence_number for each in events]


def test_a_response(client: OpenAI) -> None:
    made = client.responses.create(
        model=WORDS, input=QUESTION, instructions="Be brief.", max_output_tokens=6, temperature=0
    )
    assert made.status == "incomplete"
    assert made.incomplete_details is not None
    assert made.incomplete_details.reason == "max_output_tokens"
    assert made.output_text
    assert made.usage is not None
    assert made.usage.output_tokens == 6
    Response.model_validate(made.model_dump())


def test_a_stream_is_the_response_in_pieces(client: OpenAI) -> None:
    options: dict[str, Any] = {"model": WORDS, "input": QUESTION, "max_output_tokens": 8}
    options |= {"temperature": 0, "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    whole = client.responses.create(**options)
    events: list[ResponseStreamEvent] = list(client.responses.create(**options, stream=True))
    for event in events:
        EVENT.validate_python(event.model_dump(exclude_none=True))
    assert numbers(events) == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.incomplete"
    assert joined(events) == last.response.output_text == whole.output_text


def test_the_stream_helper(client: OpenAI) -> None:
    with client.responses.stream(
        model=WORDS, input="Say hi.", max_output_tokens=200, temperature=0
    ) as stream:
        text = "".join(
            event.delta for event in stream if event.type == "response.output_text.delta"
        )
        made = stream.get_final_response()
    assert made.status == "completed"
    assert made.output_text == text


def test_a_structured_answer(client: OpenAI) -> None:
    made = client.responses.parse(
        model=WORDS, input=QUESTION, text_format=Weather, max_output_tokens=60
    )
    assert isinstance(made.output_parsed, Weather)
    with client.responses.stream(
        model=WORDS, input=QUESTION, text_format=Weather, max_output_tokens=60
    ) as stream:
        assert isinstance(stream.get_final_response().output_parsed, Weather)


def test_a_call_and_its_result(tools_client: OpenAI) -> None:
    def ask(input: str | ResponseInputParam, **more: Any) -> Response:
        made: Response = tools_client.responses.create(
            model=TOOLS, input=input, tools=[WEATHER], max_output_tokens=60, **more
        )
        return made

    first = ask(QUESTION, tool_choice="required", parallel_tool_calls=False)
    (call,) = first.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert json.loads(call.arguments)["city"] in ("Madrid", "Paris")
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    with_id = ask([result], previous_response_id=first.id, tool_choice="none")
    question: Any = {"role": "user", "content": QUESTION}
    by_hand = ask(
        [question, *[item.model_dump(exclude_none=True) for item in first.output], result],  # type: ignore[list-item]
        tool_choice="none",
    )
    assert with_id.usage is not None
    assert by_hand.usage is not None
    assert with_id.usage.input_tokens == by_hand.usage.input_tokens


def test_a_call_in_a_stream(tools_client: OpenAI) -> None:
    with tools_client.responses.stream(
        model=TOOLS,
        input=QUESTION,
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "weather"},
        max_output_tokens=60,
    ) as stream:
        events = list(stream)
        made = stream.get_final_response()
    (call,) = made.output
    assert isinstance(call, ResponseFunctionToolCall)
    deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call.arguments


def test_a_conversation(client: OpenAI) -> None:
    first = client.responses.create(model=WORDS, input="My name is Ada.", max_output_tokens=5)
    second = client.responses.create(
        model=WORDS, input="And yours?", previous_response_id=first.id, max_output_tokens=5
    )
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.total_tokens
    assert client.responses.retrieve(second.id).output_text == second.output_text
    items = list(client.responses.input_items.list(first.id, order="asc", limit=1))
    assert [item.type for item in items] == ["message"]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_in_the_background_and_resumed(client: OpenAI) -> None:
    stream = client.responses.create(
        model=WORDS, input=QUESTION, background=True, stream=True, max_output_tokens=40
    )
    events: list[Any] = []
    for event in stream:
        events.append(event)
        if event.sequence_number == 5:
            break
    stream.close()
    id = events[0].response.id
    again = client.responses.retrieve(id, stream=True, starting_after=5)
    events += list(again)
    assert numbers(events) == list(range(len(events)))
    made = until(
        lambda: (
            found
            if (found := client.responses.retrieve(id)).status not in ("queued", "in_progress")
            else None
        )
    )
    assert joined(events) == made.output_text == events[-1].response.output_text


def test_cancelled(tools: RealServer) -> None:
    async def check() -> None:
        async with AsyncOpenAI(base_url=f"{tools.url}/v1", api_key="none", max_retries=0) as client:
            made = await client.responses.create(
                model=TOOLS,
                input=QUESTION,
                background=True,
                max_output_tokens=900,
                extra_body={"ignore_eos": True},
            )
            assert made.status == "queued"
            assert (await client.responses.cancel(made.id)).status == "cancelled"
            assert (await client.responses.retrieve(made.id)).status == "cancelled"

    asyncio.run(check())


def test_errors_are_the_package_s_own(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.create(model="gpt-4o", input="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as tool:
        client.responses.create(model=WORDS, input="a", tools=[{"type": "web_search"}])
    assert tool.value.param == "tools[0].type"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.retrieve("resp_0")
    assert unknown.value.code == "response_not_found"
