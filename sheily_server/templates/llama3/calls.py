"""Function calls as Llama 3 writes them.

Meta documents the forms at https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_2/: an
object with `name` and `parameters`; a Python list of calls; and either of them, or
`name.call(...)`, after `<|python_tag|>`.
"""

from __future__ import annotations

from ..base import Offer
from ..call_grammar import CallForm, call_grammar
from ..calls import CallReader

PYTHON_TAG = "<|python_tag|>"
_FORM = CallForm(arguments="parameters", separator="; ")


def grammar(offered: Offer, text: str | None = None) -> str:
    """Returns the grammar of an answer to an offer."""
    return call_grammar(offered, _FORM, text)


def reader(offered: Offer, bound: bool) -> CallReader:
    """Returns a reader of one answer."""
    return CallReader(offered, bound=bound, tags=(PYTHON_TAG,))
