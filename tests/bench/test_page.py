"""The bench's page out of results that are at hand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.figures import table
from bench.page import DOCS, Measured, filled, image, keep, section
from bench.parts import Part, measure

ROUNDS = [
    {"floor": {"p50": 2.0, "p99": 4.0}, "ours": {"p50": 3.0, "p99": 6.0}},
    {"floor": {"p50": 4.0, "p99": 4.0}, "ours": {"p50": 10.0, "p99": 8.0}},
    {"floor": {"p50": 3.0, "p99": 4.0}, "ours": {"p50": 3.0, "p99": 400.0}},
]
PAGE = """\
# Benchmark

## Wake

<!-- wake -->
old wake
<!-- end -->

![seen](bench-wake.svg)

## Soak

<!-- soak -->
old soak
<!-- end -->

the claim
"""
GUARANTEES = "what is promised\n\n<!-- soak -->\nold soak\n<!-- end -->\n\nwhat is not\n"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Pages of which nothing was measured anew yet."""
    (tmp_path / "bench.md").write_text(PAGE)
    (tmp_path / "guarantees.md").write_text(GUARANTEES)
    (tmp_path / "bench.json").write_text("{}")
    return tmp_path


def part(text: str) -> Part:
    """One that takes no time."""
    return Part(lambda *, quick: (f"{text}, quick {quick}", {"near": ROUNDS}))


def broken(error: BaseException) -> Part:
    """One that fails."""

    def bench(**_: bool) -> str:
        raise error

    return Part(bench)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    """Not the ratio of medians, which belong to different rounds."""
    rows = table({"floor": "bare", "ours": "ours 1"}, ROUNDS, {"p50": "p50, ms", "p99": "p99, ms"}, floor="floor")
    assert [
        "| | p50, ms | ratio | p99, ms | ratio |",
        "|---|---|---|---|---|",
        "| bare | 3.0 | 1.00 | 4.0 | 1.00 |",
        "| ours 1 | 3.0 | 1.50 | 8.0 | 2.00 |",
    ] == rows.splitlines()


def test_a_part_replaces_its_own_section_alone(docs: Path) -> None:
    """Its section says when and on what it was measured; all else on the page stays, what a person wrote too."""
    keep("wake", Measured("2030-01-02", "Python 3; one machine", "new wake", {}), docs=docs)
    expected = PAGE.replace("old wake", "*Measured on 2030-01-02 with Python 3; one machine.*\n\nnew wake")
    assert expected == (docs / "bench.md").read_text()
    assert GUARANTEES == (docs / "guarantees.md").read_text()


def test_a_part_is_on_every_page_that_has_its_marks(docs: Path) -> None:
    """What the guarantees show is what the bench's page shows."""
    keep("soak", Measured("2030-01-02", "one machine", "new soak", {}), docs=docs)
    for page, before in (("bench.md", PAGE), ("guarantees.md", GUARANTEES)):
        after = before.replace("old soak", "*Measured on 2030-01-02 with one machine.*\n\nnew soak")
        assert after == (docs / page).read_text()


def test_parts_of_different_runs_stand_side_by_side(docs: Path) -> None:
    """Each has its own day and machine, in the figures and on the page, which is made of them anew."""
    keep("wake", Measured("2030-01-02", "one machine", "new wake", {"near": ROUNDS}), docs=docs)
    (docs / "bench.md").write_text(PAGE)
    keep("soak", Measured("2030-03-04", "another machine", "new soak", {}), docs=docs)
    expected = {
        "wake": {"day": "2030-01-02", "machine": "one machine", "text": "new wake", "figures": {"near": ROUNDS}},
        "soak": {"day": "2030-03-04", "machine": "another machine", "text": "new soak", "figures": {}},
    }
    assert expected == json.loads((docs / "bench.json").read_text())
    written = (docs / "bench.md").read_text()
    assert "*Measured on 2030-01-02 with one machine.*\n\nnew wake" in written
    assert "*Measured on 2030-03-04 with another machine.*\n\nnew soak" in written


