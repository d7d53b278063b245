"""Llama 3.1, 3.2 and 3.3 Instruct."""

from ..base import CallSyntax, Template
from .calls import PYTHON_TAG, grammar, reader
from .prompt import ARGUMENTS, MARKERS, recognizes, render

TEMPLATE = Template(
    name="llama3",
    about="Llama 3.1, 3.2 and 3.3 Instruct",
    markers=MARKERS,
    recognizes=recognizes,
    render=render,
    arguments=ARGUMENTS,
    calls=CallSyntax(visible=(PYTHON_TAG,), grammar=grammar, reader=reader),
)
