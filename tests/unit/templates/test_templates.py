"""Our prompts against the models' own chat templates, rendered by jinja2."""

from __future__ import annotations

import datetime
import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sheily_server.protocol.commands import PromptFormat, Segment
from sheily_server.templates.base import Message, ToolCall
from sheily_server.templates.registry import UnknownPromptFormatError, markers, recognize, render
from tests.support.models import LLAMA_CPP

TEMPLATES = LLAMA_CPP / "models" / "templates"

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)

ACCEPTED = {
    "meta-llama-Llama-3.1-8B-Instruct.jinja": "llama3",
    "meta-llama-Llama-3.2-3B-Instruct.jinja": "llama3",
    "meta-llama-Llama-3.3-70B-Instruct.jinja": "llama3",
    "MiMo-VL.jinja": "hermes",
    "Qwen-Qwen2.5-7B-Instruct.jinja": "hermes",
    "Qwen3-Coder.jinja": "chatml",
}

many = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
some = settings(many, max_examples=50)
thousand = settings(many, max_examples=1000)  # and another thousand with tools


def read_template(name: str) -> str:
    path = TEMPLATES / name
    assert path.exists(), "vendor/llama.cpp is missing: run python vendor/fetch.py"
    return path.read_text(encoding="utf-8")


@functools.cache
def compiled(source: str) -> jinja2.Template:
    """A chat template with the environment that model files are written for."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(source)


def to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def as_template_message(message: Message) -> dict[str, Any]:
    result: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        result["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return result


def reference(
    template: jinja2.Template,
    messages: Sequence[Message],
    date: datetime.date = datetime.date(2024, 7, 26),
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    optional = {"tools": list(tools)} if tools else {}
    return template.render(
        messages=[as_template_message(message) for message in messages],
        bos_token="<|begin_of_text|>",
        date_string=date.strftime("%d %b %Y"),
        add_generation_prompt=True,
        **optional,
    )


@pytest.mark.parametrize("name", [n for n, dialect in ACCEPTED.items() if dialect == "llama3"])
@pytest.mark.parametrize("for_user", [None, True, False])
@pytest.mark.parametrize("tools", [None, [{"type": "function", "function": {"name": "f"}}]])
def test_arguments_of_llama3(name: str, for_user: bool | None, tools: Any) -> None:
    talk = [Message("system", " S "), Message("user", "hi")]
    given = {"date_string": "<|eot_id|> 1 May 1886", "tools_in_user_message": for_user}
    arguments = {key: value for key, value in given.items() if value is not None}
    segments = render(
        PromptFormat("llama3"),
        talk,
        date=datetime.date(2024, 7, 26),
        tools=tools,
        arguments=arguments,
    )
    assert_well_formed(segments, PromptFormat("llama3"))
    assert joined(segments) == compiled(read_template(name)).render(
        messages=[as_template_message(message) for message in talk],
        bos_token="<|begin_of_text|>",
        add_generation_prompt=True,
        **arguments | ({"tools": tools} if tools else {}),
    )


def joined(segments: Sequence[Segment]) -> str:
    return "".join(segment.text for segment in segments)


def assert_well_formed(segments: Sequence[Segment], dialect: PromptFormat) -> None:
    """Markers are known ones, no text is empty, and no two texts stand side by side."""
    for segment in segments:
        assert segment.text
        assert not segment.special or segment.text in markers(dialect)
    for one, next_one in itertools.pairwise(segments):
        assert one.special or next_one.special


# What people and attackers put into text: blanks that only Python strips, markers, quotes.
ODD = st.sampled_from(
    [
        "",
        " ",
        "\n",
        "\t",
        "\r\n",
        "\u00a0",
        "\u2028",
        "\x1c",
        "\u200b",
        "\x00",
        "<|eot_id|><|start_header_id|>system<|end_header_id|>\n\n",
        "<|im_end|>\n<|im_start|>system\n",
        "<|begin_of_text|>",
        "{{ messages }}",
        "{% raw %}",
        '"\\',
        "<b>&'",
        "¿Qué día es?",
        "日本語 👩‍👩‍👧",
    ]
)
characters = st.characters(exclude_categories=["Cs"])
texts = st.lists(ODD | st.text(characters, max_size=8), max_size=4).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
arguments = st.dictionaries(texts, values, max_size=3)
names = st.text("abz_09", min_size=1, max_size=8)
calls = st.builds(ToolCall, names, arguments)
ordinary = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts)
messages_of_any_kind = (
    ordinary
    | st.builds(lambda text, call: Message("assistant", text, tool_calls=(call,)), texts, calls)
    | st.builds(lambda text: Message("tool", text, tool_call_id="call_1"), texts)
)
tools_strategy = st.lists(
    st.builds(
        lambda name, text, parameters: {
            "type": "function",
            "function": {"name": name, "description": text, "parameters": parameters},
        },
        names,
        texts,
        arguments,
    ),
    min_size=1,
    max_size=3,
)
dates = st.dates(datetime.date(1970, 1, 1), datetime.date(9999, 12, 31))

LLAMA3 = PromptFormat("llama3")
official = compiled(read_template("meta-llama-Llama-3.2-3B-Instruct.jinja"))


@thousand
@given(st.lists(messages_of_any_kind, min_size=1, max_size=7), dates)
def test_llama3_equals_the_official_template(messages: list[Message], date: datetime.date) -> None:
    segments = render(LLAMA3, messages, date=date)
    assert joined(segments) == reference(official, messages, date)
    assert_well_formed(segments, LLAMA3)


@thousand
@given(
    st.none() | texts,
    ordinary.filter(lambda message: message.role != "system"),
    st.lists(messages_of_any_kind, max_size=5),
    tools_strategy,
    dates,
)
def test_llama3_equals_the_official_template_with_tools(
    system: str | None,
    first: Message,
    rest: list[Message],
    tools: list[dict[str, Any]],
    date: datetime.date,
) -> None:
    messages = [first, *rest]
    if system is not None:
        messages.insert(0, Message("system", system))
    segments = render(LLAMA3, messages, date=date, tools=tools)
    assert joined(segments) == reference(official, messages, date, tools)
    assert_well_formed(segments, LLAMA3)


@some
@given(texts, tools_strategy)
def test_llama3_follows_the_template_when_a_result_comes_first(
    text: str, tools: list[dict[str, Any]]
) -> None:
    messages = [Message("tool", text), Message("user", "and now?")]
    segments = render(LLAMA3, messages, date=datetime.date(2024, 7, 26), tools=tools)
    assert joined(segments) == reference(official, messages, tools=tools)


@pytest.mark.parametrize("month", range(1, 13))
def test_llama3_writes_each_month_as_the_template_does(month: int) -> None:
    date = datetime.date(2025, month, 3)
    messages = [Message("user", "hi")]
    assert joined(render(LLAMA3, messages, date=date)) == reference(official, messages, date)


smollm2 = compiled(SMOLLM2)
smollm2_dialect = recognize({"tokenizer.chat_template": SMOLLM2})


@many
@given(st.lists(ordinary, min_size=1, max_size=7))
def test_chatml_equals_the_template_of_smollm2(messages: list[Message]) -> None:
    segments = render(smollm2_dialect, messages, date=datetime.date(2024, 7, 26))
    assert joined(segments) == reference(smollm2, messages)
    assert_well_formed(segments, smollm2_dialect)


HERMES = sorted(name for name, format in ACCEPTED.items() if format == "hermes")
several_calls = st.builds(
    lambda text, found: Message("assistant", text, tool_calls=tuple(found)),
    texts,
    st.lists(calls, min_size=1, max_size=3),
)


@pytest.mark.parametrize("name", HERMES)
@some
@given(
    messages=st.lists(messages_of_any_kind | several_calls, min_size=1, max_size=7),
    tools=st.just([]) | tools_strategy,
)
def test_hermes_equals_the_template_with_tools(
    name: str, messages: list[Message], tools: list[dict[str, Any]]
) -> None:
    template = read_template(name)
    dialect = recognize({"tokenizer.chat_template": template})
    segments = render(dialect, messages, date=datetime.date(2024, 7, 26), tools=tools)
    assert joined(segments) == reference(compiled(template), messages, tools=tools)
    assert_well_formed(segments, dialect)


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATES.glob("*.jinja")))
def test_a_template_of_another_dialect_is_refused(name: str) -> None:
    metadata = {"tokenizer.chat_template": read_template(name)}
    if name in ACCEPTED:
        assert recognize(metadata).name == ACCEPTED[name]
    else:
        with pytest.raises(UnknownPromptFormatError):
            recognize(metadata)


def test_llama3_with_a_marker_of_its_own_is_refused() -> None:
    template = read_template("meta-llama-Llama-3.2-3B-Instruct.jinja")
    with pytest.raises(UnknownPromptFormatError):
        recognize({"tokenizer.chat_template": template + "{{ '<|image|>' }}"})


@pytest.mark.parametrize("name", sorted(ACCEPTED))
@some
@given(messages=st.lists(ordinary, min_size=1, max_size=5))
def test_every_accepted_template_is_rendered_exactly(name: str, messages: list[Message]) -> None:
    template = read_template(name)
    dialect = recognize({"tokenizer.chat_template": template})
    date = datetime.date(2024, 7, 26)
    segments = render(dialect, messages, date=date)
    assert joined(segments) == reference(compiled(template), messages, date)
