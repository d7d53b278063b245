"""Decides what to time and which settings win; pure: no clock, no native code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..context import KV_TYPES, KVType
from ..kernels import AUTO, OFF

CHUNKS = (32, 64, 128, 256, 512)

PROMPT, ANSWER = 512, 128
"""The request that settings are compared by, in tokens."""

NOISE = 0.03
"""Settings replace the default only when they are faster by more than this share."""

HOPELESS = 1.1
"""Settings more than this many times slower than the best are not timed again."""

MAX_STEP_S = 2.0
"""The longest prompt step to choose: cancels and deadlines take effect between steps."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings to choose; the defaults are the server's.

    `threads` 0: one for each usable CPU. `chunk`: prompt tokens of a step.
    """

    kernel: str = AUTO
    threads: int = 0
    chunk: int = 128
    kv_type: KVType = "f16"


DEFAULT = Settings()


@dataclass(frozen=True, slots=True)
class Figures:
    """Tokens a second; `decode` is None where a prompt alone was timed."""

    prefill: float
    decode: float | None

    @property
    def seconds(self) -> float:
        """How long the request takes, as far as it was timed."""
        return PROMPT / self.prefill + (ANSWER / self.decode if self.decode else 0.0)

    def best(self, other: Figures) -> Figures:
        """Returns the faster of two timings: a disturbed machine only ever gets slower."""
        decode = None
        if self.decode is not None and other.decode is not None:
            decode = max(self.decode, other.decode)
        return Figures(max(self.prefill, other.prefill), decode)


@dataclass(frozen=True, slots=True)
class Machine:
    """The choices on a machine: `kernels` to try beside "auto"; `blas`: whether it is built in."""

    n_threads: int
    kernels: Sequence[str]
    blas: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """One setting that is varied while the others stay.

    `prompt` and `answer` are the tokens of a run; `weight` is its share of the time. `candidates`
    takes the best settings so far, and returns them among the others.
    """

    name: str
    prompt: int
    answer: int
    weight: int
    candidates: Callable[[Settings, Machine], list[Settings]]


def kernel_candidates(best: Settings, machine: Machine) -> list[Settings]:
    """Puts the best so far last: if it wins, its weights need not be repacked again."""
    found = [replace(best, kernel=name) for name in machine.kernels]
    if machine.blas:
        # BLAS unpacks the weights once a step, which only a long step pays for.
        found.insert(0, replace(best, kernel=OFF, chunk=max(CHUNKS)))
    return [*sorted(found, key=lambda settings: settings.kernel != OFF), best]


def thread_candidates(best: Settings, machine: Machine) -> list[Settings]:
    """All CPUs, one less, three quarters, and half: the number of cores if each has two CPUs."""
    n = machine.n_threads
    counts = sorted({n - 1, n * 3 // 4, n // 2} - {0, n}, reverse=True)
    return [best, *(replace(best, threads=count) for count in counts)]


def chunk_candidates(best: Settings, machine: Machine) -> list[Settings]:
    return [best, *(replace(best, chunk=chunk) for chunk in CHUNKS if chunk != best.chunk)]


def kv_candidates(best: Settings, machine: Machine) -> list[Settings]:
    return [best, *(replace(best, kv_type=kind) for kind in KV_TYPES if kind != best.kv_type)]


def check_candidates(best: Settings, machine: Machine) -> list[Settings]:
    """Times what was found against the defaults once more."""
    return [best, DEFAULT]


STAGES = (
    Stage("kernel", 128, 8, 4, kernel_candidates),
    Stage("threads", 128, 8, 2, thread_candidates),
    Stage("chunk", PROMPT, 0, 4, chunk_candidates),
    Stage("KV type", PROMPT, 16, 2, kv_candidates),
)
CHECK = Stage("check", 256, 16, 2, check_candidates)


def choose(default: Settings, timed: Mapping[Settings, Figures]) -> Settings:
    """Returns the fastest if it beats `default` by more than the noise, else `default`."""
    if default not in timed:
        return default
    fastest = min(
        (
            settings
            for settings in timed
            if settings == default or not is_slow_step(settings, timed)
        ),
        key=lambda settings: timed[settings].seconds,
    )
    gain = 1 - timed[fastest].seconds / timed[default].seconds
    return fastest if gain > NOISE else default


def is_slow_step(settings: Settings, timed: Mapping[Settings, Figures]) -> bool:
    """Whether a chunk beyond the default's makes steps that callers would wait for."""
    step_s = settings.chunk / timed[settings].prefill
    return settings.chunk > DEFAULT.chunk and step_s > MAX_STEP_S


def is_hopeless(settings: Settings, timed: Mapping[Settings, Figures]) -> bool:
    """Whether timing it again cannot make it the fastest."""
    if settings not in timed:
        return False
    return timed[settings].seconds > HOPELESS * min(figures.seconds for figures in timed.values())


def kernels_to_try(
    asked: Iterable[str] | None, usable: Sequence[str], auto: str, *, for_weights: bool = True
) -> list[str]:
    """Lists the kernels beside "auto", which stands for `auto`; by default all usable ones, or
    "off" alone where most weights are of a type that llama.cpp computes (`for_weights` False).

    Raises ValueError, with a sentence, for one that this CPU cannot run.
    """
    known = [*usable, OFF]
    default = known if for_weights else [OFF]
    wanted = default if asked is None else list(dict.fromkeys(asked))
    for name in wanted:
        if name not in (AUTO, *known):
            raise ValueError(
                f"this CPU cannot run the kernel {name!r}; it can run {', '.join(known)}"
            )
    return [name for name in wanted if name not in (AUTO, auto)]
