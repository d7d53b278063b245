"""Which instruction sets a compiler may use and a CPU has, by their Linux names; loads nothing.

Names are those of /proc/cpuinfo ("flags" on x86, "Features" on ARM). Only instructions that a
compiler puts into code by itself, or that ggml asks for, are here: code that a compiler never
writes unasked (AES, RDRAND, XSAVE ...) cannot end in an illegal instruction. Standard library only
and no sibling imported: the build reads this file by its path.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

CPUINFO = Path("/proc/cpuinfo")

X86_MACROS: Mapping[str, str] = MappingProxyType(
    {
        # In the order in which they appeared.
        "__SSE3__": "pni",
        "__GCC_HAVE_SYNC_COMPARE_AND_SWAP_16": "cx16",
        "__LAHF_SAHF__": "lahf_lm",
        "__SSSE3__": "ssse3",
        "__SSE4_1__": "sse4_1",
        "__SSE4_2__": "sse4_2",
        "__POPCNT__": "popcnt",
        "__PCLMUL__": "pclmulqdq",
        "__SSE4A__": "sse4a",
        "__LZCNT__": "abm",
        "__AVX__": "avx",
        "__XOP__": "xop",
        "__FMA4__": "fma4",
        "__TBM__": "tbm",
        "__F16C__": "f16c",
        "__FMA__": "fma",
        "__BMI__": "bmi1",
        "__BMI2__": "bmi2",
        "__MOVBE__": "movbe",
        "__AVX2__": "avx2",
        "__GFNI__": "gfni",
        "__AVX512F__": "avx512f",
        "__AVX512CD__": "avx512cd",
        "__AVX512ER__": "avx512er",
        "__AVX512PF__": "avx512pf",
        "__AVX512DQ__": "avx512dq",
        "__AVX512BW__": "avx512bw",
        "__AVX512VL__": "avx512vl",
        "__AVX512IFMA__": "avx512ifma",
        "__AVX512VBMI__": "avx512vbmi",
        "__AVX512VBMI2__": "avx512_vbmi2",
        "__AVX512VNNI__": "avx512_vnni",
        "__AVX512BITALG__": "avx512_bitalg",
        "__AVX512VPOPCNTDQ__": "avx512_vpopcntdq",
        "__AVX512BF16__": "avx512_bf16",
        "__AVX512FP16__": "avx512_fp16",
        "__AVXVNNI__": "avx_vnni",
        "__AMX_TILE__": "amx_tile",
        "__AMX_INT8__": "amx_int8",
        "__AMX_BF16__": "amx_bf16",
    }
)
"""The macro that a compiler for x86 defines when it may use an instruction set, and Linux' name."""

ARM_MACROS: Mapping[str, str] = MappingProxyType(
    {
        "__ARM_FEATURE_ATOMICS": "atomics",
        "__ARM_FEATURE_QRDMX": "asimdrdm",
        "__ARM_FEATURE_RCPC": "lrcpc",
        "__ARM_FEATURE_COMPLEX": "fcma",
        "__ARM_FEATURE_JCVT": "jscvt",
        "__ARM_FEATURE_FRINT": "frint",
        "__ARM_FEATURE_DOTPROD": "asimddp",
        "__ARM_FEATURE_FP16_SCALAR_ARITHMETIC": "fphp",
        "__ARM_FEATURE_FP16_VECTOR_ARITHMETIC": "asimdhp",
        "__ARM_FEATURE_FP16_FML": "asimdfhm",
        "__ARM_FEATURE_BF16_VECTOR_ARITHMETIC": "bf16",
        "__ARM_FEATURE_MATMUL_INT8": "i8mm",
        "__ARM_FEATURE_MOPS": "mops",
        "__ARM_FEATURE_SVE": "sve",
        "__ARM_FEATURE_SVE_BF16": "svebf16",
        "__ARM_FEATURE_SVE_MATMUL_INT8": "svei8mm",
        "__ARM_FEATURE_SVE2": "sve2",
        "__ARM_FEATURE_SME": "sme",
        "__ARM_FEATURE_SME2": "sme2",
    }
)
"""The same for ARM. Some names of macros are used by compilers for both, so each has its table."""

UNLISTED_X86_MACROS: Mapping[str, str] = MappingProxyType(
    {
        "__AVXIFMA__": "avx_ifma",
        "__AVXVNNIINT8__": "avx_vnni_int8",
        "__AVXVNNIINT16__": "avx_vnni_int16",
        "__AVXNECONVERT__": "avx_ne_convert",
        "__AMX_FP16__": "amx_fp16",
        "__AVX10_1__": "avx10.1",
        "__AVX10_2__": "avx10.2",
        "__APX_F__": "apx_f",
    }
)
"""Those of x86 that Linux does not (or not always) list: they count as present only on a CPU of the
builder's own kind."""

_X86_COMPILERS = frozenset(["__x86_64__", "__i386__"])
_ARM_COMPILERS = frozenset(["__aarch64__", "__arm__"])
_X86_MACHINES = frozenset(["x86_64", "AMD64", "i386", "i686"])

WORTH_HAVING = frozenset(
    [
        "avx",
        "avx2",
        "fma",
        "f16c",
        "bmi2",
        "avx512f",
        "avx512bw",
        "avx512vbmi",
        "avx512_vnni",
        "avx512_bf16",
        "avx_vnni",
        "amx_tile",
        "amx_int8",
        "asimddp",
        "asimdhp",
        "i8mm",
        "sve",
    ]
)
"""What ggml has faster code for: reported when a CPU has it and the library does not use it."""

