"""One answer inside the engine, as integers: its prompt, what is computed, what was generated."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field

from ...clients import Client
from .drafts import Drafter


@dataclass(eq=False, slots=True)
class TokenSequence:
    """An answer from its admission to its end. Only the scheduler changes it, except for `id`,
    `drafter`, `held`, `loading`, `root` and `deadline`.

    `slot` is the native sequence it runs in; None while it waits, for the first time or again after
    it was set aside, which `preempted` counts. `n_computed` is how many of `prompt + generated` are
    in its KV cells, and `n_cached` how many prompt tokens others had computed. `arrived` is in the
    scheduler's time, `deadline` in that of whoever calls it. While it is `held`, no token is
    sampled for it; its owner sets this while the mask for the next token is missing. With `scores`
    the log-probabilities of its prompt tokens are computed; it may then be held for good, with 0
    `max_tokens`. `client` is whose request it belongs to.

    While it is `loading` nothing of its prompt is computed: its owner has cells of it read from
    disk, `n_from_disk` of those that are cached. It shares cells with sequences of the same `root`
    alone. `order` is its place among all that came, and `begun` says that it has had a slot. One
    that was set aside behind its first token has `replayed` computed before it goes on.
    """

    id: int
    prompt: list[int]
    max_tokens: int
    _: KW_ONLY
    drafter: Drafter | None = None
    slot: int | None = None
    n_computed: int = 0
    n_cached: int = 0
    generated: list[int] = field(default_factory=list)
    arrived: float = 0.0
    held: bool = False
    scores: bool = False
    client: Client = ()
    loading: bool = False
    n_from_disk: int = 0
    root: bytes = b""
    deadline: float = math.inf
    order: int = 0
    begun: bool = False
    preempted: int = 0
    replayed: list[int] | None = None

    @property
    def prefix(self) -> list[int]:
        """What must be computed before each step yields a token: the prompt; of a sequence that was
        set aside behind its first token, all but the last one that it has."""
        return self.prompt if self.replayed is None else self.replayed

    @property
    def n_prompt_left(self) -> int:
        """Tokens of the prefix that are not in the KV cache yet."""
        return max(len(self.prefix) - self.n_computed, 0)

    @property
    def decoding(self) -> bool:
        """Whether the prefix is done and each step yields a token."""
        return self.slot is not None and bool(self.generated) and not self.n_prompt_left

    @property
    def n_shared(self) -> int:
        """How many tokens of the prefix may be shared with others: all but a prompt's last, whose
        logits each sequence has to compute for itself; none while the logits of all are wanted."""
        if self.scores and self.replayed is None:
            return 0
        return len(self.prefix) - (self.replayed is None)

    @property
    def scored(self) -> bool:
        """Whether all log-probabilities of the prompt that are wanted are there."""
        return not self.scores or bool(self.generated) or self.n_prompt_left <= 1
