"""Every run column: its name once, and a sentence saying what it holds.

The recorder writes these names to MLflow and `analysis.runs` reads them back. Scores are
fractions between 0 and 1 throughout; only figures and tables turn accuracies into percent.
"""

from __future__ import annotations

from typing import Final, NamedTuple

# Tags that both kinds of run carry.
KIND: Final = "kdgan.kind"
KIND_SWEEP: Final = "sweep"
KIND_TRIAL: Final = "trial"
SWEEP_ID: Final = "sweep_id"

# Tags of the parent run.
COMMIT: Final = "commit"
DIRTY: Final = "dirty"
COMMAND: Final = "command"
MODE: Final = "mode"
QUICK: Final = "quick"
PLAN_HASH: Final = "plan_hash"
PLANNED_TRIALS: Final = "planned_trials"
RECORDED: Final = "recorded"
VERSIONS: Final = "versions"
HARDWARE: Final = "hardware"
DATA_CHECKSUM: Final = "data_checksum"
HOST: Final = "host"
RESOURCES: Final = "resources"
CODE: Final = "code"
SAMPLER: Final = "sampler"
EARLY_STOPPING: Final = "early_stopping"

PARENT_TAGS: Final[dict[str, str]] = {
    KIND: "Kind of run: 'sweep' for the parent.",
    SWEEP_ID: "Identity of the sweep: experiment name and a hash of what makes it this sweep.",
    COMMIT: "Git commit of the code that ran, or 'unknown'.",
    DIRTY: "'true' if the working tree had changes that the commit does not hold.",
    COMMAND: "Command line that started the sweep.",
    MODE: "What was planned: study, search, sensitivity, methods, baseline, grid or sobol.",
    QUICK: "'true' for a shortened sweep that checks the machinery, not the method.",
    PLAN_HASH: "Hash of what makes it this sweep: space, mode, seeds, levels.",
    PLANNED_TRIALS: "Number of distinct trials planned so far, an integer as text.",
    RECORDED: "Number of trials in the store when the sweep last ended, and a hash of them.",
    VERSIONS: "JSON object from package to version.",
    HARDWARE: "JSON object that describes the machine.",
    DATA_CHECKSUM: "Checksum of the data set.",
    HOST: "Name of the machine that drove the sweep.",
    RESOURCES: "JSON object: cpus_per_trial, gpus_per_trial, and CPU and GPU of each node.",
    CODE: "First 12 hexadecimal digits of the hash of the training core's source files.",
    SAMPLER: "Optuna's sampler of the search: tpe, gp, cmaes, qmc or random.",
    EARLY_STOPPING: "Rule that ended search trials early: asha, median or off.",
}

# Tags of a trial's run.
PARENT_RUN_ID: Final = "mlflow.parentRunId"
TRIAL_ID: Final = "trial_id"
CELL_ID: Final = "cell_id"
ATTEMPT: Final = "attempt"
OUTCOME: Final = "outcome"
SEED_OUTCOMES: Final = "seed_outcomes"
ROWS: Final = "rows"
ERROR: Final = "error"
DEVICE: Final = "device"
THREADS: Final = "threads"
NODE: Final = "node"
PROCESSOR: Final = "processor"
# Keys of one reason in `rows`, and tags of the reason that tells most.
ROLE: Final = "role"
FACTOR: Final = "factor"
LEVEL: Final = "level"

