"""What Tables 1 and 2 share: which arm is best, paired differences, and what must be said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from analysis import columns as c
from analysis.methods import (
    BASELINES,
    KDGAN,
    NAGAN,
    TEACHER,
    VARIANT,
    Arm,
    ArmSeed,
    arm_label,
    is_variant,
    named_seeds,
    seed_ranges,
)
from analysis.stats import PairedTest, holm, paired_test, t_interval
from analysis.tasks import size_text

OURS: Final = "ours (test at the best validation check)"
AUTHORS: Final = "best over test evaluations (authors' statistic)"
TUNING_NOTE: Final = (
    "Trials that tuned an arm on validation data have seeds of their own and count nowhere here."
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


class Difference(NamedTuple):
    """Test score of `arm` minus that of `other`, over the seeds that both scored.

    `p_holm` is corrected over the differences of `arm` at this training size. `unpaired` are the
    seeds that only one of the two scored.
    """

    train_size: int
    arm: str
    other: str
    test: PairedTest
    p_holm: float
    unpaired: tuple[int, ...]


def at_size(arms: Iterable[Arm], size: int) -> list[Arm]:
    """Return the arms of one training size."""
    return [arm for arm in arms if arm.train_size == size]


def compute_of(arm: Arm) -> dict[str, float]:
    """Return the mean over seeds of each of `COMPUTE`, NaN where no seed has it."""
    return {name: t_interval(list(arm.scores(name).values())).mean for name in COMPUTE}


def differences(arms: Sequence[Arm], metric: str = c.TEST_ACCURACY) -> Iterator[Difference]:
    """Yield paired differences of the arms of one training size in a per-seed metric.

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
            mine, theirs = arm.scores(metric), other.scores(metric)
            both = sorted(mine.keys() & theirs.keys())
            tests.append(paired_test([mine[s] for s in both], [theirs[s] for s in both]))
            unpaired.append(tuple(sorted(mine.keys() ^ theirs.keys())))
        corrected = holm([test.p for test in tests])
        for other, test, p_holm, odd in zip(others, tests, corrected, unpaired, strict=True):
            yield Difference(arm.train_size, arm.name, other.name, test, p_holm, odd)


def best_arms(arms: Sequence[Arm], metric: str = c.TEST_ACCURACY) -> list[Arm]:
    """Return the arm with the best mean, more than one if they are equal; none without a rival.

    Arms compete on the same seeds only: a seed that diverged, and so is in no mean, must not help.
    """
    seeds = {seed.seed for arm in arms for seed in arm.seeds}
    students = [arm for arm in arms if arm.name.partition(VARIANT)[0] != TEACHER]
    able = [arm for arm in students if arm.scores(metric).keys() == seeds]
    if len(able) < 2:
        return []
    means = [t_interval(list(arm.scores(metric).values())).mean for arm in able]
    return [arm for arm, mean in zip(able, means, strict=True) if mean == max(means)]


def seeds_sentence(arms: Sequence[Arm]) -> str:
    """Return which seeds the arms were run under."""
    by_size = _grouped((size_text(arm.train_size), arm) for arm in arms)
    ranges = {
        size: seed_ranges({seed.seed for arm in mine for seed in arm.seeds})
        for size, mine in by_size.items()
    }
    if len(set(ranges.values())) == 1:
        return f"Seeds: {next(iter(ranges.values()))}."
    return f"Seeds: {'; '.join(f'{text} at n = {size}' for size, text in ranges.items())}."


def matching_sentence(arms: Sequence[Arm]) -> str:
    """Return what of KDGAN's compute the arms were given; says which if they differ."""
    groups = _grouped(
        (arm.matched, f"{arm.label} at n = {size_text(arm.train_size)}") for arm in arms
    )
    texts = {value: MATCHING.get(value, f"matched={value}") for value in groups}
    if len(groups) == 1:
        text = next(iter(texts.values()))
        return f"{text[0].upper()}{text[1:]}."
    by_arm = _grouped((arm.matched, arm.label) for arm in arms)
    found = [label for labels in by_arm.values() for label in dict.fromkeys(labels)]
    named = by_arm if len(found) == len(set(found)) else groups
    parts = [f"{', '.join(dict.fromkeys(named[value]))}: {text}" for value, text in texts.items()]
    return f"Compute differs between arms. {'; '.join(parts)}."


def estimator_sentences(arms: Iterable[Arm]) -> list[str]:
    """Return which estimators the games were trained with; none without a game."""
    estimators = _grouped(
        (arm.estimator, arm_label(arm.name))
        for arm in arms
        if arm.estimator and arm.name.partition(VARIANT)[0] in (KDGAN, NAGAN)
    )
    if not estimators:
        return []
    texts = [f"{name} ({', '.join(dict.fromkeys(labels))})" for name, labels in estimators.items()]
    return [f"Estimator of the adversarial gradient: {'; '.join(texts)}."]


def went_wrong(arms: Sequence[Arm], sizes: Sequence[int]) -> Iterator[str]:
    """Yield a sentence for each arm's seeds that went wrong or are missing."""
    for size in sizes:
        mine = at_size(arms, size)
        planned = {seed.seed for arm in mine for seed in arm.seeds}
        for arm in mine:
            where = f"n = {size_text(size)}, {arm.label}:"
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
