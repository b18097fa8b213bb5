"""Table 2 as plain tuples: arms by ranking metrics, paired differences, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import pandas as pd

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
from analysis.frames import Runs, dataset_of, origin, runs_data_note
from analysis.images import BOOTSTRAP_SEED, ImageDifference, image_difference
from analysis.methods import Arm, arm_label, arm_place, arms_of, named_seeds
from analysis.paper import TABLE2_DATASETS, TABLE2_LABEL, table2_cell
from analysis.stats import LEVEL, RESAMPLES, Interval, t_interval
from analysis.tasks import F_NOTE, TAGS, size_order, size_text

STATISTIC: Final = (
    "Means over the test images that have a tag; of those, mean ± half-width of the "
    f"{100 * LEVEL:g} % Student-t interval over seeds. Ours is read at each seed's best "
    "validation check, by MAP; the test set chooses nothing. A recommender that draws nothing has "
    "one score under every seed, hence a half-width of 0."
)
AUTHORS_NOTE: Final = (
    f"{AUTHORS[0].upper()}{AUTHORS[1:]}: the highest of all test evaluations of a seed, for each "
    "metric by itself, so the test set chooses and the score is optimistic; it is here to be set "
    "beside published values."
)
PUBLISHED_NOTE: Final = (
    f"{TABLE2_LABEL[0].upper()}{TABLE2_LABEL[1:]}: the authors' scripts keep the best evaluation "
    "on the test posts and score variants of the baselines there too; F is in their form; their "
    "code has 500 test posts and 100 labels for the popular tags, the paper 2,000 and 200."
)
NOT_PUBLISHED: Final = (
    "No published value stands here: the paper's Table 2 is of YFCC100M, other posts with other "
    "tags."
)
RULE: Final = (
    "Bold: in each column, the student with the highest mean of ours, whichever it is, among the "
    "arms with a score for every seed that was run at that size; T alone sees the text of the "
    f"test posts and does not compete. {TUNING_NOTE}"
)
DIFFERENCES_NOTE: Final = (
    "Differences in test MAP (ours). By seed: mean over the seeds that both have, with its "
    f"{100 * LEVEL:g} % Student-t interval, and two-sided p of the paired t-test; Holm: p "
    "corrected over the rows of one training size that share the method in front. By image: of "
    "each test image's average precision the difference, averaged over the seeds first, with the "
    f"{100 * LEVEL:g} % percentile interval of a bootstrap over images ({RESAMPLES:,} resamples, "
    f"generator seeded with {BOOTSTRAP_SEED}). The first says what other seeds would give on "
    "these images, the second what other images would give with these trained models. T alone, "
    "which sees the text, is in no row."
)


class Score(NamedTuple):
    """An arm in one metric, as fractions."""

    test: Interval
    authors: Interval
    published: float | None
    is_best: bool


class TagCell(NamedTuple):
    """An arm at a training size: metric -> score, and what of `COMPUTE` it took."""

    arm: Arm
    scores: dict[str, Score]
    compute: dict[str, float]


class TagDifference(NamedTuple):
    """A paired difference in MAP, by seed and by image."""

    by_seed: Difference
    by_image: ImageDifference


class Table2Info(NamedTuple):
    """All that Table 2 prints; a pair of arm and size that was not run is not in `cells`.

    `data_note`, what must be said of the data, is in `caption` too.
    """

    experiment: str
    train_sizes: tuple[int, ...]
    arms: tuple[str, ...]
    cells: dict[tuple[str, int], TagCell]
    differences: tuple[TagDifference, ...]
    caption: tuple[str, ...]
    notes: tuple[str, ...]
    data_note: str

    def ordered(self) -> Iterator[TagCell]:
        """Yield the cells by size, and in a size by arm."""
        for size in self.train_sizes:
            yield from (self.cells[arm, size] for arm in self.arms if (arm, size) in self.cells)


def table2_info(runs: Runs, images: pd.DataFrame, with_published: bool = True) -> Table2Info:
    """Return Table 2 of a methods sweep of tags, or of several put together.

    Args:
        runs: The sweep.
        images: Test scores image by image of its arms, as `runs.read_images` returns them.
        with_published: Put the paper's values beside ours where it has them.

    Raises:
        RunsError: If there is no arm, or an arm has two configurations at a training size.
    """
    arms = arms_of(runs)
    dataset = dataset_of(runs) if with_published else ""
    sizes = tuple(sorted({arm.train_size for arm in arms}, key=size_order))
    best = {
        (metric.name, id(arm))
        for metric in TAGS.metrics
        for size in sizes
        for arm in best_arms(at_size(arms, size), metric.test)
    }
    cells = {
        (arm.name, arm.train_size): TagCell(
            arm=arm,
            scores={
                metric.name: Score(
                    test=t_interval(list(arm.scores(metric.test).values())),
                    authors=t_interval(list(arm.scores(metric.authors).values())),
                    published=table2_cell(dataset, arm.name, arm.train_size, metric.name),
                    is_best=(metric.name, id(arm)) in best,
                )
                for metric in TAGS.metrics
            },
            compute=compute_of(arm),
        )
        for arm in arms
    }
    paired = tuple(d for size in sizes for d in _differences(at_size(arms, size), images))
    info = Table2Info(
        experiment=runs.sweep.experiment,
        train_sizes=sizes,
        arms=tuple(sorted({arm.name for arm in arms}, key=arm_place)),
        cells=cells,
        differences=paired,
        caption=(),
        notes=(*went_wrong(arms, sizes), *_image_notes(paired)),
        data_note=f"{note}." if (note := runs_data_note(runs)) else "",
    )
    is_other = with_published and dataset not in TABLE2_DATASETS
    return info._replace(caption=tuple(_caption(info, arms, is_other, origin(runs))))


def _differences(arms: Sequence[Arm], images: pd.DataFrame) -> Iterator[TagDifference]:
    by_name = {arm.name: arm for arm in arms}
    for one in differences(arms, TAGS.score.test):
        pair = by_name[one.arm], by_name[one.other]
        yield TagDifference(one, image_difference(*pair, images, TAGS.score.name))


def _image_notes(paired: Sequence[TagDifference]) -> Iterator[str]:
    """Yield a sentence for each difference whose images are of other seeds than its seeds."""
    for by_seed, by_image in paired:
        n = by_seed.test.difference.n
        if len(by_image.seeds) == n:
            continue
        where = f"n = {size_text(by_seed.train_size)}, {arm_label(by_seed.arm)} − "
        where += f"{arm_label(by_seed.other)}:"
        have = f"of {named_seeds(by_image.seeds)} only" if by_image.seeds else "of no seed"
        yield f"{where} scores image by image are recorded {have}."


def _caption(info: Table2Info, arms: Sequence[Arm], is_other: bool, where: str) -> Iterator[str]:
    scores = [score for cell in info.cells.values() for score in cell.scores.values()]
    yield STATISTIC
    yield F_NOTE
    if any(score.authors.n for score in scores):
        yield AUTHORS_NOTE
    if any(score.published is not None for score in scores):
        yield PUBLISHED_NOTE
    elif is_other:
        yield NOT_PUBLISHED
    yield RULE
    yield seeds_sentence(arms)
    yield matching_sentence(arms)
    yield from estimator_sentences(arms)
    yield f"{where}."
