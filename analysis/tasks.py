"""The two tasks: what each is scored by, how its numbers are printed, what its data are."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final, NamedTuple

from analysis import columns as c

TAG_DATASETS: Final = ("tags", "flickr8k", "yfcc-popular", "yfcc-random")
TAG_LABELS: Final = {
    "p_at_3": "P@3", "p_at_5": "P@5", "f_at_3": "F@3", "f_at_5": "F@5", c.MAP: "MAP", "mrr": "MRR",
    "authors_f_at_3": "F@3 (authors)", "authors_f_at_5": "F@5 (authors)",
}  # fmt: skip
F_NOTE: Final = (
    "F@N is the harmonic mean of P@N and of the recall of the first N tags; F@N (authors) takes "
    "R-precision for that recall at every N, as the authors' code does, and is the published form."
)
# What must be said wherever results on a data set are shown.
DATA_NOTES: Final = {
    "flickr8k": (
        "Data: Flickr8k (Hodosh et al. 2013), not YFCC100M. Its tags are nouns taken from "
        "captions 1-3 by a hand-picked list, not typed by users; the text is captions 4 and 5, by "
        "other annotators; four images have no tag"
    ),
}
GENERATED_NOTE: Final = "Data: generated posts, not real ones"


class Metric(NamedTuple):
    """A metric of a task: its name and label, and the names it is recorded under.

    `test` is a seed's score at its best validation checkpoint, `authors` the best over its test
    evaluations, `valid` the history.
    """

    name: str
    label: str
    test: str
    authors: str
    valid: str


class Task(NamedTuple):
    """What runs of a task are scored by.

    `score` selects checkpoints and configurations on validation data; `curve` is drawn over
    training, its last value recorded as `curve_end` or, if that is empty, taken from the curve.
    Numbers are printed times `scale`, with `decimals`; `axis` names them on an axis. `table` and
    `figure` are the numbers of the paper's table of methods and of its figure of sensitivity.
    """

    name: str
    statement: str
    metrics: tuple[Metric, ...]
    score: Metric
    curve: Metric
    curve_end: str
    best_valid: str
    scale: float
    decimals: int
    axis: str
    table: str
    figure: str

    def text(self, value: float, sign: str = "") -> str:
        """Return a score, or with sign '+' a difference, as figures and tables print it."""
        return f"{self.scale * value:{sign}.{self.decimals}f}"

    def short_text(self, value: float) -> str:
        """Return a score with one decimal less, for where room is scarce."""
        return f"{self.scale * value:.{self.decimals - 1}f}"

    def metric(self, name: str) -> Metric:
        """Return the metric of that name."""
        return next(metric for metric in self.metrics if metric.name == name)


def _tag_metric(name: str) -> Metric:
    return Metric(
        name, TAG_LABELS[name], c.TEST + name, f"{c.BEST_TEST_EVALUATION}_{name}", c.VALID + name
    )


ACCURACY: Final = Metric(
    c.ACCURACY, "accuracy", c.TEST_ACCURACY, c.BEST_TEST_EVALUATION, c.VALID_ACCURACY
)
IMAGES: Final = Task(
    name=c.IMAGES,
    statement="Score: test accuracy at each seed's best validation checkpoint.",
    metrics=(ACCURACY,),
    score=ACCURACY,
    curve=ACCURACY,
    curve_end=c.LAST_VALID_ACCURACY,
    best_valid=c.BEST_VALID_ACCURACY,
    scale=100,
    decimals=2,
    axis="accuracy (%)",
    table="1",
    figure="4",
)
TAGS: Final = Task(
    name=c.TAGS,
    statement="Scores: test metrics at each seed's best validation checkpoint, by MAP.",
    metrics=tuple(map(_tag_metric, TAG_LABELS)),
    score=_tag_metric(c.MAP),
    curve=_tag_metric("p_at_3"),
    curve_end="",
    best_valid=c.BEST_VALID_MAP,
    scale=1,
    decimals=4,
    axis="score",
    table="2",
    figure="5",
)
# Columns of a seed that hold a score, as opposed to a cost; a seed that diverged has none.
SCORES: Final = tuple(
    name
    for name in c.SEED_METRICS
    if name.startswith((c.TEST, c.BEST_TEST_EVALUATION, "best_valid_", "last_valid_"))
)


def task_of(dataset: str) -> Task:
    """Return the task that a data set is of."""
    return TAGS if dataset in TAG_DATASETS else IMAGES


def data_note(dataset: str, tags_file: str = "") -> str:
    """Return what must be said of a data set wherever it is shown, without a full stop."""
    if dataset == "tags":
        if not tags_file:
            return GENERATED_NOTE
        # A data set's own file is called <name>_tags.parquet.
        dataset = PurePath(tags_file).name.removesuffix("_tags.parquet")
    return DATA_NOTES.get(dataset, "")


def size_order(train_size: int) -> tuple[bool, int]:
    """Return what sorts training sizes: by number, all posts of a file last."""
    return (train_size == 0, train_size)


def size_text(train_size: int) -> str:
    """Return a training size as printed: '1,000', or 'all' for all training posts of a file."""
    return f"{train_size:,}" if train_size else "all"
