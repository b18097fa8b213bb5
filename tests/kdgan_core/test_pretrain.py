"""Pretraining: each player trained once, kept under all that it depends on, safe under a race."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest
import torch
from torch import nn

from kdgan_core import pretrain
from kdgan_core.config import TrialConfig
from kdgan_core.data import load_dataset
from kdgan_core.data.batches import accuracy
from kdgan_core.data.image_data import ImageData, image_data
from kdgan_core.data.task import Scores
from kdgan_core.files import load_labelled
from kdgan_core.player_cache import LABEL
from kdgan_core.players import PLAYERS
from kdgan_core.pretrain import DEPENDS_ON, DROPOUT, cache_key, pretrained_player
from kdgan_core.replica import Replica, pretrain_ahead

CPU = torch.device("cpu")
MakeConfig = Callable[..., TrialConfig]

# Another valid value for each field that the pretraining of every player depends on.
OTHER: dict[str, object] = {
    "dataset": "digits",
    "train_size": 200,
    "draw": "last",
    "valid_size": 300,
    "learning_rate_schedule": "constant",
    "batch_size": 9,
    "architecture": "authors",
    "weight_decay": 1e-3,
    "rotation_degrees": 1.0,
    "shift": 0.3,
    "zoom": 0.3,
    "mirroring": True,
    "label_loss": "sigmoid",
    "color_jitter": 0.4,
    "cutout": 0.5,
    "matmul_precision": "highest",
}
# Another value for each field that some players' pretraining depends on, and whose.
OF_ROLES: dict[str, tuple[object, set[str]]] = {
    "classifier_dropout": (0.3, {"classifier"}),
    "teacher_dropout": (0.3, {"teacher", "discriminator"}),
    "teacher_pretrain_steps": (7, {"teacher"}),
    "pretrain_steps": (7, set(PLAYERS)),
    "teacher_pretrain_learning_rate": (2e-3, {"teacher"}),
    "pretrain_learning_rate": (2e-3, set(PLAYERS)),
}
IRRELEVANT: dict[str, object] = {
    "method": "nagan",
    "seeds": (3, 4),
    "alpha": 0.1,
    "beta": 9.0,
    "gamma": 9.0,
    "tau_kind": "linear",
    "tau_start": 3.0,
    "tau_end": 0.5,
    "estimator": "score",
    "samples": 1,
    "steps": 50,
    "schedule": "fused",
    "learning_rate": 0.1,
    "distillation": "kl",
    "teacher_average": 0.9,
    "teacher_label_weight": 1.0,
    "discriminator_warmup": 5,
    "burn_in": 0.5,
    "evaluations": 2,
    "matched": "seconds",
    "authors_statistic": True,
    "log_gradient_variance": True,
}


def seed_data(config: TrialConfig, seed: int = 0) -> ImageData:
    return image_data(load_dataset("digits", None), config, seed, CPU)


def weights(player: nn.Module) -> list[list[float]]:
    return [p.detach().flatten().tolist() for p in player.parameters()]


@pytest.mark.parametrize("name", OF_ROLES)
def test_the_key_changes_for_the_players_concerned_alone(name: str) -> None:
    """Their own dropout and their own number of updates."""
    value, concerned = OF_ROLES[name]
    base = TrialConfig()
    other = base.replace(**{name: value})
    changed = {
        role
        for role in PLAYERS
        if cache_key(role, base, 0, "sum", "cpu") != cache_key(role, other, 0, "sum", "cpu")
    }
    assert changed == concerned


def test_a_teacher_with_a_recipe_of_its_own_is_the_one_of_those_that_share_it() -> None:
    own = TrialConfig(
        pretrain_steps=100, teacher_pretrain_steps=300, teacher_pretrain_learning_rate=2e-3
    )
    alike = TrialConfig(pretrain_steps=300, pretrain_learning_rate=2e-3)
    assert cache_key("teacher", own, 0, "", "") == cache_key("teacher", alike, 0, "", "")


def test_the_key_has_every_dependency_and_no_other() -> None:
    assert set(OTHER) == set(DEPENDS_ON)
    base = TrialConfig(architecture="small", train_size=100, valid_size=200)
    key = cache_key("teacher", base, 0, "sum", "cpu")
    for name, value in OTHER.items():
        changed = base.replace(**{name: value})
        assert cache_key("teacher", changed, 0, "sum", "cpu") != key, name
    for name, value in IRRELEVANT.items():
        changed = base.replace(**{name: value})
        assert cache_key("teacher", changed, 0, "sum", "cpu") == key, name
    others = [("classifier", 0, "sum", "cpu"), ("teacher", 1, "sum", "cpu"),
              ("teacher", 0, "mus", "cpu"), ("teacher", 0, "sum", "cuda")]  # fmt: skip
    keys = {cache_key(role, base, *rest) for role, *rest in others}
    assert len(keys | {key}) == 5


def test_the_key_changes_with_the_recipe_and_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    base = TrialConfig()
    keys = {cache_key("teacher", base, 0, "sum", "cpu")}
    monkeypatch.setattr(pretrain, "RECIPE", pretrain.RECIPE + 1)
    keys.add(cache_key("teacher", base, 0, "sum", "cpu"))
    monkeypatch.setattr(torch, "__version__", "0.0")
    keys.add(cache_key("teacher", base, 0, "sum", "cpu"))
    assert len(keys) == 3


class Spy:
    """A config that remembers which of its fields were read."""

    def __init__(self, config: TrialConfig) -> None:
        self.config, self.read = config, set[str]()

    def __getattr__(self, name: str) -> object:
        self.read.add(name)
        return getattr(self.config, name)


@pytest.mark.parametrize("role", PLAYERS)
def test_pretraining_reads_nothing_that_the_key_leaves_out(
    role: str, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "cache_key", lambda *args: "key")  # it reads all of them
    spy = Spy(make_config(pretrain_steps=2))
    data = seed_data(spy)  # type: ignore[arg-type]
    pretrained_player(role, spy, 0, data, tmp_path, CPU)  # type: ignore[arg-type]
    # A player's network needs its dropout alone; `pretraining` is its number of updates and
    # `pretraining_learning_rate` its rate, which are in the key; matmul_precision is set around
    # training; the score goes with the data set.
    beside = {DROPOUT[role], "pretraining", "pretraining_learning_rate", "score"}
    assert spy.read == set(DEPENDS_ON) - {"matmul_precision"} | beside


@pytest.mark.parametrize("role", PLAYERS)
def test_the_second_call_trains_nothing(
    role: str, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(pretrain_steps=12)
    first, seconds = pretrained_player(role, config, 0, seed_data(config), tmp_path, CPU)

    def refuse(*args: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(pretrain, "train_supervised", refuse)
    other_cell = config.replace(alpha=0.9, beta=7, gamma=7, tau_start=0.3)
    second, as_noted = pretrained_player(role, other_cell, 0, seed_data(config), tmp_path, CPU)
    assert weights(first) == weights(second)
    assert as_noted == seconds > 0.0  # what the training took, not the reading
    with pytest.raises(AssertionError, match="trained again"):
        pretrained_player(role, config, 1, seed_data(config, 1), tmp_path, CPU)
    assert len(list(tmp_path.rglob("*.pt"))) == 1


def test_what_another_process_is_training_is_left_to_it(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(pretrain_steps=2, seeds=(0, 1))
    dataset = load_dataset("digits", None)
    key = cache_key("classifier", config, 0, dataset.checksum, "cpu")
    claimed = tmp_path / "pretrained" / f"classifier-{key}.pt"
    claimed.parent.mkdir()
    with filelock.FileLock(claimed.with_suffix(".lock")):
        pretrain_ahead(config, dataset, tmp_path, CPU)
        made = {path.name: path.read_bytes() for path in tmp_path.rglob("*.pt")}
    assert len(made) == 2 * len(PLAYERS) - 1
    assert claimed.name not in made
    for seed in config.seeds:
        Replica(config, seed, dataset, tmp_path, CPU)
    found = {path.name: path.read_bytes() for path in tmp_path.rglob("*.pt")}
    assert found.keys() - made.keys() == {claimed.name}
    assert made.items() <= found.items()


def test_a_method_from_scratch_pretrains_nothing_ahead(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    pretrain_ahead(make_config(method="codis"), load_dataset("digits", None), tmp_path, CPU)
    assert not list(tmp_path.rglob("*.pt"))


def test_pretraining_depends_on_the_seed_alone(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(pretrain_steps=12)
    data = seed_data(config)
    players = [
        pretrained_player("classifier", config, seed, data, tmp_path / folder, CPU).player
        for seed, folder in ((0, "one"), (0, "two"), (1, "one"))
    ]
    assert weights(players[0]) == weights(players[1])
    assert weights(players[0]) != weights(players[2])


@pytest.mark.parametrize("role", PLAYERS)
def test_pretraining_learns(role: str, make_config: MakeConfig, cache_dir: Path) -> None:
    config = make_config(pretrain_steps=200)
    data = seed_data(config)
    player = pretrained_player(role, config, 0, data, cache_dir, CPU).player
    assert accuracy(player, data.valid_images, data.valid_labels, data.pixels) > 0.6


def test_without_steps_the_player_is_as_initialised(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(pretrain_steps=0)
    generator = pretrain.make_generator(0, "init teacher", CPU)
    fresh = pretrain.build_player("teacher", config, generator)
    kept = pretrained_player("teacher", config, 0, seed_data(config), tmp_path, CPU)
    assert weights(fresh) == weights(kept.player)
    assert weights(fresh) == weights(pretrain.fresh_player("teacher", config, 0, CPU))


def test_the_best_check_is_kept(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(pretrain_steps=12)
    scores = iter([0.2, 0.5, 0.5, 0.3, 0.1, 0.4])
    seen: list[list[list[float]]] = []

    def scripted(self: ImageData, player: nn.Module) -> Scores:
        seen.append(weights(player))
        return Scores({"accuracy": next(scores)}, 0.1)

    monkeypatch.setattr(ImageData, "validate", scripted)
    player = pretrained_player("classifier", config, 0, seed_data(config), tmp_path, CPU).player
    assert len(seen) == pretrain.CHECKS
    assert weights(player) == seen[1]
    assert seen[1] != seen[2]


def test_an_interrupted_write_leaves_no_half_file(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(pretrain_steps=2)
    data = seed_data(config)

    def interrupted(state: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrained_player("classifier", config, 0, data, tmp_path, CPU)
    assert list(tmp_path.rglob("*.pt")) == []
    player = pretrained_player("classifier", config, 0, data, tmp_path, CPU).player
    kept = list(tmp_path.rglob("*.pt"))
    assert len(kept) == 1
    state = load_labelled(kept[0], LABEL, CPU)["player"]
    assert torch.equal(state["out.weight"], player.state_dict()["out.weight"])


@pytest.mark.parametrize("schedule, half, end", [("constant", 2.0, 2.0), ("cosine", 1.0, 0.0)])
def test_learning_rate_schedules(
    make_config: MakeConfig, schedule: str, half: float, end: float
) -> None:
    config = make_config(learning_rate_schedule=schedule)
    rates = [pretrain.scheduled_learning_rate(config, 2.0, p) for p in (0.0, 0.5, 1.0)]
    assert rates == pytest.approx([2.0, half, end])


RACER = """
import sys, time
from pathlib import Path
import torch
from kdgan_core import pretrain
from kdgan_core.config import TrialConfig
from kdgan_core.data import load_dataset
from kdgan_core.replica import Replica

folder = Path(sys.argv[1])
train = pretrain.train_supervised

def marked(role, *rest):
    with (folder / "marks").open("a") as marks:
        marks.write(role + "\\n")
    time.sleep(1.0)  # time for the other process to come to the lock
    train(role, *rest)

pretrain.train_supervised = marked
torch.set_num_threads(1)
config = TrialConfig(
    dataset="digits", architecture="small", train_size=50, valid_size=50, pretrain_steps=6,
    method="supervised",
)
dataset = load_dataset("digits", None)
(folder / f"ready {sys.argv[2]}").touch()
while len(list(folder.glob("ready *"))) < 2:
    time.sleep(0.01)
replica = Replica(config, 0, dataset, folder / "cache", torch.device("cpu"))
print(replica.players["classifier"].out.weight.sum().item())
"""


def test_two_processes_train_a_player_once(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), name], stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    try:
        printed = [racer.communicate(timeout=120)[0] for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
    assert [racer.returncode for racer in racers] == [0, 0]
    assert printed[0] == printed[1] != ""
    assert (tmp_path / "marks").read_text() == "classifier\n"
    assert len(list(tmp_path.rglob("*.pt"))) == 1
    assert list(tmp_path.rglob("*.part")) == []
