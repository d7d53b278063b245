"""One request inside the engine, in integers: its prompt, what is computed, what was generated."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Sequence:
    """A request from its admission to its end. Only the scheduler changes it.

    `slot` is the KV sequence it runs in (None while it waits), `n_computed` how many of
    `prompt + generated` are in the KV cache, `n_cached` how many were there when it got its slot.
    `twin` is another sequence with the same prompt, started together with this one in `twin_slot`:
    its cells are shared once they are computed, and until then this one waits.
    """

    id: int
    prompt: list[int]
    max_tokens: int
    slot: int | None = None
    n_computed: int = 0
    n_cached: int = 0
    generated: list[int] = field(default_factory=list)
    twin: Sequence | None = None
    twin_slot: int | None = None

    @property
    def n_prompt_left(self) -> int:
        """Prompt tokens that are not in the KV cache yet."""
        return max(len(self.prompt) - self.n_computed, 0)

    @property
    def decoding(self) -> bool:
        """Whether the prompt is done and each step gives a token."""
        return self.slot is not None and bool(self.generated)

    def next_tokens(self, limit: int) -> list[int]:
        """What a step should compute: at most `limit` of the prompt, or the last token."""
        if self.generated:
            return self.generated[-1:]
        return self.prompt[self.n_computed : self.n_computed + limit]
