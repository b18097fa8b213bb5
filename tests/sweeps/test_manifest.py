"""What makes a sweep the same sweep, and what it takes to notice that it no longer is."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdgan_core
from sweeps import manifest as module
from sweeps.caps import Caps
from sweeps.loading import load_space
from sweeps.manifest import (
    ManifestError,
    code_differences,
    code_files,
    code_hash,
    definition,
    keep_sizes,
    new_manifest,
    plan_differences,
    read_manifest,
    sweep_id,
    within,
    write_manifest,
)
from sweeps.options import Options
from sweeps.space import Space

OPTIONS = Options(
    mode="study", quick=False, data_dir=None, storage=Path("sweep_runs"), tracking_uri="x",
    cpus_per_trial=1.0, gpus_per_trial=None, seed=0, command="python sweeps/run.py mnist",
)  # fmt: skip


def name_of(mode: str = "study", options: Options = OPTIONS, **asked: Any) -> str:
    space = load_space("mnist", mode, quick=options.quick, **asked)
    return sweep_id(space, replace(options, mode=mode))


def manifest_of(space: Space, mode: str = "study", **changes: Any) -> dict[str, Any]:
    """As it comes back from disk."""
    options = replace(OPTIONS, mode=mode, **changes)
    return dict(json.loads(json.dumps(new_manifest(space, options, "c0ffee"))))


def plan_of(space: Space, mode: str = "study") -> dict[str, Any]:
    """The part of a manifest that the plan's changes show in."""
    return {"definition": json.loads(json.dumps(definition(space, mode)))}


def plan_lines(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return list(plan_differences(old, new))


@pytest.mark.parametrize(
    "asked",
    [
        {"train_sizes": (100,)},
        {"train_sizes": (100, 500)},
        {"seeds": 10},
        {"trials": 99},
        {"levels": ("authors",)},
        {"levels": ("gamma=0.5,2",)},
        {"factors": ("beta",)},
        {"changes": {"train_size": 100}},
        {"baseline": "best"},
    ],
    ids=str,
)
def test_what_can_be_added_to_later_is_the_same_sweep(asked: dict[str, Any]) -> None:
    assert name_of(**asked) == name_of()


@pytest.mark.parametrize(
    "changes",
    [
        {"retry": "all"},
        {"accept_changes": True},
        {"preflight": False},
        {"notify": "http://hook"},
        {"caps": Caps(max_hours=1.0)},
        {"storage": Path("elsewhere")},
        {"tracking_uri": "http://tracker"},
        {"cpus_per_trial": 2.0},
        {"gpus_per_trial": 0.5},
        {"command": "python run.py"},
    ],
    ids=str,
)
def test_how_a_sweep_is_run_does_not_name_it(changes: dict[str, Any]) -> None:
    assert name_of(options=replace(OPTIONS, **changes)) == name_of()


def test_what_cannot_be_added_to_later_is_another_sweep() -> None:
    names = [
        *(name_of(mode) for mode in ("study", "search", "sensitivity", "grid", "sobol")),
        name_of("baseline"),
        sweep_id(load_space("digits"), OPTIONS),
        name_of(options=replace(OPTIONS, quick=True)),
        name_of(options=replace(OPTIONS, seed=1)),
        name_of(options=replace(OPTIONS, sampler="random")),
        name_of(options=replace(OPTIONS, early_stopping="off")),
        name_of(baseline="paper"),
        name_of(baseline={"beta": 2.0}),
        name_of(baseline={"beta": 3.0}),
        name_of(changes={"samples": 9}),
        name_of(changes={"alpha": 0.5}),
        name_of(changes={"seeds": (5, 6)}),
        name_of("sensitivity", baseline="best"),
        name_of("sobol", options=replace(OPTIONS, seed=1)),
    ]
    assert len(set(names)) == len(names)
    assert all(name.split("-")[0] in ("mnist", "digits") for name in names)


def test_seeds_that_are_listed_can_be_added_to() -> None:
    short, long = {"seeds": (5, 6)}, {"seeds": (5, 6, 7)}
    assert name_of(changes=short) == name_of(changes=long)
    assert name_of(changes=short) != name_of(changes={"seeds": (6, 7)})


@pytest.mark.parametrize("mode", ["sensitivity", "grid", "baseline"])
def test_what_a_search_alone_uses_does_not_name_a_sweep_without_one(mode: str) -> None:
    other = replace(OPTIONS, seed=7, sampler="gp", early_stopping="off")
    assert name_of(mode, options=other) == name_of(mode)
    fixed = {name: 1.0 for name in ("alpha", "beta", "gamma", "tau_start", "tau_end")}
    everything: dict[str, Any] = {**fixed, "tau_kind": "linear"}
    assert name_of(changes=everything, options=other) == name_of(changes=everything)


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.lists(st.sampled_from((50, 100, 200, 400)), min_size=1, unique=True),
    seeds=st.integers(1, 6),
    trials=st.integers(1, 40),
    levels=st.lists(st.floats(0.0, 1.0), max_size=5, unique=True),
    mode=st.sampled_from(("study", "search", "sensitivity", "baseline", "sobol")),
)
def test_additions_are_no_differences(
    space: Space, sizes: list[int], seeds: int, trials: int, levels: list[float], mode: str
) -> None:
    more = replace(
        space, train_sizes=tuple(sizes), seeds=tuple(range(seeds)), trials=trials,
        cuts={**space.cuts, "alpha": tuple({"alpha": level} for level in levels)},
    )  # fmt: skip
    old, new = plan_of(space, mode), plan_of(more, mode)
    assert plan_lines(old, new) == [] == plan_lines(new, old)
    assert sweep_id(space, OPTIONS) == sweep_id(more, OPTIONS)


