"""What all figures share: style, colours, places, the text below, and how they are saved."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE: Final = Path(__file__).with_name("figure.mplstyle")
# Okabe and Ito's colour-blind-safe palette; markers or dashes tell the lines apart in grey.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
INK: Final = "0.2"
PUBLISHED_DASHES: Final = (0, (4, 2))
# Inches, unless said otherwise.
WIDTH: Final = 7.2
MARGIN: Final = 0.09
BOTTOM: Final = 0.07
LEGEND_LINE: Final = 0.15
CAPTION_LINE: Final = 0.115
CAPTION_CHARACTERS: Final = 152
NOTES_DRAWN: Final = 6


def caption_lines(footer: str, notes: Sequence[str], csv: str) -> tuple[str, ...]:
    """Return the lines under a figure: the footer, then the first notes; `csv` holds the rest."""
    drawn = list(notes[:NOTES_DRAWN])
    if len(notes) > NOTES_DRAWN:
        drawn.append(f"{len(notes) - NOTES_DRAWN} more notes: see {csv}.")
    lines: list[str] = []
    for text in [footer, " ".join(drawn)]:
        # A no-break space keeps "n = 100" on one line.
        unbroken = text.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
        lines += textwrap.wrap(unbroken, CAPTION_CHARACTERS, break_on_hyphens=False)
    return tuple(lines)


def caption_height(lines: Sequence[str]) -> float:
    """Return the inches that the lines take above the lower edge."""
    return BOTTOM + len(lines) * CAPTION_LINE + 0.04


def draw_caption(figure: Figure, lines: Sequence[str]) -> None:
    """Write the lines at the lower edge of the figure."""
    width, height = figure.get_size_inches()
    for line, text in enumerate(reversed(lines)):
        y = (BOTTOM + line * CAPTION_LINE) / height
        figure.text(MARGIN / width, y, text, fontsize=6, color=INK, parse_math=False)


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Return new axes at inches from the upper left corner of the figure."""
    whole, tall = figure.get_size_inches()
    return figure.add_axes((left / whole, 1 - (top + height) / tall, width / whole, height / tall))


def save(figure: Figure, points: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """Write the figure to `folder` as .pdf and .png, what it draws as .csv; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    pdf, png, csv = (folder / f"{name}.{ending}" for ending in ("pdf", "png", "csv"))
    with matplotlib.rc_context(fname=STYLE):
        # Without a date the same runs give the same bytes.
        figure.savefig(pdf, metadata={"CreationDate": None})
        figure.savefig(png)
    points.to_csv(csv, index=False)
    return [pdf, png, csv]
