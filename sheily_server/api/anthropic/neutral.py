"""Fields of Anthropic's Messages API that this server does not act on, each with its values that
ask for nothing."""

from __future__ import annotations

from ..body import Values
from ..openai_chat.neutral import FORMS

NEUTRAL: Values = {
    "container": (),
    "mcp_servers": ([],),
    "compaction": (),
    "thread": (),
    **FORMS,
}
"""Other values would change the answer: they are refused."""

EFFECTLESS: Values = {
    "thinking": ({"type": "disabled"},),
    "service_tier": ("auto", "standard_only"),
    "speed": ("standard",),
    "inference_geo": (),
    "context_management": ({}, {"edits": []}),
    "diagnostics": (),
    "fallbacks": ([], "default"),
    "fallback_credit_token": (),
    "billing_policy": (),
    "betas": ([],),
}
"""Other values are accepted, and `sheily.ignored` names them."""
