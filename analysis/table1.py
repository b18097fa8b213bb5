"""Table 1 as plain tuples: arms by training sizes, paired differences, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from analysis import columns as c
from analysis.arm_tables import (
    AUTHORS,
    TUNING_NOTE,
    Difference,
    at_size,
    best_arms,
    compute_of,
    differences,
    estimator_sentences,
    matching_sentence,
    seeds_sentence,
    went_wrong,
)
from analysis.frames import Runs, dataset_of, origin
from analysis.methods import Arm, arm_place, arms_of
from analysis.paper import TABLE1_LABEL, TABLE1_WHOLE, PublishedMean, table1_cell
from analysis.stats import LEVEL, Interval, t_interval

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
    f"and does not compete. {TUNING_NOTE}"
)
DIFFERENCES_NOTE: Final = (
    "Differences in points of test accuracy (ours), paired by seed: mean with its "
    f"{100 * LEVEL:g} % Student-t interval over n pairs, and two-sided p of the paired t-test. "
    "Holm: p corrected over the rows of one training size that share the method in front."
)


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
    dataset = dataset_of(runs) if with_published else ""
    sizes = tuple(sorted({arm.train_size for arm in arms}))
    best = {id(arm) for size in sizes for arm in best_arms(at_size(arms, size))}
    cells = {
        (arm.name, arm.train_size): TableCell(
            arm=arm,
            test=t_interval(list(arm.scores().values())),
            authors=t_interval(list(arm.scores(c.BEST_TEST_EVALUATION).values())),
            published=table1_cell(dataset, arm.name, arm.train_size),
            compute=compute_of(arm),
            is_best=id(arm) in best,
        )
        for arm in arms
    }
    info = TableInfo(
        experiment=runs.sweep.experiment,
        train_sizes=sizes,
        arms=tuple(sorted({arm.name for arm in arms}, key=arm_place)),
        cells=cells,
        differences=tuple(d for size in sizes for d in differences(at_size(arms, size))),
        caption=(),
        notes=tuple(went_wrong(arms, sizes)),
    )
    wholes = _whole_sizes(dataset, sizes) if info.has_published else ()
    return info._replace(caption=tuple(_caption(info, arms, wholes, origin(runs))))


def _whole_sizes(dataset: str, sizes: Sequence[int]) -> Iterator[str]:
    for size in sizes:
        whole = TABLE1_WHOLE.get((dataset, size))
        if whole is not None:
            yield (
                f"n = {size:,}: the published value is that of n = {whole:,}, all images, chosen "
                "on the test set; ours holds the rest back for validation."
            )


def _caption(
    info: TableInfo, arms: Sequence[Arm], wholes: Iterable[str], where: str
) -> Iterator[str]:
    yield STATISTIC
    if info.has_authors:
        yield AUTHORS_NOTE
    if info.has_published:
        yield PUBLISHED_NOTE
    yield from wholes
    yield RULE
    yield seeds_sentence(arms)
    yield matching_sentence(arms)
    yield from estimator_sentences(arms)
    yield f"{where}."
