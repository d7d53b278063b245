"""How the tokens of an answer are chosen: what a request says, and the defaults for the rest. The
only place where the two meet."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..backend.sampling import Defaults, Values
from ..protocol.commands import Bias, Sampling

LEAST_TOP_P = 1e-6
"""The engine computes in 32 bits, where the smallest numbers are 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a request says of its sampling; None where it says nothing. The fields are those of
    Sampling."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    logit_bias: Bias = field(default_factory=Bias)
    ignore_eos: bool = False

    def values(self, defaults: Defaults) -> Values:
        """Returns the values that are used, as an answer may name them."""
        values = Values(**defaults.values)
        if self.temperature is not None:
            values["temperature"] = self.temperature
        if self.top_k is not None:
            values["top_k"] = max(0, self.top_k)
        if self.top_p is not None:
            values["top_p"] = self.top_p
        if self.min_p is not None:
            values["min_p"] = self.min_p
        if self.repeat_penalty is not None:
            values["repeat_penalty"] = self.repeat_penalty
        return values

    def sampling(self, defaults: Defaults) -> Sampling:
        """Returns the parameters for the engine. A top_p of 0 leaves the best token alone."""
        values = self.values(defaults)
        return Sampling(
            temperature=0.0 if values["top_p"] == 0 else values["temperature"],
            top_k=values["top_k"],
            top_p=max(LEAST_TOP_P, values["top_p"]),
            min_p=values["min_p"],
            repeat_penalty=values["repeat_penalty"],
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            seed=self.seed,
            logit_bias=self.logit_bias,
            ignore_eos=self.ignore_eos,
        )
