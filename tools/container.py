"""Checks the Containerfile where there is neither podman nor docker: runs its steps in chroots.

    python -m tools.container

Each stage begins with a userland by debootstrap. Then the image's command runs as its user, with a
read-only root, the model's folder as the only volume, and is asked one question. All is kept under
build/container; needs root. Ends with one sentence on stderr and exit code 1 when something fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sheily_server.version import ShowVersion
from tools import containerfile, userland
from tools.containerfile import ContainerfileError, Stage

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "container"
MODELS = ROOT / "models"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
IMAGE = "docker.io/library/debian:bookworm-slim"
"""The image that a userland of debootstrap's stands for."""

READY_S = 300.0
STOP_S = 60.0


class CheckError(Exception):
    """What is wrong with the image, in one sentence."""


@dataclass(slots=True)
class Image:
    """A stage that is built: its root, and what its steps have set."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = ""
    entrypoint: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


def build(stages: list[Stage]) -> Image:
    """Builds all stages; returns the last. Raises CheckError, ContainerfileError, UserlandError."""
    base = FOLDER / "base"
    userland.make(base, userland.NAMES[os.uname().machine], [])
    named: dict[str, Image] = {}
    image = Image(base)
    for number, stage in enumerate(stages):
        if stage.image != IMAGE:
            raise CheckError(f"{stage.image} is not {IMAGE}, which debootstrap stands for.")
        image = Image(FOLDER / f"stage{number}")
        shutil.rmtree(image.root, ignore_errors=True)
        subprocess.run(["cp", "--archive", str(base), str(image.root)], check=True)
        named[stage.name or str(number)] = image
        _build_stage(stage, image, named)
    return image


def _build_stage(stage: Stage, image: Image, named: dict[str, Image]) -> None:
    arguments: dict[str, str] = {}
    for step in stage.steps:
        text = step.text
        print(f"--- {step.keyword} {text[:90]}", flush=True)
        if step.keyword == "ARG":
            arguments |= containerfile.pairs(text)
        elif step.keyword == "ENV":
            image.environment |= {
                name: containerfile.expand(value, image.environment)
                for name, value in containerfile.pairs(text).items()
            }
        elif step.keyword == "WORKDIR":
            image.folder = text
            (image.root / text.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif step.keyword == "USER":
            image.user = text
        elif step.keyword == "COPY":
            _copy(text, image, named)
        elif step.keyword == "RUN":
            _run(text, image, arguments)
        elif step.keyword == "HEALTHCHECK":
            image.health = containerfile.health_command(text)
        elif step.keyword == "ENTRYPOINT":
            image.entrypoint = containerfile.words(text)
        elif step.keyword == "CMD":
            image.arguments = containerfile.words(text)


def _copy(text: str, image: Image, named: dict[str, Image]) -> None:
    *options, source, target = text.split()
    into = image.root / str(PurePosixPath("/", image.folder, target)).lstrip("/")
    if options:
        stage = named[options[0].removeprefix("--from=")]
        subprocess.run(
            ["cp", "--archive", "--no-target-directory", f"{stage.root}{source}", str(into)],
            check=True,
        )
        return
    ignore = containerfile.patterns((ROOT / ".containerignore").read_text(encoding="utf-8"))

    def left_out(folder: str, names: list[str]) -> list[str]:
        inside = PurePosixPath(os.path.relpath(folder, ROOT))
        return [name for name in names if containerfile.ignored(inside / name, ignore)]

    shutil.copytree(ROOT / source, into, ignore=left_out, dirs_exist_ok=True)


def _run(text: str, image: Image, arguments: dict[str, str]) -> None:
    binds = [userland.Bind(Path("/etc/resolv.conf").resolve(), "/etc/resolv.conf")]
    environment = {**userland.ENVIRONMENT, **arguments, **image.environment}
    if certificates := _certificates():
        # Of a machine whose connections go through a proxy with a certificate of its own.
        binds.append(userland.Bind(certificates, "/run/certificates.crt"))
        environment |= {"PIP_CERT": "/run/certificates.crt"}
    command = userland.command(
        image.root,
        containerfile.words(text),
        environment=environment,
        folder=image.folder,
        user=image.user,
        binds=binds,
    )
    if subprocess.run(command, check=False).returncode != 0:
        raise CheckError(f"RUN {text[:60]} ... failed; the reason is above.")


def _certificates() -> Path | None:
    """The certificates that this machine's pip is told to trust, if there are any."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.cert"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    named = os.environ.get("PIP_CERT") or done.stdout.strip()
    return Path(named).resolve() if named else None


