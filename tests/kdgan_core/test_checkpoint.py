"""Checkpoints: a trial that is taken up again is the undisturbed one, to the bit."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdgan_core import pretrain
from kdgan_core.config import TrialConfig
from kdgan_core.names import ESTIMATORS
from kdgan_core.trial import Evaluation, Trial, TrialResult

MakeTrial = Callable[..., Trial]
GENTLE = {"learning_rate": 1e-6}  # C hardly moves, so that it only collapses when it is spoilt

# Rounds end within a pass over the images: 5 batches a pass, 3 rounds a check.
SHORT = {"steps": 12, "evaluations": 4, "seeds": (0, 1), "pretrain_steps": 40}
CELLS = [
    *[{"method": m, "estimator": e} for m in ("kdgan", "nagan") for e in ESTIMATORS],
    {"method": "kdgan", "control_variate": "none", "estimator": "score", "distillation": "kl"},
    {"method": "kdgan", "discriminator_steps": 2, "teacher_steps": 0, "classifier_steps": 2},
    *[{"method": m, "schedule": "fused"} for m in ("kdgan", "nagan")],
    {"method": "supervised"},
]
COSINE = {"learning_rate_schedule": "cosine"}
ALL_CELLS = [
    *({**cell, "learning_rate_schedule": s} for s in ("constant", "cosine") for cell in CELLS),
    {"method": "supervised", "player": "teacher", **COSINE},
    *({"method": name, **COSINE} for name in ("distn", "mimic", "noisy")),
    {"method": "noisy", "noise_form": "authors", **COSINE},
    {"method": "codis", "burn_in": 0.5, **COSINE},
    {
        "method": "kdgan", "teacher_average": 0.9, "teacher_label_weight": 1,
        "gamma_schedule": "cosine", "authors_statistic": True, **COSINE,
    },
    {"method": "kdgan", "log_gradient_variance": True, "gradient_batches": 2, **COSINE},
    {"schedule": "fused", "teacher_average": 0.9, "gamma_schedule": "cosine", **COSINE},
    {"schedule": "fused", "estimator": "authors", "classifier_steps": 2, **COSINE},
]  # fmt: skip


def report(evaluation: Evaluation) -> Evaluation:
    """The check without its times."""
    return dataclasses.replace(evaluation, seconds=0.0, seed_seconds={})


def finish(trial: Trial) -> tuple[list[Evaluation], TrialResult]:
    """The checks that were left, and the result; both without times."""
    checks = []
    while not trial.done:
        checks.append(report(trial.advance()))
    return checks, dataclasses.replace(trial.result(), seconds=0.0, prepare_seconds=0.0)


def weights(trial: Trial) -> dict[tuple[int, str, str], Tensor]:
    """A copy of every weight of every player and running mean of every seed."""
    return {
        (replica.seed, kind, name): value.clone()
        for replica in trial.replicas
        for kind, player in [
            *replica.players.items(),
            *((f"frozen {role}", player) for role, player in replica.frozen.items()),
            *((f"mean {role}", player) for role, player in replica.averages.items()),
        ]
        for name, value in player.state_dict().items()
    }


def same(one: Trial, two: Trial) -> bool:
    """Whether all weights are equal to the bit (NaN is equal to NaN)."""
    mine, theirs = weights(one), weights(two)
    return mine.keys() == theirs.keys() and all(
        torch.equal(mine[name].view(torch.int32), theirs[name].view(torch.int32)) for name in mine
    )


def spoil(trial: Trial, index: int, size: float) -> None:
    """Large noise on C's weights (NaN where `size` is): what it knew is gone."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in trial.replicas[index].players["classifier"].parameters():
            p += size * torch.randn(p.shape, generator=generator)


@pytest.fixture
def again(make_trial: MakeTrial, tmp_path: Path) -> Callable[[Trial], Trial]:
    """A function that saves a trial and returns a fresh one that has taken the checkpoint up."""

    def resumed(trial: Trial) -> Trial:
        trial.save(tmp_path / "new" / "trial.pt")
        fresh = make_trial(**trial.config.as_dict())
        assert fresh.resume(tmp_path / "new" / "trial.pt")
        return fresh

    return resumed


@pytest.mark.parametrize(
    "cell", ALL_CELLS, ids=lambda cell: "-".join(str(v) for v in cell.values())
)
def test_a_trial_resumed_at_every_check_is_the_undisturbed_one(
    cell: dict[str, object], make_trial: MakeTrial, again: Callable[[Trial], Trial]
) -> None:
    changes = {**SHORT, "steps": 6, "evaluations": 3, **cell}
    undisturbed, trial = make_trial(**changes), make_trial(**changes)
    checks, result = finish(undisturbed)
    for expected in checks:
        assert report(trial.advance()) == expected
        trial = again(trial)
        assert report(trial.evaluation) == expected
    assert finish(trial) == ([], result)
    assert same(trial, undisturbed)


@pytest.mark.parametrize("at", range(4))
def test_one_resume_is_enough_to_go_on_to_the_end(
    at: int, make_trial: MakeTrial, again: Callable[[Trial], Trial]
) -> None:
    undisturbed, trial = make_trial(**SHORT), make_trial(**SHORT)
    checks, result = finish(undisturbed)
    for _ in range(at + 1):
        trial.advance()
    trial = again(trial)
    assert finish(trial) == (checks[at + 1 :], result)
    assert same(trial, undisturbed)


