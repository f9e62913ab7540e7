"""Tables out of rounds: medians over the rounds, each ratio taken within its round."""

import statistics
from collections.abc import Mapping, Sequence

Rounds = Sequence[Mapping[str, Mapping[str, float]]]


def median(rounds: Rounds, name: str, figure: str) -> float:
    """Return the median over the rounds."""
    return statistics.median(one[name][figure] for one in rounds)


def ratio(rounds: Rounds, name: str, floor: str, figure: str) -> float:
    """Return the median of the ratios to another's within each round."""
    return statistics.median(one[name][figure] / one[floor][figure] for one in rounds)


def shown(value: float) -> str:
    """Write a number with as many digits as say something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def table(names: Mapping[str, str], rounds: Rounds, figures: Mapping[str, str], *, floor: str) -> str:
    """Write a table: a row for each name, and for each figure its median and its ratio to the floor's."""
    heads = [head for heading in figures.values() for head in (heading, "ratio")]
    rows = []
    for name, label in names.items():
        cells = []
        for figure in figures:
            cells += [shown(median(rounds, name, figure)), f"{ratio(rounds, name, floor, figure):.2f}"]
        rows.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|", *rows])
