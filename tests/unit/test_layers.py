"""Who imports whom: a module of the server knows the layers below its own, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = "sheily_server.engine"
# What the server process shares with the engine's: the wire, and what glibc's heap is told.
SHARED = {ENGINE, f"{ENGINE}.frames", f"{ENGINE}.heap", f"{ENGINE}.messages"}

# The layer of each module outside `engine` and `prompts`; one imports only what is lower.
LAYERS = {
    "sheily_server": 0,
    "sheily_server.tuned": 0,
    "sheily_server.config": 0,
    "sheily_server.errors": 0,
    "sheily_server.cors": 0,
    "sheily_server.gguf": 0,
    "sheily_server.guard": 0,
    "sheily_server.logs": 0,
    "sheily_server.openai": 0,
    "sheily_server.prompts": 1,
    "sheily_server.history": 1,
    "sheily_server.preflight": 1,
    "sheily_server.engine.frames": 0,
    "sheily_server.engine.heap": 0,
    "sheily_server.engine.messages": 1,
    "sheily_server.openapi": 1,
    "sheily_server.schemas": 2,
    "sheily_server.engine_process": 2,
    "sheily_server.gate": 0,
    "sheily_server.outbox": 2,
    "sheily_server.suspects": 2,
    "sheily_server.tickets": 2,
    "sheily_server.supervisor": 2,
    "sheily_server.metrics": 3,
    "sheily_server.tools": 3,
    "sheily_server.answer": 4,
    "sheily_server.chat": 5,
    "sheily_server.completion": 6,
    "sheily_server.app": 7,
    "sheily_server.http_server": 8,
    "sheily_server.__main__": 9,
}
C_SUFFIXES = {".c", ".cpp", ".h"}
# Programs and libraries of their own.
ALONE = ("sheily_server.client", "sheily_server.models")
# Where a layer's modules may import one another, these pairs do.
WITHIN_A_LAYER = {
    ("sheily_server.config", "sheily_server.tuned"),
    ("sheily_server.config", "sheily_server.guard"),
    ("sheily_server.guard", "sheily_server.errors"),
    ("sheily_server.openai", "sheily_server.errors"),
    ("sheily_server.history", "sheily_server.prompts"),
    ("sheily_server.engine.messages", "sheily_server.prompts"),
    ("sheily_server.engine_process", "sheily_server.outbox"),
    ("sheily_server.supervisor", "sheily_server.engine_process"),
    ("sheily_server.supervisor", "sheily_server.suspects"),
    ("sheily_server.supervisor", "sheily_server.tickets"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(package: str) -> dict[str, Path]:
    return {module_name(path): path for path in sorted((ROOT / package).rglob("*.py"))}


SERVER = modules("sheily_server")
NATIVE = modules("sheily_native")


def imported(name: str, path: Path) -> set[str]:
    """Every module that a file names in an import, wherever in the file, in absolute form; of
    `from a import b` both `a` and, where it is a module of this project, `a.b`."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            submodules = {f"{base}.{alias.name}" for alias in node.names}
            known = {module for module in submodules if module in SERVER or module in NATIVE}
            found |= known or {base}
    return found


IMPORTS = {name: imported(name, path) for name, path in (SERVER | NATIVE).items()}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def unit(name: str) -> str:
    """`prompts` counts as one; every other module for itself."""
    return "sheily_server.prompts" if within(name, "sheily_server.prompts") else name


def of_project(names: set[str]) -> set[str]:
    return {unit(name) for name in names if within(name, "sheily_server")}


def is_engine(name: str) -> bool:
    return within(name, ENGINE) and name not in SHARED


def test_every_module_has_a_place() -> None:
    placed = {unit(name) for name in SERVER if not is_engine(name)} - {ENGINE}
    assert placed == set(LAYERS) | set(ALONE)


@pytest.mark.parametrize("name", [name for name in SERVER if unit(name) in LAYERS])
def test_a_layer_imports_only_lower_ones(name: str) -> None:
    own = unit(name)
    for other in of_project(IMPORTS[name]) - {own}:
        assert other in LAYERS, f"{name} imports {other}"
        allowed = LAYERS[other] < LAYERS[own] or (own, other) in WITHIN_A_LAYER
        assert allowed, f"{name} imports {other}"


