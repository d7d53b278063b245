"""Both READMEs from the top: each of their commands is run as it stands, in a fresh clone.

Three things are not as for a reader. ADDRESS is this checkout's path. What `apt` would install is
looked up and not installed. And nothing is compiled for minutes: `.venv` in the clone has already
the compiled library and the packages of this checkout, and `dist/` a wheel with that library; other
tests here build both. The rest is the clone's.

The walk knows the kinds of commands by their beginnings; one that it does not know fails it.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import sheily_native.build
from tests.support.markdown import Section, sections
from tests.support.models import ROOT
from tests.support.processes import hearing_interrupts
from tests.support.terminal import CTRL_D, Terminal
from tools.server_process import ServerProcess, ServerProcessError

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(900)]

PORT, DASHBOARD_PORT = 8005, 3000
START_S = 300.0
LARGE = "Llama-3.2-3B-Instruct-Q8_0.gguf"
SMALL = "SmolLM2-135M-Instruct.Q4_1.gguf"

SERVERS = re.compile(r"make serve|\S*sheily serve|\S*python -m sheily_server( |$)|LLM_\w+=\S+ ")
CHATS = re.compile(r"\S*sheily chat|\S*python -m sheily_server\.client chat")
# In a sentence, what has its path is to be typed; else a command is only named.
COMMAND = re.compile(r"(\.venv|~/sheily)/bin/")
NOT_SETTINGS = ("LLM_", "SHEILY_", "MAKE", "MFLAGS", "PYTHON", "VIRTUAL_ENV", "VENV", "BUILD")


def commands(block: str) -> list[str]:
    """The commands of a block for a shell: lines, joined where a quote or a `\\` goes on."""
    found: list[str] = []
    open_lines = ""
    for line in block.splitlines():
        open_lines += line + "\n"
        if line.endswith("\\"):
            continue
        parsed = subprocess.run(["bash", "-n", "-c", open_lines], capture_output=True, check=False)
        if parsed.returncode == 0:
            found.append(open_lines.strip())
            open_lines = ""
    assert not open_lines, f"the block ends within a command: {open_lines}"
    return [command for command in found if shlex.split(command, comments=True)]


def inline(section: Section) -> list[str]:
    """The commands in a section's sentences."""
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", section.prose)]
    return [span for span in spans if COMMAND.match(span)]


def told_by(path: str) -> str:
    """What a browser gets."""
    accept = {"Accept": "text/html,*/*;q=0.8"}
    request = urllib.request.Request(f"http://127.0.0.1:{path}", headers=accept)
    with urllib.request.urlopen(request, timeout=100) as response:
        assert response.status == 200
        text: str = response.read().decode()
        return text


def expect(server: ServerProcess, pattern: str) -> None:
    """Waits for a line of the log; a failure shows all of it."""
    try:
        server.wait_for_line(pattern, START_S)
    except ServerProcessError as error:
        pytest.fail(f"the server {error}\n{server.log}")


