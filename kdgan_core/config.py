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

from kdgan_core.config_checks import check_together
from kdgan_core.knobs import check_range, describe_range, knob, typed
from kdgan_core.names import (
    ARCHITECTURES,
    DATASETS,
    ESTIMATORS,
    METHODS,
    RECOMMENDERS,
    SCHEDULES,
    TAG_DATASETS,
    TAU_KINDS,
)

__all__ = [
    "TemperatureSchedule", "TrialConfig", "check_names", "describe_range", "parse_value",
    "score_of",
]  # fmt: skip


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

    dataset: str = knob("mnist", "data set", choices=DATASETS)
    tags_file: str = knob("", "Parquet file of the data set tags; empty for the generated posts")
    method: str = knob(
        "kdgan", "training method, or one of the published tag recommenders",
        choices=METHODS + RECOMMENDERS,
    )  # fmt: skip
    player: str = knob(
        "classifier", "who is trained and scored by the method supervised: C alone or T alone",
        choices=("classifier", "teacher"),
    )  # fmt: skip
    train_size: int = knob(
        1000, "labelled training images, n (Table 1); 0 for all posts of a file of tags", low=0
    )
    seeds: tuple[int, ...] = knob((0, 1, 2, 3, 4), "seeds, one training each", low=0)
    draw: str = knob(
        "balanced",
        "how the n images are drawn: 'balanced' over the classes by seed, or 'last' n of the"
        " training file (authors' code)",
        choices=("balanced", "last"),
    )
    valid_size: int = knob(
        5000, "validation images, drawn by seed from the rest; a file of tags has its own", low=10
    )

    alpha: float = knob(
        0.5, "weight of the classifier's adversarial term, 1-alpha the teacher's (Eq. 4)",
        low=0.0, high=1.0,
    )  # fmt: skip
    beta: float = knob(1.0, "weight of the distillation into C (Eq. 4)", above=0.0)
    gamma: float = knob(0.01, "weight of the distillation into T (Eq. 4)", above=0.0)
    tau_kind: str = knob("exponential", "temperature schedule (Eq. 9)", choices=TAU_KINDS)
    tau_start: float = knob(1.0, "first temperature (section 4: 1.0)", above=0.0)
    tau_end: float = knob(0.1, "last temperature (section 4: 0.1)", above=0.0)

    estimator: str = knob(
        "straight_through", "reading of the adversarial gradient, Eq. 8 (docs/estimators.md)",
        choices=ESTIMATORS,
    )  # fmt: skip
    samples: int = knob(8, "labels drawn per image and step, k of Algorithm 1", low=1)
    control_variate: str = knob(
        "leave_one_out", "baseline subtracted from the reward: mean of the image's other draws",
        choices=("leave_one_out", "none"),
    )  # fmt: skip
    positives: int = knob(5, "true labels an image and step, P of estimator authors", low=1)
    negatives: int = knob(20, "drawn labels an image and step, N of estimator authors", low=1)
    distillation: str = knob(
        "auto", "L_DS: half squared distance of logits, KL at a temperature, or that of each"
        " label by itself; auto is kl for distn and codis, l2 for the others",
        choices=("auto", "l2", "kl", "sigmoid"),
    )  # fmt: skip
    distillation_temperature: float = knob(
        3.0, "temperature of the distillations kl and sigmoid", above=0.0
    )
    soft_weight: float = knob(
        0.7, "distn: weight s of the soft targets, 1-s that of the labels (authors: 0.7)",
        low=0.0, high=1.0,
    )  # fmt: skip
    noise_form: str = knob(
        "original", "noisy: a share of the images has its logits scaled (Sau and Balasubramanian"
        " 2016), or every logit has dropout and noise factors (authors' code)",
        choices=("original", "authors"),
    )  # fmt: skip
    noise_ratio: float = knob(
        0.1, "noisy: share of the images (original) or of the logits (authors: 0.1)",
        low=0.0, high=0.95,
    )  # fmt: skip
    noise_sigma: float = knob(0.1, "noisy: spread of the factor 1+xi (authors: 0.1)", low=0.0)
    codistillation_weight: float = knob(
        1.0, "codis: weight of the other's prediction beside the labels", low=0.0
    )
    burn_in: float = knob(
        0.2, "codis: fraction of training before the other's prediction counts", low=0.0, high=1.0
    )
    label_loss: str = knob(
        "softmax", "what labels teach by, pretraining included: cross-entropy of their"
        " distribution, or of each label by itself (authors' tag task)",
        choices=("softmax", "sigmoid"),
    )  # fmt: skip
    teacher_label_weight: float = knob(
        0.0, "kdgan: weight of the cross-entropy on labels in T's loss (not in Algorithm 1)",
        low=0.0,
    )  # fmt: skip
    classifier_label_weight: float = knob(
        0.0, "kdgan: weight of the cross-entropy on labels in C's loss (not in Algorithm 1)",
        low=0.0,
    )  # fmt: skip
    teacher_average: float = knob(
        0.0, "kdgan: decay of a running mean of T's weights that gives C its targets, 0 for T"
        " itself (not in Algorithm 1)", low=0.0, high=0.99999,
    )  # fmt: skip
    gamma_schedule: str = knob(
        "constant", "kdgan: gamma over training; cosine falls to 0 (not in Algorithm 1)",
        choices=("constant", "cosine"),
    )  # fmt: skip
    discriminator_warmup: int = knob(
        0, "kdgan, nagan: updates of D alone before the first round (not in Algorithm 1)", low=0
    )
    label_smoothing: float = knob(
        0.0, "kdgan: D's target for true labels is 1 minus this (not in Algorithm 1, nor"
        " with estimator authors)",
        low=0.0, high=0.5,
    )  # fmt: skip

    steps: int = knob(3000, "updates of the classifier", low=1)
    schedule: str = knob(
        "alternating", "kdgan, nagan: every update has a minibatch and forwards of its own, as in"
        " Algorithm 1, or a round's first update of each player shares one minibatch and one"
        " forward of each, dropout on; further ones are alternating", choices=SCHEDULES,
    )  # fmt: skip
    discriminator_steps: int = knob(1, "updates of D in a round of Algorithm 1", low=0)
    teacher_steps: int = knob(1, "updates of T in a round of Algorithm 1", low=0)
    classifier_steps: int = knob(1, "updates of C in a round of Algorithm 1", low=1)
    batch_size: int = knob(50, "images in a minibatch (authors: 10 at n=100, 50 at 1,000)", low=1)
    learning_rate: float = knob(
        1e-3, "Adam, all players (authors: 5e-4 in their sweep, 1e-3 elsewhere)", above=0.0
    )
    teacher_learning_rate: float = knob(
        0.0, "the same for T in the game, 0 for that of the others (the authors have one for"
        " each player)", low=0.0,
    )  # fmt: skip
    learning_rate_schedule: str = knob(
        "cosine", "learning rate over training", choices=("constant", "cosine")
    )
    pretrain_steps: int = knob(1500, "supervised updates of C, T and D before the game", low=0)
    teacher_pretrain_steps: int = knob(0, "the same for T, 0 if as many as the others", low=0)
    pretrain_learning_rate: float = knob(1e-3, "Adam in pretraining (authors: 1e-3)", above=0.0)
    teacher_pretrain_learning_rate: float = knob(
        0.0, "the same for T in pretraining, 0 for that of the others", low=0.0, later=True
    )

    architecture: str = knob(
        "paper", "players: the paper's, the authors' code's, or small ones", choices=ARCHITECTURES
    )
    classifier_dropout: float = knob(0.12, "dropped after C's hidden layers", low=0.0, high=0.95)
    teacher_dropout: float = knob(0.5, "dropped after the wide layer of T and D", low=0, high=0.95)
    feature_dropout: float = knob(
        0.0, "tags: share of an image's features dropped on the way into every player",
        low=0.0, high=0.95,
    )  # fmt: skip
    word_dropout: float = knob(
        0.0, "tags: share of a text's words dropped on the way into T and D", low=0.0, high=0.95
    )
    text_pooling: str = knob(
        "sum", "tags: what T and D keep of the LSTM's states: their sum (over the square root of"
        " a usual length), the largest of each, or the last", choices=("sum", "max", "last"),
    )  # fmt: skip
    embedding_size: int = knob(100, "tags: width of the learned word embeddings", low=1)
    word_start: str = knob(
        "tags", "tags: word embeddings start from how words and tags go together in the training"
        " posts, or at random", choices=("tags", "random"),
    )  # fmt: skip
    word_vectors: str = knob(
        "", "tags: word2vec or GloVe text file that the word embeddings start from instead"
    )
    neighbours: int = knob(
        0, "knn, tagprop: training images that count, 0 to choose on validation", low=0
    )
    svm_cost: float = knob(1.0, "tagfeature, relexample: C of the linear SVMs", above=0.0)
    weight_decay: float = knob(4e-5, "L2 penalty, 0.5 * weight_decay * ||w||^2", low=0.0)
    rotation_degrees: float = knob(15.0, "largest random rotation, degrees", low=0.0, high=180.0)
    shift: float = knob(0.1, "largest random shift, fraction of the side", low=0.0, high=1.0)
    zoom: float = knob(0.1, "largest random zoom per axis, fraction", low=0.0, high=0.9)
    mirroring: bool = knob(False, "mirror every other image at random")
    color_jitter: float = knob(
        0.0, "largest random change of contrast and saturation, fraction; of brightness half as"
        " much",
        low=0.0, high=1.0, later=True,
    )  # fmt: skip
    cutout: float = knob(
        0.0, "side of a random square set to 0, or to the mean where it is subtracted; fraction of"
        " the image's", low=0.0, high=1.0,
    )  # fmt: skip
    matmul_precision: str = knob(
        "medium", "torch's float32 matmul precision ('high' and 'medium' use TF32 on CUDA), or"
        " bfloat16 with float32 weights", choices=("highest", "high", "medium", "bfloat16"),
    )  # fmt: skip
    evaluations: int = knob(20, "validation checks, evenly spaced over the steps", low=1)
    matched: str = knob(
        "none", "compared at the compute of kdgan: not, in updates or in seconds; the sweep sets"
        " the steps that make it so", choices=("none", "steps", "seconds"),
    )  # fmt: skip
    authors_statistic: bool = knob(
        False, "log the best over all test evaluations too; it selects nothing"
    )
    log_gradient_variance: bool = knob(
        False, "log the variance of C's gradients at every check (Lemma 4.3, Figure 7)"
    )
    gradient_batches: int = knob(16, "minibatches that variance is taken over", low=2)

    def __post_init__(self) -> None:
        types = _types()
        for field in dataclasses.fields(self):
            value = typed(field.name, getattr(self, field.name), types[field.name])
            object.__setattr__(self, field.name, value)
            for one in value if isinstance(value, tuple) else (value,):
                check_range(field.name, one, field.metadata)
        if self.tau_kind == "constant":  # the end has no meaning then, and must not change the id
            object.__setattr__(self, "tau_end", self.tau_start)
        if self.distillation == "auto":
            kind = "kl" if self.method in ("distn", "codis") else "l2"
            object.__setattr__(self, "distillation", kind)
        check_together(self)

    @property
    def has_tags(self) -> bool:
        """Whether the task is tag recommendation."""
        return self.dataset in TAG_DATASETS

    @property
    def score(self) -> str:
        """The metric that chooses checkpoints and configurations, on validation data."""
        return "map" if self.has_tags else "accuracy"

    @property
    def rounds(self) -> int:
        """Rounds of Algorithm 1 (D, then T, then C steps) that give `steps` updates of C."""
        return math.ceil(self.steps / self.classifier_steps)

    def game_learning_rate(self, role: str) -> float:
        """Adam's first step size of a player after pretraining."""
        if role == "teacher" and self.teacher_learning_rate:
            return self.teacher_learning_rate
        return self.learning_rate

    def pretraining(self, role: str) -> int:
        """Supervised updates of a player before the game."""
        if role == "teacher" and self.teacher_pretrain_steps:
            return self.teacher_pretrain_steps
        return self.pretrain_steps

    def pretraining_learning_rate(self, role: str) -> float:
        """Adam's first step size of a player before the game."""
        if role == "teacher" and self.teacher_pretrain_learning_rate:
            return self.teacher_pretrain_learning_rate
        return self.pretrain_learning_rate

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
        return _compact(self.as_dict())

    def identity(self) -> dict[str, object]:
        """`as_dict` without the fields that came later and stand at their default.

        At its default such a field does what was done before it existed, so that trials which
        an earlier version recorded keep their ids.
        """
        return {k: v for k, v in self.as_dict().items() if k not in LATER or v != LATER[k]}

    @property
    def trial_id(self) -> str:
        """First 12 hex digits of the sha256 of `identity` as sorted, compact JSON."""
        return _digits(self.identity())

    @property
    def cell_id(self) -> str:
        """Like `trial_id`, but without the seeds: the same for all trials of one cell."""
        return _digits({k: v for k, v in self.identity().items() if k != "seeds"})

    @classmethod
    def from_dict(cls, values: typing.Mapping[str, object]) -> TrialConfig:
        """The config with these fields set, the others at their defaults."""
        check_names(values)
        return cls(**values)  # type: ignore[arg-type]


def _compact(values: typing.Mapping[str, object]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def _digits(values: typing.Mapping[str, object]) -> str:
    return hashlib.sha256(_compact(values).encode()).hexdigest()[:12]


@functools.cache
def _types() -> dict[str, Any]:
    """Field -> type."""
    return typing.get_type_hints(TrialConfig)


FIELDS: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(TrialConfig)
# Field that came after trials had been recorded -> its default.
LATER = {field.name: field.default for field in FIELDS if field.metadata["later"]}


def score_of(values: typing.Mapping[str, Any], prefix: str = "valid_") -> Any:
    """The value of a seed's score among its metrics, which are named after the task's metric.

    Args:
        values: metric -> value, of an evaluation or of a result.
        prefix: `valid_`, `best_valid_`, `last_valid_`, `pretrained_valid_` or `test_`.

    Raises:
        KeyError: there is none.
    """
    name = f"{prefix}map"
    return values[name if name in values else f"{prefix}accuracy"]


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
    return typed(name, parts, kind)
