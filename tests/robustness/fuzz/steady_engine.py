"""The fake engine without the orders that break it, for inputs that nobody has read before.

`python -m tests.robustness.fuzz.steady_engine FD`
"""

from __future__ import annotations

import os
import re

from tests.support import fake_engine

ORDERS = re.compile(
    r"(show|each|measure|timed-out|(fail|fail-early) [a-z_]+|too-long \d{1,6} \d{1,6}"
    r"|refuse \S+ \S.*)\s*",
    re.ASCII,
)


class _Answer(fake_engine.Answer):
    def run(self) -> None:
        text = fake_engine.last_user_text(self._submit.segments)
        if ORDERS.fullmatch(text.strip()):
            super().run()
        else:
            self._answer(fake_engine.WORD.findall(text))


if __name__ == "__main__":
    fake_engine.Answer = _Answer  # type: ignore[misc]
    try:
        fake_engine.main()
    except KeyboardInterrupt:
        os._exit(0)
