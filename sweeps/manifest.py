"""sweep.json: what makes a sweep this sweep, what it was run with, and how it stands.

A sweep's name comes from what its command asks for that cannot be added to later; training sizes,
seeds, search trials and levels can. What the command resolves to (the space file, the code) is
kept here, so that a sweep that is half done does not go on as another one unnoticed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import kdgan_core
from kdgan_core.config import LATER
from kdgan_core.files import atomic_write
from sweeps import environment
from sweeps.arms import Branch
from sweeps.design import planned_sizes
from sweeps.options import Options
from sweeps.space import Space, branches
from sweeps.words import SEARCHING, TABLE

FORMAT = 1
NAME = "sweep.json"
KEYS = {"definition", "asked", "code", "versions", "parallel", "ended", "facts"}  # of every one


class ManifestError(Exception):
    """sweep.json cannot be read, or the sweep has become another one; the message says what."""


def sweep_id(space: Space, options: Options) -> str:
    """`<experiment>-<mode>-<8 hex digits>`: the same for commands that ask for the same sweep.

    What the digits stand for cannot be added to later: fixed fields, the kind of baseline and how
    the search samples and stops.
    """
    searching = options.mode in SEARCHING and bool(space.search)
    if options.mode == TABLE:
        searching = space.trials > 0  # with none, every arm is its recipe as it stands
    asked = {
        "quick": options.quick,
        "changes": dict(space.changes),
        "baseline": space.baseline if space.baseline_from == "named" else space.baseline_from,
        "sampler": options.sampler if searching else "",
        "early_stopping": options.early_stopping if searching else "",
        "seed": options.seed if searching or options.mode == "sobol" else 0,
    }
    text = json.dumps(asked, sort_keys=True)
    digits = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{space.experiment}-{options.mode}-{digits}"


def new_manifest(space: Space, options: Options, data_checksum: str) -> dict[str, Any]:
    """What this command would have the manifest say, but for its end."""
    commit, dirty = environment.code_version()
    versions, code = environment.package_versions(), code_files()
    return {
        "format": FORMAT,
        "experiment": space.experiment,
        "sweep_id": sweep_id(space, options),
        "mode": options.mode,
        "command": options.command,
        "tracking_uri": options.tracking_uri,
        "working_directory": str(Path.cwd()),
        "definition": definition(space, options.mode),
        "asked": {
            "train_sizes": list(space.train_sizes),
            "seeds": list(space.seeds),
            "search_seeds": list(space.search_seeds),
            "trials": space.trials,
            "cuts": {k: [dict(x) for x in v] for k, v in space.cuts.items()},
            "arms": list(space.chosen),
            "sizes": {
                branch.name: list(size)
                for branch, size in planned_sizes(space, options.mode).items()
            },
        },
        "code": code,
        "versions": {name: versions[name] for name in ("torch", "numpy")},
        "parallel": 1,
        "ended": None,
        "facts": {
            "mode": options.mode,
            "quick": str(options.quick).lower(),
            "command": options.command,
            "commit": commit,
            "dirty": str(dirty).lower(),
            "code": code_hash(code),
            "versions": json.dumps(versions),
            "hardware": json.dumps(environment.hardware()),
            "data_checksum": data_checksum,
            "host": platform.node(),
            "sampler": options.sampler,
            "early_stopping": options.early_stopping,
        },
    }


def definition(space: Space, mode: str) -> dict[str, Any]:
    """What the command resolves to, as plain JSON values, but for what can be added to later."""
    sizes, arms = {}, {}
    for branch, own in branches(space, mode).items():
        config = own.base_config(branch.train_size).as_dict()
        del config["seeds"]
        sizes[branch.name] = config
        if branch.arm:
            arms[branch.arm] = {k: list(v) for k, v in own.search.items()}
    searched = space.trials if mode == TABLE else mode in (*SEARCHING, "sobol") and space.search
    return {
        "sizes": sizes,
        "search": {k: list(v) for k, v in space.search.items()} if searched else {},
        "search_seeds": list(space.search_seeds) if searched else [],
        "arms": arms,
    }


def code_files() -> dict[str, str]:
    """Source file of the training core -> hash of what it does: comments, docstrings and layout
    left out."""
    root = Path(kdgan_core.__file__).parent
    return {
        path.relative_to(root.parent).as_posix(): _hash_of_code(path.read_text())
        for path in sorted(root.rglob("*.py"))
    }


def code_hash(files: Mapping[str, str] | None = None) -> str:
    """12 hex digits over all of `files`, None for `code_files`."""
    text = json.dumps(code_files() if files is None else files)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def plan_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """A line for everything in which the plan is no longer what it was; additions are none, nor
    are options that an earlier version did not have and that change nothing."""
    before, now = old["definition"], new["definition"]
    for name in sorted(before["sizes"].keys() & now["sizes"].keys(), key=Branch.named):
        fields = [{**LATER, **part["sizes"][name]} for part in (before, now)]
        yield from _changes(f"n={name}: ", *fields)
    yield from _changes("search: ", before["search"], now["search"])
    searches, other = (part.get("arms", {}) for part in (before, now))
    for arm in sorted(searches.keys() & other.keys()):
        yield from _changes(f"search of {arm}: ", searches[arm], other[arm])
    if before["search_seeds"] != now["search_seeds"]:
        yield f"search seeds: {before['search_seeds']} -> {now['search_seeds']}"


def code_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """A line for every file of the training core, and package, that is no longer what it was."""
    for path in sorted(old["code"].keys() | new["code"].keys()):
        if old["code"].get(path) != new["code"].get(path):
            what = "is new" if path not in old["code"] else "changed"
            yield f"code: {path} {what if path in new['code'] else 'is gone'}"
    commits = [manifest["facts"]["commit"][:12] for manifest in (old, new)]
    if old["code"] != new["code"] and commits[0] != commits[1]:
        yield f"commit: {commits[0]} -> {commits[1]}"
    yield from _changes("package ", old["versions"], new["versions"])
    yield from _changes(
        "data: ", *({"checksum": manifest["facts"]["data_checksum"]} for manifest in (old, new))
    )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a sweep's folder, None if there is none yet.

    Raises:
        ManifestError: the file cannot be read.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']}")
        if not manifest.keys() >= KEYS:
            raise ValueError(f"it lacks {', '.join(sorted(KEYS - manifest.keys()))}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{path} is not a manifest this version can read ({error}): move the folder {folder}"
            " away to start the sweep afresh"
        ) from None
    return dict(manifest)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes it, whole or not at all.

    Raises:
        OSError: the storage cannot be written.
    """
    with atomic_write(folder / NAME) as file:
        file.write(json.dumps(manifest, indent=1).encode())


