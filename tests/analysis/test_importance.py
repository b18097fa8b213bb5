from __future__ import annotations

import math

import numpy as np
import pytest
from drawn import overlapping
from handmade import Trial, make_runs, seeds, sensitivity
from handmade_designs import SOBOL, sobol_trials

from analysis.effects import effects_of
from analysis.frames import RunsError
from analysis.importance import HALF_SAMPLES, importance_frame, importance_info
from analysis.importance_figure import draw_importance
from analysis.sensitivity import sensitivity_info

# A linear response: each share is the coefficient's square times a twelfth, noise the rest.
SHARES = {"beta": 0.55, "alpha": 0.30, "start": 0.10}


def response(at: dict[str, float]) -> float:
    return 0.5 + 0.1 * sum(
        math.sqrt(12 * share) * (at[name] - 0.5) for name, share in SHARES.items()
    )


@pytest.fixture(scope="module")
def info():  # type: ignore[no-untyped-def]
    return importance_info(make_runs(sobol_trials(128, response)))


def test_known_shares_are_found_also_of_logarithms(info) -> None:  # type: ignore[no-untyped-def]
    (part,) = info.parts
    found = {share.name: share.share for share in part.shares}
    assert [share.name for share in part.shares][:3] == ["beta", "alpha", "tau_start"]
    assert found["beta"] == pytest.approx(0.55, abs=0.12)
    assert found["alpha"] == pytest.approx(0.30, abs=0.10)
    assert found["tau_start"] == pytest.approx(0.10, abs=0.08)  # a forest sees less of small ones
    assert max(found["gamma"], found["tau_kind"], found["tau_end"]) < 0.04
    assert part.rest == pytest.approx(1 - sum(found.values()))


def test_a_share_has_its_spread_and_how_often_it_was_first(info) -> None:  # type: ignore[no-untyped-def]
    (part,) = info.parts
    first = part.shares[0]
    assert first.low < first.share < first.high and first.high - first.low > 0.01
    assert first.first >= 0.9 * HALF_SAMPLES
    assert sum(share.first for share in part.shares) == HALF_SAMPLES


def test_the_same_runs_give_the_same_shares(info) -> None:  # type: ignore[no-untyped-def]
    assert importance_info(make_runs(sobol_trials(128, response))) == info


def test_the_footer_names_evaluator_seed_and_design(info) -> None:  # type: ignore[no-untyped-def]
    assert "FanovaImportanceEvaluator" in info.footer and "seed 0" in info.footer
    assert "scrambled Sobol" in info.footer and "n = 100: 128 trials" in info.footer


def test_a_trial_without_a_score_is_left_out_and_counted() -> None:
    trials = sobol_trials(32, response)
    trials[3] = trials[3]._replace(seeds={0: ("diverged", math.nan)}, outcome="diverged")
    trials[4] = trials[4]._replace(seeds={0: ("collapsed", 0.1)}, outcome="collapsed")
    (part,) = importance_info(make_runs(trials)).parts
    assert (part.trials, part.unscored, part.broken) == (31, 1, 1)


def test_too_few_trials_are_one_sentence() -> None:
    with pytest.raises(RunsError, match=r"no Sobol design of 16 scored trials.*--mode sobol"):
        importance_info(make_runs(sobol_trials(8, response)))
    with pytest.raises(RunsError, match="no Sobol design"):
        importance_info(make_runs([Trial(seeds(0.9))]))


def test_ranges_stand_beside_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = [
        Trial(seeds(0.9, 0.8)),
        Trial(seeds(0.7, 0.5), (sensitivity("gamma", 1.0),), gamma=1.0),
        Trial(seeds(0.9, 0.81), (sensitivity("beta", 10.0),), beta=10.0),
    ]
    effects = effects_of(sensitivity_info(make_runs(cuts), "none"))
    info = importance_info(make_runs(sobol_trials(32, response)), effects)
    assert [effect.factor for effect in info.parts[0].effects] == ["gamma", "beta"]
    frame = importance_frame(info)
    ranges = frame[frame["mark"] == "range"].set_index("parameter")
    assert ranges.loc["gamma", "value"] == pytest.approx(0.25)
    assert set(frame["mark"]) == {"share", "range"}
    assert overlapping(draw_importance(info), monkeypatch) == []


def test_a_response_that_is_flat_has_no_shares() -> None:
    flat = [trial._replace(seeds=seeds(0.5)) for trial in sobol_trials(16, response)]
    (part,) = importance_info(make_runs(flat)).parts
    assert part.shares == () and part.rest == 1.0
    assert all(SOBOL in trial.rows for trial in flat) and np.isfinite(part.rest)
