"""The marks of Figure 4 as a table: what figure4.csv holds."""

from __future__ import annotations

import pandas as pd

from analysis.cells import SeedPoint
from analysis.sensitivity import SensitivityInfo


def points_frame(info: SensitivityInfo) -> pd.DataFrame:
    """Return the marks of the figure, one record each, in long form.

    `mark` is `mean` (with its interval and n), `seed` or `published`. Marks without a value are
    kept with an empty one: their `outcome` says why. `trial_id` is the trial that a seed's score
    is from; a mean's holds all trials of the cell, joined with commas: more than one if seeds were
    added to the sweep later.
    """
    records: list[dict[str, object]] = []
    for panel in info.panels:
        for curve in panel.curves:
            for point in curve.points:
                place = {
                    "panel": panel.factor,
                    "train_size": curve.train_size,
                    "level": point.label,
                    "is_baseline": point.is_baseline,
                    "trial_id": point.trial_id,
                }
                mean = {"accuracy": point.mean, "low": point.low, "high": point.high, "n": point.n}
                records.append({**place, "mark": "mean", "outcome": point.outcome, **mean})
                records += [
                    {**place, "mark": "seed", "accuracy": s.value, **_seed_facts(s)}
                    for s in point.seeds
                ]
        for line in panel.published:
            place = {"panel": panel.factor, "train_size": line.train_size, "is_baseline": False}
            records += [
                {**place, "mark": "published", "level": f"{level:g}", "accuracy": value}
                for level, value in zip(line.levels, line.values, strict=True)
            ]
    order = ["panel", "train_size", "level", "mark", "seed", "outcome", "accuracy", "low", "high"]
    frame = pd.DataFrame(records).reindex(columns=[*order, "n", "is_baseline", "trial_id"])
    return frame.astype({"seed": "Int64", "n": "Int64"})


def _seed_facts(seed: SeedPoint) -> dict[str, object]:
    return {"seed": seed.seed, "outcome": seed.outcome, "trial_id": seed.trial_id}
