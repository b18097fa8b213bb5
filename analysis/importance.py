"""What share of the score's variation over the search space each parameter accounts for.

The runs are those of a scrambled Sobol design, which covers the space evenly; a search crowds
where it is good. Shares are of functional ANOVA on a random forest (Hutter et al., "An efficient
approach for assessing hyperparameter importance", 2014), Optuna's implementation. Parameters that
are sampled as logarithms enter as linear numbers, their base-10 logarithms: declared as
logarithmic to Optuna they come out as 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import columns as c
from analysis.cells import SYMBOLS
from analysis.effects import Effect
from analysis.frames import Runs, RunsError, origin, runs_task
from analysis.tasks import IMAGES, Task, size_order, size_text

SEED: Final = 0  # of the first forest; half-sample k has SEED + k
TREES: Final = 64
HALF_SAMPLES: Final = 20
FEWEST_TRIALS: Final = 16
MOST_TRIALS: Final = 512  # a random choice of more: forests of thousands take minutes
SPREAD: Final = 0.9  # share of the half-samples that a bar's line covers
TAU: Final = SYMBOLS["tau"]
# Column of a trial -> label, and whether its logarithm enters.
INPUTS: Final[dict[str, tuple[str, bool]]] = {
    c.ALPHA: (SYMBOLS["alpha"], False),
    c.BETA: (f"log {SYMBOLS['beta']}", True),
    c.GAMMA: (f"log {SYMBOLS['gamma']}", True),
    c.TAU_KIND: (f"{TAU} shape", False),
    c.TAU_START: (f"log {TAU} start", True),
    c.TAU_END: (f"log {TAU} end", True),
}


class Share(NamedTuple):
    """A parameter's main effect: its share of the variation, between 0 and 1.

    `low` and `high` hold the middle `SPREAD` of the half-samples, in `first` of which no other
    parameter had more.
    """

    name: str
    label: str
    share: float
    low: float
    high: float
    first: int


class ImportancePart(NamedTuple):
    """One training size: shares, the largest first, and the factors' ranges around the baseline.

    `rest` is what no single parameter accounts for: interactions, and what the forest misses.
    `unscored` trials of the design have no score and are left out; `broken` ones have a seed that
    collapsed and count.
    """

    train_size: int
    shares: tuple[Share, ...]
    rest: float
    trials: int
    unscored: int
    broken: int
    effects: tuple[Effect, ...]


class ImportanceInfo(NamedTuple):
    """All that the figure of importances draws and prints."""

    experiment: str
    parts: tuple[ImportancePart, ...]
    footer: str
    notes: tuple[str, ...]
    task: Task = IMAGES


def design_trials(runs: Runs) -> set[str]:
    """Return the trials of a scrambled Sobol design."""
    return set(runs.rows[runs.rows[c.ROLE] == c.ROLE_SOBOL][c.TRIAL_ID])


def has_design(runs: Runs) -> bool:
    """Return whether a training size has trials of a design, enough if all of them are scored."""
    trials = runs.trials[runs.trials[c.TRIAL_ID].isin(design_trials(runs))]
    counts = trials.groupby(c.TRAIN_SIZE)[c.TRIAL_ID].nunique()
    return bool((counts >= FEWEST_TRIALS).any())


def importance_info(runs: Runs, effects: Sequence[Effect] = ()) -> ImportanceInfo:
    """Return what the figure of importances shows.

    Args:
        runs: A sweep with a Sobol design.
        effects: Of the curves that are shown beside it, from the same sweep or another.

    Raises:
        RunsError: If no training size has enough trials of a design.
    """
    trials = runs.trials[runs.trials[c.TRIAL_ID].isin(design_trials(runs))]
    parts, notes = [], []
    for size in sorted(set(map(int, trials[c.TRAIN_SIZE])), key=size_order):
        mine = _one_a_trial(trials[trials[c.TRAIN_SIZE] == size], runs_task(runs))
        scored = mine[mine["score"].notna()]
        if len(scored) > MOST_TRIALS:
            notes.append(f"n = {size_text(size)}: {MOST_TRIALS} of {len(scored)} trials drawn.")
            scored = scored.sample(MOST_TRIALS, random_state=SEED)
        if len(scored) < FEWEST_TRIALS:
            notes.append(
                f"n = {size_text(size)}: {len(scored)} scored trials of the design, "
                f"importance needs {FEWEST_TRIALS}."
            )
            continue
        shares = shares_of(scored, scored["score"].to_numpy(dtype=np.float64))
        parts.append(
            ImportancePart(
                train_size=size,
                shares=tuple(shares),
                rest=max(0.0, 1.0 - sum(share.share for share in shares)),
                trials=len(scored),
                unscored=len(mine) - len(scored),
                broken=int(scored["broken"].sum()),
                effects=tuple(effect for effect in effects if effect.train_size == size),
            )
        )
    if not parts:
        raise RunsError(
            f"sweep {runs.sweep.sweep_id!r} has no Sobol design of {FEWEST_TRIALS} scored trials; "
            f"name one with --sweep, or run: python sweeps/run.py {runs.sweep.experiment} "
            "--mode sobol --trials 128"
        )
    return ImportanceInfo(
        runs.sweep.experiment, tuple(parts), _footer(parts, runs), tuple(notes), runs_task(runs)
    )


def shares_of(inputs: pd.DataFrame, scores: NDArray[np.float64]) -> list[Share]:
    """Return the share of each of INPUTS that varies, the largest first.

    Args:
        inputs: A row per trial with the columns of INPUTS; shape (trials, at least INPUTS).
        scores: Finite; shape (trials,).
    """
    columns = {name: _column(inputs, name) for name in INPUTS if inputs[name].notna().all()}
    columns = {name: values for name, values in columns.items() if len(set(values)) > 1}
    if not columns or len(set(scores)) < 2:
        return []
    whole = _fanova(columns, scores, SEED)
    generator = np.random.default_rng(SEED)
    halves = []
    for number in range(HALF_SAMPLES):
        # Half without replacement varies as much as the whole would, and repeats no trial.
        kept = generator.permutation(len(scores))[: len(scores) // 2]
        part = {name: [values[i] for i in kept] for name, values in columns.items()}
        halves.append(_fanova(part, scores[kept], SEED + 1 + number))
    ends = ((1 - SPREAD) / 2, (1 + SPREAD) / 2)
    shares = []
    for name in columns:
        found = [half[name] for half in halves]
        low, high = np.quantile(found, ends)
        first = sum(half[name] >= max(half.values()) for half in halves)
        shares.append(Share(name, INPUTS[name][0], whole[name], float(low), float(high), first))
    return sorted(shares, key=lambda share: -share.share)


def importance_frame(info: ImportanceInfo) -> pd.DataFrame:
    """Return a record a share and a record a range, `mark` saying which."""
    records: list[dict[str, object]] = []
    for part in info.parts:
        for share in part.shares:
            records.append({
                "train_size": part.train_size, "mark": "share", "parameter": share.name,
                "value": share.share, "low": share.low, "high": share.high,
                "n": part.trials, "half_samples_first": share.first,
            })  # fmt: skip
        for effect in part.effects:
            found = effect.range.difference
            records.append({
                "train_size": part.train_size, "mark": "range", "parameter": effect.factor,
                "value": found.mean, "low": found.low, "high": found.high, "n": found.n,
                "best": effect.best, "worst": effect.worst, "p": effect.p,
                "p_holm": effect.p_holm,
            })  # fmt: skip
    order = ["train_size", "mark", "parameter", "value", "low", "high", "n", "half_samples_first",
             "best", "worst", "p", "p_holm"]  # fmt: skip
    frame = pd.DataFrame(records).reindex(columns=order)
    return frame.astype({"half_samples_first": "Int64"})


def _one_a_trial(records: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return a row per trial: INPUTS, `score` (mean test score of its seeds) and `broken`."""
    score = records[c.SEED_PREFIX + task.score.test].where(
        ~records[c.SEED_OUTCOME].isin([c.DIVERGED, c.FAILED])
    )
    marked = records.assign(score=score, broken=records[c.SEED_OUTCOME] == c.COLLAPSED)
    trials = marked.groupby(c.TRIAL_ID, sort=True)
    firsts = trials[list(INPUTS)].first()
    # A trial without one of its seeds' scores would be that seed's good or bad draw.
    means = trials["score"].agg(lambda values: values.mean(skipna=False))
    return firsts.assign(score=means, broken=trials["broken"].any())


