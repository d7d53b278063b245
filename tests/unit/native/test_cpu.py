"""What a build may use against what a CPU has, and the refusal before anything native is loaded."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheily_native import cpu
from sheily_native.__main__ import describe
from sheily_native.build import BuildInfo, _compare

PACKAGE = Path(cpu.__file__).parent

X86 = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 158
model name\t: Intel(R) Core(TM) i7
flags\t\t: fpu sse4_2 avx avx2 fma f16c
bugs\t\t: spectre_v1

processor\t: 1
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 158
model name\t: Intel(R) Core(TM) i7
flags\t\t: fpu sse4_2 avx avx2 fma f16c
"""
BIG_LITTLE = """\
processor\t: 0
Features\t: fp asimd asimddp i8mm
CPU implementer\t: 0x41
CPU part\t: 0xd46

processor\t: 1
Features\t: fp asimd asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd47
"""
BUILT = {
    "name": "custom",
    "version": "0.1.0",
    "llama_cpp_build": 11434,
    "compiler": "GNU 12.2.0",
    "build_type": "Release",
    "architecture": "x86_64",
    "flags": ["-mavx2"],
    "options": {"GGML_NATIVE": "OFF"},
    "instruction_sets": ["avx", "avx2"],
    "unlisted_instruction_sets": [],
    "built_for": "",
}


def some_cpu(*flags: str, kind: str = "a b c") -> cpu.Cpu:
    return cpu.Cpu("a CPU", kind, frozenset(flags))


def test_cpuinfo_of_x86() -> None:
    found = cpu.parse_cpuinfo(X86, "x86_64")
    assert found.model == "Intel(R) Core(TM) i7"
    assert found.kind == "GenuineIntel 6 158"
    assert set(found.flags or ()) == {"fpu", "sse4_2", "avx", "avx2", "fma", "f16c"}


def test_cpuinfo_of_unequal_cores_holds_what_all_have() -> None:
    found = cpu.parse_cpuinfo(BIG_LITTLE, "aarch64")
    assert set(found.flags or ()) == {"fp", "asimd", "asimddp"}
    assert found.kind == "0x41 0xd46"


@pytest.mark.parametrize("text", ["", "processor : 0\n", "\0\n:\n::\n"])
def test_cpuinfo_without_flags_is_unknown_not_empty(text: str) -> None:
    assert cpu.parse_cpuinfo(text).flags is None


@given(st.text())
def test_no_cpuinfo_breaks_the_reader(text: str) -> None:
    assert cpu.parse_cpuinfo(text).model


def test_sysctl_of_an_intel_mac() -> None:
    found = cpu.parse_sysctl(
        {
            "machdep.cpu.brand_string": "Intel(R) Core(TM) i5",
            "machdep.cpu.features": "FPU SSE3 SSE4.2 AVX1.0 F16C FMA",
            "machdep.cpu.leaf7_features": "BMI1 AVX2 BMI2",
            "machdep.cpu.extfeatures": "LZCNT",
        }
    )
    assert found.flags is not None
    assert {"pni", "sse4_2", "avx", "f16c", "fma", "bmi1", "avx2", "bmi2", "abm"} <= found.flags


def test_sysctl_of_an_apple_cpu() -> None:
    found = cpu.parse_sysctl(
        {
            "machdep.cpu.brand_string": "Apple M2",
            "hw.optional.arm.FEAT_DotProd": "1",
            "hw.optional.arm.FEAT_I8MM": "1",
            "hw.optional.arm.FEAT_SME": "0",
            "hw.optional.arm.FEAT_FP16": "1",
        }
    )
    assert set(found.flags or ()) == {"asimddp", "i8mm", "fphp", "asimdhp"}


def test_sysctl_that_says_nothing_is_unknown() -> None:
    assert cpu.parse_sysctl({}).flags is None


def test_the_tables_name_each_instruction_set_once() -> None:
    listed = [*cpu.X86_MACROS.values(), *cpu.ARM_MACROS.values()]
    names = [*listed, *cpu.UNLISTED_X86_MACROS.values()]
    assert len(names) == len(set(names))
    assert set(listed) >= cpu.WORTH_HAVING


def test_macros_become_the_names_of_the_system() -> None:
    macros = {"__x86_64__", "__AVX2__", "__AVX512VNNI__", "__LZCNT__", "__SOMETHING__"}
    assert cpu.instruction_sets(macros) == ("abm", "avx2", "avx512_vnni")
    assert cpu.unlisted_instruction_sets({*macros, "__AVXVNNIINT8__"}) == ("avx_vnni_int8",)


