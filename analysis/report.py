"""One page that says what an experiment found: summary, figures, tables, where it all comes from.

The page is one HTML file that needs no network. What it says is made from the runs alone: the
summary by `summary`, its parts by `sections`.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from analysis import columns as c
from analysis import summary
from analysis.agreement import agreements_of
from analysis.contours import contours_info, has_grid
from analysis.drawing import save
from analysis.effects import breaks_of, effects_of, factors_cut
from analysis.figures import has_sensitivity, sensitivity_info
from analysis.frames import (
    Runs,
    RunsError,
    dataset_of,
    recorded_trials,
    require_same_data,
    runs_data_note,
    runs_task,
)
from analysis.importance import ImportanceInfo
from analysis.markup import frame_html, inline, page_html, table_html
from analysis.methods import has_methods
from analysis.paper import PublishedMode
from analysis.ranks import ranks_of
from analysis.sections import (
    Section,
    Source,
    best_measured,
    first_with,
    importance_of,
    sections_of,
)
from analysis.seeds import has_seeds, needed_text, seeds_info
from analysis.summary import Said
from analysis.svg import inline_svg
from analysis.table1 import table_info
from analysis.tables import best_rows
from analysis.tasks import IMAGES

STYLE_FILE: Final = Path(__file__).with_name("report.css")
SCRIPT_FILE: Final = Path(__file__).with_name("report.js")
SCRIPT_PATH: Final = re.compile(r"\S*sweeps/run\.py")  # wherever the repository lay
OPEN_ROWS: Final = 12  # of a table that is not folded away
ORIGIN: Final = ("where", "Where this comes from")
INTRODUCTION: Final = (
    "KDGAN (NeurIPS 2018) trains a light classifier C together with a heavy teacher T and a "
    "discriminator D. Four knobs weigh its parts: **α** weighs C's own adversarial game against "
    "T's, **β** the distillation of T into C, **γ** that of C into T, and the schedule of the "
    "temperature **τ** how sharply labels are sampled. n is the number of labelled training "
    "images or posts. Scores are of the test set, read where a seed's validation score was best; "
    "a seed draws the training set and everything random. A seed **collapsed** if C ended below "
    "the pretrained student it started from, and **diverged** if a number was not finite."
)
PAPER_NOTE: Final = (
    "The published curves are the best over test evaluations of one run each; where their axes "
    "and offsets come from is told in docs/published.md of the repository."
)


class Written(NamedTuple):
    """The report's file, and the files of each of its figures by the sweep they are of."""

    page: Path
    figures: dict[str, list[Path]]


def write_report(sources: Sequence[Source], published: PublishedMode, folder: Path) -> Written:
    """Write report.html and its figures to `folder`.

    Args:
        sources: The sweeps of one experiment, the most recently started first.
        published: What of the paper stands beside our numbers.
        folder: Made if absent.

    Raises:
        RunsError: If two sweeps are of different data sets, or there is nothing to show.
        OSError: If a file cannot be written.
    """
    require_same_data([source.runs for source in sources])
    importance = importance_of(sources)
    figures: dict[str, list[Path]] = {}
    parts, links = [], []
    for section in sections_of(sources, importance, published):
        drawing = ""
        if section.figure is not None and section.frame is not None:
            figure = section.figure()
            paths = save(figure, section.frame, folder, section.name)
            figures.setdefault(section.sweep_id, []).extend(paths)
            drawing = inline_svg(figure, section.name, section.title)
        parts.append(_section_html(section, drawing))
        links.append((section.name, section.title))
    if not parts:
        raise RunsError(
            f"experiment {sources[0].runs.sweep.experiment!r} has nothing to report on yet"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    partial = path.with_name("report.html.partial")
    said = summary_of(sources, importance, published)
    partial.write_text(_report_html(sources, said, links, parts), encoding="utf-8")
    partial.replace(path)
    return Written(path, figures)


def _report_html(
    sources: Sequence[Source],
    said: Sequence[Said],
    links: Sequence[tuple[str, str]],
    parts: Sequence[str],
) -> str:
    runs = sources[0].runs
    title = f"KDGAN on {dataset_of(runs)}: what matters, and how surely"
    note = runs_data_note(runs)
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="sub">Experiment {html.escape(runs.sweep.experiment)}, '
        f"{len(sources)} sweep{'s' * (len(sources) != 1)}, made {_now()}.</p>",
        *_warnings(sources),
        f'<p class="partial">{inline(note)}.</p>' if note else "",
        f"<p>{inline(INTRODUCTION)}</p>",
        _summary_html(said),
        f"<nav>{''.join(_link(*link) for link in [*links, ORIGIN])}</nav>",
        *parts,
        f'<h2 id="{ORIGIN[0]}">{ORIGIN[1]}</h2>',
        *_origins(sources),
    ]
    return _page(title, "\n".join(body))


