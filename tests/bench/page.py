"""What was measured last of each part: kept as it came, and put between the part's marks on the pages.

A mark is `<!-- wake -->`, up to `<!-- end -->`. What stands elsewhere on the pages is written by a person.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("bench.md", "guarantees.md")
FIGURES = "bench.json"
END = "\n<!-- end -->"


@dataclass(frozen=True, slots=True)
class Measured:
    """A part's text, its figures, and the day and the machine that they are of."""

    day: str
    machine: str
    text: str
    figures: dict[str, Any]


def keep(
    name: str, measured: Measured, plot: Callable[[dict[str, Any], Path], None] | None = None, docs: Path = DOCS
) -> None:
    """Keep a part in the place of what was kept of it before: its figures first, then its plot and its section."""
    kept = {**json.loads((docs / FIGURES).read_text()), name: asdict(measured)}
    (docs / FIGURES).write_text(json.dumps(kept, indent=1) + "\n")
    if plot:
        plot(measured.figures, docs / image(name))
    for page in PAGES:
        text = (docs / page).read_text()
        for part, one in kept.items():
            text = filled(text, part, section(Measured(**one)))
        (docs / page).write_text(text)


def section(measured: Measured) -> str:
    """Write what stands between a part's marks."""
    return f"*Measured on {measured.day} with {measured.machine}.*\n\n{measured.text}"


def filled(page: str, name: str, text: str) -> str:
    """Return the page with a text between the part's marks, where it has them."""
    before, mark, rest = page.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(END)
    return before + mark + text + end + after if end else page


def image(name: str) -> str:
    """Name a part's plot."""
    return f"bench-{name}.svg"
