"""Which GGUF metadata is taken for which dialect, and what is said of the rest."""

from __future__ import annotations

import datetime

import msgspec
import pytest

from sheily_server.protocol.commands import PromptFormat
from sheily_server.templates.base import Message
from sheily_server.templates.registry import (
    TEMPLATES,
    UnknownPromptFormatError,
    markers,
    recognize,
    render,
)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def of(template: str) -> PromptFormat:
    return recognize({"general.architecture": "llama", "tokenizer.chat_template": template})


def test_plain_chatml_has_no_default_system_message() -> None:
    assert of(CHATML) == PromptFormat("chatml", None)


def test_the_default_system_message_is_carried() -> None:
    template = (
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou help.<|im_end|>\\n' }}"
        "{% endif %}" + CHATML
    )
    assert of(template) == PromptFormat("chatml", "You help.")


@pytest.mark.parametrize(
    "template",
    [
        "{{ bos_token }}" + CHATML,
        CHATML.replace("message['content']", "message['content'] | trim"),
        CHATML.replace("assistant\\n", "assistant\\n<think>\\n"),
        CHATML.replace("{% endif %}", "{{ '<|im_middle|>' }}{% endif %}"),
        CHATML.replace("'<|im_end|>' + '\\n'", "'<|im_end|>'"),
        CHATML + "{{ 'more' }}",
        "{{ '<|im_start|>system\\nAlways there.<|im_end|>\\n' }}" + CHATML,
    ],
    ids=["bos", "trim", "think", "marker", "newline", "after", "unconditional"],
)
def test_chatml_with_something_of_its_own_is_refused(template: str) -> None:
    with pytest.raises(UnknownPromptFormatError):
        of(template)


def test_the_original_llama3_is_refused() -> None:
    with pytest.raises(UnknownPromptFormatError, match=r"<\|start_header_id\|>.*Llama 3\.1, 3\.2"):
        of(
            "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
            "'<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        )


def test_the_error_names_what_was_found_and_what_is_supported() -> None:
    with pytest.raises(UnknownPromptFormatError) as raised:
        recognize(
            {
                "general.architecture": "gemma2",
                "general.name": "Gemma",
                "tokenizer.chat_template": "<start_of_turn>{{ x }}<end_of_turn><start_of_turn>",
            }
        )
    assert str(raised.value) == (
        "the model 'Gemma' (architecture: gemma2) has a chat template that is not known "
        "(its markers: <start_of_turn> <end_of_turn>); supported prompt formats: "
        "llama3 (Llama 3.1, 3.2 and 3.3 Instruct), "
        "hermes (ChatML with <tool_call> tags, such as Qwen2.5 Instruct), "
        "chatml (plain ChatML, such as SmolLM2 Instruct)"
    )


def test_a_file_without_a_template_is_refused() -> None:
    with pytest.raises(UnknownPromptFormatError, match=r"has no chat template") as raised:
        recognize({})
    assert all(name in str(raised.value) for name in TEMPLATES)


def test_a_template_without_markers_is_refused() -> None:
    with pytest.raises(UnknownPromptFormatError, match="its markers: none"):
        of("{{ messages }}")


def test_a_dialect_survives_msgpack() -> None:
    dialect = PromptFormat("chatml", "You help.")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(dialect), type=PromptFormat) == dialect


def test_every_supported_dialect_can_be_used() -> None:
    messages = [Message("user", "hi")]
    for name in TEMPLATES:
        segments = render(PromptFormat(name), messages, date=datetime.date(2024, 7, 26))
        emitted = {segment.text for segment in segments if segment.special}
        assert emitted == set(markers(PromptFormat(name)))


def test_a_dialect_that_is_none_is_an_error_everywhere() -> None:
    none = PromptFormat("gemma")
    messages = [Message("user", "hi")]
    with pytest.raises(UnknownPromptFormatError, match="gemma"):
        markers(none)
    with pytest.raises(UnknownPromptFormatError, match="gemma"):
        render(none, messages, date=datetime.date(2024, 7, 26))


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_message_that_is_continued_has_no_end(name: str) -> None:
    date = datetime.date(2024, 7, 26)
    question, begun = Message("user", "hi"), Message("assistant", " I am, ")
    prompt = render(PromptFormat(name), [question], date=date)
    continued = render(PromptFormat(name), [question, begun], date=date, continues=True)
    assert continued[:-1] == prompt[:-1]
    assert continued[-1] == (prompt[-1].text + "I am, ", False)
