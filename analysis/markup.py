"""Markdown as our tables and summaries write it, and frames, as HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Final

import pandas as pd

MOST_ROWS: Final = 300  # of a table in a page; its file has all
RULE: Final = re.compile(r"\|[\s:|-]+\|?")


def inline(text: str) -> str:
    """Return escaped text with **bold** and `code`."""
    found = html.escape(text, quote=False)
    found = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", found)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", found)


def page_html(markdown: str) -> str:
    """Return headings, paragraphs, lists and tables of a Markdown page as HTML.

    A heading becomes one of the third level: the page is part of a report.
    """
    return "\n".join(_blocks(markdown.splitlines()))


def table_html(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts, in a box that scrolls where it is too wide."""
    head = "".join(f"<th>{inline(text)}</th>" for text in header)
    body = "\n".join(
        f"<tr>{''.join(f'<td>{inline(text)}</td>' for text in row)}</tr>" for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def frame_html(frame: pd.DataFrame, file: str) -> str:
    """Return the points of a figure as a table, the first ones if there are very many.

    Columns without a value are left out.
    """
    shown = frame.dropna(axis=1, how="all").head(MOST_ROWS)
    rows = [[_text(value) for value in row] for row in shown.itertuples(index=False)]
    more = len(frame) - len(shown)
    rest = f"<p>{more:,} more rows are in {html.escape(file)}.</p>" if more else ""
    return table_html([str(name) for name in shown.columns], rows) + rest


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.6g}"
    return "" if pd.isna(value) else str(value)


def _blocks(lines: Sequence[str]) -> Iterator[str]:
    """Yield a block of HTML for each heading, list, table and paragraph."""
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        end = at + 1
        if line.startswith("#"):
            yield f"<h3>{inline(line.lstrip('# '))}</h3>"
        elif line.startswith("|"):
            while end < len(lines) and lines[end].strip().startswith("|"):
                end += 1
            cells = [_cells(row) for row in lines[at:end] if not RULE.fullmatch(row.strip())]
            yield table_html(cells[0], cells[1:])
        elif line.startswith("* "):
            while end < len(lines) and lines[end].strip().startswith("* "):
                end += 1
            items = "".join(f"<li>{inline(item.strip()[2:])}</li>" for item in lines[at:end])
            yield f"<ul>{items}</ul>"
        elif line:
            while end < len(lines) and lines[end].strip() and lines[end].strip()[0] not in "#|*":
                end += 1
            yield f"<p>{inline(' '.join(lines[at:end]))}</p>"
        at = end


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]
