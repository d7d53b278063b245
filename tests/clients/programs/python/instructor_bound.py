"""instructor over a real model, in its modes that bind the answer: calls and schemas. Its default
mode with the types that JSON Schema has no words for, and streams of partial objects."""

import os
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Literal

import instructor
from instructor import Mode
from openai import OpenAI
from pydantic import BaseModel, ConfigDict, Field, SecretStr

MODEL = os.environ["MODEL"]
MODES = [Mode.TOOLS, Mode.TOOLS_STRICT, Mode.FUNCTIONS, Mode.JSON_SCHEMA, Mode.JSON_O1]
QUESTION = [{"role": "user", "content": "Extract: Jason is 25 years old and lives in Paris."}]
ACCOUNT = [
    {
        "role": "user",
        "content": "Extract the account: tags new, password secret, folder /tmp, picture abc, "
        "scores a 1 and b 2, price 12.5, note hello.",
    }
]


class Person(BaseModel):
    """A person."""

    name: Literal["Jason", "Maria"]
    age: int = Field(ge=0, le=120)


class Account(BaseModel):
    """What pydantic writes with uniqueItems, formats, propertyNames and large bounds. Closed: a
    small model would add properties for ever."""

    model_config = ConfigDict(extra="forbid")
    tags: set[Literal["new", "old"]] = Field(max_length=2)
    password: SecretStr = Field(max_length=12)
    folder: Path
    picture: bytes = Field(max_length=8)
    scores: dict[Literal["a", "b"], int]
    price: Decimal
    note: str = Field(max_length=10000)


class Story(BaseModel):
    """A story."""

    title: str = Field(max_length=20)
    text: str = Field(min_length=60, max_length=120)


def modes() -> None:
    for mode in MODES:
        client = instructor.from_openai(OpenAI(), mode=mode)
        person = client.chat.completions.create(
            model=MODEL, response_model=Person, messages=QUESTION, max_tokens=200
        )
        assert isinstance(person, Person), (mode, person)


def default_mode(client: instructor.Instructor) -> None:
    account = client.chat.completions.create(
        model=MODEL, response_model=Account, messages=ACCOUNT, max_tokens=300, temperature=0
    )
    assert isinstance(account.password, SecretStr)
    assert isinstance(account.folder, Path)
    assert isinstance(account.price, Decimal)
    several = client.chat.completions.create(
        model=MODEL,
        response_model=Iterable[Person],
        messages=QUESTION,
        max_tokens=400,
        temperature=0,
    )
    assert all(isinstance(person, Person) for person in several)


def streams(client: instructor.Instructor) -> None:
    seen = list(
        client.chat.completions.create_partial(
            model=MODEL, response_model=Story, messages=QUESTION, max_tokens=300
        )
    )
    texts = {story.text for story in seen if story.text}
    assert len(texts) > 5, f"the arguments of a call came in {len(texts)} pieces"
    assert len(seen[-1].text) >= 60


modes()
default = instructor.from_provider(f"openai/{MODEL}")
default_mode(default)
streams(default)
print(f"ok instructor: {len(MODES)} modes that bind, odd types, partial objects")
