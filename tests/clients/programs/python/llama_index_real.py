"""llama-index over a real model, with its class for servers like this one: completions, which are
its default, chat, streams of both and a typed answer by a call."""

import os
from typing import Any, Literal

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class City(BaseModel):
    """A city."""

    name: Literal["Madrid", "Paris"]


def llm(**options: Any) -> OpenAILike:
    return OpenAILike(
        model=os.environ["MODEL"],
        api_base=os.environ["OPENAI_BASE_URL"],
        api_key=os.environ["OPENAI_API_KEY"],
        **options,
    )


plain = llm()
assert plain.complete("Name a river").text
assert "".join(piece.delta or "" for piece in plain.stream_complete("Name a river"))
# By default a conversation is one prompt too.
question = [ChatMessage(role="user", content="Name a river.")]
assert plain.chat(question).message.content

chat = llm(is_chat_model=True, is_function_calling_model=True, max_tokens=60)
assert chat.chat(question).message.content
assert "".join(piece.delta or "" for piece in chat.stream_chat(question))
city = chat.as_structured_llm(City).complete("Describe a city.").raw
assert isinstance(city, City), city
print("ok llama-index: complete and chat, whole and streamed, and a typed answer")
