"""The authors' updates have the shape of the published Figure 4: recorded runs on real MNIST.

The fixture is the `runs.parquet` of the command in `COMMAND` and then `python analysis/plot.py
mnist` (some 20 minutes on two cores).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.frames import Runs, read_runs_file
from analysis.ranks import rank_text, ranks_of
from analysis.sensitivity import Curve, Point, sensitivity_info
from analysis.stats import Interval, t_interval

FIXTURE = Path(__file__).parent / "fixtures" / "authors_figure4.parquet"
COMMAND = (
    "python sweeps/run.py mnist --mode sensitivity --train-size 100 --levels authors"
    " --factors alpha,beta,gamma --seeds 3 --set estimator=authors --set steps=400"
    " --set pretrain_steps=1000 --set evaluations=4 --baseline alpha=0.1 --baseline beta=2"
    " --baseline gamma=0.0001"
)
# Published cells at n=100 whose gamma hardly matters lie .024 apart (.737 to .761): one run each.
NOISE = 0.024


@pytest.fixture(scope="module")
def runs() -> Runs:
    return read_runs_file(FIXTURE)


@pytest.fixture(scope="module")
def curves(runs: Runs) -> dict[str, Curve]:
    return {panel.factor: panel.curves[0] for panel in sensitivity_info(runs).panels}


def below_plateau(curve: Curve, level: float) -> Interval:
    """Accuracy at a level of gamma less that seed's mean over the levels up to 0.01."""
    seeds = {point.level: {s.seed: s.value for s in point.seeds} for point in curve.points}
    plateau = [values for at, values in seeds.items() if at <= 0.01]
    assert len(plateau) == 5
    return t_interval(
        [
            value - sum(values[seed] for values in plateau) / len(plateau)
            for seed, value in seeds[level].items()
        ]
    )


def spread(points: list[Point]) -> float:
    means = [point.mean for point in points]
    return max(means) - min(means)


def test_the_fixture_is_what_its_command_records(runs: Runs) -> None:
    assert runs.sweep.command == COMMAND
    assert runs.sweep.has_ended and runs.trials["trial_id"].nunique() == runs.sweep.planned_trials
    assert set(runs.trials["estimator"]) == {"authors"} and set(runs.trials["seed"]) == {0, 1, 2}


def test_large_gamma_is_below_the_plateau_for_every_seed(curves: dict[str, Curve]) -> None:
    """Published: the drop begins at a true gamma of 0.1 and is steep at 1."""
    gamma = curves["gamma"]
    assert below_plateau(gamma, 0.1).mean < -0.02
    assert below_plateau(gamma, 1.0).mean < -0.1
    by_level = {point.level: point for point in gamma.points}
    for large, small in zip(by_level[1.0].seeds, by_level[0.01].seeds, strict=True):
        assert large.value < small.value - 0.05
    assert spread([point for point in gamma.points if point.level <= 0.01]) < NOISE


def test_beta_has_no_effect_beyond_the_noise(curves: dict[str, Curve]) -> None:
    assert len(curves["beta"].points) == 7
    assert spread(list(curves["beta"].points)) < NOISE


def test_alpha_has_no_effect_beyond_the_noise_but_at_its_end(curves: dict[str, Curve]) -> None:
    """At alpha=1 T has no adversarial term; ours breaks there, the published curve does not."""
    alpha = curves["alpha"].points
    assert [point.level for point in alpha] == pytest.approx([i / 10 for i in range(11)])
    assert spread([point for point in alpha if point.level < 1.0]) < NOISE
    assert alpha[-1].mean < 0.6


def test_the_rank_correlation_with_the_published_curve_is_printed(runs: Runs) -> None:
    ranks = {rank.factor: rank for rank in ranks_of(runs, sensitivity_info(runs))}
    assert {factor: rank.correlation.n for factor, rank in ranks.items()} == {
        "alpha": 11, "beta": 7, "gamma": 7,
    }  # fmt: skip
    assert ranks["alpha"].correlation.rho == pytest.approx(0.609, abs=1e-3)
    assert ranks["beta"].correlation.rho == pytest.approx(-0.071, abs=1e-3)
    assert ranks["gamma"].correlation.rho == pytest.approx(0.536, abs=1e-3)
    assert "runs with estimator=authors: +0.54 at 7 common levels" in rank_text(ranks["gamma"])
