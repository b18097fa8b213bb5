"""What the report says of recorded runs on real MNIST: the first question has its answer.

The fixture is the `runs.parquet` of `COMMAND` and then `python analysis/plot.py mnist` (some 50
minutes on two cores).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.frames import read_runs_file
from analysis.outputs import Readers
from analysis.report import summary_of, write_report
from analysis.sections import Source

FIXTURE = Path(__file__).parent / "fixtures" / "mnist_figure4.parquet"
COMMAND = (
    "python sweeps/run.py mnist --mode sensitivity --train-size 100 --train-size 1000"
    " --set steps=500 --set evaluations=5 --set valid_size=2000"
)


@pytest.fixture(scope="module")
def source() -> Source:
    def none(_: object) -> pd.DataFrame:
        return pd.DataFrame()

    return Source(read_runs_file(FIXTURE), Readers(none, none))


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


def test_the_page_holds_it(source: Source, tmp_path: Path) -> None:
    page = write_report([source], "corrected", tmp_path).page.read_text(encoding="utf-8")
    assert "<strong>γ matters most.</strong>" in page and COMMAND in page
    assert '<h2 id="figure4">' in page and '<h2 id="seeds">' in page
