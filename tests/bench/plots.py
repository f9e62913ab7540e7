"""The two plots of the page, as SVG that is the same for the same figures."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from bench.figures import median
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "agent-vault", "svg.fonttype": "none", "font.size": 9})
OURS = "#2a6fdb"
OTHERS = "#9aa5b1"
BAR = 0.38


def latency(figures: dict[str, Any], file: Path) -> None:
    """Draw the medians of both percentiles, near and far, ours apart from the others."""
    figure, sides = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axes, where, title in zip(sides, ("near", "far"), ("beside the database", "40 ms from it"), strict=True):
        _bars(axes, figures[where])
        axes.set_title(f"worker {title}")
    _save(figure, file)


def _bars(axes: Axes, rounds: list[dict[str, dict[str, float]]]) -> None:
    names = [*rounds[0]]
    for shift, percentile, alpha in ((-BAR / 2, "p50", 1.0), (BAR / 2, "p99", 0.5)):
        values = [median(rounds, name, percentile) for name in names]
        colours = [OURS if name == "Agent Vault" else OTHERS for name in names]
        places = [place + shift for place in range(len(names))]
        drawn = axes.barh(places, values, BAR, color=colours, alpha=alpha)
        axes.bar_label(drawn, [f"{percentile} {value:.1f}" for value in values], padding=2, fontsize=7)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("ms to the gateway's receipt")
    axes.margins(x=0.2)


def growth(figures: dict[str, Any], file: Path) -> None:
    """Draw each queue's claim over the number of rows; an empty table stands at the left edge."""
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    sizes = [queued + done for queued, done in figures["sizes"]]
    places = [max(size, 1) for size in sizes]
    for name, rounds in figures["grown"].items():
        colour = OURS if name == "Agent Vault" else None
        at = [*rounds[0]]
        (line,) = axes.plot(
            places, [median(rounds, one, "p99") for one in at], "o-", color=colour, label=f"{name}, p99"
        )
        axes.plot(
            places, [median(rounds, one, "p50") for one in at], "o:", color=line.get_color(), label=f"{name}, p50"
        )
    axes.set_xscale("log")
    axes.set_xticks(places, [f"{size:,}" if size else "empty" for size in sizes])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("rows, queued and done")
    axes.set_ylabel("ms for a claim of ten")
    axes.legend(fontsize=7)
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
