"""What the tuner prints, advises and writes."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from sheily_native.cpu import X86_MACROS
from sheily_native.tune import advice, record
from sheily_native.tune.measure import Bounds
from sheily_native.tune.plan import DEFAULT, STAGES, Figures, Settings
from sheily_native.tune.report import Report, reached, short, use
from sheily_native.tune.search import Outcome, Row
from sheily_server import tuned
from tests.support.build_infos import build_info
from tests.support.models import ROOT

BOUNDS = Bounds(30.4e9, {"avx512_vnni": 676e9, "avx2": 310e9})
WORDS = Report("A CPU", n_threads=2, auto="avx512_vnni", blas=False)
AVX512 = ("avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw")
AVX2 = ("sse4_2", "avx", "avx2", "fma", "f16c", "bmi2")

INFO = build_info(
    options=MappingProxyType({"GGML_NATIVE": "ON", "GGML_BLAS": "OFF"}),
    cpu_instruction_sets=(*AVX2, *AVX512, "avx512_vnni"),
)


def test_the_machine() -> None:
    text = "\n".join(WORDS.machine(BOUNDS))
    for words in ("A CPU, 2 usable CPUs", "30.4 GB/s", "avx512_vnni 676, avx2 310 G"):
        assert words in text
    assert "BLAS" not in text


def test_a_machine_without_our_kernels() -> None:
    text = "\n".join(Report("An ARM", n_threads=1, auto="off", blas=False).machine(Bounds(1e9, {})))
    assert "1 usable CPU\n" in text
    assert "multiply-adds" not in text


def test_blas_is_said_to_be_timed_with_kernel_off() -> None:
    words = Report("A CPU", n_threads=2, auto="avx2", blas=True)
    assert "timed with kernel off" in "\n".join(words.machine(BOUNDS))
    [line] = words.rows(STAGES[0], [Row(Settings(kernel="off"), Figures(1, 1))], DEFAULT)
    assert "off (BLAS)" in line


def test_why_no_other_kernels_are_tried() -> None:
    words = Report("A CPU", n_threads=2, auto="avx2", blas=False, for_weights=False)
    assert "most are not Q8_0" in "\n".join(words.machine(BOUNDS))
    assert "Q8_0" not in "\n".join(WORDS.machine(BOUNDS))


def test_the_table() -> None:
    rows = [
        Row(Settings(kernel="off"), Figures(26.43, 4.474)),
        Row(Settings(kernel="avx2", threads=1), None, "no cells"),
        Row(DEFAULT, Figures(125.7, None)),
    ]
    head, units, off, failed, default = [*WORDS.head(), *WORDS.rows(STAGES[0], rows, DEFAULT)]
    assert head.split() == ["kernel", "threads", "chunk", "KV", "prefill", "decode", "request"]
    assert units.split() == ["tokens", "tokens/s", "tokens/s", "seconds"]
    assert off.split() == ["kernel", "off", "2", "128", "f16", "26.4", "4.47", "48.0"]
    assert failed.split() == ["avx2", "1", "128", "f16", "no", "cells"]
    assert default.split() == ["auto", "(avx512_vnni)", "2", "128", "f16", "126", "-", "-", "*"]
    assert head.index("decode") + len("decode") == off.index("4.47") + len("4.47")


@pytest.mark.parametrize(
    ("number", "text"), [(125.72, "126"), (26.43, "26.4"), (4.474, "4.47"), (6.2, "6.20")]
)
def test_numbers(number: float, text: str) -> None:
    assert short(number) == text


def test_the_result() -> None:
    best = Settings(kernel="avx2", threads=1)
    slow, fast = Figures(51.2, 12.8), Figures(102.4, 25.6)
    [line] = WORDS.result(Outcome(best, fast, slow))
    assert "kernel avx2, 1 thread, chunk 128, KV f16" in line
    assert "takes 10.0 s, with the defaults 20.0 s" in line
    [line] = WORDS.result(Outcome(DEFAULT, slow, slow))
    assert line.startswith("Best: the defaults (kernel auto (avx512_vnni), 2 threads")
    rejected, line = WORDS.result(Outcome(DEFAULT, slow, slow, best, "no time was left"))
    assert rejected.startswith("Not taken: kernel avx2")
    assert rejected.endswith("no time was left.")
    assert line.startswith("Best: the defaults")


def test_how_near_the_memory_decode_is() -> None:
    [line] = reached(Figures(100, 4.5), 30e9, 3 * 10**9)
    assert "45% of the 10.0 tokens/s" in line
    assert reached(Figures(100, 11), 30e9, 3 * 10**9) == []


def test_how_the_file_is_used() -> None:
    command = use("sheily serve", Path("my tuned.json"), Path("m.gguf"))[1]
    assert command == ("  sheily serve --model-path m.gguf --tuned 'my tuned.json'")


# --- advice ---------------------------------------------------------------------------------------


def advised(float_weights: bool = False, **changes: Any) -> str:
    return "\n".join(advice.advice(dataclasses.replace(INFO, **changes), float_weights))


def test_a_build_that_uses_all_is_told_so() -> None:
    text = advised()
    assert "uses all that this CPU offers" in text
    assert "--force-reinstall" not in text
    assert text.endswith(
        "  pip install . --config-settings=cmake.define.GGML_NATIVE=OFF"
        " --config-settings=cmake.define.GGML_AVX512=ON"
        " --config-settings=cmake.define.GGML_AVX512_VNNI=ON"
    )


def test_a_build_that_leaves_something_unused_gets_the_command() -> None:
    text = advised(unused=("avx512_vnni", "avx512f"))
    assert "avx512_vnni avx512f" in text
    pip = shlex.join([sys.executable, "-m", "pip"])
    options = "--force-reinstall --no-deps . --config-settings=cmake.define.GGML_NATIVE=ON"
    assert f"\n  {pip} install {options}\n" in text


def test_a_debug_build_is_named() -> None:
    assert "a Debug build" in advised(build_type="Debug")


def test_blas_is_for_weights_that_are_not_quantized() -> None:
    text = advised(float_weights=True)
    for option in ("GGML_BLAS=ON", "GGML_BLAS_VENDOR=OpenBLAS"):
        assert f" --config-settings=cmake.define.{option}" in text
    assert "BLAS" not in advised(float_weights=True, options={"GGML_BLAS": "ON"})


@pytest.mark.parametrize("changes", [{"architecture": "aarch64"}, {"cpu_instruction_sets": ()}])
def test_no_options_for_what_is_not_known(changes: dict[str, Any]) -> None:
    assert "another machine" not in advised(**changes)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (AVX2, {}),
        ((*AVX2, "avx_vnni"), {"GGML_AVX_VNNI": "ON"}),
        ((*AVX2, *AVX512), {"GGML_AVX512": "ON"}),
        ((*AVX2, *AVX512[:-1], "avx512_vnni"), {}),
        (
            (*AVX2, *AVX512, "avx512_vnni", "amx_tile", "amx_int8"),
            {"GGML_AVX512": "ON", "GGML_AVX512_VNNI": "ON", "GGML_AMX_INT8": "ON"},
        ),
        (
            ("sse4_2", "avx"),
            dict.fromkeys(["GGML_AVX2", "GGML_FMA", "GGML_F16C", "GGML_BMI2"], "OFF"),
        ),
    ],
)
def test_options_for_a_cpu(flags: tuple[str, ...], expected: dict[str, str]) -> None:
    assert advice.options(flags) == {"GGML_NATIVE": "OFF"} | expected


def test_options_and_flags_have_names_that_others_know() -> None:
    cmake = (ROOT / "cmake" / "GgmlOptions.cmake").read_text(encoding="utf-8")
    known = set(re.findall(r"[A-Z][A-Z0-9_]+", cmake))
    for option in (*advice._NEEDS, *advice._BASELINE):
        assert option.removeprefix("GGML_") in known
    flags = {flag for needed in advice._NEEDS.values() for flag in needed}
    assert flags | set(advice._BASELINE.values()) <= set(X86_MACROS.values())


# --- the file -------------------------------------------------------------------------------------


def test_the_server_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    settings = Settings("avx2", 3, 64, "q8_0")
    content = record.document(
        cpu="A CPU",
        model=Path("a/b.gguf"),
        settings=settings,
        figures=Figures(100, 5),
        bounds=BOUNDS,
    )
    record.write(path, content)
    assert tuned.read(path) == tuned.Tuned(
        path=str(path),
        cpu="A CPU",
        model="b.gguf",
        settings={"kernel": "avx2", "threads": 3, "chunk": 64, "kv_type": "q8_0"},
    )
    assert record.VERSION == tuned.VERSION
    assert json.loads(path.read_text())["measured"] == {
        "prefill_tokens": 100,
        "decode_tokens": 5,
        "memory_bytes": 30.4e9,
        "integer_multiply_adds": {"avx512_vnni": 676e9, "avx2": 310e9},
    }
    record.write(path, content)
    assert [child.name for child in tmp_path.iterdir()] == ["t.json"]


def test_where_nothing_can_be_written_is_known_before(tmp_path: Path) -> None:
    record.check_writable(tmp_path / "t.json")
    assert list(tmp_path.iterdir()) == []
    for path in (tmp_path, tmp_path / "none" / "t.json"):
        with pytest.raises(OSError, match=re.escape(f"cannot write {path}: ")):
            record.check_writable(path)
