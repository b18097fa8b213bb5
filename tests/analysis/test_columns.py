from __future__ import annotations

from analysis import columns as c


def test_every_column_has_a_sentence_and_a_type() -> None:
    for name, column in c.COLUMNS.items():
        assert column.sentence.endswith("."), name
        assert column.arrow, name
    for group in (c.PARENT_TAGS, c.TRIAL_TAGS, c.PARAMS, c.METRICS, c.SEED_METRICS, c.ROLES):
        assert all(sentence.endswith(".") for sentence in group.values())


def test_summary_metrics_come_in_fives() -> None:
    for name in (c.TEST_ACCURACY, c.BEST_VALID_ACCURACY):
        assert {name + end for end in ("", "_std", "_n", "_low", "_high")} <= set(c.METRICS)


def test_seed_metric_name() -> None:
    assert c.seed_metric(c.TEST_ACCURACY, 3) == "test_accuracy/seed_3"
