"""What tells one trial from another: its id, and that of its cell."""

from __future__ import annotations

import hashlib
import json

import pytest

from kdgan_core.config import FIELDS, LATER, TemperatureSchedule, TrialConfig

# Another valid value of every field, to be set on `BASE`.
BASE = TrialConfig(dataset="digits", architecture="small", valid_size=200, train_size=100)
OTHER: dict[str, object] = {
    "dataset": "mnist",
    "method": "nagan",
    "player": "teacher",
    "tags_file": "posts.parquet",
    "train_size": 101,
    "seeds": (0, 1, 2, 3, 5),
    "draw": "last",
    "valid_size": 201,
    "alpha": 0.25,
    "beta": 2.0,
    "gamma": 0.1,
    "tau_kind": "linear",
    "tau_start": 0.9,
    "tau_end": 0.2,
    "estimator": "score",
    "samples": 4,
    "control_variate": "none",
    "positives": 1,
    "negatives": 5,
    "distillation": "kl",
    "distillation_temperature": 2.0,
    "soft_weight": 0.5,
    "noise_form": "authors",
    "noise_ratio": 0.2,
    "noise_sigma": 0.2,
    "codistillation_weight": 0.5,
    "burn_in": 0.5,
    "teacher_label_weight": 1.0,
    "classifier_label_weight": 1.0,
    "teacher_average": 0.9,
    "gamma_schedule": "cosine",
    "label_smoothing": 0.1,
    "discriminator_warmup": 5,
    "steps": 2999,
    "schedule": "fused",
    "discriminator_steps": 2,
    "teacher_steps": 2,
    "classifier_steps": 2,
    "batch_size": 49,
    "learning_rate": 1e-4,
    "learning_rate_schedule": "constant",
    "pretrain_steps": 1499,
    "teacher_pretrain_steps": 1499,
    "pretrain_learning_rate": 2e-3,
    "teacher_pretrain_learning_rate": 3e-3,
    "architecture": "paper",
    "classifier_dropout": 0.2,
    "teacher_dropout": 0.4,
    "weight_decay": 0.0,
    "rotation_degrees": 10.0,
    "shift": 0.2,
    "zoom": 0.2,
    "mirroring": True,
    "color_jitter": 0.4,
    "cutout": 0.25,
    "matmul_precision": "highest",
    "feature_dropout": 0.2,
    "word_dropout": 0.2,
    "text_pooling": "max",
    "embedding_size": 50,
    "word_start": "random",
    "label_loss": "sigmoid",
    "teacher_learning_rate": 1e-4,
    "word_vectors": "vectors.txt",
    "neighbours": 50,
    "svm_cost": 0.1,
    "evaluations": 10,
    "matched": "steps",
    "authors_statistic": True,
    "log_gradient_variance": True,
    "gradient_batches": 8,
}
# What else must be set for the value to be allowed.
NEEDS: dict[str, dict[str, object]] = {
    "architecture": {"dataset": "mnist"},
    "player": {"method": "supervised"},
    "tags_file": {"dataset": "tags"},
}

# Field, a value just outside, and the words of what is allowed.


def base_of(name: str) -> TrialConfig:
    """BASE with what the field's other value needs."""
    return BASE.replace(**NEEDS.get(name, {}))


def other(name: str) -> TrialConfig:
    """`base_of` with another value of the field."""
    return base_of(name).replace(**{name: OTHER[name]})


def test_every_field_has_another_value() -> None:
    assert set(OTHER) == {field.name for field in FIELDS}


@pytest.mark.parametrize("name", OTHER)
def test_every_field_changes_the_id(name: str) -> None:
    base = base_of(name)
    assert other(name).trial_id != base.trial_id
    assert other(name).replace(**{name: getattr(base, name)}).trial_id == base.trial_id


def test_the_id_is_the_hash_of_the_sorted_compact_json() -> None:
    """Without fields that came later: `test_an_option_that_came_later_renames_no_trial`."""
    values = {name: getattr(BASE, name) for name in sorted(OTHER) if name not in LATER}
    text = json.dumps(values, separators=(",", ":"))
    assert BASE.trial_id == hashlib.sha256(text.encode()).hexdigest()[:12]
    assert len(BASE.trial_id) == 12


def test_an_option_that_came_later_renames_no_trial() -> None:
    """These ids were made before `LATER` existed. If they differ because a field was added, it
    is to be `later`; if because a default was changed, recorded sweeps would be another one."""
    assert (TrialConfig().trial_id, TrialConfig().cell_id) == ("6661e77e9622", "fc6d628a0e9c")
    assert set(LATER) == {"color_jitter", "teacher_pretrain_learning_rate"}
    assert set(TrialConfig().as_dict()) - set(TrialConfig().identity()) == set(LATER)


@pytest.mark.parametrize("name", sorted(LATER))
def test_an_option_that_came_later_is_kept_and_told_apart(name: str) -> None:
    changed = BASE.replace(**{name: OTHER[name]})
    assert changed.identity()[name] == OTHER[name]
    assert TrialConfig.from_dict(changed.identity()) == changed
    assert TrialConfig.from_dict(BASE.identity()) == BASE
    assert BASE.as_dict()[name] == LATER[name]


@pytest.mark.parametrize(
    "one, two",
    [
        ({"alpha": 1}, {"alpha": 1.0}),
        ({"beta": 10}, {"beta": 1e1}),
        ({"steps": 3000}, {"steps": 3000.0}),
        ({"seeds": [0, 1]}, {"seeds": (0, 1)}),
        ({"seeds": (0.0, 1.0)}, {"seeds": (0, 1)}),
        ({"shift": -0.0}, {"shift": 0.0}),
        ({"alpha": 0.25, "beta": 2}, {"beta": 2.0, "alpha": 0.25}),
    ],
)
def test_spelling_and_order_do_not_change_the_id(
    one: dict[str, object], two: dict[str, object]
) -> None:
    assert TrialConfig.from_dict(one).trial_id == TrialConfig.from_dict(two).trial_id
    assert TrialConfig.from_dict(one) == TrialConfig.from_dict(two)


@pytest.mark.parametrize("name", OTHER)
def test_every_field_but_the_seeds_changes_the_id_of_the_cell(name: str) -> None:
    base = base_of(name)
    assert (other(name).cell_id == base.cell_id) == (name == "seeds")
    assert base.cell_id != base.trial_id
    assert len(base.cell_id) == 12


def test_a_constant_schedule_ignores_its_end() -> None:
    one = BASE.replace(tau_kind="constant", tau_start=0.5, tau_end=0.1)
    two = BASE.replace(tau_kind="constant", tau_start=0.5, tau_end=0.9)
    assert one.trial_id == two.trial_id
    assert one.temperature == TemperatureSchedule("constant", 0.5, 0.5)
    assert one.trial_id != one.replace(tau_start=0.6).trial_id