TRIAL_TAGS: Final[dict[str, str]] = {
    PARENT_RUN_ID: "MLflow's id of the parent run.",
    KIND: "Kind of run: 'trial' for a nested run.",
    SWEEP_ID: "Identity of the sweep the trial belongs to.",
    TRIAL_ID: "First 12 hexadecimal digits of the hash of the trial's configuration and seeds.",
    CELL_ID: "First 12 hexadecimal digits of the hash of the configuration without its seeds.",
    ATTEMPT: "When the attempt that this run holds started, seconds since the epoch as text.",
    OUTCOME: "How the trial ended: finished, stopped, diverged, collapsed or failed.",
    SEED_OUTCOMES: "JSON object from seed to how that seed ended.",
    ROWS: "JSON list of the plan's reasons for this trial: role, factor and level of each.",
    ROLE: "Most telling of the trial's roles; superseded if it belongs to the plan no longer.",
    FACTOR: "Factor varied in that role, two in a grid (beta×gamma), or 'method'; else empty.",
    LEVEL: "Level of that factor as text, or two in a grid (0.1×0.01); else empty.",
    ERROR: "Last line of the traceback; present only if the trial failed.",
    DEVICE: "Kind of device that trained: cpu or cuda.",
    THREADS: "Number of torch's threads, an integer as text.",
    NODE: "Name of the machine that trained.",
    PROCESSOR: "Its CPU or GPU in words.",
}

FINISHED: Final = "finished"
STOPPED: Final = "stopped"
DIVERGED: Final = "diverged"
COLLAPSED: Final = "collapsed"
FAILED: Final = "failed"
# From best to worst.
OUTCOMES: Final = (FINISHED, STOPPED, COLLAPSED, DIVERGED, FAILED)

ROLE_SEARCH: Final = "search"
ROLE_BASELINE: Final = "baseline"
ROLE_SENSITIVITY: Final = "sensitivity"
ROLE_GRID: Final = "grid"
ROLE_SOBOL: Final = "sobol"
ROLE_METHODS: Final = "methods"
ROLE_SUPERSEDED: Final = "superseded"

ROLES: Final[dict[str, str]] = {
    ROLE_SEARCH: "A point that the search named; it may be stopped early, and has its own seeds.",
    ROLE_BASELINE: "The cell that curves and grids stand around.",
    ROLE_SENSITIVITY: "A level of one factor, the others at the baseline.",
    ROLE_GRID: "A pair of levels of two factors, the others at the baseline.",
    ROLE_SOBOL: "A point of a scrambled Sobol design over the search space.",
    ROLE_METHODS: "An arm of Table 1 or 2; its factor is 'method' and its level the arm's name.",
    ROLE_SUPERSEDED: "The plan has changed and holds the trial no longer: nothing counts it.",
}

FACTOR_METHOD: Final = "method"

# Parameters: the fields of the trial's configuration that the analysis uses.
DATASET: Final = "dataset"
TAGS_FILE: Final = "tags_file"
METHOD: Final = "method"
TRAIN_SIZE: Final = "train_size"
SEEDS: Final = "seeds"
ALPHA: Final = "alpha"
BETA: Final = "beta"
GAMMA: Final = "gamma"
LOG10_BETA: Final = "log10_beta"
LOG10_GAMMA: Final = "log10_gamma"
TAU_KIND: Final = "tau_kind"
TAU_START: Final = "tau_start"
TAU_END: Final = "tau_end"
ESTIMATOR: Final = "estimator"
STEPS: Final = "steps"
BATCH_SIZE: Final = "batch_size"
PLAYER: Final = "player"
MATCHED: Final = "matched"
LOG_GRADIENT_VARIANCE: Final = "log_gradient_variance"

PARAMS: Final[dict[str, str]] = {
    DATASET: "Data set: digits, mnist, cifar10 of images; tags, flickr8k, yfcc-popular, "
    "yfcc-random of posts.",
    TAGS_FILE: "The user's file of posts, for the data set tags; empty for generated posts.",
    METHOD: "Training method: kdgan or one of the methods it is compared with.",
    TRAIN_SIZE: "Number of labelled training images; 0 for all training posts of a file.",
    SEEDS: "JSON list of the seeds trained in this trial.",
    ALPHA: "Weight of the classifier's adversarial term, in [0, 1], as in the paper's equation.",
    BETA: "Weight of the distillation of the teacher into the classifier.",
    GAMMA: "Weight of the distillation of the classifier into the teacher.",
    LOG10_BETA: "Base-10 logarithm of beta, the coordinate that is sampled and stored.",
    LOG10_GAMMA: "Base-10 logarithm of gamma, the coordinate that is sampled and stored.",
    TAU_KIND: "Shape of the temperature schedule: exponential, linear, cosine or constant.",
    TAU_START: "Temperature at the first step.",
    TAU_END: "Temperature at the last step.",
    ESTIMATOR: "Estimator of the adversarial gradient.",
    STEPS: "Training steps; one step updates each player once.",
    BATCH_SIZE: "Images in one step's batch.",
    PLAYER: "Who is trained and scored by the method supervised: classifier or teacher.",
    MATCHED: "What of KDGAN's compute the trial was given: none, steps or seconds.",
    LOG_GRADIENT_VARIANCE: "Whether the variance of C's gradients was measured, True or False.",
}

