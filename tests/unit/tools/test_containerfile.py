"""The reader of Containerfiles, and what must hold of ours."""

from __future__ import annotations

import re
import subprocess
from pathlib import PurePosixPath

import pytest

from sheily_server.config import load
from tests.support.models import ROOT
from tools import containerfile as cf

TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8")
STAGES = cf.parse(TEXT)
IMAGE = STAGES[-1]
IGNORE = cf.patterns((ROOT / ".containerignore").read_text(encoding="utf-8"))


def environment() -> dict[str, str]:
    return {name: value for text in IMAGE.texts("ENV") for name, value in cf.pairs(text).items()}


def test_stages_and_steps_are_read() -> None:
    text = '# a\nFROM a AS build\nRUN x \\\n  # why\n  && y\n\nFROM b\nCMD ["z"]\n'
    build, image = cf.parse(text)
    assert (build.image, build.name) == ("a", "build")
    assert build.steps == [cf.Step("RUN", "x && y")]
    assert (image.name, image.texts("CMD")) == ("", ['["z"]'])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no FROM"),
        ("RUN a", "before the first FROM"),
        ("FROM a\nADD b c", "'ADD' is not known"),
        ("FROM a\nRUN b \\", "backslash"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, said: str) -> None:
    with pytest.raises(cf.ContainerfileError, match=said):
        cf.parse(text)


def test_values_and_commands_are_read() -> None:
    assert cf.pairs('A=1 B="x y"') == {"A": "1", "B": "x y"}
    assert cf.words('["a", "b c"]') == ["a", "b c"]
    assert cf.words("a b") == ["/bin/sh", "-c", "a b"]
    assert cf.health_command('--interval=1s CMD ["a"]') == ["a"]
    assert cf.expand("$A/${B}:$C", {"A": "1", "B": "2"}) == "1/2:"
    for text in ("A", "A 1"):
        with pytest.raises(cf.ContainerfileError):
            cf.pairs(text)
    with pytest.raises(cf.ContainerfileError):
        cf.health_command("NONE")


def test_the_image_is_not_run_by_root() -> None:
    [user] = IMAGE.texts("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    keywords = [step.keyword for step in IMAGE.steps]
    assert "RUN" not in keywords[keywords.index("USER") :]


def test_the_image_has_no_compiler_and_no_source() -> None:
    assert len(STAGES) == 2
    assert not [text for text in IMAGE.texts("RUN") if re.search(r"g\+\+|-dev|pip", text)]
    assert [text.split()[0] for text in IMAGE.texts("COPY")] == ["--from=build"]


def test_what_is_installed_leaves_no_lists_behind() -> None:
    [installs] = [text for text in IMAGE.texts("RUN") if "apt-get" in text]
    assert "--no-install-recommends" in installs
    assert installs.endswith("rm -rf /var/lib/apt/lists/*")


def test_the_command_is_the_server_without_a_shell() -> None:
    [entrypoint] = IMAGE.texts("ENTRYPOINT")
    assert cf.words(entrypoint) == ["python", "-m", "sheily_server"]


def test_the_health_check_asks_whether_the_process_lives() -> None:
    [check] = IMAGE.texts("HEALTHCHECK")
    command = cf.health_command(check)
    assert command[0] == "python"
    assert "/livez" in command[-1]
    compile(command[-1], "HEALTHCHECK", "exec")


def test_settings_are_ones_that_the_server_has() -> None:
    settings = {name: value for name, value in environment().items() if name.startswith("LLM_")}
    assert settings == {"LLM_HOST": "0.0.0.0", "LLM_PORT": "8005"}
    assert IMAGE.texts("EXPOSE") == [settings["LLM_PORT"]]
    assert load([], settings).port == 8005


def test_the_context_has_what_the_build_reads_and_no_more() -> None:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("this is no git checkout")
    context = {
        name for name in done.stdout.splitlines() if not cf.ignored(PurePosixPath(name), IGNORE)
    }
    assert context >= {
        "CMakeLists.txt",
        "LICENSE",
        "README.md",
        "cmake/Kernels.cmake",
        "pyproject.toml",
        "sheily_native/csrc/api.h",
        "sheily_server/__main__.py",
        "vendor/fetch.py",
        "vendor/llama.cpp.toml",
    }
    assert not [name for name in context if name.startswith(("tests/", "docs/", "benchmarks/"))]


@pytest.mark.parametrize(
    "name",
    [
        ".git/HEAD",
        ".venv/bin/python",
        "models/a.gguf",
        "build/container/base",
        "sheily_native/_native.abi3.so",
        "sheily_server/web/__pycache__/app.pyc",
        "vendor/llama.cpp/src/llama.cpp",
    ],
)
def test_what_is_large_or_made_elsewhere_stays_out(name: str) -> None:
    assert cf.ignored(PurePosixPath(name), IGNORE)
