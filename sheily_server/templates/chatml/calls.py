"""Function calls in ChatML: between `<tool_call>` tags, as Hermes and Qwen2.5 write them, or as
plain objects for models whose template has no calls."""

from __future__ import annotations

from ..base import Offer
from ..call_grammar import CallForm, call_grammar
from ..calls import CallReader

TAG, END_TAG = "<tool_call>", "</tool_call>"
TAGGED = CallForm(arguments="arguments", begin=f"{TAG}\n", end=f"\n{END_TAG}", separator="\n")
PLAIN = CallForm(arguments="arguments", separator="\n")


def tagged_grammar(offered: Offer, text: str | None = None) -> str:
    """Returns the grammar of an answer to an offer, for models that know the tags."""
    return call_grammar(offered, TAGGED, text)


def plain_grammar(offered: Offer, text: str | None = None) -> str:
    """Returns the grammar of an answer to an offer, for models that know no calls."""
    return call_grammar(offered, PLAIN, text)


def reader(offered: Offer, bound: bool) -> CallReader:
    """Returns a reader of one answer. Calls need no tags."""
    return CallReader(offered, bound=bound, tags=(TAG,), ends=(END_TAG,))
