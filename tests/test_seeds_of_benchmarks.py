"""What measures accuracy seed by seed: nothing is trained twice, differences are paired."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.seeds import add_options, differences, lines, own_accuracy, scores_of
from kdgan_core import TrialConfig

CONFIG = TrialConfig.from_dict(
    {"dataset": "digits", "architecture": "small", "train_size": 50, "valid_size": 50,
     "batch_size": 10, "steps": 2, "pretrain_steps": 2, "evaluations": 1}
)  # fmt: skip


def tenth(config: TrialConfig, data_dir: Path | None, cache_dir: Path) -> float:
    """Stands for another program."""
    return config.seeds[0] / 10


@pytest.fixture
def asked(tmp_path: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser, "some")
    words = ["--seeds", "3", "--processes", "1", "--results", str(tmp_path / "in" / "some.jsonl")]
    found = parser.parse_args([*words, "--cache-dir", str(tmp_path / "cache")])
    found.data_dir = None
    return found


def test_what_was_found_is_not_trained_again(asked: argparse.Namespace) -> None:
    arms = {"other": CONFIG, "ours": CONFIG}
    first = scores_of(arms, asked, {"other": tenth})
    assert first["other"] == {0: 0.0, 1: 0.1, 2: 0.2}
    assert all(0.0 < score < 1.0 for score in first["ours"].values())
    kept = asked.results.read_text().splitlines()
    asked.results.write_text("\n".join(kept[:-1]) + "\n")  # as if it had been stopped
    asked.seeds = 4
    assert scores_of(arms, asked, {"other": tenth})["other"] == {**first["other"], 3: 0.3}
    again = [json.loads(line) for line in asked.results.read_text().splitlines()]
    assert len(again) == 8
    assert len({(line["name"], line["seed"]) for line in again}) == 8


def test_ours_is_the_trials_test_accuracy(tmp_path: Path) -> None:
    found = own_accuracy(CONFIG, None, tmp_path)
    assert found == own_accuracy(CONFIG, None, tmp_path)
    assert 0.0 < found < 1.0


def test_differences_are_paired_by_seed() -> None:
    scores = {"base": {0: 0.5, 1: 0.7, 2: 0.9}, "arm": {2: 0.91, 0: 0.51, 1: 0.71}}
    mean, low, high = differences(scores, "base")["arm"]
    assert mean == pytest.approx(0.01) and high - low < 1e-9
    assert lines(scores, "base") == [
        ("base", "0.7000", "+0.0000", "", "0.5000 0.7000 0.9000"),
        ("arm", "0.7100", "+0.0100", "[+0.0100, +0.0100]", "0.5100 0.7100 0.9100"),
    ]
