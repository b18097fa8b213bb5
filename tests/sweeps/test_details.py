"""What is kept of single test images: a file of scores, and a page that shows them."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kdgan_core.data.task import Detail, Example
from kdgan_core.trial import SeedResult, TrialResult
from sweeps.details import EXAMPLES, SCORES, detail_files, examples_page, write_details

PNG = b"\x89PNG\r\n\x1a\n" + bytes(9)
SEEDS = (SeedResult(3, "finished", 1, 0.5, 0.5, 0.1, 0.5, score="map"),)
SHOWN = [
    Example("one.jpg", ("dog", "<b>"), ("dog", "sea"), None),
    Example("a&b.jpg", ("sea",), (), PNG),
]


def result(details: dict[int, Detail]) -> TrialResult:
    return TrialResult("abc", "finished", SEEDS, 1.0, 1, 0.0, details)


def detail(offset: float = 0.0) -> Detail:
    metrics = {"map": np.array([0.5 + offset, np.nan]), "mrr": np.array([1.0, np.nan])}
    return Detail(np.array(["one.jpg", "a&b.jpg"], dtype=object), metrics, SHOWN)


class Cells(HTMLParser):
    """The texts of a page's cells, its pictures and what is bold."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.pictures: list[str] = []
        self.bold: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.pictures.append(found["src"] or "")
        elif tag == "td":
            self.cells.append("")
        if tag == "span":
            self._open.append(found.get("class") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "span":
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self.cells and data.strip():
            self.cells[-1] += data
        if self._open == ["right"]:
            self.bold.append(data)


def test_a_task_without_single_images_writes_nothing(tmp_path: Path) -> None:
    write_details(tmp_path, result({}))
    assert list(tmp_path.iterdir()) == []
    assert detail_files(tmp_path, "abc") == {}


def test_scores_of_every_seed_and_image_are_kept(tmp_path: Path) -> None:
    write_details(tmp_path, result({3: detail(), 5: detail(0.1)}))
    files = detail_files(tmp_path, "abc")
    assert set(files) == {SCORES, EXAMPLES}
    assert detail_files(tmp_path, "abd") == {}
    table = pq.read_table(files[SCORES])
    assert table.column_names == ["seed", "image_id", "map", "mrr"]
    rows = table.to_pylist()
    assert [row["seed"] for row in rows] == [3, 3, 5, 5]
    assert [row["image_id"] for row in rows] == ["one.jpg", "a&b.jpg"] * 2
    assert [rows[0]["map"], rows[2]["map"]] == [0.5, 0.6]
    assert np.isnan(rows[1]["map"])


def test_the_page_shows_what_is_recommended_beside_what_is_true() -> None:
    page = Cells()
    page.feed(examples_page("abc", 3, SHOWN))
    assert page.cells == ["one.jpg", "dog, <b>", "dog, sea", "a&b.jpg", "sea", "none"]
    assert page.bold == ["dog"]
    (picture,) = page.pictures
    kind, _, data = picture.partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == PNG


def test_the_page_needs_no_network() -> None:
    assert "http" not in examples_page("abc", 3, SHOWN)


def test_a_storage_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        write_details(tmp_path / "absent", result({3: detail()}))
