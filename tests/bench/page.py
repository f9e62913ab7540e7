"""The page of what was measured, and the figures as they came beside it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
PAGE = "bench.md"
FIGURES = "bench.json"
GUARANTEES = "guarantees.md"
BY_HAND = "<!-- by hand -->\n"
END = "<!-- end -->"
IN_GUARANTEES = ("recovery", "soak")


@dataclass(slots=True)
class Part:
    """One section: how it is measured, and after that its text and figures. A long one is left out of a quick run.

    `plot` draws its figures into a file, and its alternative text is what one sees there.
    """

    title: str
    bench: Callable[..., str | tuple[str, dict[str, Any]]]
    long: bool = False
    plot: Callable[[dict[str, Any], Path], None] | None = None
    seen: str = ""
    text: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def run(self, *, quick: bool) -> None:
        """Measure."""
        found = self.bench(quick=quick)
        self.text, self.figures = (found, {}) if isinstance(found, str) else found

    def lines(self) -> list[str]:
        """Return the section."""
        return ["## " + self.title, "", self.text]


def write(parts: Mapping[str, Part], measured_on: str, docs: Path = DOCS) -> None:
    """Write the page anew, but for what was written by hand, its plots, and the figures."""
    for name, part in parts.items():
        if part.plot:
            part.plot(part.figures, docs / image(name))
    (docs / PAGE).write_text(page(parts, measured_on, (docs / PAGE).read_text()))
    figures = {name: part.figures for name, part in parts.items() if part.figures}
    (docs / FIGURES).write_text(json.dumps(figures, indent=1) + "\n")


def page(parts: Mapping[str, Part], measured_on: str, before: str) -> str:
    """Return the page: all parts, and between its marks what a person wrote into the page before."""
    written = before.partition(BY_HAND)[2].partition(END)[0]
    lines = ["# Benchmark", "", "Written by `make bench`; what stands in one table was measured in one run.", ""]
    lines += [measured_on]
    for name, part in parts.items():
        lines += ["", *part.lines()]
        if part.plot:
            lines += ["", f"![{part.seen}]({image(name)})"]
    return "\n".join([*lines, "", "## Where the time goes", "", BY_HAND + written + END, ""])


def image(name: str) -> str:
    """Name a part's plot."""
    return f"bench-{name}.svg"


def keep(parts: Mapping[str, Part], docs: Path = DOCS) -> None:
    """Put parts into the page of the guarantees, between their marks."""
    guarantees = docs / GUARANTEES
    for name in IN_GUARANTEES:
        before, _, rest = guarantees.read_text().partition(f"<!-- {name} -->\n")
        after = rest.partition(END)[2]
        guarantees.write_text(f"{before}<!-- {name} -->\n{parts[name].text}\n{END}{after}")
