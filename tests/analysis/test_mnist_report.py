"""What the report says of recorded runs on real MNIST: the first question has its answer.

The fixture is the `runs.parquet` of `COMMAND` and then `python analysis/plot.py mnist` (some 50
minutes on two cores).
"""

from __future__ import annotations

import html
from pathlib import Path

import pandas as pd
import pytest

from analysis.frames import read_runs_file
from analysis.outputs import Readers
from analysis.report import summary_of, write_report
from analysis.sections import Source

FIXTURES = Path(__file__).parent / "fixtures"
FIXTURE = FIXTURES / "mnist_figure4.parquet"
COMMAND = (
    "python sweeps/run.py mnist --mode sensitivity --train-size 100 --train-size 1000"
    " --set steps=500 --set evaluations=5 --set valid_size=2000"
)
# The other sweeps of the same report, each one minutes long; all had REHEARSED.
REHEARSED = "--set steps=500 --set evaluations=5 --set valid_size=2000 --train-size 100"
OTHERS = {
    "mnist_search.parquet": f"--mode search --trials 8 {REHEARSED}",
    "mnist_grid.parquet": f"--mode grid --factors beta,gamma --seeds 1 {REHEARSED}",
    "mnist_sobol.parquet": f"--mode sobol --trials 64 --set seeds=0 {REHEARSED}",
}


def source_of(path: Path) -> Source:
    def none(_: object) -> pd.DataFrame:
        return pd.DataFrame()

    return Source(read_runs_file(path), Readers(none, none))


@pytest.fixture(scope="module")
def source() -> Source:
    return source_of(FIXTURE)


@pytest.fixture(scope="module")
def said(source: Source) -> dict[str, str]:
    found = summary_of([source], None, "corrected")
    return {one.title: " ".join(one.sentences) for one in found}


def test_the_fixture_is_of_the_command(source: Source) -> None:
    assert source.runs.sweep.command == COMMAND
    assert source.runs.trials["trial_id"].nunique() == 56
    assert set(source.runs.trials["seed"]) == set(range(5))


def test_which_factor_matters_most_and_how_surely(said: dict[str, str]) -> None:
    text = said["What matters"]
    assert text.startswith("n = 100: **γ matters most.**")
    assert "for 5 of 5 seeds no other factor moves it further" in text
    assert "Its mean lead over the next, α, is +6.80 points [+2.56, +11.03]" in text
    assert "n = 1,000: **γ comes first, but not surely.**" in text
    assert (
        "n = 1,000: τ is a risk rather than a slope: seeds 3 and 4 alone moved by 84.0 points and "
        "86.1 points (worst level constant 5), the median seed by 1.5 points."
    ) in text
    assert "n = 1,000: γ is a risk besides a slope: seed 3 alone" in text


def test_where_it_breaks(said: dict[str, str]) -> None:
    assert said["Where it breaks"].startswith(
        "n = 100: half of the seeds or more broke at α = 1 (5 of 5); γ = 1 (5 of 5), 10 (5 of 5), "
        "100 (5 of 5). Fewer broke at γ = 0.1 (2 of 5); τ = constant 5 (2 of 5). None broke "
        "along β. n = 1,000: half of the seeds or more broke at α = 1 (5 of 5); γ = 1 (5 of 5), "
        "10 (5 of 5), 100 (5 of 5); τ = constant 5 (4 of 5)."
    )


def test_where_the_published_figure_agrees(said: dict[str, str]) -> None:
    text = said["Beside the paper"]
    assert "n = 100: at their highest our curves lie 12 to 14 points above" in text
    assert "n = 1,000: at their highest our curves lie within a point of" in text
    assert "γ, n = 100: agreement: ours falls by 6.8 points from γ = 0.1 to 1" in text
    assert "β, n = 100: agreement that little hangs on it" in text
    assert "α, n = 100: disagreement: ours falls by 5.0 points from α = 0.9 to 1" in text


def test_how_many_seeds_an_answer_takes(said: dict[str, str]) -> None:
    text = said["How many seeds an answer takes"]
    assert "n = 100: a 95 % interval of ±1 points takes 6 seeds for a mean, 3 for a" in text
    assert "±0.5 points takes 17 and 3" in text


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_fixtures_are_of_their_commands(name: str) -> None:
    found = source_of(FIXTURES / name).runs.sweep.command
    assert found == f"python sweeps/run.py mnist {OTHERS[name]}"


def test_the_page_has_every_figure(source: Source, tmp_path: Path) -> None:
    sources = [*(source_of(FIXTURES / name) for name in OTHERS), source]
    written = write_report(sources, "corrected", tmp_path)
    page = written.page.read_text(encoding="utf-8")
    assert "<strong>γ matters most.</strong>" in page and html.escape(COMMAND) in page
    for anchor in (
        "figure4", "importance", "contours", "slices", "history", "seconds", "best", "seeds",
    ):  # fmt: skip
        assert f'<h2 id="{anchor}">' in page
    pngs = {path.stem for paths in written.figures.values() for path in paths}
    assert pngs >= {"figure4", "importance", "contours", "slices", "history", "seconds", "seeds"}
    assert "<strong>log γ</strong> accounts for" in page
    # Of the sweep with five seeds a cell, though the search is the later one.
    assert "the best of 22 configurations by validation" in page
    assert "the best of 12 configurations by validation" in page
