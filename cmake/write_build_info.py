"""Writes build_info.json while CMake configures: what the library is built with and for.

Asks the compiler itself, with the flags that ggml's CPU code gets, which instruction sets it may
use, and prints a digest of them. Run by CMakeLists.txt only.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def load_cpu_module() -> ModuleType:
    """Loads sheily_native/cpu.py by its path: the package needs what is not installed yet."""
    spec = importlib.util.spec_from_file_location("cpu", ROOT / "sheily_native" / "cpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def predefined_macros(command: list[str]) -> set[str]:
    """Returns the macros that `command` (a compiler and flags) defines for every C file."""
    done = subprocess.run(
        [*command, "-dM", "-E", "-x", "c", "-"],
        input="",
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.split()[1] for line in done.stdout.splitlines() if line.startswith("#define ")}


def main() -> int:
    """Writes the file and prints the digest, 15 hexadecimal digits."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True)
    for name in ("name", "version", "llama-cpp-build", "build-type", "compiler", "architecture"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()

    cpu = load_cpu_module()
    here = cpu.current_cpu()
    macros = predefined_macros(given.command)
    listed = cpu.instruction_sets(macros)
    unlisted = cpu.unlisted_instruction_sets(macros)
    if "GGML_NATIVE=ON" in given.option:
        # The compiler asked the CPU itself, so what this system does not list is unknown to it.
        unknown = cpu.missing(listed, here)
        listed = tuple(name for name in listed if name not in unknown)
        unlisted += unknown
    info = {
        "name": given.name,
        "version": given.version,
        "llama_cpp_build": int(given.llama_cpp_build),
        "compiler": given.compiler,
        "build_type": given.build_type,
        "architecture": given.architecture,
        "flags": given.command[1:],
        "options": dict(option.split("=", 1) for option in given.option),
        "instruction_sets": listed,
        "unlisted_instruction_sets": unlisted,
        "built_for": here.kind if unlisted else "",
    }
    text = json.dumps(info, indent=2) + "\n"
    if not given.output.exists() or given.output.read_text(encoding="utf-8") != text:
        given.output.write_text(text, encoding="utf-8")
    print(hashlib.sha256(" ".join(listed + unlisted).encode()).hexdigest()[:15])
    return 0


if __name__ == "__main__":
    sys.exit(main())
