"""The configuration of one trial: every knob with its unit, range and source.

Importable without torch, so that a command line can show its help at once.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import typing
from dataclasses import dataclass
from typing import Any

DATASETS = ("digits", "mnist")
METHODS = ("kdgan", "nagan", "supervised")
ESTIMATORS = ("concrete", "density", "straight_through", "score", "expectation")
TAU_KINDS = ("exponential", "linear", "cosine", "constant")
ARCHITECTURES = ("paper", "authors", "small")

# Rows of each data set: (pool that training and validation images are drawn from, test, classes).
DATASET_SIZES = {"digits": (1297, 500, 10), "mnist": (60_000, 10_000, 10)}
DATASET_SIDE = {"digits": 8, "mnist": 28}


def _knob(
    default: object,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field that carries its help text and its valid range.

    `low` and `high` are inclusive bounds, `above` an exclusive lower one.
    """
    limits = {"low": low, "high": high, "above": above, "choices": choices, "help": help}
    return dataclasses.field(default=default, metadata=limits)


@dataclass(frozen=True)
class TemperatureSchedule:
    """tau of Eq. 9 over training, from `start` to `end` (paper: exponential, 1.0 to 0.1)."""

    kind: str = "exponential"
    start: float = 1.0
    end: float = 0.1

    def __str__(self) -> str:
        if self.kind == "constant":
            return f"constant {self.start:g}"
        return f"{self.kind} {self.start:g}→{self.end:g}"


@dataclass(frozen=True)
class TrialConfig:
    """One cell of a sweep: one configuration trained under each of `seeds`.

    Raises:
        ValueError: a field is outside its range, or two fields contradict each other; the message
            names the field, the value and what is allowed.
    """

    dataset: str = _knob("mnist", "data set", choices=DATASETS)
    method: str = _knob("kdgan", "training method", choices=METHODS)
    train_size: int = _knob(1000, "labelled training images, n (Table 1)", low=10)
    seeds: tuple[int, ...] = _knob((0, 1, 2, 3, 4), "seeds, one training each", low=0)
    draw: str = _knob(
        "balanced",
        "how the n images are drawn: 'balanced' over the classes by seed, or 'last' n of the"
        " training file (authors' code)",
        choices=("balanced", "last"),
    )
    valid_size: int = _knob(5000, "validation images, drawn by seed from the rest", low=10)

    alpha: float = _knob(
        0.5, "weight of the classifier's adversarial term, 1-alpha the teacher's (Eq. 4)",
        low=0.0, high=1.0,
    )  # fmt: skip
    beta: float = _knob(1.0, "weight of the distillation into C (Eq. 4)", above=0.0)
    gamma: float = _knob(0.01, "weight of the distillation into T (Eq. 4)", above=0.0)
    tau_kind: str = _knob("exponential", "temperature schedule (Eq. 9)", choices=TAU_KINDS)
    tau_start: float = _knob(1.0, "first temperature (section 4: 1.0)", above=0.0)
    tau_end: float = _knob(0.1, "last temperature (section 4: 0.1)", above=0.0)

    estimator: str = _knob(
        "straight_through", "reading of the adversarial gradient, Eq. 8 (docs/estimators.md)",
        choices=ESTIMATORS,
    )  # fmt: skip
    samples: int = _knob(8, "labels drawn per image and step, k of Algorithm 1", low=1)
    control_variate: str = _knob(
        "leave_one_out", "baseline subtracted from the reward: mean of the image's other draws",
        choices=("leave_one_out", "none"),
    )  # fmt: skip
    distillation: str = _knob(
        "l2", "L_DS: half squared distance of logits, or KL at a temperature", choices=("l2", "kl")
    )
    distillation_temperature: float = _knob(3.0, "temperature of the KL distillation", above=0.0)

    steps: int = _knob(3000, "updates of the classifier", low=1)
    discriminator_steps: int = _knob(1, "updates of D in a round of Algorithm 1", low=0)
    teacher_steps: int = _knob(1, "updates of T in a round of Algorithm 1", low=0)
    classifier_steps: int = _knob(1, "updates of C in a round of Algorithm 1", low=1)
    batch_size: int = _knob(50, "images in a minibatch (authors: 10 at n=100, 50 at 1,000)", low=1)
    learning_rate: float = _knob(
        1e-3, "Adam, all players (authors: 5e-4 in their sweep, 1e-3 elsewhere)", above=0.0
    )
    learning_rate_schedule: str = _knob(
        "cosine", "learning rate over training", choices=("constant", "cosine")
    )
    pretrain_steps: int = _knob(1500, "supervised updates of C, T and D before the game", low=0)
    pretrain_learning_rate: float = _knob(1e-3, "Adam in pretraining (authors: 1e-3)", above=0.0)

    architecture: str = _knob(
        "paper", "players: the paper's, the authors' code's, or small ones", choices=ARCHITECTURES
    )
    classifier_dropout: float = _knob(0.12, "dropped after C's hidden layers", low=0.0, high=0.95)
    teacher_dropout: float = _knob(
        0.5, "dropped after the wide layer of T and D", low=0, high=0.95
    )
    weight_decay: float = _knob(4e-5, "L2 penalty, 0.5 * weight_decay * ||w||^2", low=0.0)
    rotation_degrees: float = _knob(15.0, "largest random rotation, degrees", low=0.0, high=180.0)
    shift: float = _knob(0.1, "largest random shift, fraction of the side", low=0.0, high=1.0)
    zoom: float = _knob(0.1, "largest random zoom per axis, fraction", low=0.0, high=0.9)
    matmul_precision: str = _knob(
        "medium", "torch's float32 matmul precision: on CUDA 'high' and 'medium' use TF32",
        choices=("highest", "high", "medium"),
    )  # fmt: skip
    evaluations: int = _knob(20, "validation checks, evenly spaced over the steps", low=1)

    def __post_init__(self) -> None:
        types = _types()
        for field in dataclasses.fields(self):
            value = _typed(field.name, getattr(self, field.name), types[field.name])
            object.__setattr__(self, field.name, value)
            for one in value if isinstance(value, tuple) else (value,):
                _check_range(field.name, one, field.metadata)
        if self.tau_kind == "constant":  # the end has no meaning then, and must not change the id
            object.__setattr__(self, "tau_end", self.tau_start)
        self._check_together()

    def _check_together(self) -> None:
        pool, _, classes = DATASET_SIZES[self.dataset]
        if not self.seeds:
            raise ValueError("seeds=() is empty: give at least one seed")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds} names a seed twice")
        if self.train_size < classes:
            raise ValueError(
                f"train_size={self.train_size} is less than the {classes} classes of"
                f" {self.dataset}: give at least one image a class"
            )
        if self.train_size + self.valid_size > pool:
            raise ValueError(
                f"train_size={self.train_size} plus valid_size={self.valid_size} is more than the"
                f" {pool:,} images of {self.dataset} that may be drawn: lower one of them"
            )
        if self.architecture != "small" and DATASET_SIDE[self.dataset] != 28:
            raise ValueError(
                f"architecture={self.architecture!r} needs 28x28 images, {self.dataset} has"
                f" {DATASET_SIDE[self.dataset]}x{DATASET_SIDE[self.dataset]}: use 'small'"
            )
        if self.evaluations > self.rounds:
            raise ValueError(
                f"evaluations={self.evaluations} is more than the {self.rounds} rounds of"
                f" training: lower it or raise steps={self.steps}"
            )

    @property
    def rounds(self) -> int:
        """Rounds of Algorithm 1 (D, then T, then C steps) that give `steps` updates of C."""
        return math.ceil(self.steps / self.classifier_steps)

    @property
    def temperature(self) -> TemperatureSchedule:
        return TemperatureSchedule(self.tau_kind, self.tau_start, self.tau_end)

    def replace(self, **changes: object) -> TrialConfig:
        """A copy with some fields changed; see `check_names` for unknown names."""
        check_names(changes)
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, object]:
        """Field names to plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def canonical_json(self) -> str:
        return json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))

    @property
    def trial_id(self) -> str:
        """First 12 hex digits of the sha256 of the canonical JSON."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:12]

    @property
    def cell_id(self) -> str:
        """Like `trial_id`, but without the seeds: the same for all trials of one cell."""
        values = {name: value for name, value in self.as_dict().items() if name != "seeds"}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @classmethod
    def from_dict(cls, values: typing.Mapping[str, object]) -> TrialConfig:
        """The config with these fields set, the others at their defaults."""
        check_names(values)
        return cls(**values)  # type: ignore[arg-type]