@pytest.mark.parametrize("name", ALONE)
def test_client_and_models_import_no_sibling(name: str) -> None:
    assert of_project(IMPORTS[name]) == set()


@pytest.mark.parametrize("name", [name for name in SERVER if is_engine(name)])
def test_the_engine_imports_prompts_and_itself(name: str) -> None:
    for other in of_project(IMPORTS[name]):
        assert within(other, ENGINE) or other == "sheily_server.prompts", f"{name} imports {other}"


@pytest.mark.parametrize("name", NATIVE)
def test_the_native_package_knows_no_server(name: str) -> None:
    assert of_project(IMPORTS[name]) == set()


def reachable(start: str) -> set[str]:
    """All modules of the project that importing one brings along, with their packages."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        name = todo.pop()
        if name in seen or name not in IMPORTS:
            continue
        seen.add(name)
        todo += [*IMPORTS[name], name.rpartition(".")[0]]
    return seen


def test_the_server_process_reaches_no_native_code() -> None:
    process = reachable("sheily_server.__main__")
    assert {"sheily_server.app", "sheily_server.supervisor", f"{ENGINE}.messages"} <= process
    assert not [name for name in process if is_engine(name) or within(name, "sheily_native")]
    for name in process:
        assert not {other for other in IMPORTS[name] if within(other, "sheily_native")}


def test_werkzeug_is_for_app_alone() -> None:
    users = {name for name in SERVER if any(within(m, "werkzeug") for m in IMPORTS[name])}
    assert users == {"sheily_server.app"}


def test_the_library_of_the_metrics_is_in_one_file() -> None:
    users = {name for name in SERVER if any(within(m, "prometheus_client") for m in IMPORTS[name])}
    assert users == {"sheily_server.metrics"}


def test_waitress_is_in_one_file() -> None:
    users = {name for name in SERVER if any(within(m, "waitress") for m in IMPORTS[name])}
    assert users == {"sheily_server.http_server"}


def test_pure_engine_modules_import_no_native_code() -> None:
    """So that their tests need nothing compiled."""
    for name in (
        "scheduler",
        "sequence",
        "prefix_tree",
        "pace",
        "drafts",
        "answers",
        "text",
        "frames",
        "messages",
        "settled",
    ):
        assert not {m for m in IMPORTS[f"{ENGINE}.{name}"] if within(m, "sheily_native")}


def including(header: str) -> set[str]:
    """Names of our C and C++ files that include a header themselves."""
    include = re.compile(rf'^\s*#\s*include\s*[<"]{re.escape(header)}[>"]', re.MULTILINE)
    sources = [path for path in (ROOT / "sheily_native").rglob("*.*") if path.suffix in C_SUFFIXES]
    return {path.name for path in sources if include.search(path.read_text(encoding="utf-8"))}


def test_llama_h_is_for_the_shim_alone() -> None:
    assert including("llama.h") == {"shim.h"}
    users = including("shim.h")
    assert users
    assert all(name.startswith("shim_") and name.endswith(".cpp") for name in users), users


def test_instruction_set_files_include_nothing_that_the_linker_could_share() -> None:
    """An inline function compiled for AVX-512 there could be the copy that every file gets."""
    own = {
        "q8_0.h",
        "q8_0_256.h",
        "q8_0_vnni_256.h",
        "q8_0_tile.h",
        "attention.h",
        "attention_tile.h",
    }
    glue = {"q8_0_select.cpp", "attention_op.cpp", "attention_op.h"}
    kernels = ROOT / "sheily_native" / "csrc" / "kernels"
    include = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
    files = {*kernels.glob("q8_0*"), *kernels.glob("attention*")}
    assert glue < {path.name for path in files}
    for path in files:
        if path.name not in glue:
            included = set(include.findall(path.read_text(encoding="utf-8")))
            assert included <= {*own, "immintrin.h", "stdint.h"}, path


def test_threads_share_atomics_and_nothing_volatile() -> None:
    for path in (ROOT / "sheily_native" / "csrc").rglob("*.*"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<!__asm__ )(?<!asm )\bvolatile\b", text), path
