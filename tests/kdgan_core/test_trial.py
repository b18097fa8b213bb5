"""The trial: every factor counts, results repeat, and every ending is recorded as what it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kdgan_core import trial as trial_module
from kdgan_core.config import TrialConfig
from kdgan_core.data import DataError, Dataset, load_dataset
from kdgan_core.players import build_player
from kdgan_core.pretrain import DEPENDS_ON
from kdgan_core.temperature import temperature
from kdgan_core.trial import OUTCOMES, Evaluation, SeedResult, Trial, TrialResult, run_trial

MakeConfig = Callable[..., TrialConfig]
State = dict[str, Tensor]


@pytest.fixture
def make_trial(make_config: MakeConfig, cache_dir: Path) -> Callable[..., Trial]:
    """A function that returns the trial of `make_config(**changes)`."""

    def make(**changes: object) -> Trial:
        return Trial(make_config(**changes), data_dir=None, cache_dir=cache_dir, device="cpu")

    return make


MakeTrial = Callable[..., Trial]
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


def spoil(trial: Trial, index: int = 0, size: float = 50.0, role: str = "classifier") -> None:
    """Large noise on a player's weights (NaN where `size` is): what it knew is gone."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in trial.replicas[index].players[role].parameters():
            p += size * torch.randn(p.shape, generator=generator)


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
    ("classifier_dropout", 0.3, {}),
    ("teacher_dropout", 0.3, {}),
    ("weight_decay", 1e-2, {}),
    ("rotation_degrees", 5.0, {}),
    ("shift", 0.3, {}),
    ("zoom", 0.3, {}),
]


@pytest.mark.parametrize("name, value, needs", FACTORS, ids=[name for name, _, _ in FACTORS])
def test_every_factor_changes_the_id_and_the_trained_classifier(
    name: str, value: object, needs: dict[str, object], make_trial: MakeTrial
) -> None:
    one, two = make_trial(**needs), make_trial(**needs, **{name: value})
    assert one.config.trial_id != two.config.trial_id
    assert not same(trained(one), trained(two))


@pytest.mark.parametrize("estimator", ["concrete", "straight_through"])
@pytest.mark.parametrize(
    "changes",
    [
        {"tau_kind": "linear"}, {"tau_kind": "cosine"}, {"tau_kind": "constant"},
        {"tau_start": 1.1}, {"tau_end": 0.11},
    ],
)  # fmt: skip
def test_every_schedule_is_another_training(
    changes: dict[str, object], estimator: str, make_trial: MakeTrial
) -> None:
    one, two = make_trial(estimator=estimator), make_trial(estimator=estimator, **changes)
    assert not same(trained(one), trained(two))


def test_another_seed_is_another_training(make_trial: MakeTrial) -> None:
    trial = make_trial(seeds=(0, 1))
    finish(trial)
    assert not same(classifier(trial, 0), classifier(trial, 1))
    draws = [torch.rand(4, generator=replica.noise) for replica in trial.replicas]
    assert not torch.equal(*draws)


def without_time(result: TrialResult) -> TrialResult:
    return dataclasses.replace(result, seconds=0.0, prepare_seconds=0.0)


