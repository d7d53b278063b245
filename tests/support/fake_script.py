"""What the fake engine says where a client's loop needs a model that does as it was told."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sheily_server.protocol.commands import Segment

_RESULT = "ipython"
_USER = "user"


def results(segments: Sequence[Segment]) -> int:
    """How many results of functions a prompt of Llama 3 has behind the last user's message."""
    roles = [segment.text for segment in segments if segment.text in (_RESULT, _USER)]
    return len(roles) - 1 - max((i for i, role in enumerate(roles) if role == _USER), default=-1)


def step(segments: Sequence[Segment], arguments: Sequence[str]) -> str:
    """The answer to `steps N NAME WORDS`: the next of N calls, or the words behind the last one."""
    wanted, name, *words = arguments
    done = results(segments)
    if done < int(wanted):
        return json.dumps({"name": name, "parameters": {"step": done + 1}})
    return " ".join(words) or f"{done} steps are done"


def said(text: str) -> str:
    """The answer to `say WORDS`: the words of that line."""
    return text.partition("\n")[0].removeprefix("say ")
