"""Trials of tag recommendation, on generated posts: every method, and what each may look at."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kdgan_core import trial as trial_module
from kdgan_core.config import TrialConfig
from kdgan_core.data.generated_posts import generated_posts, true_probabilities
from kdgan_core.data.post_data import post_data
from kdgan_core.data.posts import Posts, draw_posts
from kdgan_core.metrics import METRICS, means, per_image
from kdgan_core.names import METHODS, RECOMMENDERS
from kdgan_core.trial import Trial, TrialResult, run_trial

CPU = torch.device("cpu")
SMALL: dict[str, object] = {
    "dataset": "tags", "architecture": "small", "train_size": 0, "seeds": (0,),
    "batch_size": 50, "pretrain_steps": 120, "pretrain_learning_rate": 5e-3, "steps": 24,
    "evaluations": 3, "classifier_dropout": 0.1, "teacher_dropout": 0.1,
}  # fmt: skip
FIT: dict[str, object] = {"steps": 1, "evaluations": 1, "pretrain_steps": 0}
# Another value of the fields that only this task has, and a method that feels it.
OF_TAGS: dict[str, tuple[object, str]] = {
    "feature_dropout": (0.3, "supervised"),
    "word_dropout": (0.3, "kdgan"),
    "text_pooling": ("max", "kdgan"),
    "word_start": ("random", "kdgan"),
    "embedding_size": (20, "kdgan"),
    "neighbours": (7, "knn"),
    "svm_cost": (0.01, "relexample"),
}


def config_of(**changes: object) -> TrialConfig:
    fit = FIT if changes.get("method") in RECOMMENDERS else {}
    return TrialConfig.from_dict({**SMALL, **fit, **changes})


def run(cache_dir: Path, **changes: object) -> TrialResult:
    return run_trial(config_of(**changes), data_dir=None, cache_dir=cache_dir, device="cpu")


def without_time(result: TrialResult) -> list[object]:
    return [dataclasses.replace(s, train_seconds=0.0, pretrain_seconds=0.0) for s in result.seeds]


@pytest.fixture
def changed_posts(monkeypatch: pytest.MonkeyPatch) -> Callable[[Posts], None]:
    """A function that puts other posts in the place of the generated ones."""

    def change(posts: Posts) -> None:
        monkeypatch.setattr(trial_module, "load", lambda config, folder: posts)

    return change


@pytest.mark.parametrize("method", METHODS + RECOMMENDERS)
def test_every_method_beats_popularity(method: str, cache_dir: Path) -> None:
    posts = generated_posts()
    split = draw_posts(posts, 0, 0)
    data = post_data(posts, config_of(), 0, CPU)
    popular = data.train_tags.sum(dim=0).double().expand(len(split.test), -1)
    floor = means(per_image(popular, data.test_tags))["map"]
    result = run(cache_dir, method=method, steps=1 if method in RECOMMENDERS else 120)
    (seed,) = result.seeds
    assert set(seed.test_metrics) == set(METRICS)
    assert seed.test_score == seed.test_metrics["map"]
    assert seed.test_score > floor + 0.05
    assert seed.score == "map"


def test_no_method_is_better_than_the_truth(cache_dir: Path) -> None:
    """The best there is, from the features alone, for C; with the text too, for T."""
    posts = generated_posts()
    data = post_data(posts, config_of(), 0, CPU)
    order = [posts.tag_names.index(name) for name in data.tag_names]
    test = draw_posts(posts, 0, 0).test
    best = {}
    for with_text in (False, True):
        probs = true_probabilities(posts, with_text=with_text)[test][:, order]
        best[with_text] = means(per_image(torch.from_numpy(probs), data.test_tags))["map"]
    student = run(cache_dir, method="supervised", steps=240).seeds[0].test_score
    teacher = run(cache_dir, method="supervised", player="teacher", steps=240).seeds[0].test_score
    assert student is not None
    assert teacher is not None
    assert student < best[False] + 0.02
    assert best[False] < teacher < best[True] + 0.02


@pytest.mark.parametrize("estimator", ["concrete", "density", "score", "expectation", "authors"])
def test_every_estimator_trains(estimator: str, cache_dir: Path) -> None:
    for method in ("kdgan", "nagan"):
        (seed,) = run(cache_dir, method=method, estimator=estimator).seeds
        assert seed.outcome in ("finished", "collapsed")
        assert seed.test_score is not None


@pytest.mark.parametrize("name", OF_TAGS)
def test_every_field_of_the_task_changes_the_result(name: str, cache_dir: Path) -> None:
    value, method = OF_TAGS[name]
    plain, other = run(cache_dir, method=method), run(cache_dir, method=method, **{name: value})
    assert plain.trial_id != other.trial_id
    assert plain.seeds[0].test_metrics != other.seeds[0].test_metrics


def test_word_vectors_change_the_result(cache_dir: Path, tmp_path: Path) -> None:
    words = sorted({word for text in generated_posts().texts for word in str(text).split()})
    rng = np.random.default_rng(0)
    lines = [f"{word} " + " ".join(f"{x:.3f}" for x in rng.normal(size=8)) for word in words]
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join(lines))
    plain, other = run(cache_dir), run(cache_dir, word_vectors=str(path))
    assert plain.seeds[0].test_metrics != other.seeds[0].test_metrics
    # Players that started from other vectors of that file's name are not picked up.
    path.write_text("\n".join(lines).replace("-", ""))
    again = run(cache_dir, word_vectors=str(path))
    assert again.seeds[0].test_metrics != other.seeds[0].test_metrics


@pytest.mark.parametrize("method", ["kdgan", "knn"])
def test_a_trial_is_reproducible_and_resumes(method: str, cache_dir: Path, tmp_path: Path) -> None:
    config = config_of(method=method, seeds=(0, 1), authors_statistic=True)
    whole = run_trial(config, data_dir=None, cache_dir=cache_dir, device="cpu")
    first = Trial(config, data_dir=None, cache_dir=cache_dir, device="cpu")
    first.advance()
    first.advance()
    first.save(tmp_path / "kept")
    second = Trial(config, data_dir=None, cache_dir=cache_dir, device="cpu")
    assert second.resume(tmp_path / "kept")
    while not second.done:
        second.advance()
    assert without_time(second.result()) == without_time(whole)
    for seed in whole.seeds:
        assert set(seed.best_test_evaluation) == set(METRICS)
        assert all(seed.best_test_evaluation[m] >= seed.test_metrics[m] for m in METRICS)


def test_the_record_names_the_metric(cache_dir: Path) -> None:
    (seed,) = run(cache_dir, authors_statistic=True).seeds
    record = seed.as_record()
    assert record["test_map"] == seed.test_score
    assert record["best_valid_map"] == seed.best_valid_score
    assert record["best_test_evaluation_mrr"] == seed.best_test_evaluation["mrr"]
    assert not any("score" in name or "accuracy" in name for name in record)


def test_test_scores_come_image_by_image(cache_dir: Path) -> None:
    result = run(cache_dir, seeds=(0, 1))
    posts = generated_posts()
    test = draw_posts(posts, 0, 0).test
    for seed in result.seeds:
        detail = result.details[seed.seed]
        assert detail.image_ids.tolist() == posts.ids[test].tolist()
        for name, mean in seed.test_metrics.items():
            assert float(np.nanmean(detail.metrics[name])) == pytest.approx(mean)
        for example in detail.examples:
            row = posts.ids.tolist().index(example.image_id)
            assert list(example.tags) == posts.tags_of(row)
            assert len(set(example.recommended)) == 5
        assert len(detail.examples) == 20


def test_nothing_of_validation_and_test_posts_shapes_the_training(
    cache_dir: Path, changed_posts: Callable[[Posts], None]
) -> None:
    """Their texts, features and tags may be anything: the same vocabulary, scaling and weights.

    Training stops at a fixed step: what is validated must not be chosen by.
    """
    posts = generated_posts()
    others = posts.splits != 0
    texts, features = posts.texts.copy(), posts.features.copy()
    texts[others] = "zebra " * 9
    features[others] *= -3.0
    shuffled = dataclasses.replace(posts, texts=texts, features=features, checksum="another")
    plain = Trial(config_of(pretrain_steps=0), data_dir=None, cache_dir=cache_dir, device="cpu")
    finish(plain)
    changed_posts(shuffled)
    other = Trial(config_of(pretrain_steps=0), data_dir=None, cache_dir=cache_dir, device="cpu")
    finish(other)
    assert plain.replicas[0].data.shape[:3] == other.replicas[0].data.shape[:3]
    for role, player in plain.replicas[0].players.items():
        twin = other.replicas[0].players[role].state_dict()
        for name, value in player.state_dict().items():
            assert torch.equal(value, twin[name]), (role, name)


def finish(trial: Trial) -> None:
    while not trial.done:
        trial.advance()


def test_the_student_is_scored_without_the_text(
    cache_dir: Path, changed_posts: Callable[[Posts], None]
) -> None:
    """Other words in the test posts: C scores the same, T does not."""
    posts = generated_posts()
    texts = posts.texts.copy()
    test = np.flatnonzero(posts.splits == 2)
    texts[test] = texts[test[::-1]]
    scores = {}
    for which in ("own", "swapped"):
        if which == "swapped":
            changed_posts(dataclasses.replace(posts, texts=texts))
        for player in ("classifier", "teacher"):
            result = run(cache_dir, method="supervised", player=player)
            scores[which, player] = result.seeds[0].test_metrics
    assert scores["own", "classifier"] == scores["swapped", "classifier"]
    assert scores["own", "teacher"]["map"] > scores["swapped", "teacher"]["map"] + 0.05


def test_posts_without_a_tag_are_scored_as_missing(
    cache_dir: Path, changed_posts: Callable[[Posts], None]
) -> None:
    """Such a training post teaches nothing, such a test post is in no mean."""
    posts = generated_posts()
    offsets, values = posts.tag_rows
    rows = [list(values[a:b]) for a, b in itertools.pairwise(offsets)]
    emptied = [int(np.flatnonzero(posts.splits == split)[0]) for split in (0, 2)]
    for row in emptied:
        rows[row] = []
    counts = np.cumsum([0, *map(len, rows)])
    flat = np.array([code for row in rows for code in row], dtype=values.dtype)
    changed_posts(dataclasses.replace(posts, tag_rows=type(posts.tag_rows)(counts, flat)))
    result = run(cache_dir, method="supervised")
    detail = result.details[0]
    place = detail.image_ids.tolist().index(posts.ids[emptied[1]])
    assert math.isnan(detail.metrics["map"][place])
    assert not math.isnan(result.seeds[0].test_metrics["map"])


def test_a_recommender_goes_with_tags_and_is_fitted_at_once() -> None:
    with pytest.raises(ValueError, match="recommends tags, which digits has none of"):
        TrialConfig(dataset="digits", architecture="small", train_size=50, valid_size=50,
                    method="knn", steps=1, evaluations=1)  # fmt: skip
    with pytest.raises(ValueError, match="fitted at once, not in steps=24"):
        TrialConfig.from_dict({**SMALL, "method": "tagprop"})
    with pytest.raises(ValueError, match="tags_file='a' goes with dataset='tags'"):
        TrialConfig(dataset="flickr8k", train_size=0, tags_file="a")


@pytest.mark.parametrize("method", ["kdgan", "nagan"])
def test_the_gradient_variance_is_logged(method: str, cache_dir: Path) -> None:
    config = config_of(method=method, log_gradient_variance=True, gradient_batches=2)
    trial = Trial(config, data_dir=None, cache_dir=cache_dir, device="cpu")
    metrics = trial.advance().metrics[0]
    assert metrics["gradient_variance_adversarial"] > 0.0
    assert ("gradient_variance_distillation" in metrics) == (method == "kdgan")


def test_more_posts_than_there_are(cache_dir: Path) -> None:
    with pytest.raises(ValueError, match="901"):
        run(cache_dir, train_size=901)


def test_few_posts_are_nested(cache_dir: Path) -> None:
    posts = generated_posts()
    few, more = (set(draw_posts(posts, n, 3).train.tolist()) for n in (50, 200))
    assert few < more
    (seed,) = run(cache_dir, train_size=100, method="supervised").seeds
    assert seed.test_score is not None