def summary_of(
    sources: Sequence[Source], importance: ImportanceInfo | None, published: PublishedMode
) -> list[Said]:
    """Return the summary, only the headings under which there is something to say."""
    found: list[Said] = []
    cuts = first_with(sources, has_sensitivity)
    if cuts is not None:
        runs, task = cuts.runs, runs_task(cuts.runs)
        info = sensitivity_info(runs, published)
        matters = [*summary.what_matters(effects_of(info), task), *summary.baselines(info)]
        found.append(Said("What matters", tuple(matters)))
        broken = list(summary.where_it_breaks(breaks_of(info), factors_cut(info)))
    else:
        broken = []
    if importance is not None:
        found.append(
            Said("Over the whole search space", tuple(summary.over_the_space(importance)))
        )
    grids = first_with(sources, has_grid)
    if grids is not None:
        broken += summary.where_grids_break(contours_info(grids.runs))
    found.append(Said("Where it breaks", tuple(broken)))
    settings = best_measured(sources, lambda runs: not has_methods(runs))
    if settings is not None:
        best = tuple(summary.best_found(best_rows(settings.runs), runs_task(settings.runs)))
        found.append(Said("Best configuration", best))
    methods = first_with(sources, has_methods)
    if methods is not None and runs_task(methods.runs) is IMAGES:
        table = table_info(methods.runs, published != "none")
        found.append(Said("Against other methods", tuple(summary.methods_compared(table))))
    if cuts is not None and published != "none" and runs_task(cuts.runs) is IMAGES:
        corrected = sensitivity_info(cuts.runs, "corrected")
        agreements = agreements_of(corrected, ranks_of(cuts.runs, corrected))
        found.append(Said("Beside the paper", tuple(summary.beside_the_paper(agreements))))
    measured = first_with(sources, has_seeds)
    if measured is not None:
        parts = seeds_info(measured.runs).parts
        task = runs_task(measured.runs)
        needed = tuple(needed_text(part, task) for part in parts)
        found.append(Said("How many seeds an answer takes", needed))
    return [said for said in found if said.sentences]


def _warnings(sources: Sequence[Source]) -> Iterator[str]:
    """Yield what a reader must know before anything else: a sweep is partial or quick."""
    for source in sources:
        sweep, recorded = source.runs.sweep, recorded_trials(source.runs)
        name = f"Sweep {html.escape(sweep.sweep_id)}"
        if sweep.planned_trials is not None and recorded < sweep.planned_trials:
            yield (
                f'<p class="partial"><strong>Partial.</strong> {name} has {recorded} of '
                f"{sweep.planned_trials} planned trials.</p>"
            )
        elif not sweep.has_ended:
            yield f'<p class="partial"><strong>Partial.</strong> {name} has not ended.</p>'
        if sweep.quick:
            yield (
                f'<p class="partial"><strong>Rehearsal.</strong> {name} is a quick one: '
                "shortened training, so its numbers say little about the method.</p>"
            )


def _link(name: str, text: str) -> str:
    return f'<a href="#{name}">{html.escape(text)}</a>'


