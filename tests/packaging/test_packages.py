"""The sdist builds without a package index; its portable wheel runs on every supported Python."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from sheily_server.client import LLMClient
from tests.support.commands import run
from tests.support.models import ROOT
from tests.support.waiting import until
from tools.server_process import ServerProcess

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(1800)]

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
OLD_GLIBC = os.geteuid() == 0 and shutil.which("debootstrap") is not None

BUILDS = ("sheily_native/", "sheily_native/builds/v3/", "sheily_native/builds/v4/")

# What an installed package is asked to do: to load the library and to use it.
SMOKE = """
import sys
import sheily_native
from sheily_native._library import library

info = sheily_native.build_info()
assert not info.missing, info.missing
assert "sheily_native._native" not in sys.modules
library()
with sheily_native.Model(sys.argv[1], vocab_only=True) as model:
    tokens = model.tokenize("Hello world", special=False)
    assert b"".join(model.piece(token) for token in tokens) == b"Hello world", tokens
print(info.name, info.version, info.llama_cpp_build)
"""

LOADED_LIBRARIES = """
from sheily_native._library import library

library()
print(open("/proc/self/maps").read())
"""


def offline() -> dict[str, str]:
    """An environment in which pip can download nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return kept | {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of this tree."""
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", folder, ROOT, cwd=folder)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def source(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist, outside of this tree."""
    folder = tmp_path_factory.mktemp("source")
    run(sys.executable, "-m", "tarfile", "--extract", sdist, folder, cwd=folder)
    (top,) = folder.iterdir()
    return top


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where wheels are made."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def wheel(source: Path, compiled: Path) -> Path:
    """The portable wheel that the unpacked sdist makes in this environment."""
    folders = ["--folder", str(compiled), "--dist", str(compiled)]
    older = ["--old-glibc"] if OLD_GLIBC else []
    make_wheel = [sys.executable, "-m", "tools.make_wheel"]
    run(*make_wheel, *folders, *older, cwd=source, env=offline())
    (wheel,) = compiled.glob("*.whl")
    return wheel


def find_python(version: str) -> str | None:
    """A Python of this version that runs: on the PATH, or one of pyenv's."""
    name = f"python{version}"
    candidates = [shutil.which(name)] if shutil.which(name) else []
    candidates += sorted(map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}")))
    for candidate in filter(None, candidates):
        command = [candidate, "-c", "import ensurepip, venv"]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def install(python: str, wheel: Path, folder: Path) -> Path:
    """A fresh environment with the wheel and what it depends on; returns its Python."""
    run(python, "-m", "venv", folder / "venv", cwd=folder)
    inside = folder / "venv" / "bin" / "python"
    run(inside, "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return inside


def vocabulary(source: Path) -> Path:
    return source / "vendor" / "llama.cpp" / "models" / "ggml-vocab-llama-bpe.gguf"


def test_the_sdist_carries_what_builds_and_no_more(sdist: Path) -> None:
    with tarfile.open(sdist) as tar:
        names = [PurePosixPath(*PurePosixPath(name).parts[1:]) for name in tar.getnames()]
    files = {str(name) for name in names}
    llama = "vendor/llama.cpp"
    assert files >= {
        "LICENSE",
        "pyproject.toml",
        "vendor/fetch.py",
        "vendor/llama.cpp.toml",
        "sheily_native/csrc/api.h",
        "sheily_native/csrc/kernels/matmul/q8_0/tile-inl.h",
        "sheily_native/csrc/kernels/x86/q8_0_avx2.cpp",
        "sheily_native/csrc/shim/shim.h",
        f"{llama}/LICENSE",
        f"{llama}/.sheily-pin",
        f"{llama}/src/llama.cpp",
        f"{llama}/ggml/src/ggml-cpu/ops.cpp",
        f"{llama}/ggml/src/ggml-blas/ggml-blas.cpp",
        f"{llama}/models/ggml-vocab-llama-bpe.gguf.out",
    }
    backends = {name.parts[4] for name in names if str(name).startswith(f"{llama}/ggml/src/ggml-")}
    assert {name for name in backends if "." not in name} == {"ggml-cpu", "ggml-blas"}
    unwanted = ("common", "tools", "examples", "tests", "gguf-py", "app")
    parts = {PurePosixPath(name).relative_to(llama).parts for name in files if llama + "/" in name}
    assert not {inside[0] for inside in parts} & set(unwanted)
    assert not [name for name in files if name.startswith(("build/", "models/", ".venv/"))]
    assert 2e6 < sdist.stat().st_size < 10e6


def test_without_its_source_the_same_build_could_not_download_it(
    source: Path, tmp_path: Path
) -> None:
    fetch = source / "vendor" / "fetch.py"
    command = [sys.executable, str(fetch), "--into", str(tmp_path / "llama.cpp")]
    done = subprocess.run(command, env=offline(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "could not be downloaded" in done.stderr


def test_the_wheel_holds_the_packages_and_nothing_of_the_source(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
        infos = [json.loads(archive.read(f"{folder}build_info.json")) for folder in BUILDS]
        licence = archive.read("sheily_native/LICENSE.libgomp.txt").decode()
    assert {name.split("/")[0] for name in files} == {
        "sheily_native",
        "sheily_server",
        "sheily_server.libs",
    }
    built = {name for name in files if not name.endswith((".py", ".pyi", "/py.typed", "/"))}
    (libgomp,) = (name for name in built if name.startswith("sheily_server.libs/"))
    assert re.match(r"sheily_server\.libs/libgomp-\w+\.so", libgomp)
    assert built - {libgomp} == {
        *(f"{folder}_native.abi3.so" for folder in BUILDS),
        *(f"{folder}build_info.json" for folder in BUILDS),
        "sheily_native/LICENSE.llama.cpp.txt",
        "sheily_native/LICENSE.libgomp.txt",
        *(
            f"sheily_server/api/page/{name}"
            for name in ("page.html", "page.css", "page.js", "favicon.svg")
        ),
    }
    assert [info["name"] for info in infos] == ["v2", "v3", "v4"]
    assert "GCC Runtime Library Exception" in " ".join(licence.split())


def test_the_tag_is_that_of_an_old_glibc(wheel: Path) -> None:
    tag = re.fullmatch(
        r"sheily_server-0\.1\.0-cp310-abi3-manylinux_2_(\d+)_x86_64\.whl", wheel.name
    )
    assert tag
    assert not OLD_GLIBC or int(tag[1]) <= 31


@pytest.mark.parametrize("version", VERSIONS)
def test_the_wheel_runs(version: str, wheel: Path, source: Path, tmp_path: Path) -> None:
    python = find_python(version)
    if python is None:
        pytest.skip(f"no Python {version} with venv was found")
    inside = install(python, wheel, tmp_path)
    for build in ("v2", "v3", "v4"):
        environment = {**os.environ, "SHEILY_BUILD": build}
        said = subprocess.run(
            [inside, "-m", "sheily_native"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert re.search(rf"^build +{build}$", said.stdout, re.M)
        if said.returncode == 0:  # this CPU has what it needs
            smoke = run(inside, "-c", SMOKE, vocabulary(source), cwd=tmp_path, env=environment)
            assert smoke == f"{build} 0.1.0 11434\n"
        else:
            assert build != "v2"


def test_a_first_answer_needs_no_compiler(wheel: Path, tmp_path: Path) -> None:
    inside = install(sys.executable, wheel, tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    environment = {"PATH": str(inside.parent), "HOME": str(home), "LLM_PORT": "0"}
    environment |= {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    command = [str(inside.parent / "sheily"), "serve", "smollm2", "--fetch"]
    with ServerProcess(command, cwd=home, env=environment) as server:
        url = server.wait_for_line(r"listening on (\S+)", 300)[1]
        client = LLMClient(url)
        until(lambda: client.health_check()["state"] == "ready", 60)
        answer = client.chat([{"role": "user", "content": "Where is the Eiffel Tower?"}])
        assert answer.text
        assert server.stop() == 0


def test_a_build_with_openblas_runs(source: Path, tmp_path: Path) -> None:
    if not list(Path("/usr/include").glob("**/cblas.h")):
        pytest.skip("no cblas.h: apt install libopenblas-dev")
    defines = {"GGML_BLAS": "ON", "GGML_BLAS_VENDOR": "OpenBLAS", "GGML_NATIVE": "OFF"}
    options = [f"-Ccmake.define.{name}={value}" for name, value in defines.items()]
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "."]
    run(*command, "-w", tmp_path, *options, cwd=source, env=offline())
    (wheel,) = tmp_path.glob("*.whl")
    inside = install(sys.executable, wheel, tmp_path)
    assert run(inside, "-c", SMOKE, vocabulary(source), cwd=tmp_path) == "custom 0.1.0 11434\n"
    said = run(inside, "-m", "sheily_native", cwd=tmp_path)
    for name, value in defines.items():
        assert f"{name}={value}" in said
    assert "openblas" in run(inside, "-c", LOADED_LIBRARIES, cwd=tmp_path)