def test_macros_count_for_the_compiler_s_architecture_alone() -> None:
    # gcc for aarch64 defines the first, which for x86 stands for the flag cx16.
    both = {"__GCC_HAVE_SYNC_COMPARE_AND_SWAP_16", "__ARM_FEATURE_DOTPROD", "__AVXVNNIINT8__"}
    assert cpu.instruction_sets({*both, "__aarch64__"}) == ("asimddp",)
    assert cpu.unlisted_instruction_sets({*both, "__aarch64__"}) == ()
    assert cpu.instruction_sets({*both, "__x86_64__"}) == ("cx16",)
    assert cpu.instruction_sets({*both, "__riscv"}) == ()


def test_cpuinfo_of_the_machine_around_an_emulator_says_nothing_of_this_cpu() -> None:
    assert cpu.parse_cpuinfo(X86, "aarch64").flags is None
    assert cpu.parse_cpuinfo(BIG_LITTLE, "x86_64").flags is None


def test_missing_and_unused() -> None:
    built_in = ("avx", "avx2", "avx512_vnni")
    here = some_cpu("avx", "avx2", "avx_vnni", "aes")
    assert cpu.missing(built_in, here) == ("avx512_vnni",)
    assert cpu.unused(built_in, here) == ("avx_vnni",)


def test_an_unknown_cpu_is_not_refused() -> None:
    unknown = cpu.Cpu("?", "", None)
    assert cpu.missing(("avx2",), unknown) == ()
    assert cpu.unused(("avx2",), unknown) == ()


def test_the_cpu_of_this_machine_is_read() -> None:
    assert cpu.current_cpu().model
    if sys.platform == "linux":
        assert cpu.current_cpu().flags


def test_what_the_system_does_not_list_is_taken_from_the_kind_of_cpu() -> None:
    built = {**BUILT, "unlisted_instruction_sets": ["avx_vnni_int8"], "built_for": "Intel 6 198"}
    own = some_cpu("avx", "avx2", kind="Intel 6 198")
    other = some_cpu("avx", "avx2", kind="Intel 6 158")
    assert _compare(built, own).missing == ()
    assert _compare(built, other).missing == ("avx_vnni_int8",)


def test_the_description_names_what_matters() -> None:
    text = describe(_compare(BUILT, some_cpu("avx", "avx512_vnni")))
    assert "b11434" in text
    assert "GGML_NATIVE=OFF" in text
    assert [line.split()[-1] for line in text.splitlines()[-2:]] == ["avx2", "avx512_vnni"]


def test_a_build_info_cannot_be_changed() -> None:
    info: BuildInfo = _compare(BUILT, some_cpu())
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.version = "2"  # type: ignore[misc]


# --- in a fresh interpreter: a copy of the package with a stand-in for the compiled module --------

SCRIPT = """
import sys
# Without import hooks of installed packages: the copy, in this folder, is what is imported.
sys.meta_path[:] = [finder for finder in sys.meta_path if isinstance(finder, type)]
import pathlib
import sheily_native
from sheily_native import _library, cpu
cpu.CPUINFO = pathlib.Path(sys.argv[1], "cpuinfo")
sys.platform = "linux"
if sys.argv[2] == "elsewhere":
    sheily_native.__path__.append(sys.argv[1] + "/elsewhere")
try:
    print(_library.library())
except sheily_native.NativeError as error:
    print(type(error).__name__, error)
print("loaded" if "sheily_native._native" in sys.modules else "not loaded")
"""


def run_copy(folder: Path, mode: str = "here", build: str = "") -> str:
    command = [sys.executable, "-c", SCRIPT, str(folder), mode]
    environment = os.environ | {"SHEILY_BUILD": build}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=folder, env=environment
    ).stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with sheily_native's Python files, no build, and a CPU that has avx only."""
    target = tmp_path / "sheily_native"
    target.mkdir()
    for file in PACKAGE.glob("*.py"):
        shutil.copy(file, target)
    # Only one of the two lines counts, by the architecture that the test runs on.
    (tmp_path / "cpuinfo").write_text("flags : avx\nFeatures : avx\n", encoding="utf-8")
    return tmp_path


def add_build(
    folder: Path,
    *instruction_sets: str,
    native: str = "ffi, lib = 'ffi', 'lib'",
    name: str = "custom",
) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    info = {**BUILT, "name": name, "instruction_sets": instruction_sets}
    (folder / "build_info.json").write_text(json.dumps(info), encoding="utf-8")
    (folder / "_native.py").write_text(native, encoding="utf-8")


def test_another_cpu_is_refused_before_the_library_is_loaded(copy: Path) -> None:
    add_build(copy / "sheily_native", "avx", "avx2", "avx512_vnni")
    said, loaded = run_copy(copy).splitlines()
    assert said.startswith("IncompatibleCPUError")
    assert "avx2, avx512_vnni" in said
    assert "pip install" in said
    assert loaded == "not loaded"


def test_a_fitting_cpu_loads_the_library(copy: Path) -> None:
    add_build(copy / "sheily_native", "avx")
    assert run_copy(copy).splitlines() == ["('ffi', 'lib')", "loaded"]