def changed(space: Space, **fields: Any) -> dict[str, Any]:
    return plan_of(replace(space, **fields))


def test_an_option_that_an_earlier_version_did_not_have_is_no_change(space: Space) -> None:
    old, new = plan_of(space), plan_of(space)
    for fields in old["definition"]["sizes"].values():
        assert fields.pop("color_jitter") == 0.0
    assert plan_lines(old, new) == [] == plan_lines(new, old)
    jittered = changed(space, fixed={**space.fixed, "color_jitter": 0.4})
    assert plan_lines(old, jittered) == [f"n={n}: color_jitter: 0.0 -> 0.4" for n in (50, 200)]
    for fields in new["definition"]["sizes"].values():
        del fields["steps"]  # which every version had
    assert plan_lines(new, plan_of(space)) == [f"n={n}: steps: absent -> 20" for n in (50, 200)]


def test_a_line_for_every_kind_of_change_of_the_plan(space: Space) -> None:
    old = plan_of(space)
    fixed = changed(space, fixed={**space.fixed, "steps": 30, "samples": 2})
    assert plan_lines(old, fixed) == [
        f"n={n}: {what}" for n in (50, 200) for what in ("samples: 8 -> 2", "steps: 20 -> 30")
    ]
    one = changed(space, sizes={200: {"batch_size": 10}})
    assert plan_lines(old, one) == ["n=200: batch_size: 50 -> 10"]
    baseline = changed(space, baseline={**space.baseline, "beta": 2.0})
    assert plan_lines(old, baseline) == ["n=50: beta: 1.0 -> 2.0", "n=200: beta: 1.0 -> 2.0"]
    wider = changed(space, search={"alpha": (0.0, 0.5), "log10_gamma": (-4.0, 2.0)})
    assert plan_lines(old, wider) == [
        "search: alpha: [0.0, 1.0] -> [0.0, 0.5]",
        "search: log10_beta: [-3.0, 3.0] -> absent",
        "search: log10_gamma: absent -> [-4.0, 2.0]",
    ]
    assert plan_lines(old, changed(space, search_seeds=(0, 1))) == ["search seeds: [0] -> [0, 1]"]


def test_the_search_is_no_part_of_a_sweep_without_one(space: Space) -> None:
    other = replace(space, search={"alpha": (0.0, 0.5)}, search_seeds=(7,))
    for mode in ("sensitivity", "baseline"):
        assert plan_lines(plan_of(space, mode), plan_of(other, mode)) == []
    for mode in ("search", "study", "sobol"):
        assert plan_lines(plan_of(space, mode), plan_of(other, mode))


