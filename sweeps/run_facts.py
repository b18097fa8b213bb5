"""What a trial's run holds, from its plan rows and its spool: tags, params, metrics, curves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kdgan_core.config import TrialConfig
from sweeps.plan import Row
from sweeps.spool import SpoolState

if TYPE_CHECKING:
    import pyarrow as pa

# Of a ranking of tags; the other task has accuracy alone.
RANKING = (
    "p_at_3", "p_at_5", "f_at_3", "f_at_5", "authors_f_at_3", "authors_f_at_5", "map", "mrr",
)  # fmt: skip
SEED_METRICS = (
    *(f"test_{name}" for name in ("accuracy", *RANKING)),
    *(f"{which}_valid_{name}" for name in ("accuracy", "map")
      for which in ("best", "last", "pretrained")),
    "best_test_evaluation", *(f"best_test_evaluation_{name}" for name in RANKING),
    "best_step", "train_seconds", "pretrain_seconds",
    "updates_classifier", "updates_teacher", "updates_discriminator",
)  # fmt: skip
CURVE_SECONDS = "seconds"  # a seed's training time among its curves
SUMMARISED = (
    "test_accuracy", "best_valid_accuracy", *(f"test_{name}" for name in RANKING),
    "best_valid_map",
)  # fmt: skip
HOST_TAGS = {"device": "device", "threads": "threads", "node": "host", "processor": "processor"}
# Tags that one attempt of a trial may have and another lack.
OPTIONAL_TAGS = ("error", "attempt", *HOST_TAGS)
ERROR_LENGTH = 1000


class Point(NamedTuple):
    """A value of a metric; the time is in milliseconds since the epoch."""

    name: str
    value: float
    time: int
    step: int


def trial_tags(trial_id: str, rows: Sequence[Row], state: SpoolState) -> dict[str, str]:
    """Tags of a trial's run, but for its parent and sweep."""
    row = _most_telling(rows)
    reasons = [{"role": r.role, "factor": r.factor, "level": r.level} for r in rows]
    seeds = state.result["seeds"] if state.result else []
    tags = {
        "kdgan.kind": "trial",
        "trial_id": trial_id,
        "cell_id": row.config.cell_id,
        "role": row.role,
        "factor": row.factor,
        "level": row.level,
        "rows": json.dumps(reasons, ensure_ascii=False),
        "outcome": state.outcome or "failed",
        "seed_outcomes": json.dumps({str(seed["seed"]): seed["outcome"] for seed in seeds}),
    }
    if state.started is not None:
        tags["attempt"] = f"{state.started:.3f}"
    for tag, fact in HOST_TAGS.items():
        if state.host.get(fact) not in (None, ""):
            tags[tag] = str(state.host[fact])
    if state.result and "traceback" in state.result:
        lines = state.result["traceback"].strip().splitlines()
        tags["error"] = lines[-1][:ERROR_LENGTH] if lines else "no traceback"
    return tags


def run_label(rows: Sequence[Row]) -> str:
    """A run's name in the MLflow UI, such as 'n=100 alpha=0.5'."""
    row = _most_telling(rows)
    what = f"{row.factor}={row.level}" if row.factor else row.role
    return f"n={row.config.train_size or 'all'} {what}"


def _most_telling(rows: Sequence[Row]) -> Row:
    """The first row that is not the search's, if there is one."""
    return max(rows, key=lambda row: row.role != "search")


def trial_params(config: TrialConfig) -> dict[str, str]:
    """Params of a trial's run: every config field, and beta and gamma as logarithms too."""
    params = {
        name: json.dumps(value) if isinstance(value, list) else str(value)
        for name, value in config.as_dict().items()
    }
    params["log10_beta"] = f"{math.log10(config.beta):.6g}"
    params["log10_gamma"] = f"{math.log10(config.gamma):.6g}"
    return params


def result_time(state: SpoolState) -> int:
    """When the trial ended, in milliseconds since the epoch; 0 while it has no result."""
    return round(1000 * state.result["time"]) if state.result else 0


def trial_metrics(state: SpoolState) -> Iterator[Point]:
    """Metrics of a trial's run: final ones, each seed's, and the histories (means over seeds).

    Names, values, times and steps are the spool's alone, so that a metric written twice is one.
    None for a failed trial: it may be tried again, and then they are the new attempt's.
    """
    if state.result is None or state.outcome == "failed":
        return
    ended, last = result_time(state), int(state.result.get("step", 0))
    for name, value in final_metrics(state.result).items():
        yield Point(name, value, ended, last)
    for evaluation in state.evaluations:
        at, step = round(1000 * evaluation["time"]), int(evaluation["step"])
        yield Point("tau", float(evaluation["tau"]), at, step)
        for name, value in _means(evaluation["metrics"].values()).items():
            yield Point(name, value, at, step)


def final_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Name -> value of what a trial ends with: summaries over seeds, then each seed's scores.

    Seeds without a score (diverged) are not in the means; `_n` says how many are.
    """
    from analysis.stats import t_interval  # scipy: not at the start of a sweep

    metrics: dict[str, float] = {}
    if "seconds" in result:
        metrics["seconds"] = result["seconds"]
    for name in SUMMARISED:
        values = [seed[name] for seed in result["seeds"] if seed.get(name) is not None]
        if not values:
            continue
        interval = t_interval(values)
        metrics |= {name: interval.mean, f"{name}_n": float(interval.n)}
        if interval.n > 1:
            metrics[f"{name}_std"] = interval.std
            metrics |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    for seed in result["seeds"]:
        for name in SEED_METRICS:
            if seed.get(name) is not None:  # an older spool has fewer of them
                metrics[f"{name}/seed_{seed['seed']}"] = float(seed[name])
    return metrics


def trial_curves(state: SpoolState) -> pa.Table | None:
    """Columns seed, step, metric, value of every evaluation; None if there was none.

    The metric `seconds` is what the seed's own training had taken by then.
    """
    import pyarrow as pa

    points = []
    for evaluation in state.evaluations:
        step = evaluation["step"]
        for seed, metrics in evaluation["metrics"].items():
            points += [(int(seed), step, metric, value) for metric, value in metrics.items()]
        for seed, seconds in evaluation.get("seed_seconds", {}).items():
            points.append((int(seed), step, CURVE_SECONDS, seconds))
    if not points:
        return None
    schema = pa.schema(
        [("seed", pa.int32()), ("step", pa.int64()), ("metric", pa.string()),
         ("value", pa.float64())]
    )  # fmt: skip
    return pa.table([list(column) for column in zip(*points, strict=True)], schema=schema)


def _means(seeds: Iterable[Mapping[str, float | None]]) -> dict[str, float]:
    """Mean over the seeds that have a finite value, for every metric."""
    gathered: dict[str, list[float]] = {}
    for metrics in seeds:
        for name, value in metrics.items():
            if value is not None:
                gathered.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in gathered.items()}
