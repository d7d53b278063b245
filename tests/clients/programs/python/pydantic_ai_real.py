"""pydantic-ai over a real model: text, and typed answers in its ways, whole and streamed."""

import asyncio
import os
import sys
from typing import Literal

from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.settings import ModelSettings


class City(BaseModel):
    """A city."""

    name: Literal["Madrid", "Paris"]
    founded: int = Field(ge=0, le=2000)
    tags: set[Literal["old", "large"]] = Field(max_length=2)


async def main(prefix: str) -> None:
    model = f"{prefix}:{os.environ['MODEL']}"
    settings = ModelSettings(max_tokens=150)
    plain = Agent(model, model_settings=settings)
    assert (await plain.run("Name a river.")).output
    async with plain.run_stream("Name a river.") as streamed:
        pieces = [piece async for piece in streamed.stream_text(delta=True)]
    assert pieces

    for output_type in (City, ToolOutput(City), NativeOutput(City)):
        agent = Agent(model, output_type=output_type, model_settings=settings)
        city = (await agent.run("Name a city.")).output
        assert isinstance(city, City), city
    async with Agent(model, output_type=City, model_settings=settings).run_stream(
        "A city?"
    ) as streamed:
        city = await streamed.get_output()
    assert isinstance(city, City), city


asyncio.run(main(sys.argv[1]))
print(f"ok pydantic-ai, {sys.argv[1]}: text and typed answers over a real model")
