"""openai-agents over a real model: plain and typed answers, and a call that is forced."""

import asyncio
import os
import sys
from typing import Literal

from agents import (
    Agent,
    Model,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    StopAtTools,
    function_tool,
)
from openai import AsyncOpenAI
from pydantic import BaseModel


class City(BaseModel):
    name: Literal["Madrid", "Paris"]
    is_capital: bool


@function_tool
def weather(city: Literal["Madrid", "Paris"]) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def model(which: str) -> str | Model:
    name = os.environ["MODEL"]
    if which == "responses":
        return name
    return OpenAIChatCompletionsModel(model=name, openai_client=AsyncOpenAI())


async def main(which: str) -> None:
    # The client takes an answer that was cut off for a failure, and so small a model may ramble.
    settings = ModelSettings(max_tokens=1000, temperature=0)
    plain = Agent(name="plain", model=model(which), model_settings=settings)
    assert (await Runner.run(plain, "Name a river.")).final_output

    typed = plain.clone(output_type=City)
    city = (await Runner.run(typed, "Name a city.")).final_output
    assert isinstance(city, City), city

    caller = plain.clone(
        tools=[weather],
        model_settings=ModelSettings(max_tokens=1000, temperature=0, tool_choice="required"),
        tool_use_behavior=StopAtTools(stop_at_tool_names=["weather"]),
    )
    answer = (await Runner.run(caller, "How is the weather in Paris?")).final_output
    assert str(answer).startswith("sunny in "), answer


asyncio.run(main(sys.argv[1]))
print(f"ok openai-agents, {sys.argv[1]}: plain, typed and forced over a real model")
