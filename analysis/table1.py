"""Table 1 as plain tuples: arms by training sizes, paired differences, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from analysis import columns as c
from analysis.frames import Runs, origin
from analysis.methods import (
    BASELINES,
    KDGAN,
    NAGAN,
    TEACHER,
    VARIANT,
    Arm,
    ArmSeed,
    arm_label,
    arm_place,
    arms_of,
    is_variant,
    named_seeds,
    seed_ranges,
)
from analysis.paper import TABLE1_LABEL, PublishedMean, table1_cell
from analysis.stats import LEVEL, Interval, PairedTest, holm, paired_test, t_interval

OURS: Final = "ours (test at the best validation check)"
AUTHORS: Final = "best over test evaluations (authors' statistic)"
STATISTIC: Final = (
    f"Test accuracy in percent: mean ± half-width of the {100 * LEVEL:g} % Student-t interval "
    "over seeds. Ours is read at each seed's best validation check; the test set chooses nothing."
)
AUTHORS_NOTE: Final = (
    f"{AUTHORS[0].upper()}{AUTHORS[1:]}: the highest of all test evaluations of a seed, so the "
    "test set chooses and the score is optimistic; it is here to be set beside published values."
)
PUBLISHED_NOTE: Final = (
    f"{TABLE1_LABEL[0].upper()}{TABLE1_LABEL[1:]}: captioned as means of 10 runs; what the "
    "authors' scripts compute is the best over test evaluations."
)
RULE: Final = (
    "Bold: at each training size, the student with the highest mean of ours, whichever it is, "
    "among the arms with a score for every seed that was run at that size; T alone is no student "
    "and does not compete. "
    "Trials that tuned an arm on validation data have seeds of their own and count nowhere here."
)
DIFFERENCES_NOTE: Final = (
    "Differences in points of test accuracy (ours), paired by seed: mean with its "
    f"{100 * LEVEL:g} % Student-t interval over n pairs, and two-sided p of the paired t-test. "
    "Holm: p corrected over the rows of one training size that share the method in front."
)
COMPUTE_NOTE: Final = (
    "Means over seeds. Seconds are wall time on the machine that trained; pretraining is what it "
    "took when a seed's players were pretrained. Updates are those of the optimizers, pretraining "
    "included."
)
MATCHING: Final = {
    "": "compute: not recorded",
    "none": "compute not matched: every arm has its own number of updates (matched=none)",
    "steps": "given KDGAN's number of updates (matched=steps)",
    "seconds": "given KDGAN's seconds (matched=seconds)",
}
COMPUTE: Final = (
    c.TRAIN_SECONDS,
    c.PRETRAIN_SECONDS,
    c.UPDATES_CLASSIFIER,
    c.UPDATES_TEACHER,
    c.UPDATES_DISCRIMINATOR,
)
ERROR_CHARACTERS: Final = 70

K = TypeVar("K")
V = TypeVar("V")


class TableCell(NamedTuple):
    """An arm at a training size.

    Accuracies are fractions. `compute` has the mean over seeds of each of `COMPUTE`, NaN where no
    seed has it.
    """

    arm: Arm
    test: Interval
    authors: Interval
    published: PublishedMean | None
    compute: dict[str, float]
    is_best: bool


class Difference(NamedTuple):
    """Test accuracy of `arm` minus that of `other`, over the seeds that both scored.

    `p_holm` is corrected over the differences of `arm` at this training size. `unpaired` are the
    seeds that only one of the two scored.
    """

    train_size: int
    arm: str
    other: str
    test: PairedTest
    p_holm: float
    unpaired: tuple[int, ...]


class TableInfo(NamedTuple):
    """All that Table 1 prints; a pair of arm and size that was not run is not in `cells`."""

    experiment: str
    train_sizes: tuple[int, ...]
    arms: tuple[str, ...]
    cells: dict[tuple[str, int], TableCell]
    differences: tuple[Difference, ...]
    caption: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def has_authors(self) -> bool:
        """Whether any seed has the authors' statistic."""
        return any(cell.authors.n for cell in self.cells.values())

    @property
    def has_published(self) -> bool:
        """Whether the paper has any of these cells."""
        return any(cell.published for cell in self.cells.values())


def table_info(runs: Runs, with_published: bool = True) -> TableInfo:
    """Return Table 1 of a methods sweep, or of several put together.

    Args:
        runs: The sweep.
        with_published: Put the paper's values beside ours where it has them.

    Raises:
        RunsError: If there is no arm, or an arm has two configurations at a training size.
    """
    arms = arms_of(runs)
    dataset = str(runs.trials[c.DATASET].iloc[0]) if with_published else ""
    sizes = tuple(sorted({arm.train_size for arm in arms}))
    best = {id(arm) for size in sizes for arm in _best(_at(arms, size))}
    cells = {
        (arm.name, arm.train_size): TableCell(
            arm=arm,
            test=t_interval(list(arm.scores().values())),
            authors=t_interval(list(arm.scores(c.BEST_TEST_EVALUATION).values())),
            published=table1_cell(dataset, arm.name, arm.train_size),
            compute={name: t_interval(list(arm.scores(name).values())).mean for name in COMPUTE},
            is_best=id(arm) in best,
        )
        for arm in arms
    }
    info = TableInfo(
        experiment=runs.sweep.experiment,
        train_sizes=sizes,
        arms=tuple(sorted({arm.name for arm in arms}, key=arm_place)),
        cells=cells,
        differences=tuple(d for size in sizes for d in differences(_at(arms, size))),
        caption=(),
        notes=tuple(_notes(arms, sizes)),
    )
    return info._replace(caption=tuple(_caption(info, arms, origin(runs))))