def try_it(image: Image) -> str:
    """Runs the image as docs/deploy.md says and asks it; returns the answer. Raises CheckError."""
    if image.user.split(":")[0] in ("", "0", "root"):
        raise CheckError(f"the image's user is {image.user or 'root'}.")
    port = _free_port()
    environment = image.environment | {"LLM_PORT": str(port), "LLM_MODEL_PATH": f"/models/{MODEL}"}
    binds = [userland.Bind(MODELS.resolve(), "/models")]

    def inside(words: list[str]) -> list[str]:
        return userland.command(
            image.root,
            words,
            environment=environment,
            folder=image.folder,
            user=image.user,
            binds=binds,
            read_only=True,
        )

    if subprocess.run(inside(["touch", "/opt/x"]), stderr=subprocess.DEVNULL).returncode == 0:
        raise CheckError("the root is not read-only.")
    # The first process of a PID namespace gets no signal that it has no handler for: the server
    # has to have one, as in a container.
    process = subprocess.Popen(inside([*image.entrypoint, *image.arguments]))
    try:
        _wait_until_ready(process, port)
        health = subprocess.run(inside(image.health), check=False)
        if health.returncode != 0:
            raise CheckError(f"the health check ends with {health.returncode}.")
        answer = _ask(port)
        _stop(process)
        return answer
    finally:
        process.kill()
        process.wait()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Sends SIGTERM to the server, the only child of unshare. Raises CheckError."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    [server] = path.read_text(encoding="ascii").split()
    os.kill(int(server), signal.SIGTERM)
    try:
        code = process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        raise CheckError(f"the server does not stop within {STOP_S:.0f} s of SIGTERM.") from None
    if code != 0:
        raise CheckError(f"the server left with exit code {code} after SIGTERM.")


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise CheckError(f"the command left with exit code {process.returncode}.")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise CheckError(f"the server was not ready within {READY_S:.0f} s.")


def _ask(port: int) -> str:
    body = {
        "messages": [{"role": "user", "content": "Where is the Eiffel Tower?"}],
        "temperature": 0,
        "max_tokens": 20,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=READY_S) as response:
        answer: str = json.load(response)["choices"][0]["message"]["content"]
    if not answer.strip():  # what a small model says depends on the CPU's kernels
        raise CheckError("the answer is empty.")
    return answer


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def size_mb(root: Path) -> float:
    """The space that a root takes, in MB."""
    done = subprocess.run(["du", "-sm", str(root)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if the image is built and answers."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.container",
        description="Run the steps of the Containerfile in chroots, then its command; as root.",
    )
    parser.add_argument("--version", action=ShowVersion)
    parser.parse_args(arguments)
    try:
        if reason := userland.reason_against(userland.NAMES[os.uname().machine]):
            raise CheckError(f"The Containerfile cannot be tried here: {reason}.")
        stages = containerfile.parse((ROOT / "Containerfile").read_text(encoding="utf-8"))
        image = build(stages)
        answer = try_it(image)
        base = size_mb(FOLDER / "base")
        print(f"answer: {answer!r}")
        print(f"size: {size_mb(image.root):.0f} MB, of which the base has {base:.0f}")
        return 0
    except (CheckError, ContainerfileError, userland.UserlandError) as error:
        print(error, file=sys.stderr)
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(error.cmd)} failed; the reason is above.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
