"""An experiment's space: what is fixed, what is searched, which levels the cuts have.

Importable without torch and Ray; `sweeps.loading` makes it from a file and the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kdgan_core.config import TrialConfig, check_names
from kdgan_core.names import TAG_DATASETS
from sweeps import matching
from sweeps.arms import REFERENCE, Arm, Branch
from sweeps.factors import SpaceError
from sweeps.words import TABLE


@dataclass(frozen=True)
class Space:
    """What a sweep ranges over.

    Attributes:
        experiment: name; also that of the MLflow experiment.
        train_sizes: training sizes n, each with its own search, baseline and curves.
        seeds: of the cells around the baseline.
        search_seeds: of the search trials.
        trials: search trials per training size.
        fixed: config fields for every trial.
        sizes: n -> config fields for that size.
        baseline: config fields of the paper's baseline cell, or of the one named on the command
            line; also the first point of a search.
        baseline_from: where the cuts stand: "best" (the best configuration a search has found),
            "paper" (`baseline`) or "named" (`baseline`, with fields from the command line).
        search: dimension -> [low, high] or choices; log10_X samples the logarithm of X.
        cuts: factor -> levels, each a mapping of config fields.
        changes: what the command line has fixed; part of `fixed` already.
        arms: of a table of methods: all that the experiment has.
        chosen: those asked for.
        arm: of a branch of a table, the arm it is.
        update_seconds: n -> measured seconds, for a table at matched seconds.
    """

    experiment: str
    train_sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    search_seeds: tuple[int, ...]
    trials: int
    fixed: Mapping[str, object]
    sizes: Mapping[int, Mapping[str, object]]
    baseline: Mapping[str, object]
    baseline_from: str
    search: Mapping[str, tuple[object, ...]]
    cuts: Mapping[str, tuple[Mapping[str, object], ...]]
    changes: Mapping[str, object] = field(default_factory=dict)
    arms: Mapping[str, Arm] = field(default_factory=dict)
    chosen: tuple[str, ...] = ()
    arm: str = ""
    update_seconds: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """The data set that all of its trials have."""
        return str(self.fixed["dataset"])

    @property
    def tags_file(self) -> str:
        """The user's file of tags, "" where there is none."""
        return str(self.fixed.get("tags_file", ""))

    @property
    def has_tags(self) -> bool:
        """Whether the task is tag recommendation."""
        return self.dataset in TAG_DATASETS

    def base_config(self, train_size: int) -> TrialConfig:
        """The baseline cell of a training size; a branch's is the recipe of its arm.

        Raises:
            SpaceError: a field is unknown or out of its range.
        """
        values = {**self.fixed, **self.sizes.get(train_size, {}), **self.baseline}
        values |= {"train_size": train_size, "seeds": self.seeds}
        try:
            return TrialConfig.from_dict(values)
        except ValueError as error:
            raise SpaceError(str(error)) from None

    def tuning_config(self, train_size: int) -> TrialConfig:
        """The baseline cell as a search trial has it; an arm's tuning never looks at the test set.

        Raises:
            SpaceError: as `base_config`.
        """
        config = self.base_config(train_size).replace(seeds=self.search_seeds)
        return config.replace(authors_statistic=False) if self.arm else config


def branches(space: Space, mode: str) -> dict[Branch, Space]:
    """What is searched on its own, each with its space: the training sizes, in a table each arm
    of each.

    Raises:
        SpaceError: an arm's recipe cannot be, or the compute of the arms cannot be matched.
    """
    if mode != TABLE:
        return dict.fromkeys(map(Branch, space.train_sizes), space)
    return {
        Branch(n, name): _matched(space, n, _arm_space(space, n, name))
        for n in space.train_sizes
        for name in space.chosen
    }


def _arm_space(space: Space, train_size: int, name: str) -> Space:
    """The space of one arm at one size, before any matching."""
    arm = space.arms[name]
    recipe = {**space.sizes.get(train_size, {}), **arm.fixed, **arm.sizes.get(train_size, {})}
    free = {k: v for k, v in recipe.items() if k not in space.changes}
    search = free_dimensions(arm.search, {**arm.fixed, **space.changes}) if space.trials else {}
    return replace(
        space, train_sizes=(train_size,), sizes={train_size: free}, search=search, arm=name,
        baseline_from="best" if search else "paper",
    )  # fmt: skip


def _matched(space: Space, train_size: int, branch: Space) -> Space:
    """The branch with as much compute as KDGAN's recipe has, where that is asked for."""
    config = branch.base_config(train_size)
    if config.matched == "none" or branch.arm == REFERENCE:
        return branch
    if REFERENCE not in space.arms:
        raise SpaceError(f"matched={config.matched}: there is no arm {REFERENCE} to match")
    reference = _arm_space(space, train_size, REFERENCE).base_config(train_size)
    if config.matched == "steps":
        price, whole = map(matching.updates_price, (config, reference))
    else:
        if space.changes.get("schedule", "alternating") != "alternating":
            raise SpaceError(
                "matched=seconds: the measured seconds are those of rounds with"
                f" schedule='alternating', not {space.changes['schedule']!r}: use matched=steps,"
                " or an arm whose fixed fields have the schedule"
            )
        seconds = space.update_seconds.get(train_size)
        missing = (
            f"in [update_seconds.{train_size}] of {space.experiment}.toml: measure it with"
            f" python benchmarks/updates.py {space.experiment} --train-size {train_size}"
        )
        price, whole = (
            matching.seconds_price(seconds, arm, missing) for arm in (branch.arm, REFERENCE)
        )
    found = matching.match(config, price, reference, matching.compute(reference, whole))
    changed = {"steps": found.steps, "teacher_pretrain_steps": found.teacher_pretrain_steps}
    return replace(branch, sizes={train_size: {**branch.sizes[train_size], **changed}})


def moved(config: TrialConfig, level: Mapping[str, object]) -> TrialConfig:
    """The cell with the fields of a level, the others unchanged.

    Raises:
        SpaceError: the level is out of its range.
    """
    try:
        return config.replace(**level)
    except ValueError as error:
        raise SpaceError(str(error)) from None


def dimension_field(dimension: str) -> str:
    """The config field that a search dimension sets: log10_beta sets beta."""
    return dimension.removeprefix("log10_")


def free_dimensions(
    search: Mapping[str, Sequence[object]], changes: Mapping[str, object]
) -> dict[str, tuple[object, ...]]:
    """The dimensions that are not fixed; the end of a temperature that is constant is none."""
    fixed = {*changes, *(["tau_end"] if changes.get("tau_kind") == "constant" else [])}
    free = {k: tuple(v) for k, v in search.items() if dimension_field(k) not in fixed}
    for dimension in free:
        check_names([dimension_field(dimension)])
    return free
