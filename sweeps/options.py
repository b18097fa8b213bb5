"""What the command line says beside the space: where, with what, for how much."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sweeps.caps import Caps


@dataclass(frozen=True)
class Options:
    """The command line's options that do not change what a trial trains.

    Attributes:
        mode: one of words.MODES.
        quick: whether the space is the quick one; recorded.
        data_dir: the data folder, None for the default.
        storage: folder of all sweeps: plans, spools, pretrained players.
        tracking_uri: MLflow store or server.
        cpus_per_trial: cores, and torch threads, of a trial.
        gpus_per_trial: GPUs of a trial; None is measured where Ray sees any, 0.25 until then.
        seed: of the search and of a Sobol design.
        command: what the user typed; recorded and shown.
        sampler: Optuna's, of the search.
        early_stopping: of search trials: asha | median | off.
        retry: which ended trials run again: failed | collapsed | all.
        accept_changes: go on although the code or the plan of the sweep has changed.
        preflight: whether to check before anything costs.
        notify: where to post how the sweep ended, None for nowhere.
        caps: on what this command may spend.
        pack: how many seeds of a trial are trained as one: auto | none | a number.
    """

    mode: str
    quick: bool
    data_dir: Path | None
    storage: Path
    tracking_uri: str
    cpus_per_trial: float
    gpus_per_trial: float | None
    seed: int
    command: str
    sampler: str = "tpe"
    early_stopping: str = "asha"
    retry: str = "failed"
    accept_changes: bool = False
    preflight: bool = True
    notify: str | None = None
    caps: Caps = field(default_factory=Caps)
    pack: str = "auto"
