"""Which messages of a long conversation stay in the prompt; knows roles and lengths, no tokens."""

from __future__ import annotations

from collections.abc import Sequence

from ..protocol.events import TooLong
from ..templates.base import Message

TRIMMED_SHARE = 8
"""A prompt that was not counted to its end loses at least one part in TRIMMED_SHARE."""


def limit_history(messages: Sequence[Message], limit: int) -> tuple[list[Message], int]:
    """Returns the messages that stay, in their order, and how many were dropped.

    The rule, for a limit of N >= 1 (ValueError below):

    - System messages always stay, in their places.
    - The others go in whole turns, the oldest first. A turn begins with a user's message and ends
      before the next one; messages before the first user's are a turn of their own.
    - The turn that is being answered, from the last user's message to the end, always stays: its
      question, its calls and their results, even if they are more than N.
    - The cut is at least as many blocks of max(1, N // 2) messages as bring the count to N or
      below, and moves on from there to the next turn. So it stands still for several turns, and
      the prompt only grows at its end meanwhile, which is what a cached prefix needs.

    With N = 4, of `S u1 a1 u2 a2 u3` (S the system message) one block of two goes, and
    `S u2 a2 u3` stays; a3 and u4 may follow before the next block goes:

    >>> talk = [Message("user", "u1"), Message("assistant", "a1"), Message("user", "u2"),
    ...         Message("assistant", "a2"), Message("user", "u3")]
    >>> kept, dropped = limit_history(talk, 4)
    >>> [message.text for message in kept], dropped
    (['u2', 'a2', 'u3'], 2)
    """
    if limit < 1:
        raise ValueError("the history limit must be at least 1")
    count = sum(message.role != "system" for message in messages)
    block = max(1, limit // 2)
    kept = drop_oldest(messages, -(-(count - limit) // block) * block)
    return kept, len(messages) - len(kept)


def drop_oldest(messages: Sequence[Message], count: int) -> list[Message]:
    """Returns the messages without the `count` oldest that are not the system's, and without the
    rest of the turn that the last of those is in. The turn that is being answered always stays;
    the result equals `messages` when nothing can go."""
    places = [place for place, message in enumerate(messages) if message.role != "system"]
    begins = [i for i, place in enumerate(places) if messages[place].role == "user"]
    if count <= 0 or not begins:
        return list(messages)
    cut = next((begin for begin in begins if begin >= count), begins[-1])
    dropped = set(places[:cut])
    return [message for place, message in enumerate(messages) if place not in dropped]


def excess_messages(kept: Sequence[Message], event: TooLong, context_size: int) -> int:
    """Returns how many of the oldest messages to drop from a prompt that is too long, by their
    lengths.

    The length of a prompt that was not counted to its end is unknown. The known part is too little,
    so a fixed share goes each time: a long prompt then needs no hundreds of tries.
    """
    excess = event.prompt_tokens + event.room - context_size
    length = sum(len(message.text) for message in kept)
    left = excess * length / max(1, event.prompt_tokens)
    if event.at_least:
        left = max(left, length / TRIMMED_SHARE)
    others = [message for message in kept if message.role != "system"]
    for count, message in enumerate(others, 1):
        left -= len(message.text)
        if left <= 0:
            return count
    return len(others)
