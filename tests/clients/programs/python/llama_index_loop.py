"""llama-index's agent: a loop of twelve calls, streamed as by default, and the next turn."""

import asyncio
import os

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.workflow import Context
from llama_index.llms.openai_like import OpenAILike

STEPS = 12
taken: list[int] = []


def next_step(step: int) -> str:
    """Takes the step with this number."""
    taken.append(step)
    return f"step {step} is taken"


async def main() -> None:
    llm = OpenAILike(
        model=os.environ["MODEL"],
        api_base=os.environ["OPENAI_BASE_URL"],
        api_key=os.environ["OPENAI_API_KEY"],
        is_chat_model=True,
        is_function_calling_model=True,
    )
    agent = FunctionAgent(tools=[next_step], llm=llm, system_prompt="Walk.")
    memory = Context(agent)
    answer = await agent.run(f"steps {STEPS} next_step You are there.", ctx=memory)
    assert str(answer) == "You are there.", answer
    assert taken == list(range(1, STEPS + 1)), taken
    again = await agent.run("say Once more.", ctx=memory)
    assert str(again) == "Once more.", again


asyncio.run(main())
print(f"ok llama-index: an agent's loop of {STEPS} calls, a next turn")
