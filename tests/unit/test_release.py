"""The workflow that makes a release: as far as it can be checked without the service."""

from __future__ import annotations

import re
import shlex
from typing import Any

import yaml

from tests.support.models import ROOT


def workflow() -> dict[Any, Any]:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    found: dict[Any, Any] = yaml.safe_load(text)
    return found


def commands() -> list[list[str]]:
    (job,) = workflow()["jobs"].values()
    lines = [line for step in job["steps"] for line in step.get("run", "").splitlines()]
    return [shlex.split(part) for line in lines for part in line.split("&&")]


def test_it_begins_with_a_tag_and_may_write_releases_alone() -> None:
    found = workflow()
    assert found[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads the key `on` as true
    assert found["permissions"] == {"contents": "write"}


def test_each_command_of_ours_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    ours = 0
    for command in commands():
        words = [word for word in command if word != "sudo" and "=" not in word]
        if words[0] == "make":
            assert set(words[1:]) <= targets
            ours += 1
        elif words[0] == "sh":
            assert (ROOT / words[1]).is_file()
            ours += 1
    assert ours == 3


def test_what_is_attached_is_what_was_tried() -> None:
    words = [word for command in commands() for word in command if word.startswith("dist")]
    assert words == ["dist", "dist/*.whl", "dist/*.whl", "dist/*.tar.gz"]