# The two tasks, and the metrics of each: a name's ending and what it measures.
IMAGES: Final = "images"
TAGS: Final = "tags"
ACCURACY: Final = "accuracy"
MAP: Final = "map"
TAG_METRICS: Final[dict[str, str]] = {
    "p_at_3": "precision of the first 3 tags",
    "p_at_5": "precision of the first 5 tags",
    "f_at_3": "F of the first 3 tags, the harmonic mean of precision and recall",
    "f_at_5": "F of the first 5 tags, the harmonic mean of precision and recall",
    "authors_f_at_3": "F of the first 3 tags with R-precision for recall, the authors' form",
    "authors_f_at_5": "F of the first 5 tags with R-precision for recall, the authors' form",
    MAP: "mean average precision",
    "mrr": "mean reciprocal rank of the first true tag",
}

# Final metrics of a trial. What a tag trial has of TEST, VALID and BEST_TEST_EVALUATION ends with
# one of TAG_METRICS.
TEST: Final = "test_"
VALID: Final = "valid_"
TEST_ACCURACY: Final = "test_accuracy"
BEST_VALID_ACCURACY: Final = "best_valid_accuracy"
LAST_VALID_ACCURACY: Final = "last_valid_accuracy"
PRETRAINED_VALID_ACCURACY: Final = "pretrained_valid_accuracy"
TEST_MAP: Final = "test_map"
BEST_VALID_MAP: Final = "best_valid_map"
LAST_VALID_MAP: Final = "last_valid_map"
PRETRAINED_VALID_MAP: Final = "pretrained_valid_map"
BEST_STEP: Final = "best_step"
BEST_TEST_EVALUATION: Final = "best_test_evaluation"
TRAIN_SECONDS: Final = "train_seconds"
PRETRAIN_SECONDS: Final = "pretrain_seconds"
UPDATES_CLASSIFIER: Final = "updates_classifier"
UPDATES_TEACHER: Final = "updates_teacher"
UPDATES_DISCRIMINATOR: Final = "updates_discriminator"
SECONDS: Final = "seconds"


def _summary(name: str, what: str) -> dict[str, str]:
    """Return the five summary metrics of `name`, a sentence each."""
    return {
        name: f"Mean over seeds of {what}; seeds without that score are left out.",
        f"{name}_std": f"Sample standard deviation (ddof=1) over seeds of {what}.",
        f"{name}_n": "Number of seeds with a score.",
        f"{name}_low": "Lower end of the 95 % Student-t interval of the mean.",
        f"{name}_high": "Upper end of the 95 % Student-t interval of the mean.",
    }


# What a trial of each task ends with, and both together.
METRICS_OF: Final[dict[str, dict[str, str]]] = {
    IMAGES: {
        **_summary(TEST_ACCURACY, "test accuracy at the best validation checkpoint"),
        **_summary(BEST_VALID_ACCURACY, "the best validation accuracy"),
        SECONDS: "Seconds spent training, all seeds together.",
    },
    TAGS: {
        **{
            key: sentence
            for name, what in TAG_METRICS.items()
            for key, sentence in _summary(
                TEST + name, f"{what}, on the test images at the best validation checkpoint"
            ).items()
        },
        **_summary(BEST_VALID_MAP, "the best validation MAP"),
        SECONDS: "Seconds spent training, all seeds together.",
    },
}
METRICS: Final[dict[str, str]] = {**METRICS_OF[IMAGES], **METRICS_OF[TAGS]}

