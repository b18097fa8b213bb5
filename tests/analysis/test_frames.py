from __future__ import annotations

import pytest
from handmade import Trial, make_runs, seeds

from analysis.frames import RunsError, merge, origin, recorded_trials


def test_one_sweep_merged_is_itself() -> None:
    runs = make_runs([Trial(seeds(0.9))])
    assert merge([runs]) is runs


def test_two_sweeps_become_one_that_names_both() -> None:
    one = make_runs([Trial(seeds(0.9))], sweep_id="a-1", planned_trials=1, commit="1" * 40)
    two = make_runs(
        [Trial(seeds(0.8), train_size=1000), Trial(seeds(0.7), alpha=0.1)], sweep_id="b-2",
        planned_trials=4, commit="1" * 40, dirty=True, quick=True, has_ended=False,
    )  # fmt: skip
    runs = merge([one, two])
    assert recorded_trials(runs) == 3 and len(runs.rows) == 3
    sweep = runs.sweep
    assert (sweep.sweep_id, sweep.planned_trials, sweep.commit) == ("a-1, b-2", 5, "1" * 40)
    assert sweep.dirty and sweep.quick and not sweep.has_ended
    assert origin(runs) == (
        "Sweeps a-1, b-2, commit 111111111111 (dirty), quick: shortened training, "
        "partial: 3 of 5 planned trials"
    )


def test_a_trial_of_two_sweeps_is_counted_in_both() -> None:
    both = [make_runs([Trial(seeds(0.9))], sweep_id=name, planned_trials=1) for name in "ab"]
    assert recorded_trials(merge(both)) == 2
    assert "partial" not in origin(merge(both))


def test_a_sweep_that_runs_still_is_partial() -> None:
    runs = make_runs([Trial(seeds(0.9))], has_ended=False)
    assert origin(runs).endswith("partial: 1 trials so far, the sweep has not ended")


def test_two_data_sets_do_not_go_together() -> None:
    runs = [make_runs([Trial(seeds(0.9), dataset=name)]) for name in ("mnist", "cifar10")]
    with pytest.raises(RunsError, match="sweeps of cifar10 and mnist cannot be put together"):
        merge(runs)
