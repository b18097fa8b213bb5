"""What a seed has cost, and the authors' statistic: counted, and no part of the training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kdgan_core.data import load_dataset
from kdgan_core.names import METHODS
from kdgan_core.trial import Evaluation, Trial, TrialResult

MakeTrial = Callable[..., Trial]
SHORT: dict[str, object] = {"steps": 6, "evaluations": 2, "classifier_steps": 2}
ROUNDS = 3
PRETRAINED, TEACHER = 20, 30  # updates before the game
# Updates of C, T and D of each method with 2, 3 and 1 steps of C, T and D in a round.
C, T, D = 2 * ROUNDS, 3 * ROUNDS, ROUNDS
UPDATES: list[tuple[dict[str, object], tuple[int, int, int]]] = [
    ({"method": "kdgan"}, (PRETRAINED + C, TEACHER + T, PRETRAINED + D)),
    ({"method": "nagan"}, (PRETRAINED + C, 0, PRETRAINED + D)),
    ({"method": "kdgan", "discriminator_warmup": 7}, (PRETRAINED + C, TEACHER + T, 27 + D)),
    ({"method": "nagan", "discriminator_warmup": 7}, (PRETRAINED + C, 0, 27 + D)),
    ({"method": "kdgan", "schedule": "fused"}, (PRETRAINED + C, TEACHER + T, PRETRAINED + D)),
    ({"method": "nagan", "schedule": "fused"}, (PRETRAINED + C, 0, PRETRAINED + D)),
    (
        {"method": "kdgan", "schedule": "fused", "discriminator_warmup": 7},
        (PRETRAINED + C, TEACHER + T, 27 + D),
    ),
    ({"method": "distn"}, (PRETRAINED + C, TEACHER, 0)),  # its fixed teacher counts
    ({"method": "mimic"}, (PRETRAINED + C, TEACHER, 0)),
    ({"method": "noisy"}, (PRETRAINED + C, TEACHER, 0)),
    ({"method": "codis"}, (C, T, 0)),  # from scratch
    ({"method": "supervised"}, (PRETRAINED + C, 0, 0)),
    ({"method": "supervised", "player": "teacher"}, (0, TEACHER + C, 0)),
]


def run(trial: Trial) -> tuple[list[Evaluation], TrialResult]:
    checks = []
    while not trial.done:
        checks.append(trial.advance())
    return checks, trial.result()


def test_no_method_is_left_out() -> None:
    assert {changes["method"] for changes, _ in UPDATES} == set(METHODS)


def counts(result: TrialResult) -> tuple[int, int, int]:
    (seed,) = result.seeds
    return seed.updates_classifier, seed.updates_teacher, seed.updates_discriminator


@pytest.mark.parametrize(
    "changes, expected", UPDATES, ids=["-".join(map(str, c.values())) for c, _ in UPDATES]
)
def test_updates_of_every_player_are_counted_with_their_pretraining(
    changes: dict[str, object], expected: tuple[int, int, int], make_trial: MakeTrial
) -> None:
    trial = make_trial(
        **SHORT, **changes, teacher_steps=3, pretrain_steps=PRETRAINED,
        teacher_pretrain_steps=TEACHER,
    )  # fmt: skip
    steps: list[int] = []
    optimize = torch.optim.Adam.step

    def counted(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> object:
        steps.append(1)
        return optimize(self, *args, **kwargs)

    trial.advance()  # pretraining
    before = sum(trial.replicas[0].updates.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", counted)
        _, result = run(trial)
    assert counts(result) == expected
    assert sum(expected) == before + len(steps)


def test_without_a_number_of_its_own_the_teacher_is_pretrained_as_the_others(
    make_trial: MakeTrial,
) -> None:
    trial = make_trial(pretrain_steps=PRETRAINED, **SHORT)
    trial.advance()
    assert trial.replicas[0].updates == dict.fromkeys(trial.replicas[0].players, PRETRAINED)


def test_only_the_updates_that_were_made_are_counted(make_trial: MakeTrial) -> None:
    trial = make_trial(pretrain_steps=PRETRAINED, **{**SHORT, "classifier_steps": 1})
    trial.advance()
    trial.advance()
    trial.stop()
    assert counts(trial.result()) == (PRETRAINED + 3,) * 3


def test_seconds_are_those_of_training_and_of_the_pretraining_that_was_needed(
    make_trial: MakeTrial,
) -> None:
    trial = make_trial(seeds=(0, 1), pretrain_steps=PRETRAINED, evaluations=3)
    checks, result = run(trial)
    for seed in (0, 1):
        seconds = [check.seed_seconds[seed] for check in checks]
        assert seconds == sorted(seconds)
        assert 0.0 <= seconds[0] < seconds[1] < seconds[2] < seconds[3]
        assert result.seeds[seed].train_seconds == seconds[-1]
    trained = sum(seed.train_seconds for seed in result.seeds)
    assert trained < checks[-1].seconds - result.prepare_seconds
    again = run(make_trial(seeds=(0, 1), pretrain_steps=PRETRAINED, evaluations=3))[1]
    for one, two in zip(result.seeds, again.seeds, strict=True):
        # The players come from the cache, and cost what they did.
        assert one.pretrain_seconds == two.pretrain_seconds > 0.0
    assert result.seeds[0].pretrain_seconds != result.seeds[1].pretrain_seconds


def test_pretraining_costs_what_its_players_did(make_trial: MakeTrial) -> None:
    seconds = {}
    for method in ("kdgan", "mimic", "supervised", "codis"):
        trial = make_trial(method=method, pretrain_steps=PRETRAINED)
        trial.advance()
        seconds[method] = trial.replicas[0].pretrain_seconds
    assert seconds["kdgan"] > seconds["mimic"] > seconds["supervised"] > seconds["codis"] == 0.0


def test_seconds_are_no_part_of_a_seeds_equality(make_trial: MakeTrial) -> None:
    (seed,) = run(make_trial(**SHORT))[1].seeds
    other = dataclasses.replace(seed, train_seconds=99.0, pretrain_seconds=99.0)
    assert other == seed
    assert dataclasses.replace(seed, updates_teacher=1) != seed


def test_the_authors_statistic_is_the_best_of_all_test_evaluations(make_trial: MakeTrial) -> None:
    """Counted again by hand at every check but the pretrained one."""
    trial = make_trial(authors_statistic=True, steps=60, evaluations=6, learning_rate=3e-3)
    dataset = load_dataset("digits", None)
    images = torch.from_numpy(dataset.test_images).float() / 16.0
    found = []
    while not trial.done:
        trial.advance()
        with torch.no_grad():
            answers = trial.replicas[0].players["classifier"](images).argmax(dim=1)
        found.append(float((answers.numpy() == dataset.test_labels).mean()))
    (seed,) = trial.result().seeds
    assert seed.best_test_evaluation == {"accuracy": pytest.approx(max(found[1:]))}
    assert len(set(found[1:])) > 1
    assert seed.test_score is not None
    assert seed.best_test_evaluation["accuracy"] >= seed.test_score
    assert seed.as_record()["best_test_evaluation"] == seed.best_test_evaluation["accuracy"]


def test_the_authors_statistic_selects_nothing(make_trial: MakeTrial) -> None:
    plain, asked = (
        run(make_trial(seeds=(0, 1), authors_statistic=on))[1].seeds for on in (False, True)
    )
    for one, two in zip(plain, asked, strict=True):
        assert one.best_test_evaluation == {}
        assert "best_test_evaluation" not in one.as_record()
        assert two.test_score is not None
        assert two.best_test_evaluation["accuracy"] >= two.test_score
        assert dataclasses.replace(two, best_test_evaluation={}) == one


def test_the_teacher_alone_is_scored_where_it_is_asked_for(make_trial: MakeTrial) -> None:
    trial = make_trial(
        method="supervised", player="teacher", pretrain_steps=0, steps=100, learning_rate=3e-3
    )
    dataset = load_dataset("digits", None)
    images = torch.from_numpy(dataset.test_images).float() / 16.0
    scores: dict[int, float] = {}
    while not trial.done:
        check = trial.advance()
        with torch.no_grad():
            answers = trial.replicas[0].players["teacher"](images).argmax(dim=1)
        scores[check.step] = float((answers.numpy() == dataset.test_labels).mean())
    (seed,) = trial.result().seeds
    assert seed.best_step is not None
    assert seed.test_score is not None
    assert seed.test_score == pytest.approx(scores[seed.best_step])
    assert seed.test_score > 0.6 > 0.3 > seed.pretrained_valid_score
