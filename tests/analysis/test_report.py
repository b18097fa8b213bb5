from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from handmade import Trial, curve_frame, make_runs, realistic_trials, record_sweep, seeds
from handmade_designs import grid_trials, search_trials, sobol_trials
from handmade_methods import arm_trial, learning_curves
from mlflow import MlflowClient

from analysis import plot as plot_module
from analysis.frames import Runs, RunsError
from analysis.outputs import Readers
from analysis.plot import main
from analysis.report import write_report
from analysis.sections import Source, unlike

Make = Callable[[str], tuple[MlflowClient, str]]


def source(runs: Runs, trials: Collection[Trial] = ()) -> Source:
    """Return a source whose files are those of the trials."""

    def curves(_: Collection[str]) -> pd.DataFrame:
        return curve_frame(*trials)

    return Source(runs, Readers(curves, partial(curves)))


def sources() -> list[Source]:
    """Return a sweep of each kind, all of the experiment `mnist`."""
    scores = {seed: 0.9 + 0.01 * seed for seed in range(3)}
    arms = [
        arm_trial(name, scores, curves=learning_curves({0: 0.9}, 0.7))
        for name in ("kdgan", "nagan", "mimic")
    ]
    design = sobol_trials(32, lambda at: 0.5 + 0.4 * at["gamma"])
    return [
        source(make_runs(realistic_trials((100, 1000)), sweep_id="s-cuts", started=5)),
        source(make_runs(design, sweep_id="s-sobol", mode="sobol", started=4)),
        source(make_runs(grid_trials(), sweep_id="s-grid", mode="grid", started=3)),
        source(
            make_runs(search_trials([("finished", 0.8), ("stopped", 0.7)]), sweep_id="s-search",
                      mode="search", started=2)
        ),
        source(make_runs(arms, sweep_id="s-methods", mode="methods", started=1), arms),
    ]  # fmt: skip