@functools.cache
def _types() -> dict[str, Any]:
    """Field -> type."""
    return typing.get_type_hints(TrialConfig)


FIELDS: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(TrialConfig)


def check_names(values: typing.Iterable[str]) -> None:
    """Raises ValueError naming the first unknown field and the known ones that look like it."""
    import difflib

    known = [field.name for field in FIELDS]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known)
            hint = f": did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"{name!r} is not a field of the trial configuration{hint}")


def parse_value(name: str, text: str) -> object:
    """The value of `text` typed for field `name` (a tuple is written with commas: 0,1,2).

    Raises:
        ValueError: an unknown field, or a text that is not of its type.
    """
    check_names([name])
    kind = _types()[name]
    parts: object = text
    if kind == tuple[int, ...]:
        parts = [part for part in text.split(",") if part.strip()]
    return _typed(name, parts, kind)


def _typed(name: str, value: object, kind: object) -> object:
    """`value` as the field's type, so that 1 and 1.0 give the same trial_id."""
    wanted = {int: "a whole number", float: "a finite number"}.get(kind, "whole numbers")  # type: ignore[call-overload]
    try:
        if kind is str:
            return str(value)
        if kind is float:
            number = float(value) + 0.0  # type: ignore[arg-type]  # -0.0 is 0.0
            if isinstance(value, bool) or not math.isfinite(number):
                raise ValueError
            return number
        if kind is int:
            return _whole(value)
        if isinstance(value, str):
            raise ValueError
        return tuple(_whole(one) for one in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name}={value!r} is not {wanted}") from None


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, bool) or float(value) != int(value):  # type: ignore[call-overload, arg-type]
        raise ValueError
    return int(value)  # type: ignore[call-overload, no-any-return]


def _check_range(name: str, value: float | str, limits: typing.Mapping[str, Any]) -> None:
    if limits["choices"] and value not in limits["choices"]:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(limits['choices'])}")
    wanted = describe_range(limits)
    low, high, above = limits["low"], limits["high"], limits["above"]
    if isinstance(value, str):
        return
    if (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
    ):
        raise ValueError(f"{name}={value!r} is out of range: it must be {wanted}")


def describe_range(limits: typing.Mapping[str, Any]) -> str:
    """The valid range in words, such as 'in [0, 1]' or 'above 0'; choices are listed."""
    if limits["choices"]:
        return "|".join(limits["choices"])
    if limits["above"] is not None:
        return f"above {limits['above']:g}"
    if limits["low"] is not None and limits["high"] is not None:
        return f"in [{limits['low']:g}, {limits['high']:g}]"
    return f"at least {limits['low']:g}" if limits["low"] is not None else "any"