def _summary_html(said: Sequence[Said]) -> str:
    parts = [
        f"<h3>{html.escape(one.title)}</h3><ul>"
        + "".join(f"<li>{inline(sentence)}</li>" for sentence in one.sentences)
        + "</ul>"
        for one in said
    ]
    return f'<section class="summary"><h2>Summary</h2>{"".join(parts)}</section>'


def _section_html(section: Section, drawing: str) -> str:
    parts = [f'<h2 id="{section.name}">{html.escape(section.title)}</h2>']
    if section.reading:
        parts.append(f"<p>{inline(section.reading)}</p>")
    if drawing:
        parts.append(f'<figure><div class="drawing">{drawing}</div></figure>')
    if section.frame is not None:
        table = frame_html(section.frame, f"{section.name}.csv")
        rows = len(section.frame)
        folded = "" if rows > OPEN_ROWS else " open"
        name = f"The {rows:,} values of this figure"
        parts.append(f"<details{folded}><summary>{name}</summary>{table}</details>")
    if section.page:
        parts.append(page_html(section.page))
    parts.append(f'<p class="note">Of sweep {html.escape(section.sweep_id)}.</p>')
    return "\n".join(parts)


def _origins(sources: Sequence[Source]) -> Iterator[str]:
    """Yield for each sweep what it was, how complete it is, and the command that runs it."""
    header = ["sweep", "mode", "started", "trials", "how they ended", "commit"]
    yield table_html(header, [_sweep_texts(source.runs) for source in sources])
    yield "<h3>To reproduce</h3>"
    experiment = sources[0].runs.sweep.experiment
    commands = dict.fromkeys(
        SCRIPT_PATH.sub("sweeps/run.py", source.runs.sweep.command) for source in reversed(sources)
    )
    lines = [*filter(None, commands), f"python analysis/plot.py {experiment} --report"]
    yield f"<pre>{html.escape(chr(10).join(lines))}</pre>"
    yield f"<p>{PAPER_NOTE}</p><h3>Environment</h3>"
    for source in sources:
        rows = [
            [name.replace("_", " "), text]
            for name, text in _environment(source.runs)
        ]  # fmt: skip
        title = f"Sweep {html.escape(source.runs.sweep.sweep_id)}"
        yield (
            f"<details><summary>{title}</summary>{table_html(['what', 'value'], rows)}</details>"
        )


def _sweep_texts(runs: Runs) -> list[str]:
    sweep, recorded = runs.sweep, recorded_trials(runs)
    trials = runs.trials.drop_duplicates([c.SWEEP_ID, c.TRIAL_ID])
    outcomes = Counter(str(outcome) for outcome in trials[c.OUTCOME])
    ended = ", ".join(f"{outcomes[name]} {name}" for name in c.OUTCOMES if outcomes[name])
    planned = "" if sweep.planned_trials is None else f" of {sweep.planned_trials}"
    started = "" if sweep.started is None else _time(sweep.started / 1000)
    dirty = " (dirty)" if sweep.dirty else ""
    return [
        f"`{sweep.sweep_id}`", sweep.mode, started, f"{recorded:,}{planned}", ended,
        f"`{sweep.commit[:12]}`{dirty}",
    ]  # fmt: skip


def _environment(runs: Runs) -> Iterator[tuple[str, str]]:
    """Yield the parent's facts as text; JSON objects become lists of their values."""
    for name in (c.HARDWARE, c.RESOURCES, c.VERSIONS, c.DATA_CHECKSUM, c.SAMPLER,
                 c.EARLY_STOPPING, c.CODE, c.PLAN_HASH):  # fmt: skip
        text = runs.sweep.facts.get(name)
        if not text:
            continue
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        if isinstance(value, dict):
            text = ", ".join(f"{key} {one}" for key, one in value.items())
        yield name, text


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n"
        f"<style>{STYLE_FILE.read_text(encoding='utf-8')}</style></head>\n<body><main>\n"
        f'{body}\n</main><div id="tip"></div>\n'
        f"<script>{SCRIPT_FILE.read_text(encoding='utf-8')}</script></body></html>\n"
    )


def _now() -> str:
    return _time(datetime.now(UTC).timestamp())


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
