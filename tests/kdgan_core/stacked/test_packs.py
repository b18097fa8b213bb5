"""A trial whose seeds are trained as one is the trial whose seeds are trained one by one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kdgan_core.config import TrialConfig
from kdgan_core.stacked import packs
from kdgan_core.stacked.packs import Pack, Packs, parse_pack
from kdgan_core.stacked.stack import Stack
from kdgan_core.trial import Evaluation, Trial, TrialResult

CPU = torch.device("cpu")
SHORT: dict[str, object] = {"steps": 8, "evaluations": 4, "seeds": (0, 1, 2)}
MakeTrial = Callable[..., Trial]


@pytest.fixture
def make_trial(make_config: Callable[..., TrialConfig], cache_dir: Path) -> MakeTrial:
    """A function that returns a short trial of three seeds, packed as said."""

    def make(pack: Pack, **changes: object) -> Trial:
        config = make_config(**{**SHORT, **changes})
        return Trial(config, data_dir=None, cache_dir=cache_dir, device="cpu", pack=pack)

    return make


def finish(trial: Trial) -> tuple[list[Evaluation], TrialResult]:
    checks = []
    while not trial.done:
        checks.append(trial.advance())
    return checks, trial.result()


def assert_alike(one: tuple[Any, TrialResult], other: tuple[Any, TrialResult]) -> None:
    """The same up to float error: an image more or less in 200 may be right."""
    for mine, theirs in zip(one[0], other[0], strict=True):
        assert (mine.step, mine.tau) == (theirs.step, pytest.approx(theirs.tau))
        assert mine.metrics.keys() == theirs.metrics.keys()
        for seed in mine.metrics:
            assert mine.metrics[seed] == pytest.approx(theirs.metrics[seed], rel=2e-3, abs=0.006)
    for mine, theirs in zip(one[1].seeds, other[1].seeds, strict=True):
        assert mine.outcome == theirs.outcome
        assert mine.updates_classifier == theirs.updates_classifier
        assert mine.test_score == pytest.approx(theirs.test_score, abs=0.006)
        assert (mine.train_seconds > 0.0) == (theirs.train_seconds > 0.0)


@pytest.mark.parametrize("pack", [2, 3, 8])
@pytest.mark.parametrize("changes", [{}, {"schedule": "fused"}, {"method": "mimic"}], ids=str)
def test_a_packed_trial_is_the_single_one(
    changes: dict[str, object], pack: int, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    initialise = Stack.__init__

    def spy(self: Stack, replicas: Any, *args: Any) -> None:
        made.append(len(replicas))
        initialise(self, replicas, *args)

    monkeypatch.setattr(Stack, "__init__", spy)
    single = finish(make_trial("none", **changes))
    assert made == []
    packed = finish(make_trial(pack, **changes))
    assert made == ([2] if pack == 2 else [3])
    assert_alike(single, packed)


@pytest.mark.parametrize("before, after", [(3, "none"), ("none", 3), (2, 3)])
def test_a_checkpoint_is_taken_up_either_way(
    before: Pack, after: Pack, make_trial: MakeTrial, tmp_path: Path
) -> None:
    undisturbed = finish(make_trial("none", schedule="fused", steps=40))
    trial = make_trial(before, schedule="fused", steps=40)
    checks = [trial.advance() for _ in range(3)]
    trial.save(tmp_path / "trial.pt")
    fresh = make_trial(after, schedule="fused", steps=40)
    assert fresh.resume(tmp_path / "trial.pt")
    left, result = finish(fresh)
    assert_alike(undisturbed, (checks + left, result))


def test_a_diverged_seed_leaves_the_stack_and_the_others_alone(make_trial: MakeTrial) -> None:
    clean, spoilt = make_trial(3), make_trial(3)
    for trial in (clean, spoilt):
        trial.advance()
        trial.advance()
    with torch.no_grad():
        for p in spoilt.replicas[1].players["classifier"].parameters():
            p.fill_(math.nan)
    expected = finish(clean)[0]
    checks, found = finish(spoilt)
    assert [set(check.metrics) for check in checks] == [{0, 2}] * len(checks)
    assert [seed.outcome for seed in found.seeds][1] == "diverged"
    updates = found.seeds[1].updates_classifier
    assert updates == found.seeds[0].updates_classifier - 4  # found out at the next check
    # In the interval beside the spoilt one to the bit, afterwards in a smaller stack.
    for seed in (0, 2):
        assert checks[0].metrics[seed] == expected[0].metrics[seed]
        assert checks[-1].metrics[seed] == pytest.approx(
            expected[-1].metrics[seed], rel=2e-3, abs=0.006
        )


def test_on_a_cpu_auto_is_one_by_one(make_trial: MakeTrial) -> None:
    trial = make_trial("auto")
    trial.advance()
    assert [len(g.replicas) for g in trial.packs.of(trial.replicas)] == [1, 1, 1]


def test_what_is_not_stacked_is_trained_one_by_one_and_said(make_trial: MakeTrial) -> None:
    with pytest.warns(UserWarning, match="method='codis' is trained one by one"):
        trial = make_trial(3, method="codis", pretrain_steps=0)
    trial.advance()
    assert [len(g.replicas) for g in trial.packs.of(trial.replicas)] == [1, 1, 1]


@pytest.mark.parametrize("pack", [0, -1])
def test_a_pack_below_one_is_refused(pack: int, make_trial: MakeTrial) -> None:
    with pytest.raises(ValueError, match=f"pack={pack} is out of range: .* at least 1, auto or"):
        make_trial(pack)


@pytest.mark.parametrize("free, expected", [(0, 1), (1, 1), (80, 32), (5, 8)])
def test_on_a_gpu_as_many_as_find_memory(
    free: int, expected: int, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """free: gibibytes, of which a half is taken; 256 mebibytes and a little each."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * 2**30, 80 * 2**30))
    trial = make_trial("none")
    trial.advance()
    found = packs.fitting(trial.replicas[0], CPU)  # type: ignore[arg-type]
    assert found == expected if free != 5 else 8 <= found <= 10
    assert Packs(trial.config, torch.device("cuda"), "auto").is_stackable


def test_packs_in_words() -> None:
    assert [parse_pack(text) for text in ("auto", "none", "3")] == ["auto", "none", 3]
    with pytest.raises(ValueError, match="pack='many' is not auto, none or a number above 0"):
        parse_pack("many")
