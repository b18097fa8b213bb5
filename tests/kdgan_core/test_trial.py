"""The trial: every factor counts, results repeat, and a check reports what was trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kdgan_core.config import FIELDS, TrialConfig
from kdgan_core.data import DataError
from kdgan_core.names import METHODS
from kdgan_core.temperature import temperature
from kdgan_core.trial import Evaluation, Trial, TrialResult, run_trial

MakeConfig = Callable[..., TrialConfig]
MakeTrial = Callable[..., Trial]
State = dict[str, Tensor]
Trained = Callable[..., tuple[str, State]]
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


def trained(trial: Trial) -> State:
    """C's weights at the end."""
    finish(trial)
    return classifier(trial)


@pytest.fixture(scope="module")
def base(make_config: MakeConfig, cache_dir: Path) -> Trained:
    """A function that returns the trial_id and the trained C of a cell, each trained once."""
    cells: dict[str, State] = {}

    def of_cell(**changes: object) -> tuple[str, State]:
        config = make_config(**changes)
        if config.trial_id not in cells:
            trial = Trial(config, data_dir=None, cache_dir=cache_dir, device="cpu")
            cells[config.trial_id] = trained(trial)
        return config.trial_id, cells[config.trial_id]

    return of_cell


# Factor, its level, and what else must be set for it to have a part in training.
FACTORS: list[tuple[str, object, dict[str, object]]] = [
    ("alpha", 0.6, {}),
    ("beta", 1.1, {}),
    ("gamma", 0.5, {}),
    ("tau_kind", "linear", {}),
    ("tau_start", 0.9, {}),
    ("tau_end", 0.2, {}),
    ("method", "nagan", {}),
    ("train_size", 110, {}),
    ("draw", "last", {}),
    ("estimator", "concrete", {}),
    ("samples", 4, {}),
    ("control_variate", "none", {"estimator": "score"}),
    ("distillation", "kl", {}),
    ("distillation_temperature", 2.0, {"distillation": "kl"}),
    ("steps", 25, {}),
    ("discriminator_steps", 2, {}),
    ("teacher_steps", 2, {}),
    ("classifier_steps", 2, {}),
    ("batch_size", 19, {}),
    ("learning_rate", 1e-4, {}),
    ("learning_rate_schedule", "constant", {}),
    ("pretrain_steps", 140, {}),
    ("pretrain_learning_rate", 1e-3, {}),
    ("teacher_pretrain_learning_rate", 1e-3, {}),
    ("classifier_dropout", 0.3, {}),
    ("teacher_dropout", 0.3, {}),
    ("weight_decay", 1e-2, {}),
    ("rotation_degrees", 5.0, {}),
    ("shift", 0.3, {}),
    ("zoom", 0.3, {}),
    ("mirroring", True, {}),
    ("color_jitter", 0.4, {}),
    ("cutout", 0.25, {}),
    ("teacher_pretrain_steps", 140, {}),
    *[("method", method, {}) for method in ("distn", "mimic", "noisy", "codis", "supervised")],
    ("estimator", "authors", {}),
    ("estimator", "authors", {"method": "nagan"}),
    ("positives", 4, {"estimator": "authors"}),
    ("negatives", 19, {"estimator": "authors"}),
    ("soft_weight", 0.6, {"method": "distn"}),
    ("distillation", "l2", {"method": "distn"}),
    ("noise_form", "authors", {"method": "noisy"}),
    ("noise_ratio", 0.5, {"method": "noisy"}),
    ("noise_sigma", 0.2, {"method": "noisy"}),
    ("codistillation_weight", 0.5, {"method": "codis"}),
    ("burn_in", 0.5, {"method": "codis"}),
    ("teacher_label_weight", 0.5, {}),
    ("label_loss", "sigmoid", {}),
    ("teacher_learning_rate", 1e-5, {}),
    ("classifier_label_weight", 0.5, {}),
    ("teacher_average", 0.9, {}),
    ("gamma_schedule", "cosine", {}),
    ("label_smoothing", 0.1, {}),
    ("discriminator_warmup", 20, {}),
    ("schedule", "fused", {}),
    ("schedule", "fused", {"method": "nagan"}),
]


@pytest.mark.parametrize(
    "name, value, needs", FACTORS, ids=[f"{name}-{value}" for name, value, _ in FACTORS]
)
def test_every_factor_changes_the_id_and_the_trained_classifier(
    name: str, value: object, needs: dict[str, object], make_trial: MakeTrial, base: Trained
) -> None:
    trial = make_trial(**needs, **{name: value})
    trial_id, state = base(**needs)
    assert trial.config.trial_id != trial_id
    assert not same(trained(trial), state)


