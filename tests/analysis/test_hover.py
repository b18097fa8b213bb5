from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from analysis import hover


def test_a_note_is_a_place_and_draws_nothing() -> None:
    figure = Figure(figsize=(4, 2))
    axes = figure.add_axes((0.25, 0.5, 0.5, 0.5))
    axes.set(xlim=(0, 10), ylim=(0, 1))
    hover.note(axes, 5, 0.5, "five")
    hover.note(axes, 5, 0.0, "edge", axes.get_xaxis_transform())
    hover.note(axes, 50, 0.5, "outside")
    first, second = hover.take_spots(figure)
    assert first == (pytest.approx(0.5), pytest.approx(0.25), "five")
    assert second == (pytest.approx(0.5), pytest.approx(0.5), "edge")
    assert axes.get_children() and hover.take_spots(figure) == []


def test_notes_move_no_limits() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1])
    before = axes.get_xlim()
    hover.note(axes, 100, 100, "far")
    assert axes.get_xlim() == before
