from __future__ import annotations

import math

import pytest
from drawn import overlapping
from handmade import Trial, make_runs, seeds
from handmade_designs import search_trials, sobol_trials
from handmade_methods import arm_trial

from analysis.frames import RunsError
from analysis.history import best_so_far, draw_history, history_frame, history_info
from analysis.search_trials import search_branches
from analysis.slices import draw_slices, log_ticks, slices_frame, slices_info

NAN = math.nan
ENDED = [
    ("finished", 0.80), ("stopped", 0.60), ("collapsed", 0.85), ("finished", 0.90),
    ("diverged", NAN), ("failed", NAN), ("finished", 0.88),
]  # fmt: skip


def branch(**changes: object):  # type: ignore[no-untyped-def]
    (one,) = search_branches(make_runs(search_trials(ENDED, last={2: 0.40}, **changes)))  # type: ignore[arg-type]
    return one


def test_a_trials_value_is_what_its_study_holds() -> None:
    """A collapsed seed counts with its last check, a diverged one as 0, a failed trial not."""
    values = [trial.value for trial in branch().trials]
    assert values[:5] == [0.80, 0.60, 0.40, 0.90, 0.0]
    assert math.isnan(values[5]) and values[6] == 0.88


def test_the_values_are_those_of_an_optuna_study() -> None:
    """The recorded seeds and the study's number are the same score, by the sweep's own rule."""
    from sweeps.spool import score

    mine = branch()
    for trial, (outcome, best) in zip(mine.trials, ENDED, strict=True):
        last = 0.40 if outcome == "collapsed" else best
        seed = {
            "outcome": outcome,
            "best_valid_accuracy": None if math.isnan(best) else best,
            "last_valid_accuracy": None if math.isnan(last) else last,
        }
        told = None if outcome == "failed" else score({"seeds": [seed]})
        assert (told is None) == math.isnan(trial.value)
        if told is not None:
            assert trial.value == pytest.approx(told)


def test_the_best_so_far_never_falls_and_starts_with_the_first_value() -> None:
    assert best_so_far(branch()) == [0.80, 0.80, 0.80, 0.90, 0.90, 0.90, 0.90]
    assert branch().best.value == 0.90
    (failed,) = search_branches(make_runs(search_trials([("failed", NAN), ("finished", 0.5)])))
    first, second = best_so_far(failed)
    assert math.isnan(first) and second == 0.5


def test_sizes_and_arms_are_searches_of_their_own() -> None:
    tuning = {"role": "search", "factor": "method", "level": "mimic"}
    trials = [
        *search_trials(ENDED[:2]), *search_trials(ENDED[:3], size=1000),
        arm_trial("mimic", {7: 0.9}, rows=(tuning,)),
    ]  # fmt: skip
    found = [(b.train_size, b.arm, len(b.trials)) for b in search_branches(make_runs(trials))]
    assert found == [(100, "", 2), (100, "mimic", 1), (1000, "", 3)]


def test_history_says_what_failed() -> None:
    info = history_info(make_runs(search_trials(ENDED)))
    assert info.notes == ("n = 100: 1 trial(s) failed, without a value.",)
    frame = history_frame(info)
    assert list(frame["number"]) == list(range(7)) and frame["best_so_far"].iloc[-1] == 0.9


def test_slices_are_of_what_varies_and_search_and_design_stand_apart() -> None:
    design = sobol_trials(16, lambda at: 0.5 + 0.4 * at["alpha"])
    info = slices_info(make_runs([*search_trials(ENDED), *design]))
    search, sobol = info.rows
    assert (search.branch.role, sobol.branch.role) == ("search", "sobol")
    assert [one.name for one in search.slices] == [
        "alpha", "beta", "gamma", "tau_kind", "tau_start",
    ]  # fmt: skip
    kinds = search.slices[3]
    assert kinds.labels == ("exponential", "linear", "cosine", "constant")
    assert len(kinds.x) == 6  # the failed one has no value
    assert set(slices_frame(info)["role"]) == {"search", "sobol"}


def test_without_a_search_there_is_one_sentence_each() -> None:
    runs = make_runs([Trial(seeds(0.9))])
    with pytest.raises(RunsError, match=r"has no search; .*--mode search"):
        history_info(runs)
    with pytest.raises(RunsError, match="no search over α, β, γ and τ"):
        slices_info(runs)


@pytest.mark.parametrize("sizes", [(100,), (100, 1000), (100, 1000, 10000)])
def test_texts_do_not_overlap(sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    runs = make_runs([trial for size in sizes for trial in search_trials(ENDED, size)])
    assert overlapping(draw_history(history_info(runs)), monkeypatch) == []
    assert overlapping(draw_slices(slices_info(runs)), monkeypatch) == []


@pytest.mark.parametrize(
    "low, high, ticks",
    [
        (-3.0, 3.0, [0.01, 1.0, 100.0]),
        (-4.0, 2.0, [0.001, 0.1, 10.0]),
        (-1.5, 1.0, [0.1, 1.0]),
        (-0.5, 1.0, [0.5, 2.0]),
        (0.0, 0.0, [1.0]),
    ],
)
def test_ticks_of_a_slice_stay_clear_of_its_ends(
    low: float, high: float, ticks: list[float]
) -> None:
    assert log_ticks(low, high) == pytest.approx(ticks)
