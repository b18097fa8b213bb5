"""What a figure looks like once it is drawn."""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def overlapping(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return pairs of drawn texts whose boxes meet, and texts that leave the page."""
    drawn: list[Text] = []
    draw = Text.draw

    def record(text: Text, *arguments: object) -> None:
        drawn.append(text)
        draw(text, *arguments)

    # Ticks outside an axis have texts too; only what is drawn counts.
    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", record)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    boxes = []
    for text in dict.fromkeys(drawn):
        box = Text.get_window_extent(text, canvas.get_renderer())
        if text.get_text().strip() and text.get_visible():
            boxes.append((text.get_text(), box))
    assert boxes
    page = figure.bbox
    bad = [
        (name, "page")
        for name, box in boxes
        if box.x0 < page.x0 or box.y0 < page.y0 or box.x1 > page.x1 or box.y1 > page.y1
    ]
    for index, (name, box) in enumerate(boxes):
        bad += [(name, other) for other, second in boxes[index + 1 :] if box.overlaps(second)]
    return bad
