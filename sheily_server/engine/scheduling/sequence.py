"""One answer inside the engine, in integers: its prompt, what is computed, what was generated."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field

from .drafts import Drafter


@dataclass(eq=False, slots=True)
class TokenSequence:
    """An answer from its admission to its end. Only the scheduler changes it, `held` aside.

    `slot` is the native sequence it runs in (None while it waits), `n_computed` how many of
    `prompt + generated` are in its KV cells, `n_cached` how many of the prompt others had computed.
    `arrived` is the scheduler's time. While it is `held` no token is sampled for it, which its
    owner decides: the mask for the next one is not there yet.
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

    @property
    def n_prompt_left(self) -> int:
        """Prompt tokens that are not in the KV cache yet."""
        return max(len(self.prompt) - self.n_computed, 0)

    @property
    def decoding(self) -> bool:
        """Whether the prompt is done and each step gives a token."""
        return self.slot is not None and bool(self.generated)

    @property
    def n_shared(self) -> int:
        """How many of the prompt's tokens others may share: all but the last, whose logits each
        has to compute for itself."""
        return len(self.prompt) - 1
