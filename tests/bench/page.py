"""The page of what was measured, and the figures as they came beside it."""

import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psycopg
from bench.peers import setup
from bench.stage import server

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "bench.md"
FIGURES = DOCS / "bench.json"
GUARANTEES = DOCS / "guarantees.md"
BY_HAND = "<!-- by hand -->\n"
END = "<!-- end -->"
IN_GUARANTEES = ("recovery", "soak")


@dataclass(slots=True)
class Part:
    """One section: how it is measured, and after that its text and figures. A long one is left out of a quick run."""

    title: str
    bench: Callable[..., str | tuple[str, dict[str, object]]]
    long: bool = False
    text: str = ""
    figures: dict[str, object] = field(default_factory=dict)

    def run(self, *, quick: bool) -> None:
        """Measure."""
        found = self.bench(quick=quick)
        self.text, self.figures = (found, {}) if isinstance(found, str) else found

    def lines(self) -> list[str]:
        """Return the section."""
        return ["## " + self.title, "", self.text]


def machine() -> str:
    """Name what it was measured on."""
    with server() as dsn, psycopg.connect(dsn) as connection:
        postgres = connection.info.parameter_status("server_version")
        (fsync,) = connection.execute("show fsync").fetchone()
    versions = ", ".join(f"{name} {version(name)}" for name in ("psycopg", "aiohttp", "uvloop"))
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, everything on this one machine"
    where = f"PostgreSQL {postgres}, fsync {fsync}; Python {platform.python_version()}, {versions}; {system}."
    return f"{where}\n\n{setup()}"


def write(parts: Mapping[str, Part]) -> None:
    """Write the page anew, but for what was written by hand, and the figures."""
    PAGE.write_text(page(parts, machine(), PAGE.read_text()))
    FIGURES.write_text(
        json.dumps({name: part.figures for name, part in parts.items() if part.figures}, indent=1) + "\n"
    )


def page(parts: Mapping[str, Part], measured_on: str, before: str) -> str:
    """Return the page: all parts, and between its marks what a person wrote into the page before."""
    written = before.partition(BY_HAND)[2].partition(END)[0]
    head = [
        "# Benchmark",
        "",
        "Written by `make bench`; what stands in one table was measured in one run.",
        measured_on,
    ]
    sections = [line for part in parts.values() for line in ("", *part.lines())]
    return "\n".join([*head, *sections, "", "## Where the time goes", "", BY_HAND + written + END, ""])


def keep(parts: Mapping[str, Part]) -> None:
    """Put parts into the page of the guarantees, between their marks."""
    for name in IN_GUARANTEES:
        before, _, rest = GUARANTEES.read_text().partition(f"<!-- {name} -->\n")
        after = rest.partition(END)[2]
        GUARANTEES.write_text(f"{before}<!-- {name} -->\n{parts[name].text}\n{END}{after}")