@pytest.mark.parametrize("method", ["kdgan", "nagan", "supervised"])
def test_the_same_config_gives_the_same_result(
    method: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Bit by bit, with the pretrained players from the cache or not, whatever the global seed."""
    config = make_config(method=method, seeds=(0, 1))
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
        assert check.mean_valid_accuracy() == pytest.approx(sum(values) / 2)
    assert (result.step, result.trial_id) == (25, config.trial_id)
    for index, seed in enumerate(result.seeds):
        history = [check.metrics[index]["valid_accuracy"] for check in checks]
        assert seed.pretrained_valid_accuracy == history[0]
        assert seed.last_valid_accuracy == history[-1]
        assert seed.best_valid_accuracy == max(history[1:])
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
    assert set(evaluation.metrics[0]) == {"valid_accuracy"}
    assert trial.replicas[0].round == 0


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
    assert seed.test_accuracy is not None


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
    pretrained = expected.seeds[0].pretrained_valid_accuracy
    assert result.seeds[0] == SeedResult(0, "diverged", None, None, None, pretrained, None)
    assert result.seeds[1] == expected.seeds[1]
    assert same(classifier(trial, 1), classifier(undisturbed, 1))
    assert [check.step for check in checks] == [6, 12, 18, 24]
    for check in checks:
        assert set(check.metrics) == {1}
        assert check.mean_valid_accuracy() == check.metrics[1]["valid_accuracy"]
    assert checks[-1].tau == pytest.approx(0.1)


def test_a_trial_ends_when_every_seed_has_diverged(make_trial: MakeTrial) -> None:
    trial = make_trial(seeds=(0, 1))
    trial.advance()
    for index in (0, 1):
        spoil(trial, index, math.nan)
    evaluation = trial.advance()
    assert trial.done
    assert math.isnan(evaluation.mean_valid_accuracy())
    result = trial.result()
    assert result.outcome == "diverged"
    assert result.step == 6
    assert [seed.test_accuracy for seed in result.seeds] == [None, None]


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
    assert seed.best_valid_accuracy == valid[seed.best_step]
    dataset = load_dataset("digits", None)
    scores = {step: count_right(trial, states[step], dataset) for step in valid}
    assert seed.test_accuracy == pytest.approx(scores[seed.best_step])
    assert abs(scores[seed.best_step] - scores[60]) > 0.05


def test_the_pretrained_player_is_not_a_candidate(make_trial: MakeTrial) -> None:
    """It was not trained by the method; and a collapsed seed keeps its bad score."""
    trial = make_trial()
    pretrained = trial.advance().metrics[0]["valid_accuracy"]
    spoil(trial)
    result = finish(trial)
    (seed,) = result.seeds
    assert seed.best_step in (6, 12, 18, 24)
    assert seed.best_valid_accuracy is not None
    assert seed.best_valid_accuracy < pretrained - 0.2
    assert seed.pretrained_valid_accuracy == pretrained
    assert result.outcome == seed.outcome == "collapsed"
    assert seed.test_accuracy is not None
    assert seed.test_accuracy < pretrained


def test_collapse_needs_two_standard_errors(make_trial: MakeTrial) -> None:
    """0.8 on 200 images has a standard error of 0.0283."""
    for last, outcome in ((0.744, "finished"), (0.743, "collapsed"), (0.9, "finished")):
        trial = make_trial()
        finish(trial)
        trial._pretrained[0], trial._last[0] = 0.8, last
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
    assert first.last_valid_accuracy < first.best_valid_accuracy
    assert second.outcome == "finished"


def test_extreme_weights_collapse(make_trial: MakeTrial) -> None:
    """Both distillations far too strong: how KDGAN fails, without any non-finite number."""
    trial = make_trial(
        beta=1000, gamma=100, learning_rate=0.05, steps=40, alpha=0.5,
        learning_rate_schedule="constant",
    )  # fmt: skip
    result = finish(trial)
    assert result.outcome == "collapsed"
    assert result.seeds[0].test_accuracy is not None


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
    monkeypatch.setattr(trial_module, "load_dataset", lambda name, folder: blank)
    result = finish(make_trial())
    (one,), (two,) = honest.seeds, result.seeds
    assert one.test_accuracy != two.test_accuracy
    assert dataclasses.replace(one, test_accuracy=None) == dataclasses.replace(
        two, test_accuracy=None
    )


def test_nagan_runs(make_trial: MakeTrial) -> None:
    result = finish(make_trial(method="nagan", **GENTLE))
    assert result.outcome == "finished"
    assert result.seeds[0].test_accuracy is not None
    assert result.seeds[0].test_accuracy > 0.5


def test_the_supervised_method_learns(make_trial: MakeTrial) -> None:
    trial = make_trial(method="supervised", pretrain_steps=0, steps=150, learning_rate=3e-3)
    result = finish(trial)
    (seed,) = result.seeds
    assert result.outcome == "finished"
    assert seed.pretrained_valid_accuracy < 0.3
    assert seed.test_accuracy is not None
    assert seed.test_accuracy > 0.6


def test_the_classifier_learns_from_the_teacher(make_trial: MakeTrial) -> None:
    """C is made to forget all it knew; with alpha 0 it can only have it back from T."""
    trial = make_trial(steps=120, learning_rate=3e-3, alpha=0.0, teacher_steps=0)
    trial.advance()
    with torch.no_grad():
        trial.replicas[0].players["classifier"].out.weight.zero_()
    (seed,) = finish(trial).seeds
    assert seed.test_accuracy is not None
    assert seed.test_accuracy > 0.6


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

    def noted(self: Trial, replica: object) -> float:
        seen.append(torch.get_float32_matmul_precision())
        return check(self, replica)  # type: ignore[arg-type]

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


def test_pretraining_fields_are_among_the_factors() -> None:
    tested = {name for name, _, _ in FACTORS}
    elsewhere = {"dataset", "architecture", "valid_size", "matmul_precision"}
    assert set(DEPENDS_ON) <= tested | elsewhere