def _column(inputs: pd.DataFrame, name: str) -> list[Any]:
    if name == c.TAU_KIND:
        return [str(value) for value in inputs[name]]
    values = [float(value) for value in inputs[name]]
    return [math.log10(value) for value in values] if INPUTS[name][1] else values


def _fanova(
    columns: Mapping[str, Sequence[Any]], scores: NDArray[np.float64], seed: int
) -> dict[str, float]:
    """Return each column's main effect as a share of the variance that the forest sees."""
    # Imported here: it takes a second that no other figure needs.
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
    )

    varying = {name: values for name, values in columns.items() if len(set(values)) > 1}
    spaces: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(sorted(set(values)))
        if isinstance(values[0], str)
        else FloatDistribution(min(values), max(values))
        for name, values in varying.items()
    }
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line a study otherwise
    try:
        study = optuna.create_study(direction="maximize")
        study.add_trials(
            optuna.trial.create_trial(
                params={name: values[i] for name, values in varying.items()},
                distributions=spaces,
                value=float(score),
            )
            for i, score in enumerate(scores)
        )
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=seed)
        found = evaluator.evaluate(study)
    finally:
        optuna.logging.set_verbosity(verbosity)
    # Equal scores leave nothing to account for.
    return {name: max(0.0, _finite(found.get(name, 0.0))) for name in columns}


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else 0.0


def _footer(parts: Sequence[ImportancePart], runs: Runs) -> str:
    counts = "; ".join(
        f"n = {size_text(part.train_size)}: {part.trials} trials"
        + (f", {part.broken} of them with a collapsed seed" if part.broken else "")
        + (f", {part.unscored} more without a score left out" if part.unscored else "")
        for part in parts
    )
    return (
        "Left: main effects by fANOVA (Optuna's FanovaImportanceEvaluator, "
        f"{TREES} trees, seed {SEED}) on a scrambled Sobol design; lines hold the middle "
        f"{100 * SPREAD:g} % of {HALF_SAMPLES} random halves of the trials. {counts}. "
        f"{runs_task(runs).statement} {origin(runs)}."
    )
