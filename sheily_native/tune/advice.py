"""Recommends builds for a CPU, as pip commands; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .._typed import REBUILD
from ..build import BuildInfo

# What ggml compiles with each option, by the Linux names; in the order of docs/building.md.
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "GGML_AVX512": ("avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"),
    "GGML_AVX512_VBMI": ("avx512vbmi",),
    "GGML_AVX512_VNNI": ("avx512_vnni",),
    "GGML_AVX512_BF16": ("avx512_bf16",),
    "GGML_AVX_VNNI": ("avx_vnni",),
    "GGML_AMX_INT8": ("amx_tile", "amx_int8"),
    "GGML_AMX_BF16": ("amx_tile", "amx_bf16"),
}
# On in a build for any CPU, unless switched off.
_BASELINE: Mapping[str, str] = {
    "GGML_AVX": "avx",
    "GGML_AVX2": "avx2",
    "GGML_FMA": "fma",
    "GGML_F16C": "f16c",
    "GGML_BMI2": "bmi2",
    "GGML_SSE42": "sse4_2",
}


def options(instruction_sets: Collection[str]) -> dict[str, str]:
    """Returns the build options for an x86 CPU, on whatever machine the build runs."""
    chosen = {"GGML_NATIVE": "OFF"}
    chosen |= {name: "OFF" for name, flag in _BASELINE.items() if flag not in instruction_sets}
    avx512 = set(_NEEDS["GGML_AVX512"]) <= set(instruction_sets)
    for name, flags in _NEEDS.items():
        if set(flags) <= set(instruction_sets) and (avx512 or "512" not in name):
            chosen[name] = "ON"
    return chosen


def command(chosen: Mapping[str, str], install: str = REBUILD) -> str:
    """Returns pip's command for a build with these options.

    `-C` is shorter, and pip knows it only from 23.1 on; Debian 12 has 23.0.
    """
    settings = (f"--config-settings=cmake.define.{name}={value}" for name, value in chosen.items())
    return " ".join([install, *settings])


def advice(info: BuildInfo, float_weights: bool) -> list[str]:
    """Writes sentences and commands; commands have indented lines of their own.

    `float_weights`: the model's are F16, BF16 or F32, for which this package has no kernels.
    """
    lines = []
    if info.unused:
        lines += [
            f"This build leaves {' '.join(info.unused)} of this CPU unused; in the source folder:",
            f"  {command({'GGML_NATIVE': 'ON'})}",
        ]
    else:
        lines.append("This build uses all that this CPU offers.")
    if info.build_type != "Release":
        lines += [f"It is a {info.build_type} build; a faster one:", f"  {REBUILD}"]
    if float_weights and info.options.get("GGML_BLAS") != "ON":
        blas = {"GGML_BLAS": "ON", "GGML_BLAS_VENDOR": "OpenBLAS"}
        lines += [
            "Weights that are not quantized may be faster with BLAS (apt install "
            "libopenblas-dev); build so, and tune again:",
            f"  {command(blas)}",
        ]
    if info.architecture in ("x86_64", "AMD64") and info.cpu_instruction_sets:
        lines += [
            "To build for this CPU on another machine:",
            f"  {command(options(info.cpu_instruction_sets), 'pip install .')}",
        ]
    return lines