@dataclass
class Walk:
    """Somebody at a terminal who follows the text. `folder` is where they are, `did` what they ran,
    with the kind of each command."""

    folder: Path
    home: Path
    did: list[tuple[str, str]] = field(default_factory=list)
    server: ServerProcess | None = None

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: v for name, v in os.environ.items() if not name.startswith(NOT_SETTINGS)}
        return kept | {"HOME": str(self.home), "PIP_CONFIG_FILE": pip_settings()}

    def run(self, command: str) -> str:
        """Standard output; the folder may be another one behind it."""
        where = self.home / "folder"
        script = f"{command}\npwd > {shlex.quote(str(where))}"
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        self.folder = Path(where.read_text(encoding="utf-8").strip())
        return done.stdout

    def start(self, command: str) -> ServerProcess:
        words = hearing_interrupts([str(shutil.which("bash")), "-c", command])
        return ServerProcess(words, env=self.environment, cwd=self.folder, own_session=True)

    def stop_server(self) -> None:
        """Ctrl-C in its terminal."""
        if self.server is not None:
            with self.server as server:
                if server.process.poll() is None:
                    os.killpg(server.process.pid, signal.SIGINT)
                server.process.wait(START_S)
            self.server = None

    def follow(self, command: str) -> None:
        for kind, pattern, does in (
            ("apt", "sudo apt install ", self._apt),
            ("clone", "git clone ", self._clone),
            ("server", SERVERS, self._serve),
            ("chat", CHATS, self._chat),
            ("ask", "curl .*/v1/chat/completions", self._ask),
            ("dashboard", ".*npm start", self._dashboard),
            ("doctor", r"\S*sheily doctor$", self._doctor),
            ("install", "python3 -m venv .* && .*pip install ", self.run),
            ("shell", "cd ", self.run),
        ):
            if re.match(pattern, command):
                does(command)
                self.did.append((kind, command))
                return
        pytest.fail(f"the walk does not know how to run this: {command}")

    def _apt(self, command: str) -> None:
        names = shlex.split(command, comments=True)[3:]
        assert len(names) > 3
        if shutil.which("apt-cache") is None:
            return
        for name in names:
            known = subprocess.run(["apt-cache", "show", name], capture_output=True, check=False)
            assert known.returncode == 0, f"there is no package {name}"

    def _clone(self, command: str) -> None:
        assert " ADDRESS " in command
        self.run(command.replace(" ADDRESS ", f" {shlex.quote(str(ROOT))} "))
        [clone] = [path for path in self.folder.iterdir() if (path / ".git").is_dir()]
        prepare(clone)
        pack(clone)

    def _serve(self, command: str) -> None:
        self.stop_server()
        self.server = self.start(command)
        expect(self.server, r"\bready: ")
        assert f"http://127.0.0.1:{PORT}" in self.server.log
        assert json.loads(told_by(f"{PORT}/health"))["state"] == "ready"
        assert "<title>SHEILY</title>" in told_by(f"{PORT}/")

    def _ask(self, command: str) -> None:
        assert f"http://127.0.0.1:{PORT}/" in command
        answer = json.loads(self.run(command))
        assert "Eiffel" in answer["choices"][0]["message"]["content"], answer

    def _chat(self, command: str) -> None:
        line = f"cd {shlex.quote(str(self.folder))} && exec {command}"
        variables = {"HOME": str(self.home), "PYTHONPATH": ""}
        with Terminal([str(shutil.which("bash")), "-c", line], **variables) as terminal:
            terminal.wait_for("> ")
            terminal.type("Where is the Eiffel Tower?\n")
            said = terminal.wait_for("\r\n> ").removesuffix("> ").split("\r\n", 1)[1]
            assert said.strip(), terminal.text
            terminal.type(CTRL_D)
            assert terminal.ended() == 0

    def _doctor(self, command: str) -> None:
        """It finds fault with the port that is in use, or with the model that is not there."""
        told = self.run(f"{command} || test $? = 1")
        assert re.search(r"^ok +version ", told, re.MULTILINE), told
        assert re.search(r"^(ok|note|wrong) +model ", told, re.MULTILINE), told

    def _dashboard(self, command: str) -> None:
        before = self.folder
        with self.start(command) as dashboard:
            expect(dashboard, f"http://127.0.0.1:{DASHBOARD_PORT}")
            assert "<title>SHEILY</title>" in told_by(f"{DASHBOARD_PORT}/")
            assert json.loads(told_by(f"{DASHBOARD_PORT}/api/health"))["state"] == "ready"
            os.killpg(dashboard.process.pid, signal.SIGTERM)
            dashboard.process.wait(START_S)
        self.folder = before

    def python(self, block: str) -> None:
        """With the Python of the tests, which has the packages that the text names."""
        done = subprocess.run(
            [sys.executable, "-c", block],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Eiffel" in done.stdout, done.stdout
        self.did.append(("python", block))


def pip_settings() -> str:
    """pip's settings of whoever runs the tests, as the walk has a home of its own."""
    for path in (".config/pip/pip.conf", ".pip/pip.conf"):
        if (Path.home() / path).is_file():
            return str(Path.home() / path)
    return os.environ.get("PIP_CONFIG_FILE", "")


def prepare(clone: Path) -> None:
    """Gives a clone the environment that `make serve` would make, out of the one of the tests."""
    environment = clone / ".venv"
    venv.create(environment, symlinks=True, with_pip=False)
    purelib = {"base": str(environment), "platbase": str(environment)}
    packages = Path(sysconfig.get_path("purelib", vars=purelib))
    # Lines of a .pth file: no other .pth file of that folder is read, so the clone's code is used.
    ours = f"{clone}\n{sysconfig.get_path('purelib')}\n"
    (packages / "walk.pth").write_text(ours, encoding="utf-8")
    built = sheily_native.build._info_path().parent
    for path in built.rglob("*"):
        there = clone / "sheily_native" / path.relative_to(built)
        if path.suffix in (".so", ".json") and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, there)
    # As pip writes the commands that the package has.
    for name, module, function in scripts_of(clone):
        script = environment / "bin" / name
        text = f"#!{environment}/bin/python\nimport sys\nfrom {module} import {function}\n"
        script.write_text(f"{text}sys.exit({function}())\n", encoding="utf-8")
        script.chmod(0o755)
    # What the Makefile writes when it has installed all of that.
    listing = "find sheily_native sheily_server -name '*.py' | sort | cksum"
    modules = subprocess.run(
        ["sh", "-c", listing], cwd=clone, capture_output=True, text=True, check=True
    )
    (environment / ".installed").write_text(f"run\n\n{modules.stdout}", encoding="utf-8")


