"""Cuts long conversations for the prompt. Knows roles, but not tokens or text."""

from __future__ import annotations

from collections.abc import Sequence

from ..templates.base import Message, Role


def limit_history(messages: Sequence[Message], limit: int) -> tuple[list[Message], int]:
    """Returns the messages that stay, in order, and how many were dropped.

    The rule for a limit of N (raises ValueError below 1):

    - System messages always stay, in place. Of the others, at most the last N stay.
    - Messages are dropped from the front in whole blocks of max(1, N // 2), as few as bring the
      count to N or below. So the cut moves once in N // 2 messages. In between, the prompt only
      grows at its end, as a cached prefix requires.
    - Tool results stay with the message that called for them: a cut among them moves forward to the
      message after the last result. If there is none, it moves back to the call, even if more than
      N messages then stay. A conversation is never cut down to nothing or to results alone.

    With N = 4, `S u1 a1 u2 a2 u3` (S is the system message) loses one block of two and becomes
    `S u2 a2 u3`. a3 may follow before the next block is dropped:

    >>> talk = [Message("user", "u1"), Message("assistant", "a1"), Message("user", "u2"),
    ...         Message("assistant", "a2"), Message("user", "u3")]
    >>> kept, dropped = limit_history(talk, 4)
    >>> [message.text for message in kept], dropped
    (['u2', 'a2', 'u3'], 2)
    """
    if limit < 1:
        raise ValueError("the history limit must be at least 1")
    places = [place for place, message in enumerate(messages) if message.role != "system"]
    roles = [messages[place].role for place in places]
    cut = _outside_results(roles, _block_cut(len(roles), limit))
    dropped = set(places[:cut])
    kept = [message for place, message in enumerate(messages) if place not in dropped]
    return kept, cut


def drop_oldest(messages: Sequence[Message], count: int) -> list[Message]:
    """Returns the messages without the `count` oldest that are not the system's. Tool results go or
    stay with their call. The last message always stays. Equals `messages` when nothing can go."""
    places = [place for place, message in enumerate(messages) if message.role != "system"]
    roles = [messages[place].role for place in places]
    cut = _outside_results(roles, max(0, min(count, len(roles) - 1)))
    dropped = set(places[:cut])
    return [message for place, message in enumerate(messages) if place not in dropped]


def _block_cut(count: int, limit: int) -> int:
    """Returns how many of `count` messages go in whole blocks; fewer than all, as limit >= 1."""
    block = max(1, limit // 2)
    excess = max(0, count - limit)
    return -(-excess // block) * block


def _outside_results(roles: Sequence[Role], cut: int) -> int:
    """Moves the cut to where it separates no tool result from the message before it."""
    if cut == 0 or roles[cut] != "tool":
        return cut
    for place in range(cut, len(roles)):
        if roles[place] != "tool":
            return place
    while cut > 0 and roles[cut] == "tool":
        cut -= 1
    return cut
