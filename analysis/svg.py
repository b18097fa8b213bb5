"""A figure as inline SVG: text stays text, and noted values appear under the pointer."""

from __future__ import annotations

import html
import io
import re
from typing import Final

import matplotlib
from matplotlib.figure import Figure

from analysis.drawing import STYLE
from analysis.hover import Spot, take_spots

POINTS_PER_INCH: Final = 72
SPOT_RADIUS: Final = 4.5  # points
# Ids of matplotlib's groups are the same in every figure of a page; nothing refers to them.
GROUP_ID: Final = re.compile(r'<g id="[^"]*"')


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """Return the figure as an <svg> element, without the notes that `hover` left in it.

    The figure loses its notes. `name` makes the ids of what is referred to unlike those of other
    figures of the page; `label` is what a screen reader says.
    """
    with matplotlib.rc_context(
        fname=STYLE, rc={"svg.fonttype": "none", "svg.hashsalt": name, "svg.id": None}
    ):
        figure.draw_without_rendering()  # so that every axis has its limits
        spots = take_spots(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = GROUP_ID.sub("<g", text[text.index("<svg") :])
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    width, height = (POINTS_PER_INCH * float(side) for side in figure.get_size_inches())
    head, body = text.split(">", 1)
    # The page's style gives the size; the view box keeps the proportions.
    head = re.sub(r' (width|height|version|xmlns(:\w+)?)="[^"]*"', "", head)
    head += f' role="img" aria-label="{html.escape(label)}"'
    body = body.replace("xlink:href", "href").rstrip().removesuffix("</svg>")
    marks = "".join(_circle(spot, width, height) for spot in spots)
    return f'{head}>{body}<g class="spots">{marks}</g></svg>'


def _circle(spot: Spot, width: float, height: float) -> str:
    title = html.escape(spot.text)
    return (
        f'<circle cx="{spot.x * width:.1f}" cy="{spot.y * height:.1f}" r="{SPOT_RADIUS}">'
        f"<title>{title}</title></circle>"
    )
