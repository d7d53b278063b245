"""A request to the model, independent of the API's dialects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..protocol.commands import RawPrompt
from ..templates.base import Message, Offer
from .grammar import AnswerForm
from .sampling import Wanted


def continuable(messages: Sequence[Message]) -> bool:
    """Whether an answer may go on with the last message: that is the assistant's, has text and no
    calls, and is not the only one."""
    if len(messages) < 2:
        return False
    last = messages[-1]
    return last.role == "assistant" and bool(last.text) and not last.tool_calls


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheWish:
    """What a request says of the prefix cache: a `salt`, as only requests with the same one share
    cells; whether its cells may be kept on `disk`, and whether it asks for that (`lasting`); and
    the id of the answer whose end takes them along."""

    salt: str = ""
    disk: bool = True
    lasting: bool = False
    answer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A request for `n` answers to a conversation, or to each of `prompts` in its place.

    `max_tokens` None means as many as the server gives; `max_tokens_place` is what the request
    calls that field. `stop` holds texts that end an answer. `top_logprobs` is how many alternatives
    of each token to return; None means no logprobs. The answers follow `form`, which is a schema,
    an expression, a choice of texts or a grammar, and may repeat `prediction`. `echo` asks for the
    tokens of each prompt before its answers, `scores` for their log-probabilities too. At most
    `history` messages are kept besides the system's; None keeps all. `trims` means that the oldest
    turns are dropped until the rest fits. `ignored` are the places of fields without effect.
    `continues` means that the answer goes on with the last message, which is the assistant's.
    `progress` asks for Progress among the pieces. `trim_word` is the value with which a request
    asks for `trims`. `bias_texts` are texts with what is added to the logits of their tokens.
    `template_arguments` are for the model's template, by name. `cache` is what the request says of
    the prefix cache.
    """

    messages: Sequence[Message] = ()
    prompts: Sequence[RawPrompt] = ()
    echo: bool = False
    scores: bool = False
    sampling: Wanted = field(default_factory=Wanted)
    bias_texts: Mapping[str, float] = field(default_factory=dict)
    max_tokens: int | None = None
    max_tokens_place: str = "max_tokens"
    stop: list[str] = field(default_factory=list)
    n: int = 1
    top_logprobs: int | None = None
    offer: Offer = field(default_factory=Offer)
    form: AnswerForm | None = None
    prediction: str | None = None
    history: int | None = None
    continues: bool = False
    progress: bool = False
    trims: bool = False
    trim_word: str = "trim"
    template_arguments: Mapping[str, object] = field(default_factory=dict)
    ignored: Sequence[str] = ()
    cache: CacheWish = CacheWish()

    @property
    def n_choices(self) -> int:
        """Number of answers to all prompts together."""
        return self.n * max(1, len(self.prompts))
