"""Figure 4 drawn from its info: a column per factor, a strip per training size."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from analysis.drawing import COLOURS, save
from analysis.marks import points_frame
from analysis.sensitivity import SensitivityInfo, has_sensitivity, sensitivity_info
from analysis.strip_figure import MARKERS, StripFigure, StripRow, draw_strips
from analysis.strips import make_strips

__all__ = ["draw_sensitivity", "has_sensitivity", "sensitivity_info", "write_figure"]


def draw_sensitivity(info: SensitivityInfo) -> Figure:
    """Return Figure 4; raises ValueError if `info` has no panel."""
    if not info.panels:
        raise ValueError("info has no panel: the sweep has no sensitivity trial to draw")
    rows = tuple(
        StripRow(
            strips=make_strips(info, size),
            name=f"n = {size:,}",
            colour=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
        )
        for number, size in enumerate(info.train_sizes)
    )
    return draw_strips(
        StripFigure(
            info.panels, rows, f"Test {info.task.axis}", info.footer, info.notes, "figure4.csv", {}
        )
    )


def write_figure(info: SensitivityInfo, folder: Path) -> list[Path]:
    """Write `figure4.pdf`, `.png` and `.csv` (the marks drawn) to `folder`; returns the paths."""
    return save(draw_sensitivity(info), points_frame(info), folder, "figure4")