def test_saving_does_not_disturb_the_training(make_trial: MakeTrial, tmp_path: Path) -> None:
    undisturbed, trial = make_trial(**SHORT), make_trial(**SHORT)
    checks, result = finish(undisturbed)
    saved = []
    while not trial.done:
        saved.append(report(trial.advance()))
        trial.save(tmp_path / "trial.pt")
    assert (saved, finish(trial)[1]) == (checks, result)
    assert same(trial, undisturbed)
    assert [path.name for path in tmp_path.iterdir()] == ["trial.pt"]


def test_the_best_classifier_so_far_is_kept(
    make_trial: MakeTrial, again: Callable[[Trial], Trial]
) -> None:
    """C is spoilt after its first check, so that the best one lies before the resume."""
    results = []
    for resume in (False, True):
        trial = make_trial(**GENTLE)
        trial.advance()
        trial.advance()
        spoil(trial, 0, 50.0)
        trial.advance()
        results.append(finish(again(trial) if resume else trial)[1])
    assert results[0] == results[1]
    (seed,) = results[1].seeds
    assert (seed.outcome, seed.best_step) == ("collapsed", 6)
    assert seed.test_score > seed.last_valid_score + 0.2


def test_a_diverged_seed_stays_diverged(
    make_trial: MakeTrial, again: Callable[[Trial], Trial]
) -> None:
    undisturbed, trial = make_trial(**SHORT), make_trial(**SHORT)
    checks, expected = finish(undisturbed)
    trial.advance()
    spoil(trial, 0, math.nan)
    trial.advance()
    trial = again(trial)
    left, result = finish(trial)
    assert [set(check.metrics) for check in left] == [{1}, {1}, {1}]
    assert [check.metrics[1] for check in left] == [check.metrics[1] for check in checks[2:]]
    assert [check.tau for check in left] == [check.tau for check in checks[2:]]
    assert [seed.outcome for seed in result.seeds] == ["diverged", expected.seeds[1].outcome]
    assert result.seeds[1] == expected.seeds[1]


def test_a_trial_of_diverged_seeds_is_done_when_it_is_resumed(
    make_trial: MakeTrial, again: Callable[[Trial], Trial]
) -> None:
    trial = make_trial(**SHORT)
    trial.advance()
    spoil(trial, 0, math.nan)
    spoil(trial, 1, math.nan)
    trial.advance()
    fresh = again(trial)
    assert fresh.done
    assert finish(fresh) == finish(trial)


def test_a_stopped_trial_stays_stopped(
    make_trial: MakeTrial, again: Callable[[Trial], Trial]
) -> None:
    trial = make_trial(**GENTLE)
    trial.advance()
    trial.advance()
    trial.stop()
    fresh = again(trial)
    assert fresh.done
    assert finish(fresh) == finish(trial)
    assert fresh.result().outcome == "stopped"


def test_time_goes_on_from_the_checkpoint(
    make_trial: MakeTrial, again: Callable[[Trial], Trial]
) -> None:
    trial = make_trial()
    trial.advance()
    before = trial.advance().seconds
    prepare_seconds = trial._prepare_seconds
    trial._seconds += 1000.0
    trial.replicas[0].seconds += 500.0
    fresh = again(trial)
    assert fresh.evaluation.seconds == before
    check = fresh.advance()
    assert 1000.0 + before < check.seconds < 1000.0 + before + 60.0
    assert 500.0 < check.seed_seconds[0] < 560.0
    finish(fresh)
    result = fresh.result()
    assert result.seconds > 1000.0 + before
    assert result.prepare_seconds == prepare_seconds > 0.0
    assert check.seed_seconds[0] < result.seeds[0].train_seconds < 560.0
    assert result.seeds[0].pretrain_seconds == trial.replicas[0].pretrain_seconds > 0.0


def test_there_is_nothing_to_save_before_the_first_check(
    make_trial: MakeTrial, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="nothing to save"):
        make_trial().save(tmp_path / "trial.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_trial_in_training_cannot_be_resumed(make_trial: MakeTrial, tmp_path: Path) -> None:
    trial = make_trial()
    trial.advance()
    trial.save(tmp_path / "trial.pt")
    with pytest.raises(RuntimeError, match="in training already"):
        trial.resume(tmp_path / "trial.pt")


def test_players_lost_from_the_cache_are_pretrained_again_at_the_configs_precision(
    make_config: Callable[..., TrialConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache keeps them for other trials, under a key that names the precision."""
    config = make_config(pretrain_steps=2, matmul_precision="high")
    cache, path = tmp_path / "cache", tmp_path / "trial.pt"
    trial = Trial(config, data_dir=None, cache_dir=cache, device="cpu")
    trial.advance()
    trial.save(path)
    shutil.rmtree(cache)
    seen: list[str] = []
    train = pretrain.train_supervised

    def noted(*arguments: object) -> None:
        seen.append(torch.get_float32_matmul_precision())
        train(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pretrain, "train_supervised", noted)
    before = torch.get_float32_matmul_precision()
    fresh = Trial(config, data_dir=None, cache_dir=cache, device="cpu")
    assert fresh.resume(path)
    assert seen == ["high"] * 3
    assert torch.get_float32_matmul_precision() == before != "high"
    assert finish(fresh) == finish(trial)
