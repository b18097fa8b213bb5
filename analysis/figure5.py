"""Figure 5: Figure 4 of tag recommendation, a row of strips per metric.

The published curves are drawn into our strips only where the data are the same. Beside other data
they have a row of their own, each less its highest value: shapes can be compared there, and levels
cannot.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import COLOURS, save
from analysis.frames import Runs, dataset_of
from analysis.marks import points_frame
from analysis.paper import (
    FACTORS,
    FIGURE5_DATASET,
    FIGURE5_METRICS,
    Floats,
    PublishedMode,
    figure5_curve,
)
from analysis.sensitivity import SensitivityInfo, published_text, sensitivity_info
from analysis.strip_figure import MARKERS, ApartLine, StripFigure, StripRow, draw_strips
from analysis.strips import make_strips
from analysis.tasks import F_NOTE, TAGS, size_text

# F@3 in both forms: the published curve is of the authors' form and belongs to no other.
METRICS: Final = ("p_at_3", "f_at_3", "authors_f_at_3", "map", "mrr")
LOOKS: Final = {name: (COLOURS[number], MARKERS[number]) for number, name in enumerate(METRICS)}
PUBLISHED_NOTE: Final = (
    "Each published value is the maximum of its metric by itself, on 500 test posts with 100 tags."
)
APART_NOTE: Final = (
    "Grey row, other data: YFCC100M's most popular tags, F@3 in the authors' form. Each curve is "
    "drawn less its highest value over the panels, to compare shapes and not levels:"
)


class PublishedLine(NamedTuple):
    """A published curve beside our strips: a metric over a factor."""

    factor: str
    metric: str
    levels: Floats
    values: Floats


class Figure5Info(NamedTuple):
    """All that Figure 5 draws: what Figure 4 would show of each metric, and the paper's curves
    where they are of other data."""

    metrics: tuple[SensitivityInfo, ...]
    apart: tuple[PublishedLine, ...]
    footer: str
    notes: tuple[str, ...]


def figure5_info(runs: Runs, published: PublishedMode = "corrected") -> Figure5Info:
    """Return what Figure 5 shows of one sweep of tags.

    Args:
        runs: The sweep's runs; its partial state is drawn as it is and said in the footer.
        published: Which axis and values to take the paper's curves from, if any.
    """
    infos = tuple(sensitivity_info(runs, published, TAGS.metric(name)) for name in METRICS)
    factors = [panel.factor for panel in infos[0].panels]
    is_other = dataset_of(runs) != FIGURE5_DATASET
    apart = tuple(
        PublishedLine(factor, metric, *curve)
        for factor in FACTORS
        if is_other and factor in factors
        for metric in FIGURE5_METRICS
        for curve in [figure5_curve(factor, metric, published)]
        if curve[0]
    )
    # What is said of one metric is said of all, but that some have no published curve.
    notes = list(dict.fromkeys(note for info in reversed(infos) for note in info.notes))
    if apart:
        notes[:0] = [f"{APART_NOTE} {published_text(published)}", PUBLISHED_NOTE]
    elif any(panel.published for info in infos for panel in info.panels):
        notes.insert(1, PUBLISHED_NOTE)
    return Figure5Info(infos, apart, f"{infos[0].footer} {F_NOTE}", tuple(notes))


def draw_figure5(info: Figure5Info) -> Figure:
    """Return Figure 5; raises ValueError if `info` has no panel."""
    first = info.metrics[0]
    if not first.panels:
        raise ValueError("info has no panel: the sweep has no sensitivity trial to draw")
    reach = _published_levels(info)
    rows = tuple(
        StripRow(make_strips(one, size, reach), _name(one, size), *LOOKS[one.metric.name])
        for size in first.train_sizes
        for one in info.metrics
    )
    highest = {
        name: max(
            (y for line in info.apart if line.metric == name for y in line.values), default=0
        )
        for name in FIGURE5_METRICS
    }
    apart = {
        factor: tuple(
            _apart_line(line, highest[line.metric]) for line in info.apart if line.factor == factor
        )
        for factor in dict.fromkeys(line.factor for line in info.apart)
    }
    return draw_strips(
        StripFigure(
            first.panels, rows, f"Test {TAGS.axis}", info.footer, info.notes, "figure5.csv", apart
        )
    )


def figure5_frame(info: Figure5Info) -> pd.DataFrame:
    """Return the marks of the figure as `marks.points_frame` does, with a column for the metric.

    A `published` mark with an empty training size is of other data than the runs.
    """
    frames = [
        points_frame(one).rename(columns={"accuracy": "value"}).assign(metric=one.metric.name)
        for one in info.metrics
    ]
    apart = [
        {"panel": line.factor, "metric": line.metric, "mark": "published", "level": f"{level:g}",
         "value": value, "is_baseline": False}
        for line in info.apart
        for level, value in zip(line.levels, line.values, strict=True)
    ]  # fmt: skip
    frame = pd.concat([*frames, pd.DataFrame(apart, columns=frames[0].columns)])
    frame.insert(0, "metric", frame.pop("metric"))
    return frame.astype({"train_size": "Int64"})


def write_figure5(info: Figure5Info, folder: Path) -> list[Path]:
    """Write `figure5.pdf`, `.png` and `.csv` (the marks drawn) to `folder`; returns the paths."""
    return save(draw_figure5(info), figure5_frame(info), folder, "figure5")


def _published_levels(info: Figure5Info) -> dict[str, tuple[float, ...]]:
    """Return factor -> the levels of all published curves, which all rows share an axis with."""
    found: dict[str, tuple[float, ...]] = {}
    for line in info.apart:
        found[line.factor] = (*found.get(line.factor, ()), *line.levels)
    for one in info.metrics:
        for panel in one.panels:
            levels = tuple(x for line in panel.published for x in line.levels)
            found[panel.factor] = (*found.get(panel.factor, ()), *levels)
    return found


def _name(info: SensitivityInfo, size: int) -> str:
    """Return the name of a row; the size is said where there are several, or it is not all."""
    if info.train_sizes == (0,):
        return info.metric.label
    return f"{info.metric.label}\nn = {size_text(size)}"


def _apart_line(line: PublishedLine, highest: float) -> ApartLine:
    label = f"{TAGS.metric(line.metric).label}, as published"
    changes = tuple(value - highest for value in line.values)
    return ApartLine(label, line.levels, changes, *LOOKS[line.metric])
