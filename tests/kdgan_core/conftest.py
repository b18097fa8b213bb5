"""Small trials on the digits, which need no file, and real MNIST where KDGAN_DATA has it."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch

from kdgan_core.config import TrialConfig
from kdgan_core.data import load_dataset
from kdgan_core.data.mnist import FILES
from kdgan_core.replica import Replica
from kdgan_core.trial import Trial

CPU = torch.device("cpu")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Bit-equal results do not depend on how many cores the tests run on."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pretrained players, shared by every test that does not look at the cache itself."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def make_config() -> Callable[..., TrialConfig]:
    """A function that returns a config of a second's training on the digits, with changes."""

    def make(**changes: object) -> TrialConfig:
        small: dict[str, object] = {
            "dataset": "digits",
            "architecture": "small",
            "seeds": (0,),
            "train_size": 100,
            "valid_size": 200,
            "batch_size": 20,
            "pretrain_steps": 150,
            "pretrain_learning_rate": 2e-3,
            "learning_rate": 1e-3,
            "steps": 24,
            "evaluations": 4,
        }
        return TrialConfig.from_dict({**small, **changes})

    return make


@pytest.fixture
def make_replica(
    make_config: Callable[..., TrialConfig], cache_dir: Path
) -> Callable[..., Replica]:
    """A function that returns the pretrained replica of seed 0 of `make_config(**changes)`."""

    def make(**changes: object) -> Replica:
        dataset = load_dataset("digits", None)
        return Replica(make_config(**changes), 0, dataset, cache_dir, CPU)

    return make


@pytest.fixture
def make_trial(make_config: Callable[..., TrialConfig], cache_dir: Path) -> Callable[..., Trial]:
    """A function that returns the trial of `make_config(**changes)`."""

    def make(**changes: object) -> Trial:
        return Trial(make_config(**changes), data_dir=None, cache_dir=cache_dir, device="cpu")

    return make


@pytest.fixture(scope="session")
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """A function whose context lets no file of this process grow beyond some bytes."""

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))  # Python ignores SIGXFSZ
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder of the four real compressed files."""
    folder = Path(os.environ.get("KDGAN_DATA") or "nowhere") / "mnist"
    absent = [file.name for file in FILES if not (folder / f"{file.name}.gz").is_file()]
    if absent:
        pytest.skip(f"KDGAN_DATA names no folder with mnist/{absent[0]}.gz")
    return folder
