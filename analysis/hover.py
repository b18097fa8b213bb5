"""Values that appear under the pointer: noted while a figure is drawn, taken out for the report.

A PDF or PNG shows nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Transform

PREFIX: Final = "hover:"
MOST: Final = 400  # places of one panel that are worth noting: more lie on each other


class Spot(NamedTuple):
    """A place of a figure with a text: `x` and `y` are fractions of its width and height, from
    the upper left corner."""

    x: float
    y: float
    text: str


def note(axes: Axes, x: float, y: float, text: str, transform: Transform | None = None) -> None:
    """Note that `text` belongs to a place, by default in data coordinates; draws nothing."""
    line = Line2D([x], [y], linestyle="none", marker="none", gid=PREFIX + text)
    line.set_transform(transform or axes.transData)
    line.set_visible(False)  # so that nothing is spent on it when the figure is drawn
    axes.add_artist(line)


def take_spots(figure: Figure) -> list[Spot]:
    """Return the places noted in a figure and take the notes out of it; those that no axes show
    are left out."""
    spots = []
    for axes in figure.axes:
        for line in _notes(axes):
            x, y = line.get_transform().transform(np.asarray(line.get_xydata())[0])
            line.remove()
            across, up = figure.transFigure.inverted().transform((x, y))
            box = axes.get_window_extent()
            if box.x0 - 9 <= x <= box.x1 + 9 and box.y0 - 9 <= y <= box.y1 + 9:
                text = str(line.get_gid()).removeprefix(PREFIX)
                spots.append(Spot(float(across), float(1 - up), text))
    return spots


def _notes(axes: Axes) -> Iterable[Line2D]:
    return [
        child
        for child in axes.get_children()
        if isinstance(child, Line2D) and str(child.get_gid()).startswith(PREFIX)
    ]
