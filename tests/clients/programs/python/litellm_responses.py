"""litellm's functions over `/v1/responses`: its own, whole and streamed, and the adapter for
Anthropic's messages."""

import asyncio
import os

import litellm

MODEL = f"openai/{os.environ['MODEL']}"


async def main() -> None:
    answer = litellm.responses(model=MODEL, input="Name a river.", max_output_tokens=16)
    assert answer.output_text, answer
    events = list(
        litellm.responses(model=MODEL, input="Name a river.", max_output_tokens=16, stream=True)
    )
    assert events[-1].type in ("response.completed", "response.incomplete"), events[-1]
    message = await litellm.anthropic_messages(
        model=MODEL, messages=[{"role": "user", "content": "Name a river."}], max_tokens=16
    )
    assert message["content"][0]["text"], message


asyncio.run(main())
print("ok litellm: responses, whole and streamed, and Anthropic's messages by way of them")
