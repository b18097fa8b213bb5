"""What Figure 7 shows, as plain tuples: the variance of C's gradients over training.

Lemma 4.3 of the paper needs Var(grad L_DS) <= Var(grad L_AD). Variances spread over orders of
magnitude, so means over seeds are geometric and their intervals are of the logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from analysis import columns as c
from analysis.cells import counting_records
from analysis.curves import Band, Floats, Line, band_at_points
from analysis.frames import Runs, RunsError, origin
from analysis.methods import KDGAN, NAGAN, named_seeds
from analysis.stats import LEVEL
from analysis.tasks import size_order, size_text

NAIVE: Final = "naive"  # L_AD of NaGAN, which has no teacher
LABELS: Final = {
    c.ADVERSARIAL: "L_AD",
    c.DISTILLATION: "L_DS",
    c.MIXTURE: "λ L_AD + (1 − λ) L_DS",
    NAIVE: "L_AD of NaGAN",
}
TAU_KINDS: Final = ("constant", "exponential", "linear", "cosine")
ROLES: Final = {c.ROLE_METHODS, c.ROLE_BASELINE, c.ROLE_SENSITIVITY}
UPDATES_LISTED: Final = 4

Curves = dict[int, tuple[Floats, Floats]]


class VarianceLine(NamedTuple):
    """One gradient over training: its variance, and its variance relative to its squared mean."""

    name: str
    variance: Band
    relative: Band | None


class Checks(NamedTuple):
    """Where a variance was at most that of L_AD: by the means over seeds, and by single seeds.

    `fails` are the updates at which the means do not keep it.
    """

    held: int
    checks: int
    held_seeds: int
    seed_checks: int
    fails: tuple[int, ...]


class VariancePanel(NamedTuple):
    """One training size and temperature schedule.

    `distillation` is the premise of the lemma, `mixture` its conclusion; None without KDGAN.
    `dropped` variances were 0.
    """

    train_size: int
    tau: str
    lines: tuple[VarianceLine, ...]
    distillation: Checks | None
    mixture: Checks | None
    n: int
    dropped: int


class VarianceInfo(NamedTuple):
    """All that Figure 7 draws; `panels` are ordered by size, then by schedule."""

    experiment: str
    train_sizes: tuple[int, ...]
    taus: tuple[str, ...]
    panels: tuple[VariancePanel, ...]
    footer: str
    notes: tuple[str, ...]


class _Group(NamedTuple):
    """A configuration that logged variances: which trial counts for each of its seeds."""

    method: str
    train_size: int
    tau: str
    trials: Mapping[int, str]
    diverged: tuple[int, ...]


def variance_trials(runs: Runs) -> set[str]:
    """Return the trials that logged the variance of gradients and that no search ran."""
    return {trial_id for group in _groups(runs) for trial_id in group.trials.values()}


def variance_info(runs: Runs, curves: pd.DataFrame) -> VarianceInfo:
    """Return what Figure 7 shows.

    A panel holds KDGAN's cell of its size and schedule, the plain arm or the cell that a curve of
    tau stands for; beside it L_AD of NaGAN's, if there is one.

    Args:
        runs: A sweep with log_gradient_variance=true, or several put together.
        curves: The curves of its trials, as `runs.read_curves` returns them.

    Raises:
        RunsError: If no trial logged variances, or a panel has two configurations.
    """
    groups = _groups(runs)
    places = sorted({(g.train_size, g.tau) for g in groups}, key=_place_key)
    panels = [
        panel
        for size, tau in places
        if (panel := _panel([g for g in groups if (g.train_size, g.tau) == (size, tau)], curves))
    ]
    if not panels:
        raise RunsError(
            f"sweep {runs.sweep.sweep_id!r} has no variance of gradients to draw; "
            f"run: python sweeps/run.py {runs.sweep.experiment} --mode methods "
            "--set log_gradient_variance=true"
        )
    return VarianceInfo(
        experiment=runs.sweep.experiment,
        train_sizes=tuple(dict.fromkeys(panel.train_size for panel in panels)),
        taus=tuple(sorted({panel.tau for panel in panels}, key=_tau_key)),
        panels=tuple(panels),
        footer=_footer(panels, origin(runs)),
        notes=tuple(_notes(groups, panels)),
    )


def lemma_text(panel: VariancePanel) -> str:
    """Return what a panel says of Lemma 4.3: its premise, and the mixture that it concludes on."""
    claims = (("L_DS", panel.distillation), ("mixture", panel.mixture))
    return " ".join(f"{_claim(name, checks)}." for name, checks in claims if checks is not None)


def _claim(name: str, checks: Checks) -> str:
    text = (
        f"Var({name}) ≤ Var(L_AD) at {checks.held} of {checks.checks} checks "
        f"({checks.held_seeds} of {checks.seed_checks} seed by seed)"
    )
    if not checks.fails:
        return text
    updates = [f"{step:,}" for step in checks.fails]
    if len(updates) > UPDATES_LISTED:
        return f"{text}; not at {len(updates)} from update {updates[0]} to {updates[-1]}"
    return f"{text}; not at update {', '.join(updates)}"


def count_checks(lower: Curves, upper: Curves) -> Checks | None:
    """Return where `lower` is at most `upper`; None without a common check.

    Args:
        lower: seed -> updates and variances, positive.
        upper: The same of another gradient.
    """
    logs: dict[int, list[float]] = {}
    for seed in lower.keys() & upper.keys():
        above = dict(zip(*upper[seed], strict=True))
        for step, variance in zip(*lower[seed], strict=True):
            if step in above:
                logs.setdefault(int(step), []).append(math.log(variance / above[step]))
    if not logs:
        return None
    fails = tuple(step for step, ratios in sorted(logs.items()) if np.mean(ratios) > 0)
    ratios = [ratio for found in logs.values() for ratio in found]
    held = sum(ratio <= 0 for ratio in ratios)
    return Checks(len(logs) - len(fails), len(logs), held, len(ratios), fails)


def _groups(runs: Runs) -> list[_Group]:
    """Return the configurations that logged variances, by size, schedule and method."""
    rows = runs.rows
    is_plain = (rows[c.ROLE] != c.ROLE_METHODS) | rows[c.LEVEL].isin([KDGAN, NAGAN])
    is_tau = (rows[c.ROLE] != c.ROLE_SENSITIVITY) | (rows[c.FACTOR] == c.TAU)
    measuring = set(rows[rows[c.ROLE].isin(ROLES) & is_plain & is_tau][c.TRIAL_ID])
    trials = runs.trials
    logged = trials[
        trials[c.TRIAL_ID].isin(measuring)
        & (trials[c.LOG_GRADIENT_VARIANCE] == "True")
        & trials[c.METHOD].isin([KDGAN, NAGAN])
    ].sort_values([c.STARTED, c.TRIAL_ID])
    groups = []
    for _, cell in logged.groupby(c.CELL_ID, sort=False):
        records = cell.to_dict("records")
        counting = counting_records(records)
        groups.append(
            _Group(
                method=str(records[-1][c.METHOD]),
                train_size=int(records[-1][c.TRAIN_SIZE]),
                tau=str(records[-1][c.TAU]),
                trials={seed: str(record[c.TRIAL_ID]) for seed, record in counting.items()},
                diverged=tuple(
                    s for s, r in counting.items() if r[c.SEED_OUTCOME] in (c.DIVERGED, c.FAILED)
                ),
            )
        )
    return groups


def _panel(groups: Sequence[_Group], curves: pd.DataFrame) -> VariancePanel | None:
    """Return the panel of one size and schedule, None if no seed has a variance there."""
    found: dict[str, _Group] = {}
    for group in groups:
        if group.method in found:
            ids = ", ".join(sorted({*found[group.method].trials.values(), *group.trials.values()}))
            raise RunsError(
                f"{group.method} at n = {size_text(group.train_size)} and tau {group.tau} logged "
                f"variances in two configurations (trials {ids}): "
                "name sweeps that agree with --sweep"
            )
        found[group.method] = group
    lines: list[VarianceLine] = []
    checks: dict[str, Checks | None] = {}
    dropped = 0
    if KDGAN in found:
        names = (c.ADVERSARIAL, c.DISTILLATION, c.MIXTURE)
        series = {name: _series(found[KDGAN], curves, name) for name in names}
        lines += [line for name in names if (line := _line(name, series[name]))]
        dropped += sum(one.dropped for one in series.values())
        upper = series[c.ADVERSARIAL].variance
        checks = {name: count_checks(series[name].variance, upper) for name in names}
    if NAGAN in found:
        naive = _series(found[NAGAN], curves, c.ADVERSARIAL)
        lines += [line] if (line := _line(NAIVE, naive)) else []
        dropped += naive.dropped
    if not lines:
        return None
    n = max(line.variance.n for line in lines)
    return VariancePanel(
        train_size=groups[0].train_size,
        tau=groups[0].tau,
        lines=tuple(lines),
        distillation=checks.get(c.DISTILLATION),
        mixture=checks.get(c.MIXTURE),
        n=n,
        dropped=dropped,
    )


class _Series(NamedTuple):
    """seed -> updates and values, of the variance and of the relative variance; `dropped` values
    were 0, which has no logarithm."""

    variance: Curves
    relative: Curves
    dropped: int


def _series(group: _Group, curves: pd.DataFrame, name: str) -> _Series:
    """Return one gradient's values for the seeds that trained to the end."""
    variance, square = c.GRADIENT_VARIANCE + name, c.GRADIENT_MEAN_SQUARE + name
    mine = curves[curves[c.METRIC].isin([variance, square])]
    series = _Series({}, {}, 0)
    for seed in sorted(group.trials.keys() - set(group.diverged)):
        own = mine[(mine[c.TRIAL_ID] == group.trials[seed]) & (mine[c.SEED] == seed)]
        wide = own.pivot(index=c.STEP, columns=c.METRIC, values=c.VALUE)
        wide = wide.reindex(columns=[variance, square]).sort_index()
        for found, values in (
            (series.variance, wide[variance]),
            (series.relative, wide[variance] / wide[square]),
        ):
            usable = values[np.isfinite(values) & (values > 0)]
            if len(usable):
                found[seed] = (
                    usable.index.to_numpy(dtype=np.float64),
                    np.asarray(usable, dtype=np.float64),
                )
        series = series._replace(dropped=series.dropped + int((wide[variance] == 0).sum()))
    return series


