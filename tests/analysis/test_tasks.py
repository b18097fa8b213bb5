from __future__ import annotations

import pytest

from analysis import columns as c
from analysis.tasks import (
    IMAGES,
    SCORES,
    TAGS,
    Task,
    data_note,
    size_order,
    size_text,
    task_of,
)


def test_a_data_set_has_its_task() -> None:
    assert {task_of(name).name for name in ("mnist", "cifar10", "digits")} == {"images"}
    assert {
        task_of(name).name for name in ("tags", "flickr8k", "yfcc-popular", "yfcc-random")
    } == {"tags"}


@pytest.mark.parametrize("task", [IMAGES, TAGS])
def test_every_name_of_a_task_is_a_column(task: Task) -> None:
    seeds = c.SEED_METRICS_OF[task.name]
    for metric in task.metrics:
        assert {metric.test, metric.authors} <= seeds.keys()
        assert metric.valid in c.HISTORY_METRICS
    assert task.score in task.metrics and task.curve in task.metrics
    assert task.best_valid in seeds and task.curve_end in {*seeds, ""}


def test_a_score_is_no_cost_and_nothing_else_is_left_out() -> None:
    costs = c.SEED_METRICS_OF["images"].keys() & c.SEED_METRICS_OF["tags"].keys()
    pretrained = {c.PRETRAINED_VALID_ACCURACY, c.PRETRAINED_VALID_MAP}
    assert set(SCORES) == c.SEED_METRICS.keys() - costs - pretrained


def test_numbers_are_printed_as_the_paper_prints_them() -> None:
    assert (IMAGES.text(0.77954), IMAGES.short_text(0.77954)) == ("77.95", "78.0")
    assert (TAGS.text(0.30474), TAGS.short_text(0.30474)) == ("0.3047", "0.305")
    assert (IMAGES.text(0.001, "+"), TAGS.text(-0.001, "+")) == ("+0.10", "-0.0010")
    assert [size_text(size) for size in sorted([0, 5000, 100], key=size_order)] == [
        "100", "5,000", "all",
    ]  # fmt: skip


def test_flickr8k_has_its_caveat_under_either_name() -> None:
    note = data_note("flickr8k")
    for words in ("Hodosh et al. 2013", "not typed by users", "captions 1-3", "captions 4 and 5",
                  "other annotators", "four images have no tag"):  # fmt: skip
        assert words in note
    assert data_note("tags", "/data/flickr8k/flickr8k_tags.parquet") == note
    assert data_note("tags", "/data/mine.parquet") == ""
    assert data_note("mnist") == data_note("yfcc-popular", "") == ""
    assert "generated" in data_note("tags")
