"""instructor in its modes that leave the answer to the model: `say` has the model say the right
thing."""

import json
import os
from collections.abc import Iterable
from typing import Any

import instructor
from instructor import Mode
from openai import OpenAI
from pydantic import BaseModel

MODEL = os.environ["MODEL"]
JASON = {"name": "Jason", "age": 25}
CALL = {"name": "Person", "parameters": JASON}


class Person(BaseModel):
    """A person."""

    name: str
    age: int


class Place(BaseModel):
    """A place."""

    name: str


def ask(mode: Mode, response_model: Any, words: str) -> Any:
    client = instructor.from_openai(OpenAI(), mode=mode)
    messages: Any = [{"role": "user", "content": f"say {words}"}]
    return client.chat.completions.create(
        model=MODEL, response_model=response_model, messages=messages
    )


for answer in (
    ask(Mode.JSON, Person, json.dumps(JASON)),
    ask(Mode.MD_JSON, Person, f"```json {json.dumps(JASON)} ```"),
    *ask(Mode.PARALLEL_TOOLS, Iterable[Person | Place], json.dumps(CALL)),
):
    assert answer.model_dump() == JASON, answer
print("ok instructor: the modes that leave the answer to the model")
