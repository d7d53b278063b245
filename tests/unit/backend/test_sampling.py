"""Which sampling holds where a request says nothing, and where each value comes from."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from sheily_server.backend import sampling
from sheily_server.backend.gguf import GGUF
from sheily_server.backend.sampling import OPENAI, Defaults
from sheily_server.chat.sampling import LEAST_TOP_P, Wanted
from sheily_server.config import Config

CONFIG = Config()
LLAMA = {"general.name": "Llama 3.2 3B Instruct", "general.architecture": "llama"}


def model(**metadata: Any) -> GGUF:
    return GGUF(
        file_bytes=0,
        tensor_bytes=0,
        n_tensors=0,
        n_parameters=0,
        metadata={name.replace("__", "."): value for name, value in metadata.items()},
        lengths={},
    )


def found(metadata: dict[str, Any], **settings: Any) -> Defaults:
    return sampling.defaults(replace(CONFIG, **settings), model(**metadata))


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (LLAMA, {"temperature": 0.6, "top_p": 0.9}),
        ({"general.name": "Meta Llama 3.1 8B Instruct"}, {"temperature": 0.6, "top_p": 0.9}),
        (
            {
                "general.basename": "Llama-3.3",
                "general.size_label": "70B",
                "general.finetune": "Instruct",
            },
            {"temperature": 0.6, "top_p": 0.9},
        ),
        (
            {"general.name": "Smollm2 135M 8k Lc100K Mix1 Ep2", "general.basename": "smollm2"},
            {"temperature": 0.2, "top_p": 0.9},
        ),
        (
            {"general.name": "Qwen2.5 3B Instruct"},
            {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repeat_penalty": 1.05},
        ),
        (
            {"general.name": "qwen2.5-1.5b-instruct"},
            {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repeat_penalty": 1.1},
        ),
    ],
)
def test_what_the_makers_published(names: dict[str, Any], values: dict[str, float]) -> None:
    defaults = found(names)
    assert defaults.values == {**OPENAI, **values}
    assert {name for name, source in defaults.sources.items() if source == "makers"} == set(values)
    assert {defaults.sources[name] for name in OPENAI.keys() - values} <= {"openai"}


@pytest.mark.parametrize(
    "name", ["Hermes 3 Llama 3.2 3B", "Llama 3.2 3B", "Qwen2.5 3B", "Mistral 7B Instruct", ""]
)
def test_other_models_have_openai_s_values(name: str) -> None:
    defaults = found({"general.name": name})
    assert defaults.values == OPENAI
    assert set(defaults.sources.values()) == {"openai"}


def test_the_file_wins_over_the_table_and_settings_over_both() -> None:
    keys = {"general.sampling.temp": 0.4000000059604645, "general.sampling.min_p": 0.05}
    defaults = found({**LLAMA, **keys}, min_p=0.1)
    assert defaults.values == {**OPENAI, "temperature": 0.4, "top_p": 0.9, "min_p": 0.1}
    assert defaults.sources == {
        "temperature": "file",
        "top_p": "makers",
        "top_k": "openai",
        "min_p": "setting",
        "repeat_penalty": "openai",
    }
    assert "temperature 0.4 (of the model's file)" in defaults.line()
    assert "top_p 0.9 (of the model's makers)" in defaults.line()
    assert "min_p 0.1 (as set)" in defaults.line()


def test_openai_s_values_when_these_are_wanted() -> None:
    keys = {"general.sampling.temp": 0.4, "general.sampling.mirostat": 2}
    defaults = found({**LLAMA, **keys}, sampling="openai")
    assert (defaults.values, defaults.unused) == (OPENAI, ())
    assert sampling.warnings(defaults) == []
    assert "OpenAI's" in defaults.line()
    assert found(LLAMA, sampling="openai", temperature=0.0).values["temperature"] == 0


def test_all_keys_of_a_file_that_are_followed() -> None:
    keys = {"temp": 0.5, "top_p": 0.7, "top_k": 40, "min_p": 0.02, "penalty_repeat": 1.2}
    defaults = found({f"general.sampling.{name}": value for name, value in keys.items()})
    assert list(defaults.values.values()) == [0.5, 0.7, 40, 0.02, 1.2]
    assert set(defaults.sources.values()) == {"file"}
    assert found({"general.sampling.top_k": -1}).values["top_k"] == 0


@pytest.mark.parametrize(
    ("keys", "unused"),
    [
        ({"temp": -0.5}, ["temp"]),
        ({"temp": math.nan}, ["temp"]),
        ({"top_p": 3.0}, ["top_p"]),
        ({"penalty_repeat": "strong"}, ["penalty_repeat"]),
        ({"sequence": "top_k;temp"}, ["sequence"]),
        ({"penalty_last_n": 64}, ["penalty_last_n"]),
        ({"xtc_probability": 0.0, "xtc_threshold": 0.1}, []),
        ({"xtc_probability": 0.5, "xtc_threshold": 0.1}, ["xtc_probability", "xtc_threshold"]),
        ({"mirostat": 0, "mirostat_tau": 5.0, "mirostat_eta": 0.1}, []),
        ({"mirostat": 2, "mirostat_tau": 5.0}, ["mirostat", "mirostat_tau"]),
        ({"from_the_future": 1}, ["from_the_future"]),
    ],
)
def test_keys_that_are_not_followed_are_named(keys: dict[str, Any], unused: list[str]) -> None:
    defaults = found({f"general.sampling.{name}": value for name, value in keys.items()})
    assert defaults.values == OPENAI
    assert defaults.unused == tuple(f"general.sampling.{name}" for name in unused)
    told = sampling.warnings(defaults)
    assert len(told) == bool(unused)
    assert all(f"general.sampling.{name}" in told[0] for name in unused)


def test_what_a_request_says_wins() -> None:
    defaults = found({**LLAMA, "general.sampling.top_k": 40, "general.sampling.min_p": 0.05})
    assert Wanted().values(defaults) == {
        "temperature": 0.6,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "repeat_penalty": 1.0,
    }
    said = Wanted(temperature=1, top_p=1, top_k=0, min_p=0, repeat_penalty=1.3)
    assert list(said.values(defaults).values()) == [1, 1, 0, 0, 1.3]
    used = said.sampling(defaults)
    assert (used.temperature, used.top_p, used.top_k, used.min_p) == (1, 1, 0, 0)
    assert Wanted(top_k=-1).sampling(defaults).top_k == 0


def test_a_top_p_of_nothing_leaves_the_best_token() -> None:
    defaults = found(LLAMA)
    assert Wanted(top_p=0).sampling(defaults).temperature == 0
    assert Wanted(top_p=1e-300).sampling(defaults).top_p == LEAST_TOP_P
    assert Wanted(temperature=1).sampling(found(LLAMA, top_p=0.0)).temperature == 0
