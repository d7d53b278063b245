"""ChatML, as SmolLM2 and Qwen2.5 use it; no tools."""

from ..base import Template
from .prompt import MARKERS, default_system, recognizes, render

TEMPLATE = Template(
    name="chatml",
    about="plain ChatML, such as SmolLM2 and Qwen2.5 Instruct",
    markers=MARKERS,
    recognizes=recognizes,
    render=render,
    default_system=default_system,
)
