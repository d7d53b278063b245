"""How the commands of this package are typed here, so that each one that is shown can be pasted.

Knows where the script `sheily` is; nothing of what it does.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SCRIPT = "sheily"
MODULE = "sheily_server.cli"
FIRST_MODEL = "smollm2"


def sheily(*words: str) -> str:
    """Returns a line for a shell that runs `sheily` of this Python environment.

    It begins with `sheily` where PATH leads to this environment's script, else with the script's
    absolute path. Without a script (a checkout) it is `python -m`, by this Python's absolute path.
    """
    script = _own_script()
    if script is None:
        return python("-m", MODULE, *words)
    found = shutil.which(SCRIPT)
    on_path = found is not None and os.path.samefile(found, script)
    return shlex.join([SCRIPT if on_path else str(script), *words])


def python(*words: str) -> str:
    """Returns a line for a shell that runs this very Python."""
    return shlex.join([sys.executable or "python3", *words])


def program() -> str:
    """Returns what this process was started as, for its usage: `sheily` or `python -m ...`."""
    started = os.path.basename(sys.argv[0]) if sys.argv else ""
    return SCRIPT if started == SCRIPT else f"python -m {MODULE}"


def to_a_model() -> tuple[str, str]:
    """Returns the two lines that lead from no model to a server with a small one."""
    return sheily("fetch", FIRST_MODEL), sheily("serve", FIRST_MODEL)


def _own_script() -> Path | None:
    return next((path for path in _scripts() if os.access(path, os.X_OK)), None)


def _scripts() -> Iterator[Path]:
    """Yields where an installer may have put the script of this Python environment."""
    yield Path(sysconfig.get_path("scripts")) / SCRIPT
    if sys.prefix == sys.base_prefix:  # pip's --user, which a virtual environment does not have
        user = f"{os.name}_user"
        if user in sysconfig.get_scheme_names():
            yield Path(sysconfig.get_path("scripts", user)) / SCRIPT
