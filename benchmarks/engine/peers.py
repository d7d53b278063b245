"""The contestants that are not ours: llama.cpp's own tools built from the vendored source, and
environments with OpenVINO GenAI and with llama-cpp-python. Builds, finds and runs them; knows
nothing of what is compared."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from types import MappingProxyType

import msgspec

from benchmarks.common.models import ROOT
from benchmarks.common.report import BenchmarkError

LLAMA_CPP = ROOT / "vendor" / "llama.cpp"
PIN = LLAMA_CPP / ".sheily-pin"
OPENVINO_PEER = Path(__file__).with_name("openvino_peer.py")
OPENVINO_PACKAGE = "openvino-genai"
LLAMA_CPP_PYTHON_PACKAGE = "llama-cpp-python"

NATIVE, AVX2 = "native", "avx2"
LLAMA_BENCH, LLAMA_QUANTIZE = "llama-bench", "llama-quantize"
LLAMA_SERVER = "llama-server"

_COMMON_FLAGS = (
    *("-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF"),
    *("-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF"),
    "-DLLAMA_BUILD_UI=OFF",
    # Or the programs carry the commit of the repository around llama.cpp's source.
    *("-DLLAMA_BUILD_COMMIT=pinned", "-DLLAMA_BUILD_NUMBER=0"),
)
FLAGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        NATIVE: (*_COMMON_FLAGS, "-DGGML_NATIVE=ON"),
        AVX2: (
            *(*_COMMON_FLAGS, "-DGGML_NATIVE=OFF", "-DGGML_SSE42=ON", "-DGGML_AVX=ON"),
            *("-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_F16C=ON", "-DGGML_BMI2=ON"),
        ),
    }
)
TARGETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {NATIVE: (LLAMA_BENCH, LLAMA_QUANTIZE), AVX2: (LLAMA_BENCH,)}
)
_PROGRAMS = (LLAMA_BENCH, LLAMA_QUANTIZE, LLAMA_SERVER)
_STAMP = ".sheily-peer"
_LOG = "build.log"


class BenchRun(msgspec.Struct, frozen=True):
    """What we read of a record of `llama-bench -o json`; the rates are tokens/s, one a run."""

    n_prompt: int
    n_gen: int
    n_depth: int
    n_threads: int
    model_n_params: int
    samples_ts: list[float]


def parse_llama_bench(text: str | bytes, n_prompt: int, n_gen: int, n_depth: int = 0) -> BenchRun:
    """The record of one test. Raises BenchmarkError when it is not there or has no figures."""
    try:
        runs = msgspec.json.decode(text, type=list[BenchRun])
    except msgspec.MsgspecError as error:
        raise BenchmarkError(f"llama-bench printed no results that can be read: {error}") from None
    wanted = (n_prompt, n_gen, n_depth)
    for run in runs:
        if (run.n_prompt, run.n_gen, run.n_depth) == wanted and run.samples_ts:
            return run
    raise BenchmarkError(f"llama-bench gave no figures for {wanted} tokens (prompt, decode, depth)")


def llama_bench(
    program: Path, model: Path, threads: int, *, prefill: int = 0, decode: int = 0, depth: int = 0
) -> float:
    """Tokens a second of one test in a process of its own. Raises BenchmarkError."""
    flags = {"-m": model, "-t": threads, "-p": prefill, "-n": decode, "-d": depth, "-r": 1}
    command = [str(program), "-lm", "none", "-o", "json"]
    command += [str(part) for pair in flags.items() for part in pair]
    run = parse_llama_bench(_output(command), prefill, decode, depth)
    if run.n_threads != threads:
        raise BenchmarkError(f"llama-bench used {run.n_threads} threads instead of {threads}")
    return median(run.samples_ts)


def quantize(program: Path, source: Path, target: Path, kind: str, threads: int) -> None:
    """Writes `source` in another format to `target`, whole or not at all. Raises BenchmarkError."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    command = [str(program), "--allow-requantize", str(source), str(part), kind, str(threads)]
    try:
        _output(command)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def tools(scratch: Path, kind: str, targets: Sequence[str] = ()) -> dict[str, Path]:
    """llama.cpp's programs of one kind (`NATIVE` or `AVX2`) by name, built where they are not yet.

    `targets` are the programs that are needed, those of `TARGETS` when it is empty. Programs are
    built again when the pin or the flags are others. Raises BenchmarkError.
    """
    targets = targets or TARGETS[kind]
    folder = scratch.resolve() / kind
    programs = {name: folder / "bin" / name for name in targets}
    stamp = folder / _STAMP
    wanted = _identity(FLAGS[kind])
    same = _text(stamp) == wanted
    if not same:
        for name in _PROGRAMS:  # those too that are not needed now, or they would pass for new
            (folder / "bin" / name).unlink(missing_ok=True)
    if not (same and all(path.exists() for path in programs.values())):
        stamp.unlink(missing_ok=True)
        _build(folder, FLAGS[kind], targets)
        stamp.write_text(wanted, encoding="utf-8")
    return programs


