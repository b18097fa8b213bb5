"""A user's table is read whatever it looks like, or the message says what to do."""

from __future__ import annotations

import bz2
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdgan_core.data.dataset import DataError
from kdgan_core.data.post_table import YFCC100M, YFCC100M_LATER, Post, open_table

TEXT = 'image_id,title,description,tags,split\na,"The, old\ndog","says ""hi""",Cat;dog;cat,train\n'


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def yfcc100m_line(later: bool = False, **cells: str) -> str:
    names = YFCC100M_LATER if later else YFCC100M
    return "\t".join(cells.get(name, "0" if name == "marker" else "") for name in names) + "\n"


def test_csv_with_quotes_commas_and_line_ends_in_cells(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "t.csv", TEXT), {}, separator=";")
    assert list(table.posts()) == [
        Post(0, "a", "a.jpg", ("The, old\ndog", 'says "hi"'), ("cat", "dog"), "train", "", False)
    ]


def test_columns_of_other_names_and_tags_between_blanks(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", "\tfile\twords\tlabels\tby\n0\tx/1.png\t\t b  a b\tme\n")
    asked = {"image": "file", "text": "words", "tags": "labels", "user": "by"}
    [post] = open_table(path, asked, separator=None).posts()
    assert post == Post(0, "x/1.png", "x/1.png", ("",), ("b", "a"), "", "me", False)


def test_parquet_with_lists_of_tags_numbers_and_nulls(tmp_path: Path) -> None:
    columns = {"image_id": [7, 8], "text": ["a", None], "tags": [["New York", None, "b"], None]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    first, second = open_table(tmp_path / "t.parquet", {}).posts()
    assert (first.image_id, first.image, first.tags) == ("7", "7.jpg", ("new york", "b"))
    assert (second.texts, second.tags) == (("",), ())


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_some_rows_and_without_texts(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    names = [f"image{row}" for row in range(10_000)]
    table = pa.table({"image_id": names, "text": names, "tags": ["x"] * len(names)})
    if ending == ".csv":
        pa.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    rows = np.array([0, 4095, 4096, 4097, 9999])
    found = list(open_table(path, {}).posts(rows))
    assert [(post.row, post.image_id) for post in found] == [(r, f"image{r}") for r in rows]
    assert [post.texts for post in found] == [(f"image{row}",) for row in rows]
    assert [post.texts for post in open_table(path, {}).posts(rows, texts=False)] == [()] * 5
    assert [post.row for post in open_table(path, {}).posts()] == list(range(10_000))


@pytest.mark.parametrize("later", [False, True])
def test_yfcc100ms_own_file(tmp_path: Path, later: bool) -> None:
    lines = [
        yfcc100m_line(
            later, identifier="6185218911", user="4@N00", title='5"+nails',
            description="My%2Cvacation", tags="new+york,caf%C3%A9,a%2Cb", machine_tags="geo:x=1",
        ),
        yfcc100m_line(later, identifier="1", user="5@N00", tags="x", marker="1"),
    ]  # fmt: skip
    path = tmp_path / "yfcc100m_dataset.bz2"
    path.write_bytes(bz2.compress("".join(lines).encode()))
    table = open_table(path, {}, yfcc100m=True)
    assert table.url_encoded
    tags = ("new york", "café", "a,b")
    photo, video = table.posts()
    texts = ('5"+nails', "My%2Cvacation")
    assert photo == Post(0, "6185218911", "6185218911.jpg", texts, tags, "", "", False)
    assert video.video
    with_user = open_table(path, {"user": "user"}, yfcc100m=True)
    assert [post.user for post in with_user.posts()] == ["4@N00", "5@N00"]


@pytest.mark.parametrize(
    ("name", "text", "asked", "message"),
    [
        (
            "t.csv",
            TEXT,
            {"tags": "labels"},
            r"no column 'labels' \(--tags\): it has image_id, tit",
        ),
        ("t.csv", "image_id,title\n", {}, "needs a column for --tags: it has image_id, title;"),
        ("t.csv", "title,tags\n", {}, "needs a column for --id or --image"),
        ("t.csv", "image,tags\n", {}, "needs a column for --title, --description or --text"),
        ("t.csv", "", {}, "cannot be read .*Empty CSV"),
        ("t.xls", TEXT, {}, r"must end in \.csv, \.tsv or \.parquet"),
        ("t.parquet", TEXT, {}, "cannot be read"),
    ],
)
def test_what_cannot_be_used(
    tmp_path: Path, name: str, text: str, asked: dict[str, str], message: str
) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(DataError, match=message):
        open_table(path, asked)


def test_a_damaged_line_and_an_absent_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", TEXT + "b,only two\n")
    with pytest.raises(DataError, match=r"t\.csv cannot be read .*Expected 5 columns, got 2"):
        list(open_table(path, {}).posts())
    path.write_bytes(TEXT.replace("Cat", "Gar\u00e7on").encode("latin-1"))
    with pytest.raises(DataError, match=r"t\.csv cannot be read .*invalid UTF8"):
        list(open_table(path, {}).posts())
    with pytest.raises(DataError, match="there is no table"):
        open_table(tmp_path / "none.csv", {})


def test_yfcc100m_is_recognised_by_its_columns_and_has_no_others(tmp_path: Path) -> None:
    path = write(tmp_path / "some", "1\t2\t3\n")
    with pytest.raises(DataError, match="has 3 columns, not the 23 or 25"):
        open_table(path, {}, yfcc100m=True)
    write(path, yfcc100m_line(identifier="1"))
    with pytest.raises(DataError, match="leave out --tags"):
        open_table(path, {"tags": "labels"}, yfcc100m=True)
