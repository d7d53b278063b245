"""Fields of OpenAI's chat API that this server, or one of its routes, does not act on, each with
its values that ask for nothing."""

from __future__ import annotations

from ..body import Values

NEUTRAL: Values = {
    "n": (1,),
    "stream": (False,),
    "stream_options": (),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
    "moderation": (),
    "grammar_lazy": (False,),
    "grammar_triggers": ([],),
}
"""Other values would change the answer: they are refused."""

FORMS: Values = {
    "response_format": ({"type": "text"},),
    "json_schema": (),
    "grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": ({},),
}
"""What an answer must follow, as the chat routes have it: other dialects have fields of their own,
and refuse these."""

RETENTIONS = ("in_memory", "in-memory", "24h")

EFFECTLESS: Values = {
    "store": (False,),
    "service_tier": ("auto", "default"),
    "verbosity": ("medium",),
    "reasoning_effort": ("none",),
    "prompt_cache_retention": RETENTIONS,
    "prompt_cache_options": (),
}
"""Other values are accepted, and `sheily.ignored` names them."""
