"""Plays Ray for `Stages`: keeps workers busy with trials that end as a test says."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from kdgan_core import Evaluation, TrialConfig
from sweeps.plan import Plan, Row
from sweeps.spool import SpoolWriter, read_spool
from sweeps.stages import Stages

MANY = 10_000


def known_score(row: Row) -> float:
    """Validation accuracy that every fabricated trial ends with: best at alpha = 0.3."""
    return 0.9 - 0.5 * (row.config.alpha - 0.3) ** 2


def stop_trial(spool: Path, config: TrialConfig, accuracy: float) -> None:
    """Ends a trial at its first check, as early stopping does."""
    writer = SpoolWriter(spool, config.trial_id)
    writer.start()
    for check in range(2):
        metrics = {seed: {"valid_accuracy": accuracy * check} for seed in config.seeds}
        writer.evaluation(Evaluation(10 * check, 20, 1.0, float(check), metrics))
    writer.stopped(read_spool(writer.path), config.seeds)
    writer.close()


def play(
    stages: Stages,
    end_trial: Callable[..., object],
    *,
    workers: int = 2,
    ends: int = MANY,
    outcome: Callable[[Row], str] = lambda row: "finished",
    pick: Callable[[int], int] = lambda running: 0,
) -> list[Row]:
    """The rows handed out until nothing runs, or until `ends` trials have ended.

    Args:
        stages: what hands them out.
        end_trial: the fixture of that name.
        workers: trials that run at a time.
        ends: after so many the workers are left as they are.
        outcome: of a trial; "stopped" is one that early stopping has ended.
        pick: which of the running trials ends next, given their number.
    """
    handed: list[Row] = []
    running: list[Row] = []
    while True:
        while len(running) < workers and (row := stages.next_row()) is not None:
            SpoolWriter(stages.spool, row.trial_id).close()  # begun
            handed.append(row)
            running.append(row)
        if not running or ends == 0:
            return handed
        row = running.pop(pick(len(running)))
        ending = outcome(row)
        if ending == "stopped":
            stop_trial(stages.spool, row.config, known_score(row))
        else:
            end_trial(stages.spool, row.config, known_score(row), [ending])
        stages.complete(row.trial_id)
        ends -= 1


def roles(stages: Stages) -> Counter[tuple[int, str]]:
    """(training size, role) -> rows of the plan."""
    return Counter((row.config.train_size, row.role) for row in stages.plan)


def baseline(stages: Stages, n: int) -> Row:
    """The one baseline row of a training size."""
    (row,) = (r for r in stages.plan if r.role == "baseline" and r.config.train_size == n)
    return row


def outcomes(folder: Path) -> dict[str, list[str]]:
    """trial_id -> how it ended, once for every attempt that did; half lines are passed over."""
    found: dict[str, list[str]] = {}
    for path in sorted((folder / "spool").glob("*.jsonl")):
        ends = found.setdefault(path.stem, [])
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                ends += [record["outcome"]] if record["event"] == "result" else []
    return found


def trainings(folder: Path) -> Counter[tuple[str, int]]:
    """(cell, seed) -> how often it was trained in full, of the trials that are in a cell."""
    counted: Counter[tuple[str, int]] = Counter()
    ended = outcomes(folder)
    for trial_id, rows in Plan(folder / "plan.parquet").trials().items():
        if any(row.role != "search" for row in rows):
            times = sum(outcome != "stopped" for outcome in ended.get(trial_id, []))
            cell = rows[0].config.cell_id
            counted.update({(cell, seed): times for seed in rows[0].config.seeds})
    return counted


def optuna_trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """Of all studies of a sweep, as any user of Optuna reads them."""
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    names = optuna.get_all_study_names(storage)
    studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
    return [trial for study in studies for trial in study.trials]
