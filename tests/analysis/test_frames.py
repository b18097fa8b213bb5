from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from handmade import Trial, make_runs, seeds

from analysis.frames import (
    Runs,
    RunsError,
    merge,
    origin,
    read_runs_file,
    recorded_trials,
    write_runs,
)


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


def test_two_files_of_tags_do_not_go_together() -> None:
    def runs(file: str) -> Runs:
        return make_runs([Trial(seeds(0.5), dataset="tags", params={"tags_file": file})])

    with pytest.raises(RunsError, match=r"tags \(a\.parquet\) and tags \(b\.parquet\) cannot"):
        merge([runs("a.parquet"), runs("b.parquet")])
    assert recorded_trials(merge([runs("a.parquet"), runs("a.parquet")])) == 1


def test_where_numbers_come_from_says_what_must_be_said_of_the_data() -> None:
    text = origin(make_runs([Trial(seeds(0.5), dataset="flickr8k")], planned_trials=2))
    assert "partial: 1 of 2 planned trials. Data: Flickr8k (Hodosh et al. 2013)" in text
    generated = make_runs([Trial(seeds(0.5), dataset="tags", params={"tags_file": ""})])
    assert origin(generated).endswith("Data: generated posts, not real ones")
    assert "Data" not in origin(make_runs([Trial(seeds(0.5))]))


def test_runs_come_back_from_their_file(tmp_path: Path) -> None:
    runs = make_runs([Trial(seeds(0.9)), Trial(seeds(0.8), alpha=0.1)], sweep_id="a-1")
    write_runs(runs, tmp_path / "runs.parquet")
    back = read_runs_file(tmp_path / "runs.parquet")
    assert back.sweep == runs.sweep
    pd.testing.assert_frame_equal(back.trials, runs.trials)
    key = ["trial_id", "role", "factor", "level"]
    read, written = (one.rows.sort_values(key, ignore_index=True) for one in (back, runs))
    pd.testing.assert_frame_equal(read, written)


@pytest.mark.parametrize("content", [None, b"no parquet", "foreign"])
def test_what_is_no_file_of_runs_is_refused(content: bytes | str | None, tmp_path: Path) -> None:
    path = tmp_path / "runs.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        pd.DataFrame({"a": [1]}).to_parquet(path)
    with pytest.raises(RunsError, match="is not a file of runs that"):
        read_runs_file(path)