def _line(name: str, series: _Series) -> VarianceLine | None:
    variance = _geometric(series.variance)
    if variance is None:
        return None
    return VarianceLine(name, variance, _geometric(series.relative))


def _geometric(curves: Curves) -> Band | None:
    """Return the geometric mean over seeds, at the updates that all share, with the interval of
    its logarithm."""
    band = band_at_points([Line(seed, "", x, np.log(y)) for seed, (x, y) in curves.items()])
    if band is None:
        return None
    return Band(band.x, np.exp(band.mean), np.exp(band.low), np.exp(band.high), band.n)


def _place_key(place: tuple[int, str]) -> tuple[tuple[bool, int], tuple[int, str]]:
    return size_order(place[0]), _tau_key(place[1])


def _tau_key(tau: str) -> tuple[int, str]:
    kind = tau.partition(" ")[0]
    return (TAU_KINDS.index(kind) if kind in TAU_KINDS else len(TAU_KINDS), tau)


def _footer(panels: Iterable[VariancePanel], where: str) -> str:
    counts = sorted({panel.n for panel in panels})
    many = "-".join(str(n) for n in dict.fromkeys(counts[:1] + counts[-1:]))
    ends = f" and {100 * LEVEL:g} % Student-t interval of the logarithm" if counts[-1] > 1 else ""
    return (
        "Variance of the gradient of C's unweighted loss over minibatches and samples, the mean "
        f"over C's coordinates: geometric mean{ends} over {many} seeds. Relative: divided by the "
        "mean over coordinates of the squared mean gradient. Mixture: λ L_AD + (1 − λ) L_DS, "
        "λ = α / (α + β). Above each column: at how many checks the premise and the conclusion "
        "of Lemma 4.3 held, by the means and seed by seed. "
        f"{where}."
    )


def _notes(groups: Iterable[_Group], panels: Iterable[VariancePanel]) -> Iterator[str]:
    for group in groups:
        if group.diverged:
            yield (
                f"n = {size_text(group.train_size)}, {group.method}, {group.tau}: "
                f"{named_seeds(group.diverged)} diverged or failed, in no mean and no count."
            )
    for panel in panels:
        if panel.dropped:
            yield (
                f"n = {size_text(panel.train_size)}, {panel.tau}: "
                f"{panel.dropped} variances of 0 are not drawn and not counted."
            )
