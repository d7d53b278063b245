"""This machine and this build, as reports name them."""

from __future__ import annotations

import platform

from benchmarks.common.report import Machine
from sheily_native import BuildInfo, build_info
from sheily_native._threads import default_threads


def this_machine() -> Machine:
    info = build_info()
    return Machine(
        cpu=info.cpu_model,
        cores=default_threads(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        build=_build_line(info),
    )


def _build_line(info: BuildInfo) -> str:
    on = " ".join(f"{name}={value}" for name, value in info.options.items())
    return (
        f"llama.cpp b{info.llama_cpp_build}, {info.compiler}, {info.build_type}, "
        f"{' '.join(info.flags)}; {on}"
    )
