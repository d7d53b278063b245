"""The setting of the kernel, checked before the engine starts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sheily_server.backend.kernels import check_kernel
from sheily_server.config import Config, ConfigError, load
from tests.support import tuned_files


def usable(*names: str, cpu: str = "This CPU") -> list[str]:
    """A command that answers as `sheily_native.usable` does."""
    return [sys.executable, "-c", f"print({json.dumps({'cpu': cpu, 'kernels': names})!r})"]


UNUSABLE = [sys.executable, "-c", "import sys; sys.exit('not built')"]
NEVER = ["/no/such/program"]


@pytest.mark.parametrize("kernel", ["auto", "off"])
def test_what_every_build_has_is_not_asked_for(kernel: str) -> None:
    check_kernel(Config(kernel=kernel), {}, usable())
    check_kernel(Config(kernel=kernel), {"SHEILY_KERNEL": ""}, usable())


def test_a_kernel_that_is_there() -> None:
    check_kernel(Config(kernel="avx2"), {"SHEILY_KERNEL": "foo"}, usable("avx2"))
    check_kernel(Config(), {"SHEILY_KERNEL": "avx2"}, usable("avx2"))


def test_a_kernel_that_is_not_there_names_its_variable_and_the_choices() -> None:
    with pytest.raises(ConfigError) as caught:
        check_kernel(Config(kernel="foo"), {}, usable("avx_vnni", "avx2"))
    assert str(caught.value) == (
        "LLM_KERNEL is 'foo', not one of auto, off, avx_vnni, avx2, on this CPU."
    )
    with pytest.raises(ConfigError, match=r"^SHEILY_KERNEL is 'foo', not one of auto, off, on"):
        check_kernel(Config(), {"SHEILY_KERNEL": "foo"}, usable())


def test_a_tuned_file_with_another_builds_kernel_is_named(tmp_path: Path) -> None:
    path = tuned_files.write(tmp_path / "t.json", cpu="This CPU")
    config = load([], {"LLM_TUNED": str(path)})
    check_kernel(config, {}, usable("avx2"))
    check_kernel(config, {}, usable("avx_vnni", cpu="Another CPU"))  # where it has no effect
    with pytest.raises(ConfigError, match=r"^LLM_TUNED is .*t.json', with the kernel 'avx2'"):
        check_kernel(config, {}, usable("avx_vnni"))
    said = load([], {"LLM_TUNED": str(path), "LLM_KERNEL": "foo"})
    with pytest.raises(ConfigError, match=r"^LLM_KERNEL is 'foo'"):
        check_kernel(said, {}, usable("avx2"))


@pytest.mark.parametrize("command", [UNUSABLE, NEVER])
def test_a_library_that_cannot_be_loaded_is_for_the_engine_to_report(command: list[str]) -> None:
    check_kernel(Config(kernel="foo"), {}, command)
