from __future__ import annotations

from analysis import columns as c


def test_every_column_has_a_sentence_and_a_type() -> None:
    for name, column in c.COLUMNS.items():
        assert column.sentence.endswith("."), name
        assert column.arrow, name
    for group in (c.PARENT_TAGS, c.TRIAL_TAGS, c.PARAMS, c.METRICS, c.SEED_METRICS, c.ROLES):
        assert all(sentence.endswith(".") for sentence in group.values())


def test_summary_metrics_come_in_fives() -> None:
    tags = [c.TEST + name for name in c.TAG_METRICS]
    for name in (c.TEST_ACCURACY, c.BEST_VALID_ACCURACY, *tags, c.BEST_VALID_MAP):
        assert {name + end for end in ("", "_std", "_n", "_low", "_high")} <= set(c.METRICS)


def test_each_task_has_its_metrics_and_costs_are_of_both() -> None:
    images, tags = (c.SEED_METRICS_OF[task].keys() for task in (c.IMAGES, c.TAGS))
    assert {c.TRAIN_SECONDS, c.BEST_STEP} < images & tags
    assert c.TEST_ACCURACY in images - tags and c.TEST_MAP in tags - images
    assert "best_test_evaluation_p_at_3" in tags and c.BEST_TEST_EVALUATION not in tags
    assert len(c.IMAGE_COLUMNS) == 2 + len(c.TAG_METRICS) == 10
    for name in c.TAG_METRICS:
        assert f"seed_test_{name}" in c.COLUMNS and f"valid_{name}" in c.HISTORY_METRICS


def test_seed_metric_name() -> None:
    assert c.seed_metric(c.TEST_ACCURACY, 3) == "test_accuracy/seed_3"