SEED_SUFFIX: Final = "/seed_{seed}"
_COSTS: Final = {
    BEST_STEP: "Training step of the seed's best validation checkpoint.",
    TRAIN_SECONDS: "Seconds of the seed's training, without pretraining and checks.",
    PRETRAIN_SECONDS: "Seconds that pretraining the seed's players took when they were trained.",
    UPDATES_CLASSIFIER: "Optimizer updates of C, pretraining included.",
    UPDATES_TEACHER: "Optimizer updates of T, pretraining included.",
    UPDATES_DISCRIMINATOR: "Optimizer updates of D, pretraining included.",
}

# The same of a seed.
SEED_METRICS_OF: Final[dict[str, dict[str, str]]] = {
    IMAGES: {
        TEST_ACCURACY: "Test accuracy of the seed's best validation checkpoint; none if stopped.",
        BEST_VALID_ACCURACY: "Best validation accuracy over the seed's evaluations.",
        LAST_VALID_ACCURACY: "Validation accuracy at the seed's last evaluation.",
        PRETRAINED_VALID_ACCURACY: "Validation accuracy of the pretrained classifier.",
        BEST_TEST_EVALUATION: "Best over all test evaluations, the authors' statistic; none "
        "unless the trial asked for it.",
        **_COSTS,
    },
    TAGS: {
        **{
            TEST + name: f"Test images at the seed's best validation checkpoint: {what}; none if "
            "stopped."
            for name, what in TAG_METRICS.items()
        },
        BEST_VALID_MAP: "Best validation MAP over the seed's evaluations.",
        LAST_VALID_MAP: "Validation MAP at the seed's last evaluation.",
        PRETRAINED_VALID_MAP: "Validation MAP of the pretrained classifier.",
        **{
            f"{BEST_TEST_EVALUATION}_{name}": "Best over all test evaluations, each metric by "
            f"itself, the authors' statistic: {what}; none unless the trial asked for it."
            for name, what in TAG_METRICS.items()
        },
        **_COSTS,
    },
}
SEED_METRICS: Final[dict[str, str]] = {**SEED_METRICS_OF[IMAGES], **SEED_METRICS_OF[TAGS]}

# Metrics with a history: one value an evaluation.
VALID_ACCURACY: Final = "valid_accuracy"
TAU: Final = "tau"
ADVERSARIAL: Final = "adversarial"
DISTILLATION: Final = "distillation"
MIXTURE: Final = "mixture"
GRADIENT_VARIANCE: Final = "gradient_variance_"
GRADIENT_MEAN_SQUARE: Final = "gradient_mean_square_"
# What the gradients of C are taken of, as a name's ending and in words.
GRADIENTS: Final[dict[str, str]] = {
    ADVERSARIAL: "L_AD",
    DISTILLATION: "L_DS",
    MIXTURE: "lambda L_AD + (1 - lambda) L_DS, lambda = alpha / (alpha + beta)",
}

HISTORY_METRICS: Final[dict[str, str]] = {
    VALID_ACCURACY: "Mean over seeds of validation accuracy at each evaluation.",
    TAU: "Temperature at each evaluation.",
    "valid_accuracy_teacher": "The same of T where it is trained along: kdgan and codis.",
    **{
        VALID + name: f"Mean over seeds of the validation images' {what}, at each evaluation."
        for name, what in TAG_METRICS.items()
    },
    "valid_map_teacher": "Validation MAP of T where it is trained along: kdgan and codis.",
    "loss_discriminator": "What D descends: minus the objective of Algorithm 1, line 5.",
    "loss_classifier": "What C descends in a method without a discriminator.",
    "loss_teacher": "What T descends in a method without a discriminator.",
    "rejection_classifier": "E over C's labels of log(1 - D): what C's adversarial term lowers.",
    "rejection_teacher": "E over T's labels of log(1 - D): what T's adversarial term lowers.",
    "distillation_classifier": "L_DS of C, before its weight beta.",
    "distillation_teacher": "L_DS of T, before its weight gamma.",
    **{
        GRADIENT_VARIANCE + name: "Variance over minibatches of a coordinate of C's gradient of "
        f"{what}, the mean over its coordinates."
        for name, what in GRADIENTS.items()
    },
    **{
        GRADIENT_MEAN_SQUARE + name: f"Square of the mean gradient of C of {what}, the mean over "
        "its coordinates."
        for name, what in GRADIENTS.items()
    },
}

