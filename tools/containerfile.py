"""Reads a Containerfile into its stages and steps; runs nothing.

Knows what ours uses of the format (docs.docker.com/reference/dockerfile): lines with continuations,
comments, JSON and shell forms, variables of ENV and ARG. Anything else is an error.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")
_PAIR = re.compile(r'(\w+)=("[^"]*"|\S*)\s*')
_SETTINGS = frozenset(["ARG", "ENV", "WORKDIR", "USER", "EXPOSE"])
KEYWORDS = _SETTINGS | {"FROM", "RUN", "COPY", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


class ContainerfileError(Exception):
    """What cannot be read, in one sentence."""


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction: its keyword, and what follows it on its lines."""

    keyword: str
    text: str


@dataclass(slots=True)
class Stage:
    """From one FROM to the next. `name` is "" where it has none."""

    image: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def texts(self, keyword: str) -> list[str]:
        """Returns what follows each instruction with this keyword."""
        return [step.text for step in self.steps if step.keyword == keyword]


def parse(text: str) -> list[Stage]:
    """Returns the stages, of which the last is the image. Raises ContainerfileError."""
    stages: list[Stage] = []
    for line in _logical_lines(text):
        keyword, _, rest = line.partition(" ")
        if keyword not in KEYWORDS:
            raise ContainerfileError(f"the instruction {keyword!r} is not known: {line}")
        if keyword == "FROM":
            image, _, name = rest.partition(" AS ")
            stages.append(Stage(image.strip(), name.strip()))
        elif not stages:
            raise ContainerfileError(f"{keyword} stands before the first FROM")
        else:
            stages[-1].steps.append(Step(keyword, rest.strip()))
    if not stages:
        raise ContainerfileError("there is no FROM")
    return stages


def _logical_lines(text: str) -> list[str]:
    lines: list[str] = []
    pending = ""
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        pending += line.removesuffix("\\")
        if not line.endswith("\\"):
            lines.append(pending)
            pending = ""
    if pending:
        raise ContainerfileError("the last line ends in a backslash")
    return lines


def pairs(text: str) -> dict[str, str]:
    """Returns the names and values of an ENV or an ARG. Raises ContainerfileError."""
    found = {name: value.strip('"') for name, value in _PAIR.findall(text)}
    if not found or _PAIR.sub("", text):
        raise ContainerfileError(f"these are not NAME=value: {text}")
    return found


def words(text: str) -> list[str]:
    """Returns a command: the JSON list that it is, or a shell with it."""
    if not text.startswith("["):
        return ["/bin/sh", "-c", text]
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise ContainerfileError(f"this is not a list of strings: {text}")
    return found


def health_command(text: str) -> list[str]:
    """Returns the command of a HEALTHCHECK, without its options."""
    options, found, command = text.partition("CMD ")
    if not found or any(not word.startswith("--") for word in options.split()):
        raise ContainerfileError(f"this health check is not known: {text}")
    return words(command)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Puts variables into a text; those that are not set are empty."""
    return _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], ""), text)


def ignored(path: PurePosixPath, patterns: Sequence[str]) -> bool:
    """Whether a path of the context, or a folder above it, matches a line of .containerignore."""
    for candidate in (path, *path.parents):
        text = str(candidate)
        for pattern in patterns:
            if fnmatch.fnmatchcase(text, pattern):
                return True
            if pattern.startswith("**/") and fnmatch.fnmatchcase(candidate.name, pattern[3:]):
                return True
    return False


def patterns(text: str) -> list[str]:
    """Returns the lines of .containerignore that are patterns."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
