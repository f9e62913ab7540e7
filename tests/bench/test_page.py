"""The bench's page out of results that are at hand."""

import json
from pathlib import Path

import pytest
from bench.figures import table
from bench.page import Part, keep, page, write

ROUNDS = [
    {"floor": {"p50": 2.0, "p99": 4.0}, "ours": {"p50": 3.0, "p99": 6.0}},
    {"floor": {"p50": 4.0, "p99": 4.0}, "ours": {"p50": 10.0, "p99": 8.0}},
    {"floor": {"p50": 3.0, "p99": 4.0}, "ours": {"p50": 3.0, "p99": 400.0}},
]
BEFORE = "# Benchmark\n\nold figures\n\n<!-- by hand -->\nthe claim\n<!-- end -->\n"


def part(text: str, figures: dict[str, object] | None = None, **more: object) -> Part:
    """One that measures nothing."""
    one = Part("Title", lambda *, quick: (f"{text}, quick {quick}", figures or {}), **more)
    one.run(quick=False)
    return one


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    """Not the ratio of medians, which belong to different rounds."""
    rows = table({"floor": "bare", "ours": "ours 1"}, ROUNDS, {"p50": "p50, ms", "p99": "p99, ms"}, floor="floor")
    assert [
        "| | p50, ms | ratio | p99, ms | ratio |",
        "|---|---|---|---|---|",
        "| bare | 3.0 | 1.00 | 4.0 | 1.00 |",
        "| ours 1 | 3.0 | 1.50 | 8.0 | 2.00 |",
    ] == rows.splitlines()


def test_what_was_written_by_hand_stays() -> None:
    """A new page has the new figures and the old words between the marks."""
    new = page({"wake": part("new figures")}, "a machine", BEFORE)
    assert "old figures" not in new
    assert "new figures, quick False" in new
    assert new.endswith("## Where the time goes\n\n<!-- by hand -->\nthe claim\n<!-- end -->\n")


def test_a_page_is_written_with_its_plots_and_figures(tmp_path: Path) -> None:
    """The page names each plot that is drawn beside it, and the figures are kept as they came."""
    (tmp_path / "bench.md").write_text(BEFORE)
    drawn = part("text", {"near": ROUNDS}, plot=lambda figures, file: file.write_text(str(len(figures["near"]))))
    write({"wake": drawn, "soak": part("lost nothing")}, "a machine", tmp_path)
    assert "](bench-wake.svg)" in (tmp_path / "bench.md").read_text()
    assert "3" == (tmp_path / "bench-wake.svg").read_text()
    assert {"wake": {"near": ROUNDS}} == json.loads((tmp_path / "bench.json").read_text())


def test_the_guarantees_get_their_parts(tmp_path: Path) -> None:
    """Each part replaces what stands between its own marks."""
    file = tmp_path / "guarantees.md"
    file.write_text("a\n<!-- recovery -->\nold\n<!-- end -->\nb\n<!-- soak -->\nold\n<!-- end -->\nc\n")
    keep({"recovery": part("faults"), "soak": part("account")}, tmp_path)
    expected = (
        "a\n<!-- recovery -->\nfaults, quick False\n<!-- end -->\n"
        "b\n<!-- soak -->\naccount, quick False\n<!-- end -->\nc\n"
    )
    assert expected == file.read_text()


def test_a_plot_is_the_same_for_the_same_figures(tmp_path: Path) -> None:
    """No date and no chance in the files that stand in the repository."""
    pytest.importorskip("matplotlib", reason="no matplotlib here (pip install '.[bench]')")
    from bench import plots

    by_size = [{"empty": one["floor"], "1 queued, 2 done": one["ours"]} for one in ROUNDS]
    near = {"Agent Vault": ROUNDS[0]["ours"], "bare": ROUNDS[0]["floor"]}
    for draw, figures in (
        (plots.latency, {"near": [near], "far": [near]}),
        (plots.growth, {"sizes": [[0, 0], [1, 2]], "grown": {"Agent Vault": by_size}}),
    ):
        draw(figures, tmp_path / "one.svg")
        draw(figures, tmp_path / "two.svg")
        assert b"Agent Vault" in (tmp_path / "one.svg").read_bytes()
        assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