@pytest.mark.parametrize("estimator", ["concrete", "straight_through"])
@pytest.mark.parametrize(
    "changes",
    [
        {"tau_kind": "linear"}, {"tau_kind": "cosine"}, {"tau_kind": "constant"},
        {"tau_start": 1.1}, {"tau_end": 0.11},
    ],
)  # fmt: skip
def test_every_schedule_is_another_training(
    changes: dict[str, object], estimator: str, make_trial: MakeTrial, base: Trained
) -> None:
    state = base(estimator=estimator)[1]
    assert not same(trained(make_trial(estimator=estimator, **changes)), state)


def test_another_seed_is_another_training(make_trial: MakeTrial) -> None:
    trial = make_trial(seeds=(0, 1))
    finish(trial)
    assert not same(classifier(trial, 0), classifier(trial, 1))
    draws = [torch.rand(4, generator=replica.noise) for replica in trial.replicas]
    assert not torch.equal(*draws)


def without_time(result: TrialResult) -> TrialResult:
    return dataclasses.replace(result, seconds=0.0, prepare_seconds=0.0)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_config_gives_the_same_result(
    method: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Bit by bit, with the pretrained players from the cache or not, whatever the global seed."""
    config = make_config(method=method, seeds=(0, 1), pretrain_steps=40)
    runs = []
    for globally in (1, 2):
        torch.manual_seed(globally)
        np.random.seed(globally)  # noqa: NPY002
        checks: list[Evaluation] = []
        result = run_trial(
            config, data_dir=None, cache_dir=tmp_path, device="cpu", report=checks.append
        )
        metrics = [(c.step, c.tau, {s: dict(m) for s, m in c.metrics.items()}) for c in checks]
        runs.append((without_time(result), metrics))
    assert runs[0] == runs[1]
    assert runs[0][0].outcome in ("finished", "collapsed")
    assert [seed.seed for seed in runs[0][0].seeds] == [0, 1]


def test_a_seed_does_not_depend_on_the_other_seeds(make_trial: MakeTrial) -> None:
    both, alone, reversed_ = (make_trial(seeds=s) for s in ((0, 1), (1,), (1, 0)))
    results = [finish(trial) for trial in (both, alone, reversed_)]
    assert results[0].seeds[1] == results[1].seeds[0] == results[2].seeds[0]
    assert same(classifier(both, 1), classifier(alone, 0))
    assert same(classifier(both, 1), classifier(reversed_, 0))


def test_reports_come_at_every_check(make_config: MakeConfig, cache_dir: Path) -> None:
    config = make_config(seeds=(0, 1), steps=25, evaluations=4)
    checks: list[Evaluation] = []
    result = run_trial(
        config, data_dir=None, cache_dir=cache_dir, device="cpu", report=checks.append
    )
    assert [check.step for check in checks] == [0, 6, 12, 19, 25]
    assert {check.steps for check in checks} == {25}
    assert [check.tau for check in checks] == [1.0] + [
        temperature(config.temperature, (check.step - 1) / 24) for check in checks[1:]
    ]
    seconds = [check.seconds for check in checks]
    assert 0.0 < result.prepare_seconds < seconds[0] < seconds[-1] <= result.seconds
    assert seconds == sorted(seconds)
    for check in checks:
        assert set(check.metrics) == {0, 1}
        names = set(check.metrics[0])
        assert ("loss_discriminator" in names) == (check.step > 0)
        values = [check.metrics[seed]["valid_accuracy"] for seed in (0, 1)]
        assert check.mean_valid_score() == pytest.approx(sum(values) / 2)
    assert (result.step, result.trial_id) == (25, config.trial_id)
    for index, seed in enumerate(result.seeds):
        history = [check.metrics[index]["valid_accuracy"] for check in checks]
        assert seed.pretrained_valid_score == history[0]
        assert seed.last_valid_score == history[-1]
        assert seed.best_valid_score == max(history[1:])
        assert seed.best_step == checks[1 + history[1:].index(max(history[1:]))].step


def test_steps_are_counted_in_updates_of_the_classifier(make_trial: MakeTrial) -> None:
    trial = make_trial(steps=10, classifier_steps=4, evaluations=3)
    steps = []
    while not trial.done:
        evaluation = trial.advance()
        steps.append((evaluation.step, evaluation.steps))
    assert steps == [(0, 12), (4, 12), (8, 12), (12, 12)]


def test_the_first_check_is_the_pretrained_player(make_trial: MakeTrial) -> None:
    trial = make_trial()
    evaluation = trial.advance()
    assert evaluation.step == 0
    assert set(evaluation.metrics[0]) == {"valid_accuracy", "valid_accuracy_teacher"}
    assert trial.replicas[0].round == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_teacher_that_is_trained_along_is_validated(method: str, make_trial: MakeTrial) -> None:
    trial = make_trial(method=method)
    trial.advance()
    metrics = trial.advance().metrics[0]
    if method not in ("kdgan", "codis"):
        assert "valid_accuracy_teacher" not in metrics
        return
    replica = trial.replicas[0]
    with torch.no_grad():
        images = replica.data.pixels.to_input(replica.data.valid_images)
        predicted = replica.players["teacher"](images).argmax(dim=1)
    right = (predicted == replica.data.valid_labels).double().mean()
    assert metrics["valid_accuracy_teacher"] == pytest.approx(float(right))


def test_nothing_is_read_or_trained_before_the_first_advance(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    trial = Trial(make_config(), data_dir=None, cache_dir=tmp_path, device="cpu")
    assert list(tmp_path.iterdir()) == []
    assert not trial.done
    with pytest.raises(RuntimeError, match="has not been trained yet"):
        trial.result()
    trial.advance()
    with pytest.raises(RuntimeError, match="has not been trained yet"):
        trial.result()


def test_a_finished_trial_cannot_go_on(make_trial: MakeTrial) -> None:
    trial = make_trial()
    result = finish(trial)
    assert result.outcome in ("finished", "collapsed")
    with pytest.raises(RuntimeError, match="is done"):
        trial.advance()
    assert without_time(trial.result()) == without_time(result)


def test_nagan_runs(make_trial: MakeTrial) -> None:
    result = finish(make_trial(method="nagan", **GENTLE))
    assert result.outcome == "finished"
    assert result.seeds[0].test_score is not None
    assert result.seeds[0].test_score > 0.5


def test_the_supervised_method_learns(make_trial: MakeTrial) -> None:
    trial = make_trial(method="supervised", pretrain_steps=0, steps=150, learning_rate=3e-3)
    result = finish(trial)
    (seed,) = result.seeds
    assert result.outcome == "finished"
    assert seed.pretrained_valid_score < 0.3
    assert seed.test_score is not None
    assert seed.test_score > 0.6


def test_the_classifier_learns_from_the_teacher(make_trial: MakeTrial) -> None:
    """C is made to forget all it knew; with alpha 0 it can only have it back from T."""
    trial = make_trial(steps=120, learning_rate=3e-3, alpha=0.0, teacher_steps=0)
    trial.advance()
    with torch.no_grad():
        trial.replicas[0].players["classifier"].out.weight.zero_()
    (seed,) = finish(trial).seeds
    assert seed.test_score is not None
    assert seed.test_score > 0.6


def test_cells_share_their_pretrained_players(make_config: MakeConfig, tmp_path: Path) -> None:
    for changes in ({}, {"alpha": 0.1}, {"beta": 5, "tau_start": 2.0}, {"method": "nagan"}):
        config = make_config(pretrain_steps=6, **changes)
        run_trial(config, data_dir=None, cache_dir=tmp_path, device="cpu")
    assert len(list(tmp_path.rglob("*.pt"))) == 3


def test_nothing_but_the_cache_is_written(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    cache = tmp_path / "cache"
    run_trial(make_config(pretrain_steps=2), data_dir=None, cache_dir=cache, device="cpu")
    assert list((tmp_path / "here").iterdir()) == []
    assert [path.name for path in cache.iterdir()] == ["pretrained"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_matmul_precision_holds_during_training_only(
    precision: str, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_float32_matmul_precision()
    trial = make_trial(matmul_precision=precision)
    seen: list[str] = []
    check = Trial._check

    def noted(self: Trial, *args: object) -> dict[str, float]:
        seen.append(torch.get_float32_matmul_precision())
        return check(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Trial, "_check", noted)
    finish(trial)
    assert set(seen) == {precision}
    assert torch.get_float32_matmul_precision() == before


def test_absent_data_are_an_error_of_the_first_advance(
    make_config: MakeConfig, cache_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "mnist").touch()
    config = make_config(dataset="mnist")
    trial = Trial(config, data_dir=tmp_path, cache_dir=cache_dir, device="cpu")
    with pytest.raises(DataError, match="is a file"):
        trial.advance()


def test_every_field_is_a_factor_or_tested_elsewhere() -> None:
    tested = {name for name, _, _ in FACTORS}
    elsewhere = {"dataset", "architecture", "valid_size", "matmul_precision", "seeds", "player"}
    of_tags = {
        "tags_file", "feature_dropout", "word_dropout", "text_pooling", "embedding_size",
        "word_start", "word_vectors", "neighbours", "svm_cost",
    }  # fmt: skip
    # What is checked and logged, and what the sweep reads, is no part of the training.
    logged = {
        "evaluations", "matched", "authors_statistic", "log_gradient_variance", "gradient_batches",
    }  # fmt: skip
    assert {field.name for field in FIELDS} == tested | elsewhere | of_tags | logged
    assert tested.isdisjoint(elsewhere | of_tags | logged)