def llama_server(scratch: Path) -> Path:
    """llama.cpp's own server, built for this CPU where it is not yet. Raises BenchmarkError."""
    return tools(scratch, NATIVE, (LLAMA_SERVER,))[LLAMA_SERVER]


def llama_cpp_python(scratch: Path) -> Path:
    """The Python of an environment with llama-cpp-python's server, made if it is not there.

    Its llama.cpp is compiled for this CPU, minutes. Raises BenchmarkError.
    """
    python = scratch.resolve() / LLAMA_CPP_PYTHON_PACKAGE / "bin" / "python"
    if not _imports(python, "llama_cpp.server.app"):
        print(f"building {LLAMA_CPP_PYTHON_PACKAGE} in {python.parent.parent}", file=sys.stderr)
        _output([sys.executable, "-m", "venv", str(python.parent.parent)])
        _output(
            [*_pip(python), f"{LLAMA_CPP_PYTHON_PACKAGE}[server]"],
            {**_environment(), "CMAKE_ARGS": "-DGGML_NATIVE=ON"},
        )
    return python


def package_version(python: Path, package: str) -> str:
    """Of an installed package. Raises BenchmarkError."""
    program = f"import importlib.metadata as m; print(m.version({package!r}))"
    return _output([str(python), "-c", program]).decode().strip()


def has_openvino(python: Path) -> bool:
    """Whether that Python can import OpenVINO GenAI."""
    return _imports(python, "openvino_genai")


def openvino_python(scratch: Path) -> Path:
    """Where the Python of the environment for OpenVINO is, or would be."""
    return scratch.resolve() / "openvino" / "bin" / "python"


def install_openvino(scratch: Path) -> Path:
    """The Python of an environment with OpenVINO GenAI, made if it is not there.

    Raises BenchmarkError.
    """
    python = openvino_python(scratch)
    if not has_openvino(python):
        print(f"installing {OPENVINO_PACKAGE} in {python.parent.parent}", file=sys.stderr)
        _output([sys.executable, "-m", "venv", str(python.parent.parent)])
        _output([*_pip(python), OPENVINO_PACKAGE])
    return python


def _imports(python: Path, module: str) -> bool:
    try:
        command = [str(python), "-c", f"import {module}"]
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _pip(python: Path) -> list[str]:
    return [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def _environment() -> dict[str, str]:
    """With SOURCE_DATE_EPOCH, ggml switches -march=native off and says nothing."""
    return {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"}


def _identity(flags: Sequence[str]) -> str:
    pin = _text(PIN)
    if pin is None:
        raise BenchmarkError(f"{LLAMA_CPP} is missing: bring it with `python vendor/fetch.py`")
    return " ".join((*pin.split(), *flags)) + "\n"


def _build(folder: Path, flags: Sequence[str], targets: Sequence[str]) -> None:
    beside = Path(sys.executable).parent
    path = f"{beside}{os.pathsep}{os.environ.get('PATH', '')}"
    cmake = shutil.which("cmake", path=path)
    if cmake is None or shutil.which("ninja", path=path) is None:
        raise BenchmarkError(
            f"cmake and ninja are needed to build {targets[0]}: `pip install` both"
        )
    environment = {**_environment(), "PATH": path}
    folder.mkdir(parents=True, exist_ok=True)
    print(f"building {', '.join(targets)} in {folder}: minutes, once", file=sys.stderr)
    configure = [cmake, "-S", str(LLAMA_CPP), "-B", str(folder), *flags]
    compile_ = [cmake, "--build", str(folder), "--target", *targets]
    with (folder / _LOG).open("wb") as log:
        for command in (configure, compile_):
            done = subprocess.run(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
            )
            if done.returncode != 0:
                raise BenchmarkError(f"llama.cpp could not be built; {folder / _LOG} says why")


def _output(command: Sequence[str], environment: Mapping[str, str] | None = None) -> bytes:
    """What a program prints. Raises BenchmarkError with its last words when it fails."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(command, capture_output=True, check=False, env=environment)
    except OSError as error:
        raise BenchmarkError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").split("\n")
        last = " | ".join([line.strip() for line in words if line.strip()][-3:])
        raise BenchmarkError(f"{name} failed with status {done.returncode}: {last}")
    return done.stdout


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None
