"""What sampling follows where a request says nothing: the settings, the model's file, what its
makers published, or OpenAI's values. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypedDict

from ..config import Config, variable
from .gguf import GGUF

Source = Literal["setting", "file", "makers", "openai"]


class Values(TypedDict, total=False):
    """Values of sampling. `top_k` 0 takes all tokens, `min_p` 0 and `repeat_penalty` 1 have no
    effect."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repeat_penalty: float


OPENAI = Values(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, repeat_penalty=1.0)


@dataclass(frozen=True, slots=True)
class _Makers:
    """What the makers of some models published. `name` matches the models' names, in small letters
    and with hyphens."""

    name: re.Pattern[str]
    values: Values


MAKERS = (
    # generation_config.json of meta-llama/Llama-3.2-3B-Instruct; those of 3 to 3.3 have the same
    _Makers(
        re.compile(r"(?:meta-)?llama-3(?:\.[123])?-\d+b-instruct\b"),
        Values(temperature=0.6, top_p=0.9),
    ),
    # the example in the model cards of HuggingFaceTB/SmolLM2-135M-Instruct and its siblings
    _Makers(re.compile(r"smollm2-"), Values(temperature=0.2, top_p=0.9)),
    # generation_config.json of Qwen/Qwen2.5-0.5B-Instruct to Qwen2.5-72B-Instruct
    _Makers(
        re.compile(r"qwen-?2\.5-(?:0\.5|1\.5)b-instruct\b"),
        Values(temperature=0.7, top_p=0.8, top_k=20, repeat_penalty=1.1),
    ),
    _Makers(
        re.compile(r"qwen-?2\.5-\d+b-instruct\b"),
        Values(temperature=0.7, top_p=0.8, top_k=20, repeat_penalty=1.05),
    ),
)


@dataclass(frozen=True, slots=True)
class _Key:
    """A key of GGUF's `general.sampling`: the value that it sets, and what is allowed there."""

    value: Literal["temperature", "top_p", "top_k", "min_p", "repeat_penalty"]
    least: float
    most: float


_FILE = "general.sampling."
_KEYS: Mapping[str, _Key] = MappingProxyType(
    {
        "temp": _Key("temperature", 0, 2),
        "top_p": _Key("top_p", 0, 1),
        "top_k": _Key("top_k", -1, 1_000_000),
        "min_p": _Key("min_p", 0, 1),
        "penalty_repeat": _Key("repeat_penalty", 0.01, 10),
    }
)
_NEUTRAL: Mapping[str, float] = MappingProxyType({"xtc_probability": 0, "mirostat": 0})
_DEPENDENT: Mapping[str, str] = MappingProxyType(
    {
        "xtc_threshold": "xtc_probability",
        "mirostat_tau": "mirostat",
        "mirostat_eta": "mirostat",
    }
)
"""Keys that have an effect only with another one."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """The values, all of them, and the source of each. `unused` are the keys of the file that ask
    for what this server does not do, or have a value out of range."""

    values: Values
    sources: Mapping[str, Source]
    unused: tuple[str, ...] = ()

    def line(self) -> str:
        """Describes the values that are not OpenAI's, for the log."""
        words = {
            "setting": "as set",
            "file": "of the model's file",
            "makers": "of the model's makers",
        }
        parts = [
            f"{name} {value} ({words[self.sources[name]]})"
            for name, value in self.values.items()
            if self.sources[name] in words
        ]
        said = ", ".join(parts) or "OpenAI's defaults, temperature 1.0 and top_p 1.0"
        return f"sampling where a request says nothing: {said}"


def defaults(config: Config, model: GGUF | None) -> Defaults:
    """Returns the values for a model; without one, those that need none."""
    values = Values(**OPENAI)
    sources: dict[str, Source] = dict.fromkeys(OPENAI, "openai")
    unused: tuple[str, ...] = ()
    found: list[tuple[Source, Values]] = []
    if config.sampling == "model" and model is not None:
        of_file, unused = _of_file(model)
        found = [("makers", _of_makers(model)), ("file", of_file)]
    for source, some in [*found, ("setting", _of_settings(config))]:
        values.update(some)
        sources.update(dict.fromkeys(some, source))
    return Defaults(values, sources, unused)


def _of_settings(config: Config) -> Values:
    values = Values()
    if config.temperature is not None:
        values["temperature"] = config.temperature
    if config.top_p is not None:
        values["top_p"] = config.top_p
    if config.min_p is not None:
        values["min_p"] = config.min_p
    return values


def _of_makers(model: GGUF) -> Values:
    names = _names(model)
    return next((each.values for each in MAKERS if any(map(each.name.match, names))), Values())


def _names(model: GGUF) -> list[str]:
    """Returns what the file says that the model is called: its name, and the same in parts."""
    parts = ("general.basename", "general.size_label", "general.finetune")
    found = [
        str(model.metadata.get("general.name", "")),
        " ".join(str(model.metadata.get(key, "")) for key in parts),
    ]
    return [re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") for name in found]


def _of_file(model: GGUF) -> tuple[Values, tuple[str, ...]]:
    """Returns the values that the file sets, and its keys without effect."""
    said = {
        key.removeprefix(_FILE): value
        for key, value in model.metadata.items()
        if key.startswith(_FILE)
    }
    values, unused = Values(), []
    for name, value in said.items():
        key = _KEYS.get(name)
        if key is None:
            decides = _DEPENDENT.get(name, name)
            if decides not in _NEUTRAL or said.get(decides, 0) != _NEUTRAL[decides]:
                unused.append(_FILE + name)
        elif not (isinstance(value, int | float) and key.least <= value <= key.most):
            unused.append(_FILE + name)
        elif key.value == "top_k":
            values["top_k"] = max(0, int(value))
        else:  # 32 bits have 0.6 as 0.6000000238418579
            values[key.value] = float(f"{value:.6g}")
    return values, tuple(unused)


def warnings(found: Defaults) -> list[str]:
    """Returns a sentence if some of what the file asks for is not done."""
    if not found.unused:
        return []
    return [
        f"the model's file has {', '.join(found.unused)}, which this server does not follow; "
        f"{variable('sampling')}=openai leaves all such keys out"
    ]