def test_a_plot_is_drawn_of_what_was_measured(docs: Path) -> None:
    """It is drawn beside the page, and the plots of other parts are left alone."""
    (docs / "bench-growth.svg").write_text("old")
    drawn = Part(part("new").bench, plot=lambda figures, file: file.write_text(str(len(figures["near"]))))
    assert [] == measure({"wake": drawn}, "one machine", quick=False, docs=docs)
    assert "3" == (docs / "bench-wake.svg").read_text()
    assert "old" == (docs / "bench-growth.svg").read_text()


def test_a_part_is_kept_before_the_next_one_begins(docs: Path) -> None:
    """What comes later, and be it the end of the run, takes nothing of it away."""
    with pytest.raises(KeyboardInterrupt):
        measure({"wake": part("new wake"), "soak": broken(KeyboardInterrupt())}, "one machine", quick=False, docs=docs)
    assert "new wake, quick False" in (docs / "bench.md").read_text()
    assert ["wake"] == [*json.loads((docs / "bench.json").read_text())]


@pytest.mark.parametrize("error", [OSError("no such gateway"), pytest.skip.Exception("no such program")])
def test_a_part_that_fails_does_not_take_the_others_with_it(
    docs: Path, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    """It says so and why, what was there of it stays, and the next part is measured and kept."""
    try:
        failed = measure({"wake": broken(error), "soak": part("new soak")}, "one machine", quick=False, docs=docs)
    except pytest.skip.Exception:  # pytest would take it for a skip of this test
        pytest.fail("the run ended with the part")
    assert ["wake"] == failed
    shown = capsys.readouterr()
    assert "wake failed" in shown.out
    assert str(error) in shown.err
    assert "old wake" in (docs / "bench.md").read_text()
    assert "new soak" in (docs / "bench.md").read_text()


@pytest.mark.parametrize(("bench", "quick"), [(part("a look").bench, True), (lambda **_: None, False)])
def test_nothing_is_kept_of_a_look_or_of_what_cannot_be_measured(
    docs: Path, bench: Callable[..., None], *, quick: bool
) -> None:
    """The pages stay as they are, and that is no failure."""
    assert [] == measure({"wake": Part(bench)}, "one machine", quick=quick, docs=docs)
    assert PAGE == (docs / "bench.md").read_text()
    assert {} == json.loads((docs / "bench.json").read_text())


def test_the_page_shows_the_figures_that_are_kept() -> None:
    """What stands between a part's marks is what was kept of it."""
    page = (DOCS / "bench.md").read_text()
    kept = json.loads((DOCS / "bench.json").read_text())
    assert kept
    for name, one in kept.items():
        assert f"<!-- {name} -->\n{section(Measured(**one))}\n<!-- end -->" in page


def test_every_part_has_its_place_on_the_page() -> None:
    """A heading, its marks with no other heading between them, and its plot."""
    pytest.importorskip("matplotlib", reason="no matplotlib here (pip install '.[bench]')")
    from bench.__main__ import PARTS

    page = (DOCS / "bench.md").read_text()
    for name, one in PARTS.items():
        without = filled(page, name, "")
        assert without != page, f"{name} has no marks on docs/bench.md"
        assert without.count("\n## ") == page.count("\n## ")
        assert not one.plot or f"]({image(name)})" in without


def test_a_run_of_which_a_part_failed_ends_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit status is not 0, and the last line says what to look at."""
    pytest.importorskip("matplotlib", reason="no matplotlib here (pip install '.[bench]')")
    from bench import __main__ as command

    parts = {"wake": broken(OSError()), "drain": part("jobs"), "soak": broken(OSError())}
    monkeypatch.setattr(command, "PARTS", parts)
    monkeypatch.setattr(command, "machine", lambda: "one machine")
    monkeypatch.setattr("sys.argv", ["bench", "--quick", *parts])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert "failed: wake, soak" == ended.value.code


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