# The artifact `curves.parquet` of a trial: a record a seed, evaluation and metric.
CURVES_FILE: Final = "curves.parquet"
STEP: Final = "step"
METRIC: Final = "metric"
VALUE: Final = "value"

CURVE_COLUMNS: Final[dict[str, str]] = {
    "seed": "Seed.",
    STEP: "Updates of C at the evaluation, 0 for the pretrained player.",
    METRIC: "A metric with a history, or 'seconds': of the seed's training until then.",
    VALUE: "Its value; missing where it was not finite.",
}

# The artifact `images.parquet` of a tag trial that finished: a record a seed and test image.
IMAGES_FILE: Final = "images.parquet"
IMAGE_ID: Final = "image_id"

IMAGE_COLUMNS: Final[dict[str, str]] = {
    "seed": "Seed.",
    IMAGE_ID: "Test image, as the data set names it.",
    **{
        name: f"The image's part in the {what}; missing where it has no tag."
        for name, what in TAG_METRICS.items()
    },
}


class Column(NamedTuple):
    """A column of `runs.parquet`: its Arrow type's name and a sentence."""

    arrow: str
    sentence: str


RUN_ID: Final = "run_id"
STARTED: Final = "started"
SEED: Final = "seed"
SEED_OUTCOME: Final = "seed_outcome"
SEED_PREFIX: Final = "seed_"

_INTEGERS: Final = {TRAIN_SIZE, STEPS, BATCH_SIZE}
_NUMBERS: Final = {ALPHA, BETA, GAMMA, TAU_START, TAU_END}
_FOLDED: Final = {SEEDS, LOG10_BETA, LOG10_GAMMA}


def _param_type(name: str) -> str:
    """Return the Arrow type's name of a parameter's column."""
    if name in _INTEGERS:
        return "int64"
    return "float64" if name in _NUMBERS else "string"


# One record per trial and seed. Parameters in _FOLDED are not repeated: seeds became records, and
# beta and gamma stand for their logarithms.
COLUMNS: Final[dict[str, Column]] = {
    SWEEP_ID: Column("string", TRIAL_TAGS[SWEEP_ID]),
    TRIAL_ID: Column("string", TRIAL_TAGS[TRIAL_ID]),
    CELL_ID: Column("string", f"{TRIAL_TAGS[CELL_ID]} An older run has its trial_id here."),
    RUN_ID: Column("string", "MLflow's id of the trial's run."),
    STARTED: Column("timestamp[ms, tz=UTC]", "When the attempt that the run holds started."),
    OUTCOME: Column("string", TRIAL_TAGS[OUTCOME]),
    ERROR: Column("string", TRIAL_TAGS[ERROR]),
    **{
        name: Column(_param_type(name), sentence)
        for name, sentence in PARAMS.items()
        if name not in _FOLDED
    },
    TAU: Column("string", "Label of the temperature schedule, such as 'exponential 1→0.1'."),
    **{name: Column("float64", sentence) for name, sentence in METRICS.items()},
    SEED: Column("int64", "Seed of this record."),
    SEED_OUTCOME: Column("string", "How this seed ended."),
    **{SEED_PREFIX + name: Column("float64", sentence) for name, sentence in SEED_METRICS.items()},
    ROWS: Column("rows", "The plan's reasons for this trial: a list of role, factor and level."),
}


def seed_metric(name: str, seed: int) -> str:
    """Return the stored name of a per-seed metric, such as `test_accuracy/seed_0`."""
    return name + SEED_SUFFIX.format(seed=seed)
