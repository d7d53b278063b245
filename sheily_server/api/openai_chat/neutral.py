"""Fields of OpenAI's API that have no effect here, and the values that they may have."""

from __future__ import annotations

from ..body import Neutral

NEUTRAL: Neutral = {
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
    "verbosity": ("medium",),
    "web_search_options": (),
    "prompt_cache_retention": ("in_memory", "in-memory"),
    "prompt_cache_options": (),
    "moderation": (),
}
"""Fields of OpenAI's API that this server, or one of its routes, does not act on."""