def differences(arms: Sequence[Arm]) -> Iterator[Difference]:
    """Yield paired differences of the arms of one training size.

    KDGAN is set against each baseline; so is each variant of it, and against KDGAN as well. Each
    of these is a family of its own for Holm's correction.
    """
    by_name = {arm.name: arm for arm in arms}
    baselines = [by_name[name] for name in BASELINES if name in by_name]
    for arm in arms:
        if arm.name != KDGAN and not is_variant(arm.name):
            continue
        plain = [by_name[KDGAN]] if is_variant(arm.name) and KDGAN in by_name else []
        others = [*plain, *baselines]
        tests, unpaired = [], []
        for other in others:
            mine, theirs = arm.scores(), other.scores()
            both = sorted(mine.keys() & theirs.keys())
            tests.append(paired_test([mine[s] for s in both], [theirs[s] for s in both]))
            unpaired.append(tuple(sorted(mine.keys() ^ theirs.keys())))
        corrected = holm([test.p for test in tests])
        for other, test, p_holm, odd in zip(others, tests, corrected, unpaired, strict=True):
            yield Difference(arm.train_size, arm.name, other.name, test, p_holm, odd)


def _at(arms: Iterable[Arm], size: int) -> list[Arm]:
    return [arm for arm in arms if arm.train_size == size]


def _best(arms: Sequence[Arm]) -> list[Arm]:
    """Return the arm with the best mean, more than one if they are equal; none without a rival.

    Arms compete on the same seeds only: a seed that diverged, and so is in no mean, must not help.
    """
    seeds = {seed.seed for arm in arms for seed in arm.seeds}
    students = [arm for arm in arms if arm.name.partition(VARIANT)[0] != TEACHER]
    able = [arm for arm in students if arm.scores().keys() == seeds]
    if len(able) < 2:
        return []
    means = [t_interval(list(arm.scores().values())).mean for arm in able]
    return [arm for arm, mean in zip(able, means, strict=True) if mean == max(means)]


def _caption(info: TableInfo, arms: Sequence[Arm], where: str) -> Iterator[str]:
    yield STATISTIC
    if info.has_authors:
        yield AUTHORS_NOTE
    if info.has_published:
        yield PUBLISHED_NOTE
    yield RULE
    yield _seeds_sentence(arms)
    yield _matching_sentence(arms)
    estimators = _grouped(
        (arm.estimator, arm_label(arm.name))
        for arm in arms
        if arm.estimator and arm.name.partition(VARIANT)[0] in (KDGAN, NAGAN)
    )
    if estimators:
        texts = [
            f"{name} ({', '.join(dict.fromkeys(labels))})" for name, labels in estimators.items()
        ]
        yield f"Estimator of the adversarial gradient: {'; '.join(texts)}."
    yield f"{where}."


def _seeds_sentence(arms: Sequence[Arm]) -> str:
    by_size = _grouped((f"{arm.train_size:,}", arm) for arm in arms)
    ranges = {
        size: seed_ranges({seed.seed for arm in mine for seed in arm.seeds})
        for size, mine in by_size.items()
    }
    if len(set(ranges.values())) == 1:
        return f"Seeds: {next(iter(ranges.values()))}."
    return f"Seeds: {'; '.join(f'{text} at n = {size}' for size, text in ranges.items())}."


def _matching_sentence(arms: Sequence[Arm]) -> str:
    """Return what of KDGAN's compute the arms were given; says which if they differ."""
    groups = _grouped((arm.matched, f"{arm.label} at n = {arm.train_size:,}") for arm in arms)
    texts = {value: MATCHING.get(value, f"matched={value}") for value in groups}
    if len(groups) == 1:
        text = next(iter(texts.values()))
        return f"{text[0].upper()}{text[1:]}."
    by_arm = _grouped((arm.matched, arm.label) for arm in arms)
    found = [label for labels in by_arm.values() for label in dict.fromkeys(labels)]
    named = by_arm if len(found) == len(set(found)) else groups
    parts = [f"{', '.join(dict.fromkeys(named[value]))}: {text}" for value, text in texts.items()]
    return f"Compute differs between arms. {'; '.join(parts)}."


def _notes(arms: Sequence[Arm], sizes: Sequence[int]) -> Iterator[str]:
    """Yield a sentence for each arm's seeds that went wrong or are missing."""
    for size in sizes:
        mine = _at(arms, size)
        planned = {seed.seed for arm in mine for seed in arm.seeds}
        for arm in mine:
            where = f"n = {size:,}, {arm.label}:"
            for outcome, seeds in _grouped((s.outcome, s) for s in arm.seeds).items():
                if outcome != c.FINISHED:
                    yield f"{where} {_fate(outcome, seeds, arm.error)}."
            silent = [s.seed for s in arm.seeds if s.outcome == c.FINISHED and not s.is_scored]
            if silent:
                yield f"{where} {named_seeds(silent)} finished without a test score."
            missing = sorted(planned - {seed.seed for seed in arm.seeds})
            if missing:
                yield f"{where} {named_seeds(missing)} not run, which other arms have."


def _fate(outcome: str, seeds: Sequence[ArmSeed], error: str) -> str:
    """Return how some seeds ended, and whether the mean has them."""
    numbers = [seed.seed for seed in seeds]
    scored = sum(seed.is_scored for seed in seeds)
    in_mean = {0: "no score, not in the mean", len(seeds): "in the mean"}.get(
        scored, f"{scored} in the mean"
    )
    why = f": {error[:ERROR_CHARACTERS]}" if outcome == c.FAILED and error else ""
    return f"{named_seeds(numbers)} {outcome} ({in_mean}){why}"


def _grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
