from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analysis import hover
from analysis.markup import MOST_ROWS, frame_html, inline, page_html
from analysis.svg import inline_svg


def test_texts_are_escaped_before_they_are_marked_up() -> None:
    assert inline("a < b & **c** `d<e`") == (
        "a &lt; b &amp; <strong>c</strong> <code>d&lt;e</code>"
    )


def test_a_markdown_page_keeps_its_blocks() -> None:
    page = page_html(
        "# Title\n\nTwo\nlines.\n\n| a | b |\n| --- | --- |\n| 1 | **2** |\n\n* one\n* two\n"
    )
    assert "<h3>Title</h3>" in page and "<p>Two lines.</p>" in page
    assert "<th>a</th><th>b</th>" in page and "<td>1</td><td><strong>2</strong></td>" in page
    assert "<ul><li>one</li><li>two</li></ul>" in page and "---" not in page


def test_a_long_frame_is_cut_and_says_where_the_rest_is() -> None:
    frame = pd.DataFrame({"x": range(MOST_ROWS + 5), "none": None})
    text = frame_html(frame, "figure4.csv")
    assert text.count("<tr>") == MOST_ROWS + 1 and "5 more rows are in figure4.csv." in text
    assert "<th>none</th>" not in text


def test_a_figure_becomes_an_svg_with_text_and_values() -> None:
    figure = Figure(figsize=(4, 2))
    axes = figure.add_axes((0.2, 0.2, 0.7, 0.7))
    axes.plot([0, 1], [0, 1])
    axes.set_title("accuracy & more")
    hover.note(axes, 0.5, 0.5, 'β < "1"')
    text = inline_svg(figure, "one", "A figure")
    assert text.startswith("<svg") and text.endswith("</svg>")
    assert 'viewBox="0 0 288 144"' in text and ' width="' not in text.partition(">")[0]
    assert "accuracy &amp; more</text>" in text and 'aria-label="A figure"' in text
    assert "<title>β &lt; &quot;1&quot;</title>" in text
    other = Figure(figsize=(4, 2))
    other.add_axes((0.2, 0.2, 0.7, 0.7)).plot([0, 1], [0, 1])
    again = Figure(figsize=(4, 2))
    again.add_axes((0.2, 0.2, 0.7, 0.7)).plot([0, 1], [0, 1])
    assert inline_svg(other, "two", "x") == inline_svg(again, "two", "x")