def accept_changes(
    folder: Path, manifest: dict[str, Any], accept: bool, tell: Callable[[str], None]
) -> None:
    """Compares with what the sweep was before; makes `manifest` their union.

    Args:
        folder: of the sweep.
        manifest: of the command, as of `new_manifest`.
        accept: whether to go on although the sweep has changed.
        tell: gets the changes that are gone on with.

    Raises:
        ManifestError: the sweep has become another one, and that was not accepted.
    """
    from sweeps.plan import Plan

    old = read_manifest(folder)
    asked = json.loads(json.dumps(manifest["asked"]))
    keep_sizes(old, manifest)
    if old is None or not any((folder / "spool").iterdir()):
        return
    planned = list(plan_differences(old, manifest))
    changed = [*planned, *code_differences(old, manifest)]
    if not changed:
        return
    ended = old.get("ended") or {}
    if not planned and ended.get("status") == "FINISHED" and within(old["asked"], asked):
        manifest |= {name: old[name] for name in ("code", "versions", "facts")}
        return
    shown = "\n".join(f"  {text}" for text in changed)
    if not accept:
        raise ManifestError(
            f"sweep {folder.name} has trials from before a change, and its curves would mix"
            f" both:\n{shown}\nundo the change, or start afresh with --storage FOLDER, or go on"
            f" with --accept-changes"
        )
    tell(f"going on although the sweep has changed:\n{shown}")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    if planned:
        Plan(folder / "plan.parquet").supersede()


def keep_sizes(old: Mapping[str, Any] | None, new: dict[str, Any]) -> None:
    """Adds to `new` the training sizes and arms that only earlier commands asked for."""
    if old is None:
        return
    for where in ("definition", "asked"):
        new[where]["sizes"] = {**old[where]["sizes"], **new[where]["sizes"]}
    new["definition"]["arms"] = {**old["definition"].get("arms", {}), **new["definition"]["arms"]}


def within(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a sweep that finished what `old` asked for has all that `new` asks for."""
    lists = all(set(new[k]) <= set(old.get(k, ())) for k in ("train_sizes", "seeds", "arms"))
    cuts = all(
        all(level in old["cuts"].get(factor, []) for level in levels)
        for factor, levels in new["cuts"].items()
    )
    return lists and cuts and new["trials"] <= old["trials"]


def _changes(prefix: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"{prefix}{name}: {old.get(name, 'absent')} -> {new.get(name, 'absent')}"


def _hash_of_code(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12]
