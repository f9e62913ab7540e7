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
COLOURS = (OURS, "#c2571a", "#6b7785", "#3f8f5b")
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
    axes.margins(x=0.3)


def growth(figures: dict[str, Any], file: Path) -> None:
    """Draw each queue's claim over the sizes of its tables."""
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    labels = [f"{queued:,}\n{done:,}" if queued else "empty" for queued, done in figures["sizes"]]
    for (name, rounds), colour in zip(figures["grown"].items(), COLOURS, strict=False):
        at = [*rounds[0]]
        for percentile, style in (("p99", "o-"), ("p50", "o:")):
            values = [median(rounds, one, percentile) for one in at]
            axes.plot(labels, values, style, color=colour, label=f"{name}, {percentile}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("jobs queued, and done")
    axes.set_ylabel("ms for a claim of ten")
    axes.legend(fontsize=7)
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
