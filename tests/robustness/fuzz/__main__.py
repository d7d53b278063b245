"""`python -m tests.robustness.fuzz TARGET --cases N [--seed S] [--minutes M]`: one target, with a
progress bar; the last line is JSON, in which `over` are the figures that are over a limit. Failing
inputs are left in build/fuzz/TARGET: those worth keeping go into the folder corpus/TARGET here,
where every run of the tests replays them."""

from __future__ import annotations

import argparse
import sys

from tests.robustness.fuzz.running import run
from tests.robustness.fuzz.targets import FULL, NAMES, opened


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.fuzz", description=__doc__)
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--cases", type=int, help="inputs (default: the target's full amount)")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")
    parser.add_argument("--minutes", type=float, help="the most it may take")
    options = parser.parse_args()
    full_cases, full_minutes = FULL[options.target]
    minutes = options.minutes
    if options.cases is None and minutes is None:
        minutes = full_minutes
    cases = options.cases or full_cases
    with opened(options.target) as target:
        report = run(
            options.target,
            target,
            cases,
            options.seed,
            minutes,
            alarm=True,
            progress=sys.stderr.isatty(),
        )
    print(report.json())
    return 1 if report.n_failures or report.extra.get("over") else 0


if __name__ == "__main__":
    sys.exit(main())
