"""How a trial ends: stopped, collapsed or diverged, seed by seed, and the scores it then has."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kdgan_core import trial as trial_module
from kdgan_core.config import TrialConfig
from kdgan_core.data import Dataset, load_dataset
from kdgan_core.data.image_data import standard_error
from kdgan_core.names import METHODS
from kdgan_core.players import build_player
from kdgan_core.trial import OUTCOMES, Evaluation, SeedResult, Trial, TrialResult, run_trial

MakeConfig = Callable[..., TrialConfig]
MakeTrial = Callable[..., Trial]
State = dict[str, Tensor]
GENTLE = {"learning_rate": 1e-6}  # C hardly moves, so that it only collapses when it is spoilt


def classifier(trial: Trial, index: int = 0) -> State:
    """A copy of C's weights of one of the seeds."""
    state = trial.replicas[index].players["classifier"].state_dict()
    return {name: value.clone() for name, value in state.items()}


def same(one: State, two: State) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def finish(trial: Trial) -> TrialResult:
    while not trial.done:
        trial.advance()
    return trial.result()


def spoil(trial: Trial, index: int = 0, size: float = 50.0, role: str = "classifier") -> None:
    """Large noise on a player's weights (NaN where `size` is): what it knew is gone."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in trial.replicas[index].players[role].parameters():
            p += size * torch.randn(p.shape, generator=generator)


@pytest.mark.parametrize("answer", [None, False])
def test_a_report_that_is_not_true_does_not_stop(
    answer: bool | None, make_config: MakeConfig, cache_dir: Path
) -> None:
    config = make_config()
    result = run_trial(
        config, data_dir=None, cache_dir=cache_dir, device="cpu", report=lambda check: answer
    )
    assert result.step == 24


@pytest.mark.parametrize("from_step, stopped_at", [(0, 6), (6, 6), (12, 12)])
def test_true_stops_the_trial(
    from_step: int, stopped_at: int, make_config: MakeConfig, cache_dir: Path
) -> None:
    """Not before its first training: there is no score to record then."""
    steps: list[int] = []

    def report(check: Evaluation) -> bool:
        steps.append(check.step)
        return check.step >= from_step

    result = run_trial(
        make_config(**GENTLE), data_dir=None, cache_dir=cache_dir, device="cpu", report=report
    )
    assert steps[-1] == result.step == stopped_at
    assert result.outcome == "stopped"
    (seed,) = result.seeds
    assert seed.outcome == "stopped"
    assert seed.best_step in range(6, stopped_at + 1)
    assert seed.test_score is not None


def test_a_stopped_trial_scores_as_the_whole_one_did_until_then(make_trial: MakeTrial) -> None:
    whole, stopped = make_trial(), make_trial()
    for _ in range(3):
        whole.advance()
        stopped.advance()
    stopped.stop()
    assert stopped.done
    assert stopped.result().seeds[0].best_step == whole.replicas[0].best_step
    assert same(classifier(whole), classifier(stopped))
    with pytest.raises(RuntimeError, match="is done"):
        stopped.advance()


def test_a_stop_at_the_last_check_is_a_finish(make_config: MakeConfig, cache_dir: Path) -> None:
    result = run_trial(
        make_config(**GENTLE), data_dir=None, cache_dir=cache_dir, device="cpu",
        report=lambda check: check.step == 24,
    )  # fmt: skip
    assert result.outcome == "finished"


@pytest.mark.parametrize("role", ["classifier", "teacher", "discriminator"])
def test_a_diverged_seed_is_recorded_and_leaves_the_other_alone(
    role: str, make_trial: MakeTrial
) -> None:
    undisturbed, trial = make_trial(seeds=(0, 1)), make_trial(seeds=(0, 1))
    expected = finish(undisturbed)
    trial.advance()
    spoil(trial, 0, math.nan, role)
    checks = [trial.advance()]
    while not trial.done:
        checks.append(trial.advance())
    result = trial.result()
    assert result.outcome == "diverged"
    pretrained = expected.seeds[0].pretrained_valid_score
    assert result.seeds[0] == SeedResult(
        0, "diverged", None, None, None, pretrained, None,
        updates_classifier=156, updates_teacher=156, updates_discriminator=156,
    )  # fmt: skip
    assert result.seeds[1] == expected.seeds[1]
    assert same(classifier(trial, 1), classifier(undisturbed, 1))
    assert [check.step for check in checks] == [6, 12, 18, 24]
    for check in checks:
        assert set(check.metrics) == {1}
        assert check.mean_valid_score() == check.metrics[1]["valid_accuracy"]
    assert checks[-1].tau == pytest.approx(0.1)


EVERY_METHOD: list[dict[str, object]] = [
    *({"method": method} for method in METHODS),
    *({"method": method, "estimator": "authors"} for method in ("kdgan", "nagan")),
    {"method": "supervised", "player": "teacher"},
    {"method": "kdgan", "teacher_average": 0.9},
]


@pytest.mark.parametrize(
    "changes", EVERY_METHOD, ids=lambda changes: "-".join(map(str, changes.values()))
)
def test_a_nan_and_a_collapse_leave_the_third_seed_as_it_is_alone(
    changes: dict[str, object], make_trial: MakeTrial
) -> None:
    """To the bit, by every method."""
    small = {**GENTLE, **changes, "steps": 4, "evaluations": 2}
    trial, alone = make_trial(seeds=(0, 1, 2), **small), make_trial(seeds=(2,), **small)
    expected = finish(alone)
    trial.advance()
    scored = trial.replicas[0].scored
    spoil(trial, 0, math.nan, scored)
    spoil(trial, 1, 50.0, scored)
    checks = []
    while not trial.done:
        checks.append(trial.advance())
    result = trial.result()
    diverged, collapsed, third = result.seeds
    assert diverged.outcome == "diverged"
    if changes["method"] != "codis":  # from scratch: there is nothing to lose
        assert collapsed.outcome == "collapsed"
    assert third == expected.seeds[0]
    assert third.outcome == "finished"
    assert alone.evaluation is not None
    assert checks[-1].metrics[2] == alone.evaluation.metrics[2]
    assert [set(check.metrics) for check in checks] == [{1, 2}] * 2
    mine, theirs = trial.replicas[2].players, alone.replicas[0].players
    assert all(same(mine[role].state_dict(), theirs[role].state_dict()) for role in theirs)


def test_a_trial_ends_when_every_seed_has_diverged(make_trial: MakeTrial) -> None:
    trial = make_trial(seeds=(0, 1))
    trial.advance()
    for index in (0, 1):
        spoil(trial, index, math.nan)
    evaluation = trial.advance()
    assert trial.done
    assert math.isnan(evaluation.mean_valid_score())
    result = trial.result()
    assert result.outcome == "diverged"
    assert result.step == 6
    assert [seed.test_score for seed in result.seeds] == [None, None]


def test_divergence_in_pretraining_is_an_outcome_too(make_trial: MakeTrial) -> None:
    trial = make_trial(seeds=(0, 1), pretrain_learning_rate=1e30)
    evaluation = trial.advance()
    assert evaluation.metrics == {}
    assert trial.done
    result = trial.result()
    assert result.outcome == "diverged"
    assert [seed.outcome for seed in result.seeds] == ["diverged", "diverged"]
    assert result.step == 0


def count_right(trial: Trial, state: State, dataset: Dataset) -> float:
    """Test accuracy of C with these weights, counted image by image in numpy."""
    player = build_player("classifier", trial.config, torch.Generator())
    player.load_state_dict(state)
    images = torch.from_numpy(dataset.test_images.astype(np.float32) / 16.0)
    with torch.no_grad():
        scores = player(images).numpy()
    answers = zip(scores, dataset.test_labels, strict=True)
    return float(np.mean([int(np.argmax(s)) == y for s, y in answers]))


def test_the_test_score_is_that_of_the_best_validation_check(make_trial: MakeTrial) -> None:
    """C is spoilt before the last check, so the best one is not the last."""
    trial = make_trial(steps=60)
    states: dict[int, State] = {}
    valid: dict[int, float] = {}
    while not trial.done:
        if trial.evaluation is not None and trial.evaluation.step == 45:
            spoil(trial)
        evaluation = trial.advance()
        states[evaluation.step] = classifier(trial)
        valid[evaluation.step] = evaluation.metrics[0]["valid_accuracy"]
    (seed,) = trial.result().seeds
    assert list(valid) == [0, 15, 30, 45, 60]
    del valid[0]
    assert seed.best_step == max(valid, key=lambda step: valid[step]) != 60
    assert seed.best_valid_score == valid[seed.best_step]
    dataset = load_dataset("digits", None)
    scores = {step: count_right(trial, states[step], dataset) for step in valid}
    assert seed.test_score == pytest.approx(scores[seed.best_step])
    assert abs(scores[seed.best_step] - scores[60]) > 0.05


def test_the_pretrained_player_is_not_a_candidate(make_trial: MakeTrial) -> None:
    """It was not trained by the method; and a collapsed seed keeps its bad score."""
    trial = make_trial()
    pretrained = trial.advance().metrics[0]["valid_accuracy"]
    spoil(trial)
    result = finish(trial)
    (seed,) = result.seeds
    assert seed.best_step in (6, 12, 18, 24)
    assert seed.best_valid_score is not None
    assert seed.best_valid_score < pretrained - 0.2
    assert seed.pretrained_valid_score == pretrained
    assert result.outcome == seed.outcome == "collapsed"
    assert seed.test_score is not None
    assert seed.test_score < pretrained


def test_collapse_needs_two_standard_errors(make_trial: MakeTrial) -> None:
    """0.8 on 200 images has a standard error of 0.0283."""
    for last, outcome in ((0.744, "finished"), (0.743, "collapsed"), (0.9, "finished")):
        trial = make_trial()
        finish(trial)
        trial._pretrained[0], trial._last[0] = 0.8, last
        trial._pretrained_error[0] = standard_error(0.8, 200)
        assert trial.result().outcome == outcome, last


def test_a_spoilt_end_collapses_and_keeps_its_best_score(make_trial: MakeTrial) -> None:
    trial = make_trial(seeds=(0, 1), **GENTLE)
    for _ in range(4):
        trial.advance()
    spoil(trial, 0)
    trial.advance()
    result = trial.result()
    first, second = result.seeds
    assert first.outcome == result.outcome == "collapsed"
    assert first.best_step != 24
    assert first.last_valid_score < first.best_valid_score
    assert second.outcome == "finished"


def test_extreme_weights_collapse(make_trial: MakeTrial) -> None:
    """Both distillations far too strong: how KDGAN fails, without any non-finite number."""
    trial = make_trial(
        beta=1000, gamma=100, learning_rate=0.05, steps=40, alpha=0.5,
        learning_rate_schedule="constant",
    )  # fmt: skip
    result = finish(trial)
    assert result.outcome == "collapsed"
    assert result.seeds[0].test_score is not None


def test_the_outcome_of_a_trial_is_its_worst_seeds(make_trial: MakeTrial) -> None:
    assert OUTCOMES == ("finished", "stopped", "collapsed", "diverged")
    trial = make_trial(seeds=(0, 1, 2), **GENTLE)
    trial.advance()
    spoil(trial, 0)
    spoil(trial, 1, math.nan)
    result = finish(trial)
    assert [seed.outcome for seed in result.seeds] == ["collapsed", "diverged", "finished"]
    assert result.outcome == "diverged"


def test_the_test_images_are_used_for_the_test_score_alone(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_dataset("digits", None)
    blank = dataclasses.replace(dataset, test_images=np.zeros_like(dataset.test_images))
    honest = finish(make_trial())
    monkeypatch.setattr(trial_module, "load", lambda config, folder: blank)
    result = finish(make_trial())
    (one,), (two,) = honest.seeds, result.seeds
    assert one.test_score != two.test_score
    untested: dict[str, Any] = {"test_score": None, "test_metrics": {}}
    assert dataclasses.replace(one, **untested) == dataclasses.replace(two, **untested)