def test_an_unreadable_cpu_loads_the_library(copy: Path) -> None:
    add_build(copy / "sheily_native", "avx2")
    (copy / "cpuinfo").unlink()
    assert run_copy(copy).splitlines()[-1] == "loaded"


def test_the_record_is_found_beside_the_library_of_an_editable_install(copy: Path) -> None:
    add_build(copy / "elsewhere", "avx", "avx2")
    said, loaded = run_copy(copy, "elsewhere").splitlines()
    assert said.startswith("IncompatibleCPUError")
    assert loaded == "not loaded"


def test_without_a_build_the_sentence_says_what_to_type(copy: Path) -> None:
    said, loaded = run_copy(copy).splitlines()
    assert said.startswith("NotBuiltError")
    assert "pip install ." in said
    assert loaded == "not loaded"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"options": 3}', "\0"])
def test_a_broken_record_counts_as_not_built(copy: Path, text: str) -> None:
    add_build(copy / "sheily_native", "avx")
    (copy / "sheily_native" / "build_info.json").write_text(text, encoding="utf-8")
    said, loaded = run_copy(copy).splitlines()
    assert said.startswith("NotBuiltError")
    assert loaded == "not loaded"


def test_a_library_that_cannot_be_loaded_says_why(copy: Path) -> None:
    add_build(copy / "sheily_native", "avx", native="raise ImportError('libgomp.so.1 is missing')")
    said, _ = run_copy(copy).splitlines()
    assert said.startswith("NotBuiltError")
    assert "libgomp.so.1 is missing" in said
    assert "pip install" in said


# --- several builds -------------------------------------------------------------------------------

LEVELS = {
    "v2": ("sse4_2",),
    "v3": ("sse4_2", "avx", "avx2"),
    "v4": ("sse4_2", "avx", "avx2", "avx512_vnni"),
}


@pytest.fixture
def portable(copy: Path) -> Path:
    """A copy with a build for each of `LEVELS`, as a portable wheel has them."""
    package = copy / "sheily_native"
    for name, sets in LEVELS.items():
        folder = package if name == "v2" else package / "builds" / name
        add_build(folder, *sets, native=f"ffi, lib = 'ffi', '{name}'", name=name)
    return copy


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("sse4_2", "v2"),
        ("sse4_2 avx", "v2"),
        ("sse4_2 avx avx2", "v3"),
        ("sse4_2 avx avx2 avx512f", "v3"),
        ("sse4_2 avx avx2 avx512_vnni amx_int8", "v4"),
    ],
)
def test_the_build_that_uses_most_of_the_cpu_is_loaded(
    portable: Path, flags: str, name: str
) -> None:
    (portable / "cpuinfo").write_text(f"flags : {flags}\n", encoding="utf-8")
    assert run_copy(portable).splitlines() == [f"('ffi', '{name}')", "loaded"]


def test_where_the_cpu_is_unknown_the_build_for_most_cpus_is_loaded(portable: Path) -> None:
    (portable / "cpuinfo").unlink()
    assert run_copy(portable).splitlines() == ["('ffi', 'v2')", "loaded"]


def test_a_cpu_that_no_build_fits_is_told_what_the_least_of_them_needs(portable: Path) -> None:
    (portable / "cpuinfo").write_text("flags : sse2\n", encoding="utf-8")
    said, loaded = run_copy(portable).splitlines()
    assert said.startswith("IncompatibleCPUError")
    assert "does not have sse4_2;" in said
    assert loaded == "not loaded"


def test_a_build_is_chosen_by_its_name(portable: Path) -> None:
    (portable / "cpuinfo").write_text("flags : sse4_2 avx avx2\n", encoding="utf-8")
    assert run_copy(portable, build="v2").splitlines() == ["('ffi', 'v2')", "loaded"]
    said, loaded = run_copy(portable, build="v4").splitlines()
    assert said.startswith("IncompatibleCPUError")
    assert "avx512_vnni" in said
    assert loaded == "not loaded"
    said, loaded = run_copy(portable, build="v5").splitlines()
    assert said.startswith("NotBuiltError SHEILY_BUILD is 'v5'")
    assert said.endswith("v2, v3, v4")
    assert loaded == "not loaded"


def test_a_further_build_that_cannot_be_loaded_says_why(portable: Path) -> None:
    (portable / "cpuinfo").write_text("flags : sse4_2 avx avx2\n", encoding="utf-8")
    broken = portable / "sheily_native" / "builds" / "v3" / "_native.py"
    broken.write_text("raise ImportError('libgomp.so.1 is missing')", encoding="utf-8")
    said, loaded = run_copy(portable).splitlines()
    assert said.startswith("NotBuiltError")
    assert "libgomp.so.1 is missing" in said
    assert loaded == "not loaded"
