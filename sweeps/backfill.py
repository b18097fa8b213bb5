"""The command line that sends to MLflow what a store or server that was away has missed."""

from __future__ import annotations

import contextlib
import difflib
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sweeps.words import UsageProblem

if TYPE_CHECKING:
    from sweeps.plan import Row
    from sweeps.record import Recorder
    from sweeps.spool import SpoolState

OPEN_SECONDS = 120.0  # for a store that other processes are making, too
NEEDED = ("experiment", "sweep_id", "tracking_uri", "working_directory")
LINE_SECONDS = 5.0  # between two lines about a sweep that takes long


class BackfillError(Exception):
    """A sweep's folder cannot be used; the message says why and what to do."""


class StoreError(Exception):
    """A store could not be written; the message says why."""


class Spooled(NamedTuple):
    """What a sweep's folder says.

    Attributes:
        folder: absolute.
        manifest: sweep.json.
        trials: trial_id -> rows, of the trials that have a result.
        planned: trials in the plan, superseded ones left out.
        counted: those of `trials` that the plan still holds.
        span: when the first one started and the last one ended, seconds since the epoch.
    """

    folder: Path
    manifest: Mapping[str, Any]
    trials: Mapping[str, Sequence[Row]]
    planned: int
    counted: int
    span: tuple[float, float]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sweeps", nargs=-1, metavar="[SWEEP]...")
@click.option(
    "--storage",
    type=click.Path(path_type=Path),
    default=Path("sweep_runs"),
    show_default=True,
    help="Folder that holds the sweeps.",
)
@click.option("--tracking-uri", help="MLflow store or server. Default: the one of each sweep.")
def main(sweeps: tuple[str, ...], storage: Path, tracking_uri: str | None) -> None:
    """Send to MLflow what is missing there of each SWEEP: its name or its folder.

    Default: every sweep of the storage. Trials that are recorded stay as they are, so that the
    same command may be given at any time; a sweep that is being run records itself and is left
    alone. Exit code: 0 if all is recorded, 1 if a store could not be written, 2 if a sweep could
    not be read.
    """
    try:
        sys.exit(_backfill(_folders(sweeps, storage), tracking_uri))
    except BackfillError as error:
        raise UsageProblem(str(error)) from None
    except KeyboardInterrupt:
        click.echo("interrupted: what has been recorded stays, the same command goes on")
        sys.exit(130)


def _folders(names: Sequence[str], storage: Path) -> list[Path]:
    """The sweeps' folders.

    Raises:
        BackfillError: there is none, or none of that name.
    """
    known = {path.name: path for path in sorted(storage.glob("*")) if _is_sweep(path)}
    if not names and not known:
        raise BackfillError(f"there is no sweep in {storage}: name its folder with --storage")
    folders = []
    for name in names:
        folder = Path(name) if _is_sweep(Path(name)) else known.get(name)
        if folder is None:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[:3]
            has = f"it has {', '.join(near)}" if near else "it has none"
            raise BackfillError(f"there is no sweep {name!r} in {storage}: {has}")
        folders.append(folder)
    return folders or list(known.values())


def _is_sweep(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("sweep.json", "plan.parquet"))


def _backfill(folders: Sequence[Path], tracking_uri: str | None) -> int:
    """The exit code, after every sweep that can be has been recorded."""
    from sweeps.folder import StorageError, is_driven, locked, read_owner
    from sweeps.manifest import ManifestError
    from sweeps.plan import PlanError

    here = Path.cwd()
    codes = {0}
    dead: set[str] = set()
    for folder in [folder.resolve() for folder in folders]:
        try:
            if is_driven(folder):
                owner = read_owner(folder)
                who = f"process {owner['pid']} on {owner['host']}" if owner else "a process"
                click.echo(f"{folder.name}: skipped, {who} is running it and records it")
                continue
            with locked(folder, shlex.join(["python", *sys.argv])):
                spooled = read_sweep(folder)
                uri, place = _store_of(spooled.manifest, tracking_uri, here)
                if uri in dead:
                    raise StoreError(f"not tried, since {uri} did not work just before")
                try:
                    with contextlib.chdir(place):  # where a fresh sqlite store keeps its artifacts
                        _send(spooled, uri)
                except StoreError:
                    dead.add(uri)
                    raise
        except StoreError as error:
            codes.add(1)
            click.echo(f"{folder.name}: {error}", err=True)
        except (BackfillError, ManifestError, OSError, PlanError, StorageError) as error:
            codes.add(2)
            click.echo(f"{folder.name}: {error}", err=True)
    return 1 if 1 in codes else max(codes)


