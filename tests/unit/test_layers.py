"""Who imports whom: a module of the server knows the layers below its own, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.models import ROOT

TABLE = re.compile(r"^\| `(\w+)` \|([^|]*)\|", re.MULTILINE)
C_SUFFIXES = {".c", ".cpp", ".h"}


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


def rooms() -> dict[str, set[str]]:
    """Which rooms each room may import, as docs/architecture.md has it in its table."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return {room: set(re.findall(r"`(\w+)`", names)) for room, names in TABLE.findall(text)}


ROOMS = rooms()


def room_of(name: str) -> str | None:
    """The room of a module; None for the plain ones beside the rooms."""
    first = name.split(".")[1] if "." in name else ""
    return first if first in ROOMS else None


def of_project(names: set[str]) -> set[str]:
    return {name for name in names if within(name, "sheily_server")}


def test_every_folder_is_a_room() -> None:
    folders = {path.parent.name for path in (ROOT / "sheily_server").glob("*/__init__.py")}
    assert folders == {room for room in ROOMS if room != "metrics"}
    assert "sheily_native" in ROOMS["engine"]
    for name, path in SERVER.items():
        if path.name == "__init__.py":
            documentation = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            assert documentation, name


@pytest.mark.parametrize("name", [name for name in SERVER if room_of(name)])
def test_a_room_imports_what_the_table_says(name: str) -> None:
    own = room_of(name)
    assert own
    for other in {room_of(other) for other in of_project(IMPORTS[name])} - {own, None}:
        assert other in ROOMS[own], f"{name} imports {other}"


@pytest.mark.parametrize("name", [name for name in SERVER if not room_of(name)])
def test_what_is_beside_the_rooms_imports_none(name: str) -> None:
    if name != "sheily_server.__main__":
        assert not [other for other in of_project(IMPORTS[name]) if room_of(other)]


def test_the_table_has_no_circle() -> None:
    left = {room: names & set(ROOMS) for room, names in ROOMS.items()}
    while left:
        free = [room for room, names in left.items() if not names]
        assert free, left
        left = {room: names - set(free) for room, names in left.items() if room not in free}


def test_no_modules_import_each_other() -> None:
    def behind(name: str) -> set[str]:
        """All modules that one needs, by whatever way."""
        seen: set[str] = set()
        todo = [name]
        while todo:
            for other in IMPORTS.get(todo.pop(), set()) & set(IMPORTS):
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        return seen

    assert [name for name in IMPORTS if name in behind(name)] == []


@pytest.mark.parametrize("name", [name for name in SERVER if room_of(name) == "client"])
def test_the_client_needs_nothing_of_the_server(name: str) -> None:
    assert {room_of(other) for other in of_project(IMPORTS[name])} <= {"client"}


def test_what_downloads_is_out_of_reach_of_server_and_engine() -> None:
    for start in ("sheily_server.__main__", "sheily_server.engine.__main__"):
        assert not [name for name in reachable(start) if room_of(name) == "cli"]


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
    assert {"sheily_server.web.app", "sheily_server.backend.supervisor"} <= process
    assert not [name for name in process if room_of(name) == "engine"]
    assert not [name for name in process if within(name, "sheily_native")]
    for name in process:
        assert not {other for other in IMPORTS[name] if within(other, "sheily_native")}


def test_werkzeug_is_for_app_alone() -> None:
    users = {name for name in SERVER if any(within(m, "werkzeug") for m in IMPORTS[name])}
    assert users == {"sheily_server.web.app"}


def test_the_library_of_the_metrics_is_in_one_file() -> None:
    users = {name for name in SERVER if any(within(m, "prometheus_client") for m in IMPORTS[name])}
    assert users == {"sheily_server.metrics"}


def test_waitress_is_for_the_http_server_alone() -> None:
    users = {name for name in SERVER if any(within(m, "waitress") for m in IMPORTS[name])}
    assert users == {
        f"sheily_server.web.{name}" for name in ("connection", "listener", "parsing", "server")
    }


def test_pure_engine_modules_import_no_native_code() -> None:
    """So that their tests need nothing compiled."""
    pure = [name for name in SERVER if re.search(r"\.engine\.(scheduling|kvcache)\.", name)]
    assert len(pure) > 5
    for name in [*pure, "sheily_server.engine.text", "sheily_server.engine.settled"]:
        assert not {other for other in IMPORTS[name] if within(other, "sheily_native")}


CSRC = ROOT / "sheily_native" / "csrc"
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def includes(path: Path) -> set[str]:
    return set(INCLUDE.findall(path.read_text(encoding="utf-8")))


def including(header: str) -> set[Path]:
    """Our C and C++ files that include a header themselves."""
    sources = [path for path in (ROOT / "sheily_native").rglob("*.*") if path.suffix in C_SUFFIXES]
    return {path.relative_to(CSRC) for path in sources if header in includes(path)}


def test_llama_h_is_for_the_shim_alone() -> None:
    assert including("llama.h") == {Path("shim/shim.h")}
    users = including("shim/shim.h")
    assert users
    assert {path.parent for path in users} == {Path("shim")}


def test_headers_of_ggml_are_for_what_puts_kernels_into_it() -> None:
    for path in (CSRC / "kernels").rglob("*.*"):
        if path.parent.name != "ggml":
            assert not [name for name in includes(path) if "ggml" in name], path


def test_the_cpu_is_asked_in_one_file() -> None:
    assert including("cpuid.h") == {Path("kernels/cpu_features.cpp")}


def test_instruction_set_files_include_nothing_that_the_linker_could_share() -> None:
    """An inline function compiled for AVX-512 there could be the copy that every file gets."""
    todo = sorted((CSRC / "kernels" / "x86").glob("*.cpp"))
    assert len(todo) > 5
    seen: set[str] = set()
    while todo:
        path = todo.pop()
        for name in includes(path) - {"immintrin.h", "stddef.h", "stdint.h"} - seen:
            assert name.startswith("kernels/"), path
            seen.add(name)
            todo.append(CSRC / name)
    assert "kernels/matmul/q8_0/tile-inl.h" in seen


def test_threads_share_atomics_and_nothing_volatile() -> None:
    for path in CSRC.rglob("*.*"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<!__asm__ )(?<!asm )\bvolatile\b", text), path
