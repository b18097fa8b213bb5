"""What a run holds, from rows and spools alone."""

from __future__ import annotations

import json
import math

from analysis import columns
from kdgan_core import TrialConfig
from kdgan_core.config import FIELDS
from kdgan_core.metrics import METRICS
from kdgan_core.trial import SeedResult
from sweeps.plan import Row
from sweeps.run_facts import (
    SEED_METRICS,
    final_metrics,
    run_label,
    trial_curves,
    trial_metrics,
    trial_params,
    trial_tags,
)
from sweeps.spool import SpoolState

SEED = {
    "seed": 3, "outcome": "stopped", "best_step": 10, "best_valid_accuracy": 0.8,
    "last_valid_accuracy": 0.7, "pretrained_valid_accuracy": 0.5, "test_accuracy": None,
}  # fmt: skip


def check(step: int, **accuracy: float | None) -> dict[str, object]:
    metrics = {seed[1:]: {"valid_accuracy": value} for seed, value in accuracy.items()}
    return {"step": step, "steps": 20, "tau": 1.0, "time": 100.0 + step, "metrics": metrics}


def test_params_are_the_config_and_two_logarithms(baseline: TrialConfig) -> None:
    params = trial_params(baseline.replace(beta=0.002))
    assert params.keys() == {field.name for field in FIELDS} | {"log10_beta", "log10_gamma"}
    assert float(params["log10_beta"]) == round(math.log10(0.002), 5)
    assert json.loads(params["seeds"]) == [0, 1]


def test_a_label_tells_the_most_telling_row(cells: list[Row], baseline: TrialConfig) -> None:
    search = Row(baseline, "search")
    grid = Row(baseline, "grid", "beta×gamma", "1×0.01")
    assert run_label([search]) == "n=50 search"
    assert run_label([search, cells[3]]) == "n=50 alpha=0.5"
    assert run_label([search, cells[0], cells[3]]) == "n=50 baseline"
    assert run_label([search, grid]) == "n=50 beta×gamma=1×0.01"


def test_tags_of_an_old_spool_have_no_host(cells: list[Row]) -> None:
    state = SpoolState(result={"outcome": "finished", "seeds": [], "time": 1.0})
    tags = trial_tags(cells[0].trial_id, cells[:1], state)
    assert not {"attempt", "device", "threads", "node", "processor", "error"} & tags.keys()


def test_an_empty_traceback_is_still_an_error(cells: list[Row]) -> None:
    result = {"outcome": "failed", "traceback": "", "seeds": [], "time": 1.0}
    tags = trial_tags(cells[0].trial_id, cells[:1], SpoolState(result=result))
    assert tags["error"] == "no traceback"


def test_a_stopped_trial_has_no_test_score() -> None:
    metrics = final_metrics({"seconds": 1.0, "seeds": [SEED]})
    assert not {name for name in metrics if name.startswith("test_accuracy")}
    assert metrics["best_valid_accuracy"] == metrics["best_valid_accuracy/seed_3"] == 0.8


def test_a_seeds_costs_are_written_and_an_older_spool_has_none() -> None:
    old = final_metrics({"seeds": [SEED]})
    assert not {name for name in old if name.startswith(("updates", "train", "best_test"))}
    seed = {**SEED, "best_test_evaluation": 0.75, "train_seconds": 8.5, "updates_teacher": 0}
    new = final_metrics({"seeds": [seed]})
    assert new["best_test_evaluation/seed_3"] == 0.75
    assert (new["train_seconds/seed_3"], new["updates_teacher/seed_3"]) == (8.5, 0.0)
    assert "pretrain_seconds/seed_3" not in new
    assert "best_test_evaluation" not in new  # the authors' statistic has no summary


def test_every_score_of_a_seed_is_declared_and_written() -> None:
    names = {"accuracy": columns.IMAGES, "map": columns.TAGS}
    metrics = {"accuracy": {"accuracy": 0.7}, "map": dict.fromkeys(METRICS, 0.7)}
    for score, task in names.items():
        seed = SeedResult(
            0, "finished", 600, 0.8, 0.7, 0.5, 0.7, metrics[score], metrics[score], score=score
        )
        written = seed.as_record().keys() - {"seed", "outcome"}
        assert written == set(columns.SEED_METRICS_OF[task])
        assert written <= set(SEED_METRICS)
        final = final_metrics({"seeds": [seed.as_record()], "seconds": 1.0})
        once = {name for name in columns.METRICS_OF[task] if not name.endswith(SPREAD)}
        assert {name for name in final if "/" not in name} == once
    assert set(SEED_METRICS) == set(columns.SEED_METRICS)


SPREAD = ("_std", "_low", "_high")  # of one seed there is none


def test_histories_are_means_of_the_seeds_that_have_a_value() -> None:
    evaluations = [check(0, s0=0.5, s1=0.7), check(10, s0=0.6, s1=None), check(20, s0=None)]
    result = {"outcome": "diverged", "seeds": [], "step": 20, "time": 130.0}
    points = list(trial_metrics(SpoolState(evaluations=evaluations, result=result)))
    accuracy = [(p.step, p.value, p.time) for p in points if p.name == "valid_accuracy"]
    assert accuracy == [(0, 0.6, 100_000), (10, 0.6, 110_000)]
    assert [p.step for p in points if p.name == "tau"] == [0, 10, 20]


def test_curves_have_the_seconds_of_each_seed() -> None:
    timed = {**check(10, s0=0.5, s1=0.6), "seed_seconds": {"0": 4.0, "1": 5.0}}
    table = trial_curves(SpoolState(evaluations=[check(0, s0=0.4), timed]))
    assert table is not None
    seconds = [row for row in table.to_pylist() if row["metric"] == "seconds"]
    assert [(row["seed"], row["step"], row["value"]) for row in seconds] == [
        (0, 10, 4.0), (1, 10, 5.0),
    ]  # fmt: skip


def test_curves_keep_what_was_not_finite_as_missing() -> None:
    table = trial_curves(SpoolState(evaluations=[check(0, s0=0.5), check(10, s0=None)]))
    assert table is not None
    assert table.column("value").to_pylist() == [0.5, None]
    assert trial_curves(SpoolState()) is None
