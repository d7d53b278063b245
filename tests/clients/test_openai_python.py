"""The official `openai` package for Python, sync and async, as its users use it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI, pydantic_function_tool
from openai.types.chat import ChatCompletion, ParsedChatCompletion
from openai.types.completion_usage import CompletionTokensDetails
from pydantic import BaseModel, Field

from tests.support.real_server import RealServer
from tests.support.waiting import until

WORDS = "SmolLM2-135M-Instruct.Q4_1"
TOOLS = "llama3-tiny"
QUESTION: Any = [{"role": "user", "content": "How is the weather in Paris?"}]

# The package's own doing: it writes out models that hold parsed objects.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")


class Weather(BaseModel):
    """The weather in a city."""

    city: Literal["Madrid", "Paris"]
    days: int = Field(ge=1, le=7)


WEATHER = pydantic_function_tool(Weather, name="weather")


@pytest.fixture(scope="module")
def words_client(words: RealServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{words.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def tools_client(tools: RealServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{tools.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def call_weather(client: OpenAI, **options: Any) -> ParsedChatCompletion[None]:
    return client.chat.completions.parse(
        model=TOOLS,
        messages=QUESTION,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=60,
        **options,
    )


def after_call(client: OpenAI, message: Any, call_id: str) -> ChatCompletion:
    """The next turn: the call as it came, and its result."""
    result: Any = {"role": "tool", "tool_call_id": call_id, "content": "sunny"}
    return client.chat.completions.create(
        model=TOOLS, messages=[*QUESTION, message, result], tools=[WEATHER], max_tokens=3
    )


def test_the_model_is_listed_and_found(words_client: OpenAI) -> None:
    assert [model.id for model in words_client.models.list()] == [WORDS]
    assert words_client.models.retrieve(WORDS).object == "model"
    with pytest.raises(openai.NotFoundError):
        words_client.models.retrieve("gpt-4o")


def test_choices_with_logprobs_and_the_request_id(words_client: OpenAI) -> None:
    answer = words_client.chat.completions.create(
        model=WORDS, messages=QUESTION, n=2, max_tokens=3, logprobs=True, top_logprobs=2, seed=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6
    for choice in answer.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert len(choice.logprobs.content) == 3
        said = b"".join(bytes(token.bytes or []) for token in choice.logprobs.content)
        assert said.decode("utf-8", "replace") == choice.message.content
        for token in choice.logprobs.content:
            assert len(token.top_logprobs) == 2
            assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob


def test_a_prediction_and_what_it_was_good_for(words_client: OpenAI) -> None:
    # Of each token of its answer SmolLM2 is sure: it is the same in a batch.
    words = "one two three four five six seven eight nine ten"
    question: Any = [{"role": "user", "content": f"Repeat this word for word: {words}."}]
    create = words_client.chat.completions.create
    plain = create(model=WORDS, messages=question, temperature=0, max_tokens=24)
    said = plain.choices[0].message.content
    assert said is not None
    answer = create(
        model=WORDS,
        messages=question,
        temperature=0,
        max_tokens=24,
        prediction={"type": "content", "content": said},
    )
    assert answer.choices[0].message.content == said
    counts = []
    for completion in (plain, answer):
        assert completion.usage is not None
        details = completion.usage.completion_tokens_details
        assert isinstance(details, CompletionTokensDetails)
        assert (details.reasoning_tokens, details.audio_tokens) == (0, 0)
        assert details.text_tokens == completion.usage.completion_tokens
        counts.append((details.accepted_prediction_tokens, details.rejected_prediction_tokens))
    assert counts[0] == (0, 0)
    assert (counts[1][0] or 0) > 0


def test_the_stream_helper_ends_with_the_whole_answer(words_client: OpenAI) -> None:
    with words_client.chat.completions.stream(
        model=WORDS,
        messages=QUESTION,
        temperature=0,
        stop=[" ", "\n"],  # the helper takes an answer that is cut off for an error
        max_tokens=60,
        stream_options={"include_usage": True},
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        answer = stream.get_final_completion()
    assert "".join(deltas) == answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_a_structured_answer_and_the_turn_after_it(words_client: OpenAI) -> None:
    answer = words_client.chat.completions.parse(
        model=WORDS, messages=QUESTION, response_format=Weather, max_tokens=60
    )
    message = answer.choices[0].message
    assert isinstance(message.parsed, Weather)
    assert answer.choices[0].finish_reason == "stop"
    following: Any = [*QUESTION, message, *QUESTION]
    next_answer = words_client.chat.completions.create(
        model=WORDS, messages=following, max_tokens=2
    )
    assert next_answer.usage is not None
    assert answer.usage is not None
    assert next_answer.usage.prompt_tokens > answer.usage.prompt_tokens


def test_a_structured_answer_in_a_stream(words_client: OpenAI) -> None:
    with words_client.chat.completions.stream(
        model=WORDS, messages=QUESTION, response_format=Weather, max_tokens=60
    ) as stream:
        answer = stream.get_final_completion()
    assert isinstance(answer.choices[0].message.parsed, Weather)


def test_a_structured_answer_that_is_cut_off_says_so(words_client: OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        words_client.chat.completions.parse(
            model=WORDS, messages=QUESTION, response_format=Weather, max_tokens=3
        )


@pytest.mark.parametrize("dumped", [False, True])
def test_a_call_goes_back_as_it_came(tools_client: OpenAI, dumped: bool) -> None:
    answer = call_weather(tools_client)
    assert answer.choices[0].finish_reason == "tool_calls"
    message = answer.choices[0].message
    assert message.content is None
    [call] = message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Weather)
    following = after_call(tools_client, message.model_dump() if dumped else message, call.id)
    assert following.choices[0].finish_reason in ("length", "stop")


def test_a_named_function_is_called(tools_client: OpenAI) -> None:
    other: Any = {"type": "function", "function": {"name": "other", "parameters": None}}
    answer: Any = tools_client.chat.completions.create(
        model=TOOLS,
        messages=QUESTION,
        tools=[other, WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
        max_tokens=60,
    )
    [call] = answer.choices[0].message.tool_calls
    assert call.function.name == "weather"
    assert Weather.model_validate_json(call.function.arguments)


def test_a_call_from_the_stream_helper_goes_back(tools_client: OpenAI) -> None:
    with tools_client.chat.completions.stream(
        model=TOOLS,
        messages=QUESTION,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=60,
    ) as stream:
        events = list(stream)
        message = stream.get_final_completion().choices[0].message
    done = [e for e in events if e.type == "tool_calls.function.arguments.done"]
    assert [type(event.parsed_arguments) for event in done] == [Weather]
    pieces = [e for e in events if e.type == "tool_calls.function.arguments.delta"]
    assert len(pieces) > 2
    assert message.tool_calls
    assert after_call(tools_client, message, message.tool_calls[0].id).choices


def test_a_call_put_together_from_chunks_goes_back(tools_client: OpenAI) -> None:
    chunks = list(
        tools_client.chat.completions.create(
            model=TOOLS,
            messages=QUESTION,
            tools=[WEATHER],
            tool_choice="required",
            parallel_tool_calls=False,
            max_tokens=60,
            stream=True,
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks]
    calls = [call for delta in deltas for call in delta.tool_calls or []]
    assert {call.index for call in calls} == {0}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    arguments = "".join(part.function.arguments or "" for part in calls if part.function)
    first = calls[0].model_dump(exclude_none=True)
    first["function"]["arguments"] = arguments
    message = {"role": "assistant", "tool_calls": [first]}
    assert after_call(tools_client, message, first["id"]).choices


def test_errors_are_the_package_s_own(words_client: OpenAI) -> None:
    create = words_client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="gpt-4o", messages=QUESTION)
    assert missing.value.code == "model_not_found"
    picture: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    message: Any = {"role": "user", "content": [{"type": "text", "text": "What?"}, picture]}
    with pytest.raises(openai.BadRequestError) as image:
        create(model=WORDS, messages=[message])
    assert image.value.param == "messages[0].content[1].type"


def test_async_answers_streams_and_calls_side_by_side(tools: RealServer) -> None:
    async def whole(client: AsyncOpenAI) -> str:
        answer = await client.chat.completions.create(model=TOOLS, messages=QUESTION, max_tokens=6)
        return answer.choices[0].finish_reason

    async def stream(client: AsyncOpenAI) -> str:
        chunks = await client.chat.completions.create(
            model=TOOLS, messages=QUESTION, max_tokens=6, stream=True
        )
        reasons = [chunk.choices[0].finish_reason async for chunk in chunks]
        assert set(reasons[:-1]) == {None}
        return reasons[-1] or ""

    async def parse(client: AsyncOpenAI) -> Any:
        answer = await client.chat.completions.parse(
            model=TOOLS, messages=QUESTION, response_format=Weather, max_tokens=60
        )
        return answer.choices[0].message.parsed

    async def call(client: AsyncOpenAI) -> Any:
        async with client.chat.completions.stream(
            model=TOOLS,
            messages=QUESTION,
            tools=[WEATHER],
            tool_choice="required",
            parallel_tool_calls=False,
            max_tokens=60,
        ) as events:
            answer = await events.get_final_completion()
        assert answer.choices[0].message.tool_calls
        return answer.choices[0].message.tool_calls[0].function.parsed_arguments

    async def all_four() -> tuple[str, str, Any, Any]:
        async with AsyncOpenAI(base_url=f"{tools.url}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(whole(client), stream(client), parse(client), call(client))

    first, second, parsed, called = asyncio.run(all_four())
    assert {first, second} <= {"length", "stop"}
    assert isinstance(parsed, Weather)
    assert isinstance(called, Weather)


def test_an_async_client_that_stops_reading_frees_its_place(tools: RealServer) -> None:
    async def leave() -> None:
        async with (
            AsyncOpenAI(base_url=f"{tools.url}/v1", api_key="none") as client,
            await client.chat.completions.create(
                model=TOOLS,
                messages=QUESTION,
                max_tokens=500,
                stream=True,
                extra_body={"ignore_eos": True},
            ) as stream,
        ):
            async for _ in stream:
                break

    asyncio.run(leave())
    until(lambda: tools.health()["active_requests"] == 0, 10)
