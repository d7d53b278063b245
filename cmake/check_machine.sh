#!/bin/sh
# Says in one sentence what this machine lacks for a build, before anything is made.
# Usage: check_machine.sh PYTHON VENV
python=$1
venv=$2

fail() {
    echo "make: $1" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    fail "$python was not found: install Python 3.10 or newer, or name one: make PYTHON=/path/to/python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$("$python" --version 2>&1) is too old: 3.10 or newer is needed; name another: make PYTHON=/path/to/python"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make environments: install its venv (Debian, Ubuntu: sudo apt install python3-venv)"
"$python" -c 'import os, sys, sysconfig as s; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' ||
    fail "the C headers of $python are missing: install them (Debian, Ubuntu: sudo apt install python3-dev)"
for compiler in "${CC:-cc}" "${CXX:-c++}"; do
    # A compiler may be given with flags; its name comes first.
    command -v "${compiler%% *}" >/dev/null 2>&1 ||
        fail "no compiler ${compiler%% *} was found: install one (Debian, Ubuntu: sudo apt install g++)"
done
[ -w "$(dirname "$venv")" ] || fail "no permission to create $venv"