_MACOS_X86 = MappingProxyType(
    {
        "SSE3": "pni",
        "LAHF": "lahf_lm",
        "SSSE3": "ssse3",
        "SSE4.1": "sse4_1",
        "SSE4.2": "sse4_2",
        "LZCNT": "abm",
        "AVX1.0": "avx",
        "AVX512_VBMI": "avx512vbmi",
        "AVX512VBMI2": "avx512_vbmi2",
        "AVX512VNNI": "avx512_vnni",
        "AVX512BITALG": "avx512_bitalg",
        "AVX512VPOPCNTDQ": "avx512_vpopcntdq",
    }
)

_MACOS_ARM = MappingProxyType(
    {
        "FEAT_LSE": "atomics",
        "FEAT_RDM": "asimdrdm",
        "FEAT_LRCPC": "lrcpc",
        "FEAT_FCMA": "fcma",
        "FEAT_JSCVT": "jscvt",
        "FEAT_FRINTTS": "frint",
        "FEAT_DotProd": "asimddp",
        "FEAT_FHM": "asimdfhm",
        "FEAT_BF16": "bf16",
        "FEAT_I8MM": "i8mm",
        "FEAT_SME": "sme",
        "FEAT_SME2": "sme2",
    }
)


@dataclass(frozen=True)
class Cpu:
    """One machine's CPU.

    `kind` names its design (vendor, family and model); "" if it is not known. `flags` are the
    instruction sets that every core has; None if this operating system does not list them.
    """

    model: str
    kind: str
    flags: frozenset[str] | None


def instruction_sets(macros: Iterable[str]) -> tuple[str, ...]:
    """Returns the instruction sets behind a compiler's predefined macros, in the tables' order.

    The macros also say which architecture the compiler is for; of others nothing is known.
    """
    defined = set(macros)
    if defined & _X86_COMPILERS:
        return _named(defined, X86_MACROS)
    if defined & _ARM_COMPILERS:
        return _named(defined, ARM_MACROS)
    return ()


def unlisted_instruction_sets(macros: Iterable[str]) -> tuple[str, ...]:
    """Returns the same of those that Linux does not list."""
    defined = set(macros)
    return _named(defined, UNLISTED_X86_MACROS) if defined & _X86_COMPILERS else ()


def _named(defined: set[str], table: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(flag for macro, flag in table.items() if macro in defined)


def missing(built_in: Iterable[str], cpu: Cpu) -> tuple[str, ...]:
    """Lists what the library may use and the CPU lacks; empty if the CPU's flags are unknown."""
    if cpu.flags is None:
        return ()
    return tuple(name for name in built_in if name not in cpu.flags)


def unused(built_in: Iterable[str], cpu: Cpu) -> tuple[str, ...]:
    """Lists what the CPU has and the library would use, had it been built with it."""
    return tuple(sorted(WORTH_HAVING & (cpu.flags or frozenset()) - set(built_in)))


def current_cpu() -> Cpu:
    """Reads this machine's CPU, each time anew. Never fails: what cannot be read is unknown."""
    if sys.platform == "linux":
        try:
            return parse_cpuinfo(CPUINFO.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            pass
    elif sys.platform == "darwin":
        return parse_sysctl(_sysctl())
    return Cpu(platform.processor() or platform.machine(), "", None)


def parse_cpuinfo(text: str, machine: str | None = None) -> Cpu:
    """Parses Linux' /proc/cpuinfo; of several cores, keeps the flags that all of them have.

    `machine`: as platform.machine() has it, which is the default. The flags of another architecture
    are not taken: an emulator may show those of the machine around it.
    """
    flags_key = "flags" if (machine or platform.machine()) in _X86_MACHINES else "Features"
    first: dict[str, str] = {}
    flag_lines: set[str] = set()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        key, value = key.strip(), value.strip()
        first.setdefault(key, value)
        if key == flags_key:
            flag_lines.add(value)
    vendor_keys = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
    return Cpu(
        model=first.get("model name") or first.get("Model") or platform.machine(),
        kind=" ".join(first[key] for key in vendor_keys if key in first),
        flags=frozenset.intersection(*(frozenset(line.split()) for line in flag_lines))
        if flag_lines
        else None,
    )


def parse_sysctl(values: Mapping[str, str]) -> Cpu:
    """Parses macOS' sysctl names and values (machdep.cpu.*, hw.optional.arm.*)."""
    flags = {
        flag
        for feature, flag in _MACOS_ARM.items()
        if values.get(f"hw.optional.arm.{feature}") == "1"
    }
    if values.get("hw.optional.arm.FEAT_FP16") == "1":
        flags |= {"fphp", "asimdhp"}
    for group in ("features", "leaf7_features", "extfeatures"):
        for name in values.get(f"machdep.cpu.{group}", "").split():
            flags.add(_MACOS_X86.get(name, name.lower()))
    kind = ("machdep.cpu.vendor", "machdep.cpu.family", "machdep.cpu.model", "hw.cpufamily")
    return Cpu(
        model=values.get("machdep.cpu.brand_string") or platform.machine(),
        kind=" ".join(values[name] for name in kind if name in values),
        flags=frozenset(flags) or None,
    )


def _sysctl() -> dict[str, str]:
    command = ["/usr/sbin/sysctl", "machdep.cpu", "hw.optional", "hw.cpufamily"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return {}
    pairs = (line.partition(": ") for line in done.stdout.splitlines())
    return {name: value for name, separator, value in pairs if separator}
