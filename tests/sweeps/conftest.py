"""A small space, trials that end as a test says, and a real MLflow store made once."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console
from searching import NAME
from staging import play

from kdgan_core import Evaluation, TrialConfig, TrialResult
from kdgan_core.trial import OUTCOMES, SeedResult
from sweeps.arms import Arm, Branch
from sweeps.plan import Row
from sweeps.search import Search
from sweeps.space import Space
from sweeps.spool import SpoolWriter


@pytest.fixture(scope="session")
def space() -> Space:
    """Two sizes of digits: 3 search trials each; 4 cells around the baseline with itself."""
    return Space(
        experiment="toy",
        train_sizes=(50, 200),
        seeds=(0, 1),
        search_seeds=(0,),
        trials=3,
        fixed={
            "dataset": "digits",
            "architecture": "small",
            "valid_size": 200,
            "steps": 20,
            "pretrain_steps": 20,
            "evaluations": 2,
        },
        sizes={},
        baseline={"alpha": 0.5, "beta": 1.0, "gamma": 0.01},
        baseline_from="best",
        search={"alpha": (0.0, 1.0), "log10_beta": (-3.0, 3.0)},
        cuts={
            "alpha": ({"alpha": 0.0}, {"alpha": 0.5}, {"alpha": 1.0}),
            "tau": (
                {"tau_kind": "constant", "tau_start": 1.0, "tau_end": 1.0},
                {"tau_kind": "exponential", "tau_start": 1.0, "tau_end": 0.1},
            ),
        },
    )


@pytest.fixture(scope="session")
def table(space: Space) -> Space:
    """A table of two sizes and three arms, 2 tuning trials each; a fourth arm is optional."""
    kdgan = {"alpha": (0.0, 1.0), "log10_beta": (-3.0, 3.0)}
    arms = {
        "kdgan": Arm({"method": "kdgan"}, {}, kdgan),
        "mimic": Arm({"method": "mimic"}, {50: {"steps": 40}}, {"classifier_dropout": (0.0, 0.5)}),
        "teacher": Arm(
            {"method": "supervised", "player": "teacher"}, {}, {"teacher_dropout": (0.0, 0.5)}
        ),
        "kdgan+ema": Arm({"method": "kdgan", "teacher_average": 0.9}, {}, kdgan, optional=True),
    }
    return replace(
        space, search_seeds=(100,), trials=2, fixed={**space.fixed, **space.baseline},
        baseline={}, search={}, cuts={}, arms=arms, chosen=("kdgan", "mimic", "teacher"),
    )  # fmt: skip


@pytest.fixture(scope="session")
def end_trial() -> Callable[..., TrialResult | None]:
    """A function that writes the spool of a trial as a worker would, without training it."""

    def end(
        spool: Path,
        config: TrialConfig,
        accuracy: float = 0.9,
        outcomes: Sequence[str] = (),
        spread: float = 0.0,
        seconds: float = 8.0,
        reason: str = "ValueError: no such thing",
    ) -> TrialResult | None:
        """Three checks and a result; "failed" ends after the first check with a traceback.

        Args:
            spool: the folder.
            config: the cell.
            accuracy: the first seed's best validation accuracy; its test accuracy is 0.01 less.
            outcomes: of each seed, "finished" where the sequence has ended.
            spread: added to the accuracy from one seed to the next.
            seconds: the trial's cost.
            reason: last line of the traceback of a failed trial.
        """
        named = dict(zip(config.seeds, outcomes, strict=False))
        best = {seed: accuracy + spread * i for i, seed in enumerate(config.seeds)}
        writer = SpoolWriter(spool, config.trial_id)
        writer.start()
        for check, tau in enumerate((1.0, 0.5, 0.1)):
            metrics = {
                seed: {"valid_accuracy": best[seed] - 0.1 * (2 - check), "loss_discriminator": 0.7}
                for seed in config.seeds
                if named.get(seed) != "diverged" or check == 0
            }
            writer.evaluation(Evaluation(10 * check, 20, tau, float(check), metrics))
            if "failed" in outcomes:
                writer.failed(f"Traceback (most recent call last):\n  ...\n{reason}\n")
                writer.close()
                return None
        seeds = []
        for seed in config.seeds:
            outcome = named.get(seed, "finished")
            if outcome == "diverged":
                seeds.append(SeedResult(seed, outcome, None, None, None, 0.5, None))
            else:
                last = 0.2 if outcome == "collapsed" else best[seed]
                test = best[seed] - 0.01
                seeds.append(
                    SeedResult(
                        seed, outcome, 20, best[seed], last, 0.5, test, {"accuracy": test},
                        {"accuracy": best[seed]}, seconds / 4, seconds / 8, 40, 30, 30,
                    )
                )  # fmt: skip
        worst = max((seed.outcome for seed in seeds), key=OUTCOMES.index)
        result = TrialResult(config.trial_id, worst, tuple(seeds), seconds, 20)
        writer.result(result)
        writer.close()
        return result

    return end


@pytest.fixture(scope="session")
def drive(end_trial: Callable[..., TrialResult | None]) -> Callable[..., list[Row]]:
    """`staging.play` with trials that `end_trial` ends."""
    return lambda stages, **how: play(stages, end_trial, **how)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "optuna.journal"


@pytest.fixture
def open_search(space: Space, journal: Path) -> Callable[..., Search]:
    """A function that opens the search of size 50 of the small space, or of another one."""

    def make(
        planned: Iterable[Row] = (), other: Space | None = None, sampler: str = "tpe",
        superseded: Iterable[Row] = (),
    ) -> Search:  # fmt: skip
        return Search(
            other or space, Branch(50), NAME, journal, sampler, 0, list(planned), superseded
        )

    return make


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tracking URI of a real, empty MLflow store; artifacts lie beside it."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with contextlib.chdir(folder):  # where MLflow is first opened, it keeps the artifacts
        MlflowClient(tracking_uri=uri).search_experiments()
    return uri


@pytest.fixture
def console() -> Console:
    """A console that writes to a string, as the command line's where there is no terminal."""
    return Console(file=io.StringIO(), highlight=False, soft_wrap=True, width=80)
