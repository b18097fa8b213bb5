from __future__ import annotations

import math

import numpy as np
import pytest
from handmade import BASELINE, Trial, curve_frame, make_runs, sensitivity
from handmade_methods import Curve, arm_trial, variance_curves

from analysis.frames import RunsError
from analysis.variance import (
    VarianceInfo,
    count_checks,
    lemma_text,
    variance_info,
    variance_trials,
)

Levels = dict[str, float]
LEVELS = {"adversarial": 1e-4, "distillation": 1e-6, "mixture": 5e-5}
SCORES = {0: 0.9, 1: 0.91, 2: 0.92}


def logged(name: str = "kdgan", levels: Levels = LEVELS, **changes: object) -> Trial:
    """Return an arm of three seeds that logged variances around `levels`."""
    trial = arm_trial(name, SCORES, curves=variance_curves(range(3), levels))
    trial = trial._replace(params={**trial.params, "log_gradient_variance": "True"})
    return trial._replace(**changes)  # type: ignore[arg-type]


def shown(*trials: Trial) -> VarianceInfo:
    return variance_info(make_runs(trials), curve_frame(*trials))


def series(*values: float, steps: tuple[float, ...] = (0, 10, 20)) -> object:
    return np.array(steps[: len(values)]), np.array(values)


def test_there_is_a_panel_for_each_schedule_and_size() -> None:
    taus = [("constant", 1.0, 1.0), ("exponential", 1.0, 0.1), ("constant", 0.1, 0.1)]
    trials = [logged(tau=tau, train_size=size) for tau in taus for size in (1000, 100)]
    info = shown(*trials)
    assert info.train_sizes == (100, 1000)
    assert info.taus == ("constant 0.1", "constant 1", "exponential 1→0.1")
    places = [(panel.train_size, panel.tau) for panel in info.panels]
    assert places == [(size, tau) for size in (100, 1000) for tau in info.taus]


def test_lines_are_geometric_means_of_variances_and_relative_ones() -> None:
    curves: Curve = tuple(
        (seed, 10, f"gradient_{kind}_adversarial", value)
        for seed, variance in ((0, 1e-6), (1, 1e-4))
        for kind, value in (("variance", variance), ("mean_square", 1e-7))
    )
    (panel,) = shown(logged(curves=curves)).panels
    (line,) = panel.lines
    assert line.name == "adversarial" and line.variance.x.tolist() == [10]
    assert line.variance.mean[0] == pytest.approx(1e-5)
    assert line.relative is not None and line.relative.mean[0] == pytest.approx(100)
    # The logarithms -6 and -4: mean -5, standard error 1, t(0.975, 1) = 12.706.
    assert math.log10(line.variance.high[0]) == pytest.approx(-5 + 12.7062, abs=1e-3)
    assert (line.variance.n, panel.distillation) == (2, None)


def test_the_three_gradients_and_nagans_are_drawn() -> None:
    info = shown(logged(), logged("nagan", {"adversarial": 2e-4}))
    (panel,) = info.panels
    assert [line.name for line in panel.lines] == [
        "adversarial", "distillation", "mixture", "naive",
    ]  # fmt: skip
    assert panel.lines[3].variance.mean[0] > panel.lines[0].variance.mean[0]


def test_checks_are_counted_by_means_and_by_seeds() -> None:
    lower = {0: series(1.0, 1.0, 1.0), 1: series(1.0, 9.0, 1.0)}
    upper = {0: series(2.0, 2.0, 1.0), 1: series(2.0, 2.0, 0.5), 2: series(1.0)}
    checks = count_checks(lower, upper)  # type: ignore[arg-type]
    assert checks is not None
    # At 10 the ratios are 1/2 and 9/2, at 20 they are 1 and 2: both fail by the mean.
    assert (checks.held, checks.checks, checks.fails) == (1, 3, (10, 20))
    assert (checks.held_seeds, checks.seed_checks) == (4, 6)
    equal = count_checks(lower, lower)  # type: ignore[arg-type]
    assert equal is not None and (equal.held, equal.held_seeds) == (3, 6)
    assert count_checks(lower, {}) is None  # type: ignore[arg-type]


def test_the_text_says_where_the_lemma_holds_and_where_it_fails() -> None:
    (holds,) = shown(logged()).panels
    assert lemma_text(holds) == (
        "Var(L_DS) ≤ Var(L_AD) at 11 of 11 checks (33 of 33 seed by seed). "
        "Var(mixture) ≤ Var(L_AD) at 11 of 11 checks (33 of 33 seed by seed)."
    )
    worse = {**LEVELS, "distillation": 1e-3}
    (fails,) = shown(logged(levels=worse)).panels
    assert lemma_text(fails).startswith(
        "Var(L_DS) ≤ Var(L_AD) at 0 of 11 checks (0 of 33 seed by seed); "
        "not at 11 from update 0 to 2,000. Var(mixture)"
    )
    few = variance_curves(range(3), worse, checks=1)
    (twice,) = shown(logged(curves=few)).panels
    assert "seed by seed); not at update 0, 2,000. Var" in lemma_text(twice)


def test_a_seed_that_diverged_is_in_no_mean_and_that_is_said() -> None:
    curves = tuple(p for p in variance_curves(range(3), LEVELS) if p[0] != 2 or p[1] == 0)
    wrong = {**{s: ("finished", v) for s, v in SCORES.items()}, 2: ("diverged", math.nan)}
    info = shown(logged(curves=curves, seeds=wrong, outcome="diverged"))
    (panel,) = info.panels
    assert panel.lines[0].variance.n == 2 and len(panel.lines[0].variance.x) == 11
    assert panel.distillation is not None and panel.distillation.seed_checks == 22
    assert "kdgan, exponential 1→0.1: seed 2 diverged or failed" in info.notes[0]


def test_a_variance_of_zero_is_left_out_and_counted() -> None:
    curves = tuple(
        (s, step, name, 0.0 if (step, name) == (0, "gradient_variance_distillation") else v)
        for s, step, name, v in variance_curves(range(3), LEVELS)
    )
    info = shown(logged(curves=curves))
    assert info.panels[0].dropped == 3 and "3 variances of 0" in info.notes[0]
    assert info.panels[0].lines[1].variance.x[0] == 200


def test_curves_of_tau_around_a_baseline_count_and_other_cells_do_not() -> None:
    rows = {"rows": (BASELINE, sensitivity("alpha", 0.5))}
    base = logged(**rows)
    around = [
        logged(rows=(sensitivity("tau", "constant"),), tau=("constant", 1.0, 1.0)),
        logged(rows=(sensitivity("alpha", 0.9),), alpha=0.9),
        logged(rows=({"role": "search", "factor": "", "level": ""},), alpha=0.2),
        logged("kdgan+ema"),
    ]
    runs = make_runs([base, *around])
    assert variance_trials(runs) == {base.trial_id, around[0].trial_id}


def test_a_trial_that_did_not_log_is_not_read() -> None:
    plain = arm_trial("kdgan", SCORES)
    runs = make_runs([plain])
    assert variance_trials(runs) == set()
    with pytest.raises(RunsError, match="--set log_gradient_variance=true"):
        variance_info(runs, curve_frame(plain))


def test_two_configurations_of_a_panel_are_an_error() -> None:
    with pytest.raises(RunsError, match=r"kdgan at n = 100 and tau exponential 1→0\.1 logged"):
        shown(logged(), logged(alpha=0.9))
