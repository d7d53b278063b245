"""A record of a build, for tests of what is said of builds."""

from __future__ import annotations

import dataclasses
from typing import Any

from sheily_native.build import BuildInfo

_BUILD = BuildInfo(
    name="native",
    version="0.1.0",
    llama_cpp_build=1,
    compiler="GNU 12",
    build_type="Release",
    architecture="x86_64",
    flags=(),
    options={},
    instruction_sets=(),
    unlisted_instruction_sets=(),
    built_for="",
    cpu_model="A CPU",
    cpu_instruction_sets=(),
    missing=(),
    unused=(),
)


def build_info(**changes: Any) -> BuildInfo:
    """Returns a build that lacks nothing and leaves nothing unused, but for `changes`."""
    return dataclasses.replace(_BUILD, **changes)
