"""The parts of the bench, measured one after the other, each kept as soon as it ends."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bench.page import DOCS, Measured, keep, section

Found = str | tuple[str, dict[str, Any]] | None


@dataclass(frozen=True, slots=True)
class Part:
    """How one section comes about. A long one is left out of a quick run.

    `bench` returns the section's text, or that and its figures, or None where it said why it cannot be measured here.
    `plot` draws the figures into a file.
    """

    bench: Callable[..., Found]
    long: bool = False
    plot: Callable[[dict[str, Any], Path], None] | None = None


def measure(parts: Mapping[str, Part], measured_on: str, *, quick: bool, docs: Path = DOCS) -> list[str]:
    """Measure and print each, and keep it unless the run is quick; return the names of those that failed."""
    failed = []
    for name, part in parts.items():
        print(f"… {name}", flush=True)
        try:
            found = part.bench(quick=quick)
            if found is None:
                continue
            text, figures = (found, {}) if isinstance(found, str) else found
            measured = Measured(f"{datetime.now(UTC):%Y-%m-%d}", measured_on, text, figures)
            print(f"\n{section(measured)}\n", flush=True)
            if not quick:
                keep(name, measured, part.plot, docs)
        # whatever it is, it does not take the other parts with it; what runs pgbouncer skips as a test does
        except (Exception, pytest.skip.Exception):  # noqa: BLE001
            traceback.print_exc()
            print(f"{name} failed", flush=True)
            failed.append(name)
    return failed
