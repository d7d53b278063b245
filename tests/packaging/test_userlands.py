"""The portable wheel in userlands of others: older and newer Debians, and older CPUs.

`make test-userlands` makes the wheel, and the userlands in build/userlands, once; as root.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sheily_server.client import LLMClient
from tests.support.commands import run
from tests.support.models import ROOT, smollm2
from tests.support.waiting import WAIT, until
from tools import userland
from tools.server_process import ServerProcess

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.heavy,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the wheel is for x86-64"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter another userland"),
]

USERLANDS = ROOT / "build" / "userlands"
QUESTION = "Where is the Eiffel Tower?"
# Debian 11's own Python is 3.9, which is too old: it gets that of Debian 12, built from its source.
SUITES = {"bullseye": "3.11", "bookworm": "3.11", "trixie": "3.13"}
TO_BUILD_PYTHON = (
    *("gcc", "make", "libc6-dev", "xz-utils"),
    *("zlib1g-dev", "libffi-dev", "libssl-dev", "libsqlite3-dev"),
)
PLATFORMS = ("manylinux_2_31", "manylinux_2_28", "manylinux_2_17", "manylinux2014")

# Logits behind a prompt, as exact hexadecimal numbers.
LOGITS = """
import sys
from sheily_native import Context, Entry, Model
with Model(sys.argv[1], n_threads=1) as model:
    print(model.info.kernel)
    with Context(model, n_ctx=64, n_seq_max=1, n_batch=32, n_ubatch=32, n_threads=1) as context:
        tokens = model.tokenize("The Eiffel Tower is in")
        context.step([Entry(0, tokens, logits=True)])
        print(*(float(x).hex() for x in context.logits(0)[:64]))
