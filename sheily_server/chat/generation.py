"""A request to the model, independent of the API's dialects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..protocol.commands import Sampling
from ..templates.base import Message, Offer
from .grammar import AnswerSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A request for `n` answers to a conversation.

    `max_tokens` None: as many as the server gives. `stop` are texts that end an answer.
    `top_logprobs` None: no log-probabilities, else how many alternatives of each token. `schema` is
    what the answers follow, `prediction` a text that they may repeat. `history` None: all
    messages are kept, else at most so many beside the system's. `trims`: the oldest messages go
    until the rest fits. `max_tokens_place` is what the request calls that field.
    """

    messages: Sequence[Message]
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    max_tokens_place: str = "max_tokens"
    stop: list[str] = field(default_factory=list)
    n: int = 1
    top_logprobs: int | None = None
    offer: Offer = field(default_factory=Offer)
    schema: AnswerSchema | None = None
    prediction: str | None = None
    history: int | None = None
    trims: bool = False
