"""Debian userlands below this machine's kernel: made once by debootstrap, entered with chroot.

Knows nothing of what runs in them. Linux, as root. A userland of another architecture needs
qemu-user; its register entry is added to the kernel's binfmt_misc where there is none.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
STAMP = ".userland"
NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Debian's names of architectures, by those of platform.machine()."""

QEMU = "qemu-aarch64-static"
_ENTRY = "sheily-qemu-aarch64"
# An ELF header of a program for ARM64: 64 bits, little-endian, type EXEC or DYN, machine 183.
_MAGIC = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00"
_MASK = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
}


class UserlandError(Exception):
    """Why there is no userland, in one sentence."""


@dataclass(frozen=True, slots=True)
class Bind:
    """What is seen at `inside` (absolute, in the userland): a file or folder of this machine."""

    outside: Path
    inside: str
    writable: bool = False


def reason_against(arch: str) -> str:
    """Returns why no userland can be made and entered here; "" if one can."""
    if os.geteuid() != 0:
        return "chroot needs root"
    needed = {"debootstrap": "debootstrap"}
    if arch != NAMES.get(platform.machine()):
        needed[QEMU] = "qemu-user-static"
    missing = [package for program, package in needed.items() if shutil.which(program) is None]
    if missing:
        return f"missing: {' '.join(missing)} (names of Debian packages)"
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "no mounts are allowed here (unshare --mount)"


def make(folder: Path, arch: str, packages: Sequence[str], suite: str = SUITE) -> None:
    """Makes a userland with these packages, unless `folder` has it already.

    Seconds for this machine's architecture; about ten minutes for another. Raises UserlandError.
    """
    wanted = f"{suite} {arch} {' '.join(sorted(packages))}\n"
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    if reason := reason_against(arch):
        raise UserlandError(f"No {arch} userland can be made: {reason}.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = ["debootstrap", f"--arch={arch}", "--variant=minbase"]
    command += [f"--include={','.join(packages)}"] if packages else []
    foreign = arch != NAMES.get(platform.machine())
    _say_if_wrong([*command, *(["--foreign"] if foreign else []), suite, str(folder)])
    if foreign:
        register_qemu()
        second = ["chroot", str(folder), "/debootstrap/debootstrap", "--second-stage"]
        _say_if_wrong(["unshare", "--mount", "--pid", "--fork", "--kill-child", *second])
    stamp.write_text(wanted, encoding="utf-8")


def register_qemu() -> None:
    """Has the kernel run programs for ARM64 with qemu-user, where it cannot yet: for the whole
    machine, until it is started anew. Raises UserlandError."""
    if platform.machine() == "aarch64":
        return
    if not (BINFMT / "register").exists():
        _say_if_wrong(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)])
    entries = [path for path in BINFMT.iterdir() if path.name not in ("register", "status")]
    if any(_MAGIC.hex() in path.read_text(encoding="ascii") for path in entries):
        return
    qemu = shutil.which(QEMU)
    if qemu is None:
        raise UserlandError("missing: qemu-user-static (the name of a Debian package).")
    magic, mask = (
        "".join(f"\\x{byte:02x}" for byte in pattern).encode() for pattern in (_MAGIC, _MASK)
    )
    # F: opened now, so that it is found in a chroot too.
    line = b":".join([b"", _ENTRY.encode(), b"M", b"", magic, mask, qemu.encode(), b"F"])
    (BINFMT / "register").write_bytes(line)


def command(
    root: Path,
    inside: Sequence[str],
    *,
    environment: Mapping[str, str] = ENVIRONMENT,
    folder: str = "/",
    user: str = "",
    binds: Sequence[Bind] = (),
    read_only: bool = False,
) -> list[str]:
    """Returns the command that runs `inside` in a userland, in namespaces that end with it.

    The userland has /proc, /dev and an empty /tmp of its own; binds are read-only unless they are
    `writable`, and with `read_only` so is all the rest but /tmp. `user`: "name" or "uid:gid".
    """
    at = shlex.quote(str(root))
    lines = [
        "set -e",
        f"mount --bind {at} {at}",
        f"mkdir -p {at}/proc {at}/dev {at}/tmp",
        f"mount -t proc proc {at}/proc",
        f"mount --rbind /dev {at}/dev",
        f"mount -t tmpfs -o mode=1777 tmpfs {at}/tmp",
    ]
    for bind in binds:
        target = shlex.quote(f"{root}{bind.inside}")
        source = shlex.quote(str(bind.outside))
        made = f"mkdir -p {target}"
        if bind.outside.is_file():
            made = f"mkdir -p $(dirname {target}); test -e {target} || : > {target}"
        lines += [made, f"mount --bind {source} {target}"]
        if not bind.writable:
            lines.append(f"mount -o remount,bind,ro {target}")
    if read_only:
        lines.append(f"mount -o remount,bind,ro {at}")
    variables = [f"{name}={value}" for name, value in environment.items()]
    # A shell in the userland changes the folder: chroot itself changes to the root.
    entered = ["env", "-i", *variables, "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", folder]
    chroot = ["chroot", *([f"--userspec={user}"] if user else []), str(root), *entered, *inside]
    lines.append(f"exec {shlex.join(chroot)}")
    spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    return [*spaces, "sh", "-c", "\n".join(lines)]


def _say_if_wrong(command: Sequence[str]) -> None:
    """Runs a command. Raises UserlandError with its last lines when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = " ".join((done.stdout + done.stderr).split("\n")[-6:])
        raise UserlandError(f"{shlex.join(command[:4])} ... failed: {last}")