"""


@pytest.fixture(scope="module")
def wheel() -> Path:
    found = sorted((ROOT / "dist").glob("sheily_server-*manylinux*x86_64.whl"))
    if not found:
        pytest.fail("dist/ has no wheel: make wheel OLD_GLIBC=1")
    return found[-1]


def made(suite: str) -> Path:
    """A Debian of that name with a Python that has venv; made where it is missing."""
    folder = USERLANDS / suite
    packages = TO_BUILD_PYTHON if suite == "bullseye" else ("python3-venv",)
    userland.make(folder, "amd64", packages, suite)
    if suite == "bullseye" and not (folder / "usr" / "local" / "bin" / "python3.11").exists():
        build_python(folder)
    return folder


def build_python(folder: Path) -> None:
    """From the source package of Debian 12, which `apt-get source` checks."""
    apt = folder / "etc" / "apt" / "sources.list"
    mirror = apt.read_text(encoding="utf-8").split()[1]
    apt.write_text(f"deb-src [trusted=yes] {mirror} bookworm main\n", encoding="utf-8")
    script = (
        "set -e; apt-get update -q; cd /usr/src; apt-get source --download-only python3.11; "
        "mkdir python; tar -xf python3.11_*.orig.tar.* -C python --strip-components=1; cd python; "
        "./configure -q --prefix=/usr/local; make -s -j2; make -s install"
    )
    run(*entered(folder), "sh", "-c", script)


def entered(folder: Path) -> list[str]:
    """The command that runs others inside; its mounts end with it."""
    mounts = f"mount -t proc proc {folder}/proc && mount --bind /dev {folder}/dev"
    resolver = f"cp /etc/resolv.conf {folder}/etc/resolv.conf"
    inside = f'{mounts} && {resolver} && exec chroot {folder} "$@"'
    return ["unshare", "--mount", "sh", "-c", inside, "sh"]


@pytest.mark.parametrize("suite", SUITES)
def test_the_wheel_answers_in(suite: str, wheel: Path) -> None:
    folder = made(suite)
    given = folder / "given"
    shutil.rmtree(given, ignore_errors=True)
    shutil.rmtree(folder / "venv", ignore_errors=True)
    given.mkdir()
    platforms = [f"--platform={name}_x86_64" for name in PLATFORMS]
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    run(*download, *platforms, f"--python-version={SUITES[suite]}", "-d", given, wheel)
    shutil.copy(smollm2(), given / "model.gguf")
    inside = entered(folder)
    assert subprocess.run([*inside, "which", "c++"], check=False, capture_output=True).returncode
    run(*inside, f"python{SUITES[suite]}", "-m", "venv", "/venv")
    pip = ["/venv/bin/python", "-m", "pip", "install", "--quiet", "--no-index"]
    run(*inside, *pip, "--find-links=/given", "sheily-server")
    command = [*inside, "/venv/bin/sheily", "serve", "--model-path=/given/model.gguf", "--port=0"]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root"}
    with ServerProcess(command, env=environment) as server:
        client = LLMClient(server.wait_for_line(r"listening on (\S+)", WAIT)[1])
        until(lambda: client.health_check()["state"] == "ready", WAIT)
        assert client.chat(QUESTION, max_tokens=20).text
        assert server.stop() == 0


# --- older CPUs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel)
    return python


def emulated(python: Path, cpu: str, flags: str, folder: Path, *words: str | Path) -> list[str]:
    """The command for a program on another CPU, whose /proc/cpuinfo says what it has."""
    cpuinfo = folder / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nmodel name : {cpu}\nflags : {flags}\n", encoding="utf-8")
    real = Path(os.path.realpath(python))
    qemu = f"exec qemu-x86_64 -cpu {cpu} -E PYTHONPATH=$SITE {real}"
    script = f'mount --bind {cpuinfo} /proc/cpuinfo && {qemu} "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", *map(str, words)]


NEHALEM = "pni cx16 lahf_lm ssse3 sse4_1 sse4_2 popcnt"
HASWELL = f"{NEHALEM} avx f16c fma bmi1 bmi2 avx2 abm movbe pclmulqdq"


def on(python: Path, cpu: str, flags: str, folder: Path, code: str, *words: str | Path) -> str:
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    command = emulated(python, cpu, flags, folder, "-c", code, *words)
    environment = {**os.environ, "SITE": str(site)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=folder
    )
    said = done.stdout + done.stderr
    return "".join(line for line in said.splitlines(True) if "qemu-x86_64: warning" not in line)


def numbers(said: str) -> list[float]:
    assert re.fullmatch(r"\w+\n(-?0x\S+ ?)+\n", said), said
    return [float.fromhex(word) for word in said.split()[1:]]


@pytest.mark.parametrize(
    ("cpu", "flags", "build", "kernel", "tolerance"),
    [
        ("Haswell", HASWELL, "v3", "avx2", 0.0),
        # Its C library has other code for sines and powers.
        ("Nehalem", NEHALEM, "v2", "off", 1e-3),
    ],
)
def test_an_older_cpu_has_the_logits_of_its_build(
    cpu: str,
    flags: str,
    build: str,
    kernel: str,
    tolerance: float,
    installed: Path,
    tmp_path: Path,
) -> None:
    model = smollm2()
    there = on(installed, cpu, flags, tmp_path, LOGITS, model)
    environment = {**os.environ, "SHEILY_BUILD": build, "SHEILY_KERNEL": kernel}
    here = run(installed, "-c", LOGITS, model, env=environment, cwd=tmp_path)
    assert numbers(there) == pytest.approx(numbers(here), rel=tolerance, abs=tolerance)


def test_a_build_that_the_cpu_cannot_run_is_refused(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name, as numpy ends with an illegal instruction on a CPU that no build fits."""
    monkeypatch.setenv("SHEILY_BUILD", "v3")
    said = on(installed, "Nehalem", NEHALEM, tmp_path, LOGITS, smollm2())
    assert "IncompatibleCPUError" in said
    assert re.search(r"does not have [\w, ]*\bavx, .*\bavx2; build it for this machine", said)
