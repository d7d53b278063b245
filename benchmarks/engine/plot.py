"""The engine's benchmark as a picture, from its report.

`python -m benchmarks.engine.plot REPORT.json OUT.png`; SVG by the same name with `.svg`.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.common.drawing import BAR_HEIGHT, INK, OWN, PEER, draw_saved
from benchmarks.common.report import Spread, spread
from benchmarks.engine.report import NAMES, OURS, OURS_AVX2, Kind, Report

BOUND = "#c2410c"
WIDTH_IN, ROW_IN, FRAME_IN = 11.5, 0.44, 2.0
PANELS: tuple[tuple[Kind, str], ...] = (("decode", "Decode"), ("prefill", "Prefill"))


def draw(report: Report, path: Path) -> None:
    """Writes the picture; the format is that of the name's ending.

    Raises ValueError for an ending that matplotlib does not know or a report without contestants.
    """
    names = [name for name in NAMES if name in report.contestants]
    if not names:
        raise ValueError("the report has no contestants to draw")
    # A fixed salt and no date: the same figures give the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "engine", "font.size": 10}):
        figure = Figure(figsize=(WIDTH_IN, FRAME_IN + ROW_IN * len(names)), layout="constrained")
        axes = figure.subplots(1, len(PANELS), sharey=True)
        for axis, (kind, title) in zip(axes, PANELS, strict=True):
            _panel(axis, report, names, kind, f"{title}, {_what(report, kind)}")
        axes[0].set_yticks(range(len(names)), [NAMES[name] for name in names])
        axes[0].invert_yaxis()
        figure.suptitle(
            f"{report.model}, {report.threads} threads, {report.machine.cpu}",
            fontsize=12,
            color=INK,
        )
        figure.legend(
            handles=[Line2D([], [], color=BOUND, linewidth=2), Line2D([], [], color=INK)],
            labels=[
                "bound, measured beside each figure: memory read speed for decode, integer peak "
                "of the instructions for prefill",
                f"lowest to highest (rounds: {report.n_rounds}); the bar is the median, "
                "in brackets its share of the bound",
            ],
            loc="outside lower left",
            frameon=False,
            fontsize=9,
        )
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=150, metadata=metadata)


def _what(report: Report, kind: Kind) -> str:
    if kind == "prefill":
        return f"a prompt of {report.prefill_tokens} tokens"
    return f"{report.decode_tokens} tokens, one sequence"


def _panel(axis: Axes, report: Report, names: list[str], kind: Kind, title: str) -> None:
    longest = 0.0
    for row, name in enumerate(names):
        contestant = report.contestants[name]
        rate: Spread | None = getattr(contestant, kind)
        if rate is None:
            continue
        color = OWN if name in (OURS, OURS_AVX2) else PEER
        axis.barh(row, rate.median, BAR_HEIGHT, color=color)
        axis.plot([rate.low, rate.high], [row, row], color=INK, linewidth=1)
        longest = max(longest, rate.high)
        label = f"{rate.median:.{2 if rate.median < 10 else 1}f}"
        bound = _bound(report, name, kind)
        if bound is not None:
            half = 0.5 * BAR_HEIGHT + 0.08
            axis.plot([bound.median] * 2, [row - half, row + half], color=BOUND, linewidth=2)
            longest = max(longest, bound.median)
            of_bound: Spread = getattr(contestant, f"{kind}_of_bound")
            label += f"  ({100 * of_bound.median:.0f} %)"
        axis.annotate(
            label,
            (1.01, row),
            xycoords=("axes fraction", "data"),
            va="center",
            color=INK,
            weight="bold" if color == OWN else "normal",
        )
    axis.set_title(title, fontsize=10.5, color=INK)
    axis.set_xlabel("tokens a second")
    axis.set_xlim(0, 1.03 * longest or 1)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)


def _bound(report: Report, name: str, kind: Kind) -> Spread | None:
    figures = [getattr(round_[name], kind) for round_ in report.rounds if name in round_]
    return spread(mean(figure.bounds) for figure in figures if figure and figure.bounds)


def main(arguments: list[str] | None = None) -> int:
    """Run `python -m benchmarks.engine.plot`; the exit status is 1 when nothing could be drawn."""
    return draw_saved("benchmarks.engine", Report, draw, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
