"""--status: what the live screen would show, from the folder alone, whoever drives the sweep."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commanding import traces
from rich.console import Console

from kdgan_core import Evaluation
from sweeps.cost import CostModel
from sweeps.folder import OWNER, locked
from sweeps.manifest import ManifestError, new_manifest, write_manifest
from sweeps.options import Options
from sweeps.plan import PlanError, Row
from sweeps.progress import Snapshot, of_stages, take_snapshot
from sweeps.space import Space
from sweeps.spool import SpoolWriter, read_spool
from sweeps.stages import Stages, Task
from sweeps.status import print_status, read_status

COMMAND = "python sweeps/run.py toy"


class Sweep:
    """A sweep as a driver would leave it on disk, without training anything."""

    def __init__(
        self, folder: Path, space: Space, mode: str, end_trial: Callable[..., object]
    ) -> None:
        self.folder, self.space, self.mode, self.end_trial = folder, space, mode, end_trial
        (folder / "spool").mkdir(parents=True)
        self.options = Options(
            mode=mode, quick=False, data_dir=None, storage=folder.parent, tracking_uri="x",
            cpus_per_trial=1.0, gpus_per_trial=None, seed=0, command=COMMAND,
        )  # fmt: skip
        self.manifest = new_manifest(space, self.options, "c0ffee")
        self.manifest["parallel"] = 2
        write_manifest(folder, self.manifest)
        self.open()

    def open(self, retry: str = "failed") -> None:
        self.stages = Stages(Task(self.space, self.mode, retry=retry), self.folder)
        self.cost = CostModel()

    def finish(self, accuracy: float = 0.9, *outcomes: str, **words: Any) -> Row:
        row = self.stages.next_row()
        assert row is not None
        self.end_trial(self.stages.spool, row.config, accuracy, outcomes, **words)
        self.stages.complete(row.trial_id)
        return row

    def begin(self, checks: int = 2) -> Row:
        """A trial of three checks that has passed some."""
        row = self.stages.next_row()
        assert row is not None
        writer = SpoolWriter(self.stages.spool, row.trial_id)
        writer.start()
        for check in range(checks):
            metrics = {seed: {"valid_accuracy": 0.5} for seed in row.config.seeds}
            writer.evaluation(Evaluation(10 * check, 20, 1.0, 4.0 * check, metrics))
        writer.close()
        return row

    def end(self, status: str) -> None:
        write_manifest(self.folder, {**self.manifest, "ended": {"status": status}})

    def live(self, running: dict[str, float] | None = None) -> Snapshot:
        """What the live screen would show."""
        for trial_id, result in self.stages.results.items():
            self.cost.learn(self.stages.plan.trials()[trial_id][0].config, result)
        trials, to_come = of_stages(self.stages)
        return take_snapshot(trials, self.stages.results, to_come, self.cost, 2, running or {})


@pytest.fixture
def make(tmp_path: Path, end_trial: Callable[..., object]) -> Callable[..., Sweep]:
    return lambda space, mode: Sweep(tmp_path / "storage" / "toy", space, mode, end_trial)


def said(folder: Path) -> str:
    file = io.StringIO()
    print_status(folder, Console(file=file, highlight=False, soft_wrap=True, width=80))
    return file.getvalue()


@pytest.mark.parametrize(
    "mode", ["study", "search", "sensitivity", "baseline", "sobol", "methods"]
)
@pytest.mark.parametrize("trials", [0, 1, 4, 9])
def test_it_shows_what_the_live_screen_would(
    space: Space, table: Space, make: Callable[..., Sweep], mode: str, trials: int
) -> None:
    sweep = make(table if mode == "methods" else space, mode)
    for i in range(trials):
        if sweep.stages.exhausted:
            break
        if i == 1:
            sweep.finish(0.6, "failed")
        elif i == 2:
            sweep.finish(0.95, "collapsed")
        else:
            sweep.finish(0.5 + 0.04 * i, seconds=8.0 + i)
    shown, live = read_status(sweep.folder).snapshot, sweep.live()
    assert shown.seconds_left == pytest.approx(live.seconds_left, nan_ok=True)
    assert replace(shown, seconds_left=0.0) == replace(live, seconds_left=0.0)


def test_a_sweep_that_has_run_to_its_end(space: Space, make: Callable[..., Sweep]) -> None:
    sweep = make(space, "study")
    while not sweep.stages.exhausted:
        sweep.finish(0.9)
    sweep.end("FINISHED")
    status = read_status(sweep.folder)
    trials = len(sweep.stages.plan.trials())
    assert (status.snapshot.done, status.snapshot.total) == (trials, trials)
    assert status.snapshot.seconds_left == 0.0
    assert status.spent_hours == pytest.approx(trials * 8.0 / 3600)
    assert "toy is complete" in said(sweep.folder)
    assert f"{trials}/{trials} trials done" in said(sweep.folder)


def test_a_search_that_ended_early_in_a_small_space_is_complete(
    space: Space, make: Callable[..., Sweep]
) -> None:
    small = replace(
        space, train_sizes=(50,), trials=30, search={"tau_kind": ("exponential", "linear")}
    )
    sweep = make(small, "search")
    while (row := sweep.stages.next_row()) is not None:
        sweep.end_trial(sweep.stages.spool, row.config)
        sweep.stages.complete(row.trial_id)
    sweep.end("FINISHED")
    snapshot = read_status(sweep.folder).snapshot
    assert (snapshot.done, snapshot.total) == (2, 2)


def test_while_a_driver_holds_the_lock(space: Space, make: Callable[..., Sweep]) -> None:
    sweep = make(space, "sensitivity")
    sweep.finish(0.9)
    with locked(sweep.folder, COMMAND):
        row = sweep.begin()
        status, text = read_status(sweep.folder), said(sweep.folder)
        assert status.driven
        assert status.owner["command"] == COMMAND
        live = sweep.live({row.trial_id: 0.5})
        assert replace(status.snapshot, seconds_left=0.0) == replace(live, seconds_left=0.0)
        assert status.snapshot.seconds_left == pytest.approx(live.seconds_left)
    assert f"runs since {status.owner['since']} as process {status.owner['pid']} on" in text
    assert "1/8 trials done, 1 running" in text


def test_a_trial_that_an_earlier_command_left_half_done_does_not_run(
    space: Space, make: Callable[..., Sweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make(space, "sensitivity")
    sweep.begin()
    time.sleep(1.1)  # an owner's time is in whole seconds
    with locked(sweep.folder, COMMAND):
        assert read_status(sweep.folder).snapshot.running == 0
        sweep.begin()
        assert read_status(sweep.folder).snapshot.running == 1


def test_a_driver_that_has_not_said_who_he_is(space: Space, make: Callable[..., Sweep]) -> None:
    sweep = make(space, "sensitivity")
    with locked(sweep.folder, COMMAND):
        (sweep.folder / OWNER).unlink()
        sweep.begin()
        assert read_status(sweep.folder).snapshot.running == 1
        assert "is being run by another process" in said(sweep.folder)


def test_after_the_driver_was_killed(space: Space, make: Callable[..., Sweep]) -> None:
    sweep = make(space, "sensitivity")
    sweep.begin()
    with locked(sweep.folder, COMMAND):
        owner = (sweep.folder / OWNER).read_bytes()
    (sweep.folder / OWNER).write_bytes(owner)  # nobody was left to remove it
    status = read_status(sweep.folder)
    assert (status.driven, status.snapshot.running) == (False, 0)
    assert "toy was killed: the same command without --status goes on" in said(sweep.folder)


@pytest.mark.parametrize(
    ("ended", "words"),
    [("FAILED", "ended incomplete"), ("KILLED", "was ended"), ("", "has not come to an end")],
)
def test_after_another_end(
    space: Space, make: Callable[..., Sweep], ended: str, words: str
) -> None:
    sweep = make(space, "baseline")
    sweep.finish(0.9, "failed", reason="OSError: [Errno 28] No space left")
    if ended:
        sweep.end(ended)
    assert f"sweep toy {words}" in said(sweep.folder)
    assert "1/2 trials done, 0 running" in said(sweep.folder)
    assert "1 failed" in said(sweep.folder)


def test_a_trial_stopped_early_is_no_cell_of_a_curve(
    space: Space, make: Callable[..., Sweep]
) -> None:
    one = replace(space, train_sizes=(50,), search_seeds=space.seeds, trials=1)
    sweep = make(one, "study")
    row = sweep.begin()  # at the baseline, where the curves go through
    writer = SpoolWriter(sweep.stages.spool, row.trial_id)
    writer.stopped(read_spool(writer.path))
    writer.close()
    sweep.stages.complete(row.trial_id)
    assert len(sweep.stages.plan.trials()[row.trial_id]) > 1
    shown, live = read_status(sweep.folder).snapshot, sweep.live()
    assert (shown.done, shown.total, shown.outcomes) == (live.done, live.total, live.outcomes)
    assert shown.done == 0


def test_superseded_trials_are_left_out(space: Space, make: Callable[..., Sweep]) -> None:
    sweep = make(space, "baseline")
    sweep.finish(0.9)
    sweep.stages.plan.supersede()
    assert read_status(sweep.folder).snapshot.done == 0


def test_before_any_trial_has_ended_a_half_done_one_tells_the_cost(
    space: Space, make: Callable[..., Sweep]
) -> None:
    sweep = make(space, "baseline")
    with locked(sweep.folder, COMMAND):
        sweep.begin(checks=1)
        assert "time left unknown" in said(sweep.folder)
    sweep.open()
    with locked(sweep.folder, COMMAND):
        sweep.begin(checks=2)  # 10 of 20 rounds in 4 seconds
        left = 8.0  # the other size's trial; beside it half of this one
        assert read_status(sweep.folder).snapshot.seconds_left == pytest.approx(left)


def test_looking_writes_nothing(space: Space, make: Callable[..., Sweep]) -> None:
    sweep = make(space, "study")
    sweep.finish(0.9)
    sweep.begin()
    with locked(sweep.folder, COMMAND):
        pass
    before = traces(sweep.folder.parent)
    said(sweep.folder)
    assert traces(sweep.folder.parent) == before
    with locked(sweep.folder, COMMAND):
        before = traces(sweep.folder.parent)
        said(sweep.folder)
        assert traces(sweep.folder.parent) == before


def test_where_there_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"there is no sweep in .*: leave out --status"):
        read_status(tmp_path / "storage" / "toy")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_manifest_or_plan(space: Space, make: Callable[..., Sweep]) -> None:
    sweep = make(space, "baseline")
    (sweep.folder / "plan.parquet").write_bytes(b"PAR1")
    with pytest.raises(PlanError, match="move the folder"):
        read_status(sweep.folder)
    (sweep.folder / "sweep.json").write_text(json.dumps(sweep.manifest)[:100])
    with pytest.raises(ManifestError, match="move the folder"):
        read_status(sweep.folder)