def read_sweep(folder: Path) -> Spooled:
    """What a sweep's folder holds for the store.

    Raises:
        BackfillError: it has no sweep.json, or that is not all there.
        ManifestError: its sweep.json cannot be read.
        PlanError: its plan cannot be read.
    """
    from sweeps.manifest import read_manifest
    from sweeps.plan import Plan
    from sweeps.spool import read_spool, spool_path

    manifest = read_manifest(folder)
    if manifest is None:
        raise BackfillError(
            f"{folder} has no sweep.json, so where it is to be recorded is not known: give the"
            " command that started the sweep again"
        )
    absent = [name for name in NEEDED if name not in manifest]
    if absent:
        raise BackfillError(f"{folder / 'sweep.json'} does not say {', '.join(absent)}")
    trials: dict[str, Sequence[Row]] = {}
    states: list[SpoolState] = []
    counted = planned = 0
    for trial_id, rows in Plan(folder / "plan.parquet").trials().items():
        current = any(row.role != "superseded" for row in rows)
        planned += current
        path = spool_path(folder / "spool", trial_id)
        state = read_spool(path)
        if state.corrupt:
            click.echo(f"{folder.name}: passed over damaged lines of {path}: {state.corrupt}")
        if state.result is not None:
            trials[trial_id] = rows
            states.append(state)
            counted += current
    ends = [float(state.result["time"]) for state in states if state.result]
    starts = [state.started for state in states if state.started is not None]
    span = (min(starts + ends, default=0.0), max(ends, default=0.0))
    return Spooled(folder, manifest, trials, planned, counted, span)


def _store_of(manifest: Mapping[str, Any], asked: str | None, here: Path) -> tuple[str, Path]:
    """The store's address, good in any folder, and the folder it counts from.

    Raises:
        BackfillError: it is on this machine, and the sweep's working folder is gone.
    """
    uri = str(asked or manifest["tracking_uri"])
    place = here if asked else Path(manifest["working_directory"])
    local = uri.startswith(("sqlite:", "file:")) or ":" not in uri
    if not place.is_dir():
        if local:
            raise BackfillError(
                f"{place}, where the sweep was started and {uri} counts from, is gone: name the"
                " store with --tracking-uri"
            )
        place = here
    path = uri.removeprefix("sqlite:///")
    if path != uri and path and not path.startswith("/"):
        uri = f"sqlite:///{place / path}"
    return uri, place


def _send(spooled: Spooled, uri: str) -> None:
    """Records a sweep and says how it went.

    Raises:
        StoreError: the store does not take all of it.
    """
    from sweeps.record import Recorder

    name, manifest = spooled.folder.name, spooled.manifest
    missing = spooled.planned - spooled.counted
    without = f"; {missing} planned trials have no result yet" if missing else ""
    if not spooled.trials:
        click.echo(f"{name}: nothing to record{without}")
        return
    ended = manifest.get("ended") or {
        "status": "KILLED",
        "planned_trials": manifest.get("expected_trials", spooled.planned),
    }
    planned = int(ended["planned_trials"])
    facts = {**(manifest.get("facts") or {}), "planned_trials": str(planned)}
    recorder = Recorder(
        uri, str(manifest["experiment"]), str(manifest["sweep_id"]), spooled.folder / "spool"
    )
    for trial_id, rows in spooled.trials.items():
        recorder.trial_ended(trial_id, rows)
    recorder.start(facts, spooled.span)
    if recorder.wait_until_open(OPEN_SECONDS):
        _show_progress(recorder, name, len(spooled.trials))
    complete = recorder.close(str(ended["status"]), planned)
    recorded = min(spooled.counted, len(spooled.trials) - recorder.left)
    said = f"{recorded} of {spooled.counted} trials recorded, {recorder.written} of them new"
    if not complete:
        raise StoreError(
            f"{said}: {uri} does not take more ({recorder.error}); once it does, give the same"
            " command again"
        )
    click.echo(f"{name}: {said}{without}")


def _show_progress(recorder: Recorder, name: str, trials: int) -> None:
    """A line every few seconds, for as long as trials get recorded."""
    left, due = trials, time.monotonic() + LINE_SECONDS
    while recorder.left and recorder.error is None:
        if time.monotonic() > due:
            if recorder.left == left:
                return  # how long to wait is for `close` to decide
            left, due = recorder.left, due + LINE_SECONDS
            click.echo(f"{name}: {trials - left} of {trials} trials ...")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