class Page(HTMLParser):
    """What of a page a browser would fetch, and its headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.anchors: list[str] = []
        self.opened: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("script", "img", "link", "iframe"):
            self.fetched += [str(found[name]) for name in ("src", "href") if name in found]
        if tag == "image":
            self.fetched.append(str(found.get("href")))
        if tag == "h2" and "id" in found:
            self.anchors.append(str(found["id"]))
        self.opened.append(tag)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    return write_report(sources(), "corrected", tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def text(written) -> str:  # type: ignore[no-untyped-def]
    return str(written.page.read_text(encoding="utf-8"))


def test_every_kind_of_sweep_has_its_part(text: str) -> None:
    assert Page(text).anchors == [
        "figure4", "importance", "contours", "table1", "figure3", "slices", "history", "best",
        "seeds", "where",
    ]  # fmt: skip


def test_the_page_fetches_nothing(text: str) -> None:
    assert all(found.startswith("data:") for found in Page(text).fetched)
    assert "url(http" not in text and "@import" not in text


def test_each_figure_has_values_under_the_pointer_and_a_table(text: str) -> None:
    parts = re.split(r"<h2 id=", text)[1:]
    for part in parts:
        if "<svg" in part:
            assert part.count("<circle cx=") >= 2 and "<table>" in part, part[:40]
    assert "<title>γ = 0.01: " in text and "seeds, baseline</title>" in text
    assert "; 3 of 3 broke</title>" in text


def test_ids_of_the_page_are_its_own(text: str) -> None:
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r'(?:url\(|href=")#([^)"]*)', text))
    assert referred <= set(ids)


def test_the_summary_says_what_matters_where_it_breaks_and_what_the_paper_says(text: str) -> None:
    summary = text[text.index("<h2>Summary") : text.index("</section>")]
    # One seed that collapsed makes the order unsure.
    assert "<strong>γ comes first, but not surely.</strong>" in summary
    assert (
        "half of the seeds or more broke at γ = 100 (2 of 3). Fewer broke at β = 1000 (1 of 3)."
        in summary
    )
    assert "<strong>log γ</strong> accounts for" in summary
    assert "2 of 12 cells broke, β = 100 and γ from 1 to 100." in summary
    assert "by validation, reaches" in summary and "95 % t interval" in summary
    assert "γ, n = 100:" in summary and "a 95 % interval of ±" in summary
    assert "KDGAN less that, paired by seed:" in summary


def test_the_figures_are_files_too(written) -> None:  # type: ignore[no-untyped-def]
    assert {path.name for path in written.figures["s-grid"]} == {
        "contours.pdf", "contours.png", "contours.csv",
    }  # fmt: skip
    assert {path.stem for path in written.figures["s-cuts"]} == {"figure4", "seeds"}


def test_a_sweep_that_has_not_ended_is_marked_partial(tmp_path: Path) -> None:
    runs = make_runs(realistic_trials((100,)), planned_trials=500, quick=True)
    page = write_report([source(runs)], "none", tmp_path).page.read_text()
    recorded = runs.trials["trial_id"].nunique()
    partial_said = f"Sweep mnist-1a2b3c4d has {recorded} of 500 planned trials"
    assert f"<strong>Partial.</strong> {partial_said}" in page
    assert "<strong>Rehearsal.</strong>" in page and "Beside the paper" not in page


def test_sweeps_of_two_data_sets_are_one_sentence(tmp_path: Path) -> None:
    other = make_runs([Trial(seeds(0.9, 0.8), dataset="digits")])
    both = [source(make_runs([Trial(seeds(0.9, 0.8))])), source(other)]
    with pytest.raises(RunsError, match="sweeps of digits and mnist cannot be put together"):
        write_report(both, "none", tmp_path)


def test_ranges_of_other_settings_do_not_stand_beside_importances() -> None:
    short, long = (
        make_runs([Trial(seeds(0.9), params={"steps": steps})])  # type: ignore[dict-item]
        for steps in (500, 2000)
    )
    assert unlike(short, long, 100) == ["steps"]
    assert unlike(short, short, 100) == [] and unlike(short, long, 1000) == []


def run(store: str, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, [*arguments, "--tracking-uri", store])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_the_report_is_logged_to_the_parents(store: str, experiment: Make, folder: Path) -> None:
    client, experiment_id = experiment("reported")
    cuts = record_sweep(
        client, experiment_id, "r-cuts", realistic_trials((100,)), mode="sensitivity"
    )
    grid = record_sweep(client, experiment_id, "r-grid", grid_trials(), mode="grid")
    code, output = run(store, "reported", "--report")
    assert code == 0 and "Logged the report" in output
    logged = {
        run_id: {found.path for found in client.list_artifacts(run_id, "report")}
        for run_id in (cuts, grid)
    }
    assert {"report/report.html", "report/figure4.png"} <= logged[cuts]
    # The sweep that started last has the seeds too.
    assert logged[grid] == {
        "report/report.html", "report/contours.png", "report/seeds.png",
    }  # fmt: skip
    assert (folder / "figures" / "reported" / "report.html").is_file()


def test_no_log_leaves_the_store_alone(store: str, experiment: Make, folder: Path) -> None:
    client, experiment_id = experiment("unlogged")
    parent = record_sweep(client, experiment_id, "u-1", realistic_trials((100,)))
    assert run(store, "unlogged", "--report", "--no-log")[0] == 0
    assert client.list_artifacts(parent, "report") == []


def test_a_report_leaves_no_room_for_a_single_figure(store: str, folder: Path) -> None:
    code, output = run(store, "empty", "--report", "--figure", "4")
    assert code == 2 and "--report has all figures" in output


def test_a_watched_sweep_is_drawn_again_until_it_ends(
    store: str, experiment: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, experiment_id = experiment("watched")
    trials = grid_trials()
    parent = record_sweep(client, experiment_id, "w-1", [], planned_trials="2")
    client.update_run(parent, status="RUNNING")
    from handmade import record_trial

    steps = [
        lambda: record_trial(client, experiment_id, "w-1", parent, trials[0]),
        lambda: record_trial(client, experiment_id, "w-1", parent, trials[1]),
        lambda: client.set_terminated(parent),
    ]
    monkeypatch.setattr(plot_module.time, "sleep", lambda _: steps.pop(0)())
    code, output = run(store, "watched", "--watch")
    assert code == 0 and not steps
    said = [line for line in output.splitlines() if line.startswith(("Waiting", "Sweep"))]
    assert said == [
        "Waiting: no sweep of experiment 'watched' has a trial that ended yet "
        "(latest sweep: w-1); wait for its first one",
        "Sweep w-1: 1 of 2 planned trials.",
        "Sweep w-1: 2 trials.",
        "Sweep w-1: 2 trials.",
    ]
