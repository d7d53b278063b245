"""Loads the models whose paths come on standard input, and says after each how that went:
`python -m tests.robustness.fuzz.native_child`."""

from __future__ import annotations

import resource
import sys

import sheily_native
from sheily_native import Model, NativeError

ADDRESS_SPACE = 8 << 30


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sheily_native.set_log_level(0)
    for line in sys.stdin:
        outcomes = []
        for vocab_only in (True, False):
            try:
                Model(line.rstrip("\n"), vocab_only=vocab_only, n_threads=1).close()
                outcomes.append("loaded")
            except NativeError:
                outcomes.append("refused")
            except MemoryError:
                outcomes.append("memory")
        print("vocabulary {}, whole {}".format(*outcomes), flush=True)


if __name__ == "__main__":
    main()
