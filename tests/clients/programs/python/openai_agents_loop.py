"""openai-agents with one of its models, `responses` (its default) or `chat`: a loop of twelve
calls, whole and streamed, and a typed answer beside a function."""

import asyncio
import os
import sys

from agents import Agent, Model, OpenAIChatCompletionsModel, Runner, function_tool
from openai import AsyncOpenAI
from pydantic import BaseModel

STEPS = 12
taken: list[int] = []


class Report(BaseModel):
    steps: int
    place: str


@function_tool
def next_step(step: int) -> str:
    """Takes the step with this number."""
    taken.append(step)
    return f"step {step} is taken"


def model(which: str) -> str | Model:
    name = os.environ["MODEL"]
    if which == "responses":
        return name
    return OpenAIChatCompletionsModel(model=name, openai_client=AsyncOpenAI())


async def main(which: str) -> None:
    agent = Agent(name="walker", instructions="Walk.", model=model(which), tools=[next_step])
    question = f"steps {STEPS} next_step You are there."
    whole = await Runner.run(agent, question, max_turns=STEPS + 1)
    assert whole.final_output == "You are there.", whole.final_output
    assert taken == list(range(1, STEPS + 1)), taken
    assert whole.context_wrapper.usage.requests == STEPS + 1

    taken.clear()
    streamed = Runner.run_streamed(agent, question, max_turns=STEPS + 1)
    kinds = {event.type async for event in streamed.stream_events()}
    assert streamed.final_output == "You are there.", streamed.final_output
    assert taken == list(range(1, STEPS + 1)), taken
    assert {"raw_response_event", "run_item_stream_event"} <= kinds, kinds

    # The next turn, with the whole history of the first.
    again = [*whole.to_input_list(), {"role": "user", "content": "say Once more."}]
    assert (await Runner.run(agent, again)).final_output == "Once more."

    taken.clear()
    typed = agent.clone(output_type=Report)
    question = 'steps 2 next_step {"steps": 2, "place": "Rome"}'
    report = (await Runner.run(typed, question)).final_output
    assert report == Report(steps=2, place="Rome"), report
    assert taken == [1, 2], taken


asyncio.run(main(sys.argv[1]))
print(f"ok openai-agents, {sys.argv[1]}: loops of {STEPS} calls, a next turn, a typed answer")
