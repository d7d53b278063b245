"""pydantic-ai with a model string, `openai:` or `openai-chat:`: a loop of twelve calls, whole and
streamed, and the next turn with their history."""

import asyncio
import os
import sys

from pydantic_ai import Agent

STEPS = 12
taken: list[int] = []


def next_step(step: int) -> str:
    """Takes the step with this number."""
    taken.append(step)
    return f"step {step} is taken"


async def main(prefix: str) -> None:
    agent = Agent(f"{prefix}:{os.environ['MODEL']}", instructions="Walk.", tools=[next_step])
    question = f"steps {STEPS} next_step You are there."
    whole = await agent.run(question)
    assert whole.output == "You are there.", whole.output
    assert taken == list(range(1, STEPS + 1)), taken

    taken.clear()
    async with agent.run_stream(question) as streamed:
        output = await streamed.get_output()
    assert output == "You are there.", output
    assert taken == list(range(1, STEPS + 1)), taken

    again = await agent.run("say Once more.", message_history=whole.all_messages())
    assert again.output == "Once more.", again.output


asyncio.run(main(sys.argv[1]))
print(f"ok pydantic-ai, {sys.argv[1]}: loops of {STEPS} calls, a next turn")
