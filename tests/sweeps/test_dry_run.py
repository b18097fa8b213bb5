"""The dry run: its sums, its ranges, what it says is left, and that it writes nothing."""

from __future__ import annotations

import io
import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commanding import traces
from rich.console import Console

from kdgan_core import TrialConfig
from sweeps import dry_run as module
from sweeps import environment
from sweeps.caps import Caps
from sweeps.cost import Probe, format_seconds
from sweeps.dry_run import STARTUP_SECONDS, STOPPED_SHARE, describe_plan, print_plan
from sweeps.environment import processor
from sweeps.factors import SpaceError
from sweeps.loading import load_space
from sweeps.options import Options
from sweeps.resources import PreflightError
from sweeps.space import Space
from sweeps.spool import SpoolWriter
from sweeps.stages import Stages, Task
from sweeps.words import MODES

SECONDS = 10.0  # of training one seed, says the probe
PRETRAINING = 4.0


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """Two cores, no cluster; the probe is not run."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(module, "probe_seconds", lambda *words: Probe(SECONDS, PRETRAINING))
    monkeypatch.setattr(environment, "hardware", lambda: {"cores": "2"})
    return Options(
        mode="study", quick=False, data_dir=None, storage=tmp_path / "storage", tracking_uri="x",
        cpus_per_trial=1.0, gpus_per_trial=None, seed=0, command="python sweeps/run.py toy",
        early_stopping="off",
    )  # fmt: skip


def folder_of(options: Options) -> Path:
    return options.storage / "toy-study-12345678"


def described(space: Space, options: Options, mode: str = "study") -> dict[str, Any]:
    return describe_plan(of(space, mode), replace(options, mode=mode), folder_of(options))


def of(space: Space, mode: str) -> Space:
    """The space as its mode has it where the command line names no baseline."""
    return replace(space, baseline_from="best" if mode == "study" else "paper")


def ranges(value: object) -> Iterator[dict[str, float]]:
    """Every {"low", "mid", "high"} in it."""
    if isinstance(value, dict):
        if value.keys() == {"low", "mid", "high"}:
            yield value
        for one in value.values():
            yield from ranges(one)
    elif isinstance(value, list):
        for one in value:
            yield from ranges(one)


@pytest.mark.parametrize("experiment", ["digits", "toy"])
@pytest.mark.parametrize("mode", MODES)
def test_the_sums_agree_and_the_ranges_are_in_order(
    space: Space, table: Space, options: Options, mode: str, experiment: str
) -> None:
    caps = Caps(usd_per_hour=3.6)
    toy = table if mode == "methods" else space
    chosen = toy if experiment == "toy" else load_space("digits", mode)
    if mode == "grid" and experiment == "toy":
        chosen = replace(space, cuts={k: space.cuts[k] for k in ("alpha", "tau")})
    facts = described(chosen, replace(options, caps=caps, early_stopping="asha"), mode)
    facts = json.loads(json.dumps(facts))
    sizes = facts["sizes"]
    arms = chosen.chosen or ("",)
    assert [(size["train_size"], size["arm"]) for size in sizes] == [
        (n, arm) for n in chosen.train_sizes for arm in arms
    ]
    for size in sizes:
        trainings = size["search_trials"] * size["search_seeds"]
        assert size["trainings"] == trainings + size["cells"] * size["cell_seeds"] > 0
    assert facts["trainings"] == sum(size["trainings"] for size in sizes)
    assert facts["trials"] == sum(size["search_trials"] + size["cells"] for size in sizes)
    assert facts["rows"].get("search", 0) == sum(size["search_trials"] for size in sizes)
    assert sum(facts["rows"].values()) >= facts["trials"]  # levels may share the baseline's trial
    found = list(ranges(facts))
    assert len(found) == 2 * len(sizes) + 3  # with hours, wall time and dollars
    assert all(0.0 < one["low"] < one["mid"] < one["high"] for one in found)
    whole = sum(size["seconds"]["mid"] for size in sizes)
    if mode == "methods":  # arms share pretrained players
        assert 0.0 < facts["core_hours"]["mid"] < whole / 3600
    else:
        assert facts["core_hours"]["mid"] == pytest.approx(whole / 3600)
    for end in ("low", "mid", "high"):
        assert facts["usd"][end] == pytest.approx(facts["wall_seconds"][end] * 3.6 / 3600)


def test_what_a_study_costs(space: Space, options: Options) -> None:
    facts = described(space, options)
    trainings = 2 * (3 * 1 + 6 * 2)
    seconds = trainings * SECONDS + 2 * 2 * PRETRAINING
    assert facts["trainings"] == trainings
    assert facts["core_hours"]["mid"] == pytest.approx(seconds / 3600)
    assert facts["wall_seconds"]["mid"] == pytest.approx(seconds / 2 + STARTUP_SECONDS)
    assert facts["wall_seconds"]["low"] == pytest.approx(seconds / 2 / 1.5 + STARTUP_SECONDS)
    assert (facts["device"], facts["parallel"], facts["usd"]) == ("cpu", 2, None)


def test_early_stopping_shortens_the_search_by_an_uncertain_share(
    space: Space, options: Options
) -> None:
    whole = described(space, options, "search")["core_hours"]
    less = described(space, replace(options, early_stopping="asha"), "search")["core_hours"]
    pretraining = 2 * 1 * PRETRAINING / 3600
    for end, share in STOPPED_SHARE._asdict().items():
        factor = {"low": 1 / 1.5, "mid": 1.0, "high": 1.5}[end]
        rest = factor * pretraining
        assert less[end] - rest == pytest.approx(share * (whole[end] - rest))


def test_two_cores_a_trial_are_twice_the_core_hours(space: Space, options: Options) -> None:
    one = described(space, options, "sensitivity")
    two = described(space, replace(options, cpus_per_trial=2.0), "sensitivity")
    assert two["core_hours"]["mid"] == pytest.approx(2 * one["core_hours"]["mid"])
    assert (one["parallel"], two["parallel"]) == (2, 1)


def test_many_machines_do_not_shorten_a_trial(
    space: Space, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "hardware", lambda: {"cores": "1000"})
    facts = described(space, options)
    longest = 1 * SECONDS + 2 * SECONDS  # a search trial of a seed, then a cell of two
    assert facts["wall_seconds"]["mid"] == longest + STARTUP_SECONDS


def test_a_trial_that_no_machine_can_run_is_refused(space: Space, options: Options) -> None:
    with pytest.raises(PreflightError, match="--cpus-per-trial"):
        described(space, replace(options, cpus_per_trial=4.0))


@pytest.fixture
def finish(options: Options, end_trial: Callable[..., object]) -> Callable[..., Stages]:
    """A function that ends some trials of the sweep, as a driver would."""

    def run(space: Space, mode: str, trials: int, *outcomes: str) -> Stages:
        folder_of(options).mkdir(parents=True, exist_ok=True)
        stages = Stages(Task(of(space, mode), mode), folder_of(options))
        for _ in range(trials):
            row = stages.next_row()
            assert row is not None
            end_trial(stages.spool, row.config, 0.9, outcomes)
            stages.complete(row.trial_id)
        return stages

    return run


def left(facts: dict[str, Any]) -> float:
    return float(facts["core_hours"]["mid"]) * 3600


def test_what_has_finished_is_not_paid_again(
    space: Space, options: Options, finish: Callable[..., Stages]
) -> None:
    finish(space, "sensitivity", 3)
    facts = described(space, options, "sensitivity")
    assert facts["finished_trials"] == 3
    assert facts["trials"] == 8
    assert left(facts) == pytest.approx(5 * 2 * SECONDS + 2 * 2 * PRETRAINING)


def test_a_sweep_that_has_finished_costs_nothing(
    space: Space, options: Options, finish: Callable[..., Stages]
) -> None:
    finish(space, "sensitivity", 8)
    facts = described(space, options, "sensitivity")
    assert (facts["finished_trials"], left(facts)) == (8, 0.0)
    assert facts["wall_seconds"] == {"low": 0.0, "mid": 0.0, "high": 0.0}


def test_what_other_commands_finished_does_not_count(
    space: Space, options: Options, finish: Callable[..., Stages]
) -> None:
    finish(replace(space, train_sizes=(50,)), "sensitivity", 4)
    facts = described(replace(space, train_sizes=(200,)), options, "sensitivity")
    assert facts["finished_trials"] == 0
    assert left(facts) == pytest.approx(4 * 2 * SECONDS + 2 * PRETRAINING)
    cut = replace(space, train_sizes=(50,), cuts={"alpha": ({"alpha": 0.3},)})
    facts = described(cut, options, "sensitivity")
    assert facts["finished_trials"] == 1  # the baseline, not the other levels
    assert left(facts) == pytest.approx(2 * SECONDS + 2 * PRETRAINING)


def test_seeds_that_are_added_cost_their_own_trainings_only(
    space: Space, options: Options, finish: Callable[..., Stages]
) -> None:
    one = replace(space, train_sizes=(50,))
    finish(one, "sensitivity", 4)
    more = replace(one, seeds=(0, 1, 2))
    assert left(described(more, options, "sensitivity")) == pytest.approx(
        4 * SECONDS + PRETRAINING
    )


def test_the_cells_of_a_study_stand_around_its_best_once_it_is_known(
    space: Space, options: Options, finish: Callable[..., Stages]
) -> None:
    one = replace(space, train_sizes=(50,))
    finish(one, "study", 2)
    facts = described(one, options)
    assert left(facts) == pytest.approx((1 + 6 * 2) * SECONDS + 2 * PRETRAINING)
    stages = finish(one, "study", 1)  # all equally good: the first, the paper's, is the best
    cells = len(stages.missing)
    assert cells == 4
    facts = described(one, options)
    assert facts["finished_trials"] == 3
    assert left(facts) == pytest.approx(cells * 2 * SECONDS + 2 * PRETRAINING)


def test_a_best_that_a_search_has_found(
    space: Space, options: Options, finish: Callable[..., Stages]
) -> None:
    best, around = replace(space, train_sizes=(50,), baseline_from="best"), "sensitivity"
    with pytest.raises(SpaceError, match="no search in"):
        describe_plan(best, replace(options, mode=around), options.storage / "toy-around")
    finish(replace(space, train_sizes=(50,)), "search", 3)
    facts = describe_plan(best, replace(options, mode=around), options.storage / "toy-around")
    assert left(facts) == pytest.approx(4 * 2 * SECONDS + 2 * PRETRAINING)


@pytest.mark.parametrize(
    ("outcome", "again"),
    [("failed", ["failed", "collapsed", "all"]), ("collapsed", ["collapsed", "all"]),
     ("finished", ["all"])],
)  # fmt: skip
def test_what_is_tried_again_is_paid_again(
    space: Space, options: Options, finish: Callable[..., Stages], outcome: str, again: list[str]
) -> None:
    one = replace(space, train_sizes=(50,))
    finish(one, "baseline", 1, outcome)
    for retry in ("failed", "collapsed", "all"):
        facts = described(one, replace(options, retry=retry), "baseline")
        assert facts["finished_trials"] == (0 if retry in again else 1)
        assert (left(facts) > 0.0) == (retry in again)


def end_here(spool: Path, config: TrialConfig, seconds: float) -> None:
    """A result of this very machine."""
    host = {"device": "cpu", "threads": 1, "processor": processor()}
    writer = SpoolWriter(spool, config.trial_id, host)
    writer.start()
    writer._append(
        {"event": "result", "outcome": "finished", "seconds": seconds, "prepare_seconds": 0.0,
         "step": config.steps, "seeds": []}
    )  # fmt: skip
    writer.close()


def test_finished_trials_of_the_same_kind_are_better_than_a_probe(
    space: Space, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert described(space, options)["measured_on"] == "a probe of a few steps"
    other = options.storage / "toy-baseline-87654321"
    other.mkdir(parents=True)
    stages = Stages(Task(of(space, "baseline"), "baseline"), other)
    while (row := stages.next_row()) is not None:
        end_here(stages.spool, row.config, 2 * 7.0)

    def refuse(*words: object) -> Probe:
        raise AssertionError("probed for nothing")

    monkeypatch.setattr(module, "probe_seconds", refuse)
    facts = described(space, options)
    assert facts["measured_on"] == "2 finished trials"
    assert facts["sizes"][0]["seconds_per_training"]["mid"] == pytest.approx(7.0)
    assert facts["finished_trials"] == 0  # they are another sweep's


def test_a_real_probe(space: Space, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    facts = described(replace(space, train_sizes=(50,)), options, "baseline")
    assert 0.0 < facts["sizes"][0]["seconds_per_training"]["mid"] < 60.0


@pytest.mark.parametrize("begun", [False, True])
def test_it_writes_nothing(
    space: Space, options: Options, finish: Callable[..., Stages], tmp_path: Path, begun: bool
) -> None:
    if begun:
        finish(space, "study", 4)
    before = traces(tmp_path)
    for mode in ("study", "sobol", "sensitivity"):
        described(space, options, mode)
    assert traces(tmp_path) == before
    assert options.storage.exists() == begun


def test_absent_data_are_not_downloaded(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def refuse(*words: object, **more: object) -> None:
        raise AssertionError("downloaded")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    space = load_space("mnist", "baseline", quick=True, changes={"architecture": "small"})
    facts = described(space, replace(options, data_dir=tmp_path / "data"), "baseline")
    assert not facts["data_present"]
    assert 0.0 < facts["wall_seconds"]["low"]
    assert "the sweep would download them first" in printed(facts)
    assert list(tmp_path.iterdir()) == []


def test_what_a_table_costs(table: Space, options: Options) -> None:
    one = replace(table, train_sizes=(50,))
    facts = described(one, options, "methods")
    trainings = 3 * (2 * 1 + 1 * 2)
    assert facts["rows"] == {"search": 6, "methods": 3}
    assert (facts["trials"], facts["trainings"]) == (9, trainings)
    # An update of pretraining costs what the probe says: C, T and D of kdgan's tuning seed and its
    # two seeds; C at two more dropouts for mimic's tuning, and T at two for the teacher's.
    updates = {"kdgan": PRETRAINING / 60, "mimic": PRETRAINING / 40, "teacher": PRETRAINING / 20}
    extra = 20 * (9 * updates["kdgan"] + 2 * updates["mimic"] + 2 * updates["teacher"])
    assert left(facts) == pytest.approx(trainings * SECONDS + extra)


def test_what_is_left_of_a_table(
    table: Space, options: Options, finish: Callable[..., Stages]
) -> None:
    one = replace(table, train_sizes=(50,))
    finish(one, "methods", 9)
    facts = described(one, options, "methods")
    assert (facts["finished_trials"], left(facts)) == (9, 0.0)
    more = described(replace(one, trials=3), options, "methods")
    dropouts = 20 * (PRETRAINING / 40 + PRETRAINING / 20)
    assert left(more) == pytest.approx(3 * SECONDS + PRETRAINING + dropouts)
    wider = described(replace(one, chosen=("kdgan", "kdgan+ema")), options, "methods")
    assert wider["finished_trials"] == 3
    assert left(wider) > 4 * SECONDS


def test_the_words_of_a_table_have_a_line_for_every_arm(table: Space, options: Options) -> None:
    facts = described(table, options, "methods")
    lines = printed(facts).splitlines()
    assert lines[0] == "sweep toy-study-12345678: methods of toy"
    assert [line.partition(":")[0].strip() for line in lines[1:7]] == [
        f"n={n} {arm}" for n in (50, 200) for arm in ("kdgan", "mimic", "teacher")
    ]
    whole = format_seconds(facts["sizes"][0]["seconds"]["mid"])
    assert lines[1] == (
        "  n=50 kdgan: 2 search trials x 1 seeds, 1 cell x 2 seeds;"
        f" a training 10 s (6.7 s to 15 s); in all {whole}"
    )
    assert "  18 trials (12 search, 6 methods rows), 24 trainings in all" in lines


def printed(facts: dict[str, Any], as_json: bool = False) -> str:
    file = io.StringIO()
    print_plan(facts, as_json, Console(file=file, highlight=False, soft_wrap=True, width=80))
    return file.getvalue()


def test_the_words_say_what_the_json_says(
    space: Space, options: Options, finish: Callable[..., Stages]
) -> None:
    finish(space, "sensitivity", 1)
    facts = described(space, replace(options, caps=Caps(usd_per_hour=3600.0)), "sensitivity")
    assert json.loads(printed(facts, as_json=True)) == facts
    wall = {end: format_seconds(seconds) for end, seconds in facts["wall_seconds"].items()}
    usd = facts["usd"]
    assert printed(facts).splitlines() == [
        "sweep toy-study-12345678: sensitivity of toy, method kdgan",
        "  n=50: 4 cells x 2 seeds; a training 10 s (6.7 s to 15 s)",
        "  n=200: 4 cells x 2 seeds; a training 10 s (6.7 s to 15 s)",
        "  8 trials (2 baseline, 10 sensitivity rows), 16 trainings in all",
        "  1 trials have finished before; what is left:",
        "  about 0.043 core-hours (0.029 to 0.065);"
        f" {wall['mid']} ({wall['low']} to {wall['high']}) with 2 at a time",
        f"  about ${usd['mid']:.2f} (${usd['low']:.2f} to ${usd['high']:.2f})",
        "  estimated from a probe of a few steps; nothing was written",
    ]
