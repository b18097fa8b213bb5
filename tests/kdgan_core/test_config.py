"""The config: ranges with good messages, rounds, JSON, and no torch on import."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdgan_core.config import FIELDS, TemperatureSchedule, TrialConfig, describe_range, parse_value
from kdgan_core.names import ARCHITECTURES, ESTIMATORS, METHODS, TAU_KINDS

BASE = TrialConfig(dataset="digits", architecture="small", valid_size=200, train_size=100)
OUT_OF_RANGE = [
    ("dataset", "cifar", "digits, mnist, cifar10"),
    ("method", "gan", "kdgan, nagan, distn, mimic, noisy, codis, supervised"),
    ("player", "discriminator", "classifier, teacher"),
    ("draw", "first", "balanced, last"),
    ("tau_kind", "step", "exponential, linear, cosine, constant"),
    ("estimator", "reinforce", ", ".join(ESTIMATORS)),
    ("control_variate", "mean", "leave_one_out, none"),
    ("distillation", "l1", "auto, l2, kl, sigmoid"),
    ("noise_form", "additive", "original, authors"),
    ("gamma_schedule", "linear", "constant, cosine"),
    ("matched", "epochs", "none, steps, seconds"),
    ("mirroring", 2, "true or false"),
    ("authors_statistic", "yes", "true or false"),
    ("log_gradient_variance", None, "true or false"),
    ("learning_rate_schedule", "step", "constant, cosine"),
    ("architecture", "resnet", ", ".join(ARCHITECTURES)),
    ("matmul_precision", "low", "highest, high, medium"),
    ("train_size", -1, "at least 0"),
    ("valid_size", 9, "at least 10"),
    ("seeds", (0, -1), "at least 0"),
    ("alpha", -0.001, "in [0, 1]"),
    ("alpha", 1.001, "in [0, 1]"),
    ("beta", 0.0, "above 0"),
    ("gamma", 0.0, "above 0"),
    ("tau_start", 0.0, "above 0"),
    ("tau_end", -0.1, "above 0"),
    ("samples", 0, "at least 1"),
    ("positives", 0, "at least 1"),
    ("negatives", 0, "at least 1"),
    ("distillation_temperature", 0.0, "above 0"),
    ("soft_weight", 1.1, "in [0, 1]"),
    ("noise_ratio", 0.96, "in [0, 0.95]"),
    ("noise_sigma", -0.1, "at least 0"),
    ("codistillation_weight", -0.1, "at least 0"),
    ("burn_in", 1.1, "in [0, 1]"),
    ("teacher_label_weight", -0.1, "at least 0"),
    ("classifier_label_weight", -0.1, "at least 0"),
    ("teacher_average", 1.0, "in [0, 0.99999]"),
    ("label_smoothing", 0.6, "in [0, 0.5]"),
    ("discriminator_warmup", -1, "at least 0"),
    ("steps", 0, "at least 1"),
    ("schedule", "parallel", "alternating, fused"),
    ("discriminator_steps", -1, "at least 0"),
    ("teacher_steps", -1, "at least 0"),
    ("classifier_steps", 0, "at least 1"),
    ("batch_size", 0, "at least 1"),
    ("learning_rate", 0.0, "above 0"),
    ("pretrain_steps", -1, "at least 0"),
    ("teacher_pretrain_steps", -1, "at least 0"),
    ("pretrain_learning_rate", 0.0, "above 0"),
    ("teacher_pretrain_learning_rate", -1e-3, "at least 0"),
    ("classifier_dropout", 0.96, "in [0, 0.95]"),
    ("teacher_dropout", -0.01, "in [0, 0.95]"),
    ("weight_decay", -1e-9, "at least 0"),
    ("rotation_degrees", 181.0, "in [0, 180]"),
    ("shift", 1.1, "in [0, 1]"),
    ("zoom", 0.91, "in [0, 0.9]"),
    ("feature_dropout", 0.96, "in [0, 0.95]"),
    ("word_dropout", -0.1, "in [0, 0.95]"),
    ("text_pooling", "mean", "sum, max, last"),
    ("embedding_size", 0, "at least 1"),
    ("word_start", "zeros", "tags, random"),
    ("label_loss", "hinge", "softmax, sigmoid"),
    ("teacher_learning_rate", -1e-4, "at least 0"),
    ("neighbours", -1, "at least 0"),
    ("svm_cost", 0.0, "above 0"),
    ("color_jitter", -0.1, "in [0, 1]"),
    ("cutout", 1.1, "in [0, 1]"),
    ("evaluations", 0, "at least 1"),
    ("gradient_batches", 1, "at least 2"),
]


def test_every_range_has_a_bad_value() -> None:
    names = {field.name for field in FIELDS}
    assert {name for name, _, _ in OUT_OF_RANGE} | {"tags_file", "word_vectors"} == names


@pytest.mark.parametrize("method", METHODS)
def test_the_automatic_distillation_is_that_of_the_method(method: str) -> None:
    """It is settled at once, so that auto and what it stands for are one trial."""
    auto = BASE.replace(method=method, distillation="auto")
    kind = "kl" if method in ("distn", "codis") else "l2"
    assert auto.distillation == kind
    assert auto.trial_id == BASE.replace(method=method, distillation=kind).trial_id
    assert TrialConfig(method=method).distillation == kind
    assert TrialConfig.from_dict(auto.as_dict()) == auto


@pytest.mark.parametrize("steps, rate, teacher", [(0, 0.0, (1499, 2e-3)), (7, 3e-3, (7, 3e-3))])
def test_t_may_be_pretrained_in_its_own_way(steps: int, rate: float, teacher: object) -> None:
    own = {"teacher_pretrain_steps": steps, "teacher_pretrain_learning_rate": rate}
    config = BASE.replace(pretrain_steps=1499, pretrain_learning_rate=2e-3, **own)
    for role in ("classifier", "teacher", "discriminator"):
        found = (config.pretraining(role), config.pretraining_learning_rate(role))
        assert found == (teacher if role == "teacher" else (1499, 2e-3))


def test_the_order_of_the_seeds_is_part_of_the_config() -> None:
    assert BASE.replace(seeds=(1, 0)).seeds == (1, 0)


@pytest.mark.parametrize("name, value, allowed", OUT_OF_RANGE)
def test_a_bad_value_is_named_with_its_range(name: str, value: object, allowed: str) -> None:
    shown = value[-1] if isinstance(value, tuple) else value
    with pytest.raises(ValueError) as error:
        BASE.replace(**{name: value})
    message = str(error.value)
    assert message.startswith(f"{name}={shown!r}")
    assert allowed in message


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"seeds": ()}, "seeds=() is empty"),
        ({"seeds": (1, 2, 1)}, "seeds=(1, 2, 1) names a seed twice"),
        ({"train_size": 1100, "valid_size": 200}, "1,297 images of digits"),
        ({"dataset": "mnist", "train_size": 55_001, "valid_size": 5000}, "60,000 images"),
        ({"architecture": "paper"}, "of digits: use small"),
        (
            {"dataset": "cifar10", "architecture": "authors"},
            "architecture='authors' does not exist for the 32x32 images of cifar10: use paper or"
            " small",
        ),
        ({"player": "teacher"}, "player='teacher' goes with method='supervised' alone, not with"),
        ({"steps": 19}, "evaluations=20 is more than the 19 rounds"),
        ({"steps": 20, "classifier_steps": 2}, "evaluations=20 is more than the 10 rounds"),
        (
            {"schedule": "fused", "discriminator_steps": 0},
            "discriminator_steps=0 does not go with schedule='fused'",
        ),
        (
            {"schedule": "fused", "method": "nagan", "discriminator_steps": 0},
            "give at least 1, or use schedule='alternating'",
        ),
        ({"schedule": "fused", "teacher_steps": 0}, "teacher_steps=0 does not go with"),
    ],
)
def test_fields_that_contradict_each_other(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError) as error:
        BASE.replace(**changes)
    assert words in str(error.value)


@pytest.mark.parametrize("method", ["nagan", "mimic", "supervised", "codis"])
def test_a_fused_schedule_asks_for_the_players_that_the_method_has(method: str) -> None:
    assert BASE.replace(schedule="fused", method=method, teacher_steps=0).teacher_steps == 0


def test_bounds_themselves_are_allowed() -> None:
    config = BASE.replace(train_size=1097, valid_size=200, alpha=0, steps=20, evaluations=20)
    assert config.rounds == 20
    assert BASE.replace(alpha=1).alpha == 1.0


@pytest.mark.parametrize("steps, each, rounds", [(10, 1, 10), (10, 3, 4), (9, 3, 3), (1, 5, 1)])
def test_rounds_cover_the_classifier_steps(steps: int, each: int, rounds: int) -> None:
    config = BASE.replace(steps=steps, classifier_steps=each, evaluations=1)
    assert config.rounds == rounds


def test_an_unknown_name_suggests_the_near_ones() -> None:
    with pytest.raises(ValueError, match=r"'aplha' is not a field.*did you mean alpha"):
        TrialConfig.from_dict({"aplha": 0.5})
    with pytest.raises(ValueError, match=r"'tau_begin'.*tau_"):
        BASE.replace(tau_begin=1.0)
    with pytest.raises(ValueError, match=r"^'zzz' is not a field"):
        parse_value("zzz", "1")


@st.composite
def configs(draw: st.DrawFn) -> TrialConfig:
    positive = st.floats(1e-6, 1e6)
    unit = st.floats(0.0, 1.0)
    steps = draw(st.integers(1, 10_000))
    return TrialConfig(
        train_size=draw(st.integers(10, 50_000)),
        seeds=tuple(draw(st.lists(st.integers(0, 2**31), min_size=1, max_size=5, unique=True))),
        alpha=draw(unit),
        beta=draw(positive),
        gamma=draw(positive),
        tau_kind=draw(st.sampled_from(TAU_KINDS)),
        tau_start=draw(positive),
        tau_end=draw(positive),
        estimator=draw(st.sampled_from(ESTIMATORS)),
        steps=steps,
        evaluations=draw(st.integers(1, steps)),
        shift=draw(unit),
    )


@settings(deadline=None)
@given(configs())
def test_a_config_survives_json(config: TrialConfig) -> None:
    again = TrialConfig.from_dict(json.loads(config.canonical_json()))
    assert again == config
    assert again.trial_id == config.trial_id
    assert TrialConfig.from_dict(config.as_dict()) == config


def test_a_config_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        BASE.alpha = 0.1  # type: ignore[misc]


def test_every_field_has_help_and_a_range_in_words() -> None:
    for field in FIELDS:
        assert len(field.metadata["help"]) > 5
        assert describe_range(field.metadata) != "any"
    ranges = {field.name: describe_range(field.metadata) for field in FIELDS}
    assert ranges["alpha"] == "in [0, 1]"
    assert ranges["beta"] == "above 0"
    assert ranges["steps"] == "at least 1"
    assert ranges["distillation"] == "auto|l2|kl|sigmoid"
    assert ranges["mirroring"] == "true|false"


def test_a_schedule_prints_short() -> None:
    assert str(TemperatureSchedule()) == "exponential 1→0.1"
    assert str(TemperatureSchedule("constant", 0.5, 0.5)) == "constant 0.5"


@pytest.mark.parametrize(
    "statement", ["import kdgan_core.config", "from kdgan_core import TrialConfig"]
)
def test_the_config_does_not_import_torch(statement: str) -> None:
    heavy = "[m for m in ('torch', 'sklearn', 'ray', 'mlflow') if m in sys.modules]"
    code = f"import sys; {statement}; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_there() -> None:
    import kdgan_core

    assert all(getattr(kdgan_core, name).__name__ == name for name in kdgan_core.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kdgan_core.nothing