def pack(clone: Path) -> None:
    """Writes a wheel of a clone that is prepared into its dist/."""
    project = (clone / "pyproject.toml").read_text(encoding="utf-8")
    [version] = re.findall(r'^version = "(.+)"$', project, re.MULTILINE)
    [needed] = re.findall(r"^dependencies = (\[.*?^\])$", project, re.MULTILINE | re.DOTALL)
    head = [f"Name: sheily-server\nVersion: {version}\nRequires-Python: >=3.10\n"]
    head += [f"Requires-Dist: {each}\n" for each in ast.literal_eval(needed)]
    commands = "".join(f"{name} = {module}:{main}\n" for name, module, main in scripts_of(clone))
    tag = f"cp310-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
    info = f"sheily_server-{version}.dist-info"
    texts = {
        f"{info}/METADATA": "Metadata-Version: 2.1\n" + "".join(head),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{commands}",
    }
    (clone / "dist").mkdir()
    with zipfile.ZipFile(clone / "dist" / f"sheily_server-{version}-{tag}.whl", "w") as wheel:
        for package in ("sheily_server", "sheily_native"):
            for path in sorted((clone / package).rglob("*")):
                if path.is_file() and not {"__pycache__", "csrc"} & set(path.parts):
                    wheel.write(path, path.relative_to(clone))
        for name, text in texts.items():
            wheel.writestr(name, text)
        record = "".join(f"{name},,\n" for name in [*wheel.namelist(), f"{info}/RECORD"])
        wheel.writestr(f"{info}/RECORD", record)


def scripts_of(clone: Path) -> list[tuple[str, str, str]]:
    """Name, module and function of each command that the package has."""
    project = (clone / "pyproject.toml").read_text(encoding="utf-8")
    listed = project.partition("[project.scripts]\n")[2].partition("\n[")[0]
    found = re.findall(r'^(\w+) = "([\w.]+):(\w+)"$', listed, re.MULTILINE)
    assert found
    return found


def in_use(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    if shutil.which("curl") is None or shutil.which("npm") is None:
        pytest.skip("curl and npm are not installed")
    for port in (PORT, DASHBOARD_PORT):
        if in_use(port):
            pytest.skip(f"another program listens on port {port}, which the text uses")
    home, folder = tmp_path / "home", tmp_path / "folder"
    (home / "Downloads").mkdir(parents=True)
    folder.mkdir()
    (home / "Downloads" / LARGE).symlink_to(ROOT / "models" / SMALL)
    walk = Walk(folder, home)
    yield walk
    walk.stop_server()


@pytest.mark.skipif(not (ROOT / "models" / SMALL).is_file(), reason="make serve fetches the model")
@pytest.mark.parametrize("name", ["README.md", "README.es.md"])
def test_every_command_works_from_the_top(walk: Walk, name: str) -> None:
    for section in sections(name):
        for language, block in section.blocks:
            if language == "sh":
                for command in commands(block):
                    walk.follow(command)
            elif language == "python":
                walk.python(block)
            else:
                assert language == "text", f"what is a block of {language}?"
        for command in inline(section):
            walk.follow(command)
    kinds = [kind for kind, _ in walk.did]
    assert {"apt", "clone", "server", "chat", "ask", "python", "dashboard"} <= set(kinds)
    model = walk.folder / "models" / SMALL
    assert model.is_file()
    assert not model.is_symlink()


def test_a_block_is_cut_into_commands() -> None:
    block = "a b  # c\n# d\ncurl x \\\n  -d 'one\n two'\ncd e && f\n"
    assert commands(block) == ["a b  # c", "curl x \\\n  -d 'one\n two'", "cd e && f"]
