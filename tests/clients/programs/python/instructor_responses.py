"""instructor over `/v1/responses`, in both of its modes for it."""

import os
from typing import Literal

import instructor
from instructor import Mode
from openai import OpenAI
from pydantic import BaseModel, Field

MODES = [Mode.RESPONSES_TOOLS, Mode.RESPONSES_TOOLS_WITH_INBUILT_TOOLS]


class Person(BaseModel):
    """A person."""

    name: Literal["Jason", "Maria"]
    age: int = Field(ge=0, le=120)


for mode in MODES:
    client = instructor.from_openai(OpenAI(), mode=mode)
    person = client.chat.completions.create(
        model=os.environ["MODEL"],
        response_model=Person,
        messages=[{"role": "user", "content": "Extract: Jason is 25 years old."}],
        max_tokens=200,
    )
    assert isinstance(person, Person), (mode, person)
print(f"ok instructor: {len(MODES)} modes of the Responses API")
