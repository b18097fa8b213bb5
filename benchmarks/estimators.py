"""Variance and bias of the adversarial gradient's estimators (Eq. 8), on real images.

Trains KDGAN for a while, then holds C, D and one minibatch fixed and draws the labels again and
again. For each estimator and temperature it prints, over the flattened gradient with respect to C:

  variance   mean over coordinates of the per-coordinate variance over draws, divided by that of
             `score` with the control variate (the baseline; 1 by definition)
  noise      the draws' standard deviation (norm) over the norm of the exact gradient
  cosine     between the mean over draws and the exact gradient, that of `expectation`
  length     norm of that mean over the norm of the exact gradient
  error      root mean square distance of a draw from the exact gradient, over its norm: noise and
             bias together

    python benchmarks/estimators.py --dataset mnist --data-dir DATA     (or: --dataset digits)
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click
import torch
from torch import Tensor

from kdgan_core import Trial, TrialConfig
from kdgan_core.data.batches import make_generator
from kdgan_core.estimators import ESTIMATORS
from kdgan_core.losses import log_rejection
from kdgan_core.replica import Replica
from sweeps.environment import hardware, package_versions
from sweeps.loading import load_space

TAUS = (5.0, 1.0, 0.5, 0.1)
WITHOUT_TAU = ("score", "expectation")


def gradients(
    replica: Replica, images: Tensor, rewards: Tensor, name: str, tau: float,
    control_variate: bool, draws: int,
) -> Tensor:  # fmt: skip
    """(draws, weights of C): the estimated gradient for each draw of the labels."""
    classifier = replica.players["classifier"]
    noise = make_generator(0, f"benchmark {name} {tau}", replica.device)
    rows = []
    for _ in range(draws):
        classifier.zero_grad(set_to_none=True)
        loss = ESTIMATORS[name](
            classifier(images), rewards, tau, replica.config.samples, control_variate, noise
        )
        loss.backward()  # type: ignore[no-untyped-call]
        rows.append(torch.cat([p.grad.flatten() for p in classifier.parameters()]))  # type: ignore[union-attr]
    return torch.stack(rows)


def trained_replica(config: TrialConfig, data_dir: Path | None, rounds: int) -> Replica:
    """One seed of `config`, trained for some rounds."""
    with tempfile.TemporaryDirectory() as cache:
        trial = Trial(config, data_dir=data_dir, cache_dir=Path(cache), device="cpu")
        trial.advance()
    replica = trial.replicas[0]
    replica.train_to(rounds)
    return replica


@click.command(help=__doc__)
@click.option("--dataset", type=click.Choice(["digits", "mnist"]), default="digits")
@click.option("--data-dir", type=click.Path(path_type=Path), envvar="KDGAN_DATA")
@click.option("--rounds", default=300, show_default=True, help="Of KDGAN before measuring.")
@click.option("--draws", default=200, show_default=True)
def main(dataset: str, data_dir: Path | None, rounds: int, draws: int) -> None:
    torch.set_num_threads(1)
    config = load_space(dataset, train_sizes=(100,), seeds=1).base_config(100)
    replica = trained_replica(config, data_dir, rounds)
    images, _ = replica.streams["classifier"].next()
    with torch.no_grad():
        rewards = log_rejection(replica.players["discriminator"](images))
    exact = gradients(replica, images, rewards, "expectation", 1.0, False, draws=1)[0]
    baseline = gradients(replica, images, rewards, "score", 1.0, True, draws).var(dim=0).mean()
    click.echo(f"{dataset}, n=100, after {rounds} rounds, k={config.samples}, {draws} draws")
    click.echo("estimator          variate        tau  variance  noise  cosine  length  error")
    records = []
    for name in ESTIMATORS:
        variates = (True, False) if name in ("concrete", "density", "score") else (True,)
        for variate in variates:
            for tau in TAUS if name not in WITHOUT_TAU else (1.0,):
                drawn = gradients(replica, images, rewards, name, tau, variate, draws)
                mean, variance = drawn.mean(dim=0), drawn.var(dim=0)
                record = {
                    "estimator": name,
                    "control_variate": variate,
                    "tau": None if name in WITHOUT_TAU else tau,
                    "variance": float(variance.mean() / baseline),
                    "noise": float(variance.sum().sqrt() / exact.norm()),
                    "cosine": float(torch.cosine_similarity(mean, exact, dim=0)),
                    "length": float(mean.norm() / exact.norm()),
                    "error": float(
                        (drawn - exact).square().sum(dim=1).mean().sqrt() / exact.norm()
                    ),
                }
                records.append(record)
                shown = "-" if record["tau"] is None else f"{tau:g}"
                words = f"{name:18} {'leave-one-out' if variate else 'none':13} {shown:>4}"
                numbers = f"{record['variance']:9.3g} {record['noise']:6.3g}"
                numbers += f" {record['cosine']:7.3f} {record['length']:7.3g}"
                click.echo(f"{words} {numbers} {record['error']:6.3g}")
    facts = {"hardware": hardware(), "versions": package_versions(), "records": records}
    click.echo(json.dumps(facts))


if __name__ == "__main__":
    main()
