"""What a run holds, from rows and spools alone."""

from __future__ import annotations

import json
import math

from kdgan_core import TrialConfig
from kdgan_core.config import FIELDS
from sweeps.plan import Row
from sweeps.run_facts import (
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


def test_histories_are_means_of_the_seeds_that_have_a_value() -> None:
    evaluations = [check(0, s0=0.5, s1=0.7), check(10, s0=0.6, s1=None), check(20, s0=None)]
    result = {"outcome": "diverged", "seeds": [], "step": 20, "time": 130.0}
    points = list(trial_metrics(SpoolState(evaluations=evaluations, result=result)))
    accuracy = [(p.step, p.value, p.time) for p in points if p.name == "valid_accuracy"]
    assert accuracy == [(0, 0.6, 100_000), (10, 0.6, 110_000)]
    assert [p.step for p in points if p.name == "tau"] == [0, 10, 20]


def test_curves_keep_what_was_not_finite_as_missing() -> None:
    table = trial_curves(SpoolState(evaluations=[check(0, s0=0.5), check(10, s0=None)]))
    assert table is not None
    assert table.column("value").to_pylist() == [0.5, None]
    assert trial_curves(SpoolState()) is None
