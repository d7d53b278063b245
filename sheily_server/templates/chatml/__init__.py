"""ChatML, as SmolLM2 and Qwen2.5 use it: with tools in tags where the model's template has them so,
else in plain text."""

from ..base import CallSyntax, Template
from . import calls
from .prompt import MARKERS, default_system, recognizes, renderer
from .tools import TAGS, WITHOUT_TAGS, has_tags

HERMES = Template(
    name="hermes",
    about="ChatML with <tool_call> tags, such as Qwen2.5 Instruct",
    markers=MARKERS,
    recognizes=lambda template: recognizes(template) and has_tags(template),
    render=renderer(TAGS),
    default_system=default_system,
    calls=CallSyntax(
        visible=(calls.TAG, calls.END_TAG), grammar=calls.tagged_grammar, reader=calls.reader
    ),
)
TEMPLATE = Template(
    name="chatml",
    about="plain ChatML, such as SmolLM2 Instruct",
    markers=MARKERS,
    recognizes=recognizes,
    render=renderer(WITHOUT_TAGS),
    default_system=default_system,
    calls=CallSyntax(visible=(), grammar=calls.plain_grammar, reader=calls.reader),
)
