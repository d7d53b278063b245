"""Checks the setting of the kernel before the engine starts. Asks a process of its own, as only
native code knows which kernels this build and this CPU have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence

import msgspec

from ..config import Config, ConfigError, variable

COMMAND = (sys.executable, "-m", "sheily_native.usable")
ENVIRONMENT_KERNEL = "SHEILY_KERNEL"
"""The variable of `sheily_native`, which counts where the server's own setting is auto."""
ANYWHERE = ("auto", "off")
WAIT_S = 60.0


class _Usable(msgspec.Struct, frozen=True):
    cpu: str
    kernels: list[str]


def check_kernel(
    config: Config, environment: Mapping[str, str], command: Sequence[str] = COMMAND
) -> None:
    """Raises ConfigError for a kernel that this build or this CPU does not have.

    A native library that cannot be loaded is not reported here: the engine says why.
    """
    own = environment.get(ENVIRONMENT_KERNEL) or ANYWHERE[0]
    wanted = config.kernel if config.kernel != ANYWHERE[0] else own
    if wanted in ANYWHERE:
        return
    usable = _ask(command)
    if usable is None or wanted in usable.kernels:
        return
    known = ", ".join((*ANYWHERE, *usable.kernels))
    tuned = config.tuned
    if config.kernel == ANYWHERE[0]:
        raise ConfigError(f"{ENVIRONMENT_KERNEL} is {wanted!r}, not one of {known}, on this CPU.")
    if tuned is None or "kernel" not in tuned.settings:
        raise ConfigError(f"{variable('kernel')} is {wanted!r}, not one of {known}, on this CPU.")
    if tuned.cpu == usable.cpu:  # elsewhere the file has no effect, and the log says so
        raise ConfigError(
            f"{variable('tuned')} is {tuned.path!r}, with the kernel {wanted!r}, which is not one "
            f"of {known}, on this CPU: tune again."
        )


def _ask(command: Sequence[str]) -> _Usable | None:
    """Returns what the native library has here; None if it cannot be loaded."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=WAIT_S
        )
        return msgspec.json.decode(done.stdout, type=_Usable)
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError):
        return None