@pytest.fixture
def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the training core that can be edited."""
    copied = tmp_path / "code" / "kdgan_core"
    shutil.copytree(Path(kdgan_core.__file__).parent, copied)
    monkeypatch.setattr(module, "kdgan_core", SimpleNamespace(__file__=copied / "__init__.py"))
    return copied


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_every_file_of_the_core_counts(core: Path) -> None:
    paths = {path.relative_to(core.parent).as_posix() for path in core.rglob("*.py")}
    assert set(code_files()) == paths
    assert {"kdgan_core/losses.py", "kdgan_core/methods/kdgan.py"} <= paths


def test_comments_docstrings_and_layout_do_not_count(core: Path) -> None:
    before, digits = code_files(), code_hash()
    path = core / "temperature.py"
    source = path.read_text()
    path.write_text(f'"""Another first line."""\n# why\n\n\n{source[source.index("from") :]}\n\n')
    for file in core.rglob("*.py"):
        file.write_text(file.read_text().replace("        self.", "        self . "))
    edit(core / "config.py", '"""The configuration of one trial', '"""What one trial is')
    edit(core / "config.py", '    """A copy with some fields changed', '    """Changed')
    assert (code_files(), code_hash()) == (before, digits)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("pretrain.py", "CHECKS = 6", "CHECKS = 7"),
        ("pretrain.py", "0.5 * (1.0 +", "0.5 * (1.0 -"),
        ("config.py", "4e-5", "5e-5"),
        ("config.py", '"updates of the classifier"', '"steps"'),  # not worth telling apart
    ],
)
def test_what_the_core_does_counts(core: Path, file: str, old: str, new: str) -> None:
    before, digits = code_files(), code_hash()
    edit(core / file, old, new)
    after = code_files()
    assert {path for path in after if after[path] != before[path]} == {f"kdgan_core/{file}"}
    assert code_hash() != digits


@pytest.fixture(scope="module")
def recorded(space: Space) -> dict[str, Any]:
    return manifest_of(space)


@pytest.fixture
def old(recorded: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(recorded)


def test_the_same_code_has_no_differences(space: Space, old: dict[str, Any]) -> None:
    assert list(code_differences(old, manifest_of(space))) == []


def test_a_line_for_every_kind_of_change_of_the_code(old: dict[str, Any]) -> None:
    new = copy.deepcopy(old)
    new["code"]["kdgan_core/losses.py"] = "0" * 12
    new["code"]["kdgan_core/new.py"] = "0" * 12
    del new["code"]["kdgan_core/trial.py"]
    new["versions"]["torch"] = "2.14.0"
    new["facts"] |= {"commit": "f" * 40, "data_checksum": "decaf"}
    commit = old["facts"]["commit"][:12]
    assert list(code_differences(old, new)) == [
        "code: kdgan_core/losses.py changed",
        "code: kdgan_core/new.py is new",
        "code: kdgan_core/trial.py is gone",
        f"commit: {commit} -> ffffffffffff",
        f"package torch: {old['versions']['torch']} -> 2.14.0",
        "data: checksum: c0ffee -> decaf",
    ]


def test_a_commit_that_leaves_the_core_alone_is_no_difference(old: dict[str, Any]) -> None:
    new = copy.deepcopy(old)
    new["facts"] |= {"commit": "f" * 40, "dirty": "true", "host": "elsewhere"}
    assert list(code_differences(old, new)) == []


def test_a_manifest_is_read_back(tmp_path: Path, old: dict[str, Any]) -> None:
    assert read_manifest(tmp_path) is None
    write_manifest(tmp_path, old)
    assert read_manifest(tmp_path) == old
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


def without(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda manifest: json.dumps({k: v for k, v in manifest.items() if k != key})


@pytest.mark.parametrize(
    "damage",
    [
        lambda manifest: "",
        lambda manifest: json.dumps(manifest)[:-10],
        lambda manifest: "[]",
        lambda manifest: "null",
        lambda manifest: '"sweep"',
        lambda manifest: json.dumps({**manifest, "format": 2}),
        without("format"),
        without("definition"),
        without("ended"),
        lambda manifest: "\udcff\udcfe",
    ],
)
def test_a_damaged_manifest_names_the_folder_to_move(
    tmp_path: Path, old: dict[str, Any], damage: Callable[[dict[str, Any]], str]
) -> None:
    (tmp_path / "sweep.json").write_bytes(damage(old).encode(errors="surrogateescape"))
    with pytest.raises(ManifestError, match=f"move the folder {tmp_path} away"):
        read_manifest(tmp_path)


def test_sizes_of_earlier_commands_are_kept(space: Space) -> None:
    both, one = manifest_of(space), manifest_of(replace(space, train_sizes=(200,), trials=9))
    keep_sizes(None, one)
    assert set(one["asked"]["sizes"]) == {"200"}
    keep_sizes(both, one)
    assert set(one["definition"]["sizes"]) == set(one["asked"]["sizes"]) == {"50", "200"}
    assert one["asked"]["sizes"]["200"][0] == 9
    assert one["asked"]["train_sizes"] == [200]


def test_what_can_be_added_to_a_table_is_the_same_sweep() -> None:
    name = name_of("methods")
    for asked in (
        {"arms": ("mimic",)}, {"train_sizes": (100, 300)}, {"seeds": 3}, {"trials": 9},
        {"changes": {"seeds": (4, 5)}},
    ):  # fmt: skip
        assert name_of("methods", **asked) == name


def test_what_cannot_be_added_to_a_table_is_another_sweep() -> None:
    names = [
        name_of("methods"), name_of("study"), name_of("methods", trials=0),
        name_of("methods", changes={"matched": "steps"}),
        name_of("methods", changes={"learning_rate": 0.001}),
        name_of("methods", options=replace(OPTIONS, seed=1)),
        name_of("methods", options=replace(OPTIONS, early_stopping="off")),
        name_of("methods", options=replace(OPTIONS, quick=True)),
    ]  # fmt: skip
    assert len(set(names)) == len(names)
    other = replace(OPTIONS, seed=7, sampler="gp", early_stopping="off")
    assert name_of("methods", options=other, trials=0) == name_of("methods", trials=0)


def test_a_table_keeps_what_every_arm_is(table: Space) -> None:
    old = plan_of(table, "methods")
    arms = ("kdgan", "mimic", "teacher")
    assert list(old["definition"]["sizes"]) == [f"{n} {arm}" for n in (50, 200) for arm in arms]
    assert old["definition"]["arms"]["mimic"] == {"classifier_dropout": [0.0, 0.5]}
    more = replace(table, chosen=("kdgan", "kdgan+ema"), seeds=(0, 1, 2), trials=7)
    assert plan_lines(old, plan_of(more, "methods")) == []
    mimic = replace(table.arms["mimic"], sizes={}, search={"classifier_dropout": (0.0, 0.9)})
    changed = replace(table, arms={**table.arms, "mimic": mimic}, search_seeds=(100, 101))
    assert plan_lines(old, plan_of(changed, "methods")) == [
        "n=50 mimic: steps: 40 -> 20",
        "search of mimic: classifier_dropout: [0.0, 0.5] -> [0.0, 0.9]",
        "search seeds: [100] -> [100, 101]",
    ]
    kdgan = replace(table.arms["kdgan"], search={})
    alone = replace(table, chosen=("kdgan",), arms={"kdgan": kdgan})
    assert "search seeds" not in " ".join(plan_lines(old, plan_of(alone, "methods")))


def test_arms_of_earlier_commands_are_kept(table: Space) -> None:
    old = manifest_of(replace(table, chosen=("mimic",)), "methods")
    new = manifest_of(replace(table, chosen=("kdgan",)), "methods")
    keep_sizes(old, new)
    assert set(new["definition"]["sizes"]) == {
        f"{n} {arm}" for n in (50, 200) for arm in ("kdgan", "mimic")
    }
    assert new["definition"]["arms"].keys() == {"kdgan", "mimic"}
    assert new["asked"]["arms"] == ["kdgan"]


def test_whether_a_finished_table_has_all_that_is_asked_for(table: Space) -> None:
    old = manifest_of(table, "methods")["asked"]
    for more in ({"chosen": ("kdgan+ema",)}, {"seeds": (0, 1, 2)}, {"trials": 3},
                 {"train_sizes": (50, 100)}):  # fmt: skip
        assert not within(old, manifest_of(replace(table, **more), "methods")["asked"])
    less = replace(table, chosen=("mimic",), seeds=(1,), trials=1, train_sizes=(200,))
    assert within(old, manifest_of(less, "methods")["asked"])
