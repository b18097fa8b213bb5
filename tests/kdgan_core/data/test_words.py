"""Words of texts, their numbers, and word vectors from a file."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdgan_core.data import DataError
from kdgan_core.data.words import PADDING, UNKNOWN, Vocabulary, read_vectors, tokenise

WORDS = Vocabulary(["dog", "sky", "café"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" .,-_!\n", []),
        ("Two Dogs, on_the ROAD .", ["two", "dogs", "on", "the", "road"]),
        ("it's the girl's", ["it", "s", "the", "girl", "s"]),
        ("it’s", ["it", "s"]),
        ("Canon EOS-5D, 24mm f2.8", ["canon", "eos", "5d", "24mm", "f2", "8"]),
        ("CAFÉ cafe\u0301", ["café", "café"]),  # one letter, or a letter and its accent
        ("İstanbul", ["i\u0307stanbul"]),  # lower case has an accent that no letter has
        ("Straße Ελλάδα Москва 東京", ["straße", "ελλάδα", "москва", "東京"]),
        ("ｆｕｌｌ ｗｉｄｔｈ", ["full", "width"]),
        ("sunset🌅beach", ["sunset", "beach"]),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert tokenise(text) == words


@settings(deadline=None)
@given(st.text(max_size=50))
def test_no_letter_or_digit_is_lost(text: str) -> None:
    words = tokenise(text)
    found = [letter for word in words for letter in word if letter.isalnum()]
    plain = unicodedata.normalize("NFKC", text).lower()
    assert found == [letter for letter in plain if letter.isalnum()]
    assert all(word[0].isalnum() and not set(word) & set("_'.,- ") for word in words)


def test_the_vocabulary_is_by_frequency_then_by_name() -> None:
    texts = ["b a c", "B a", "b d e", "e"]
    assert Vocabulary.of(texts).words == ("b", "a", "e")
    assert Vocabulary.of(texts, at_least=1).words == ("b", "a", "e", "c", "d")
    assert Vocabulary.of(texts, at_most=2).words == ("b", "a")
    assert Vocabulary.of(iter(texts)).words == ("b", "a", "e")
    assert Vocabulary.of(reversed(texts)).words == ("b", "a", "e")
    assert Vocabulary.of([], at_least=1).words == ()


def test_numbers_of_words() -> None:
    assert (PADDING, UNKNOWN) == (0, 1)
    assert len(WORDS) == 5
    assert [WORDS.number(word) for word in ("dog", "sky", "café", "cat")] == [2, 3, 4, 1]


def test_encoding_pads_cuts_and_marks_what_is_empty() -> None:
    tokens, lengths = WORDS.encode(["A sky, a dog!", "", "...", "dog"])
    assert tokens.tolist() == [[1, 3, 1, 2], [1, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0]]
    assert lengths.tolist() == [4, 1, 1, 1]
    assert (tokens.dtype, lengths.dtype) == (np.int32, np.int64)
    cut = WORDS.encode(["sky dog sky", "dog"], longest=2)
    assert cut.tokens.tolist() == [[3, 2], [2, 0]]
    assert cut.lengths.tolist() == [2, 1]
    assert WORDS.encode([]).tokens.shape == (0, 1)
    assert WORDS.encode(["dog " * 100]).tokens.shape == (1, 64)


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(["dog", "sky", "cat", "café"]), max_size=8), max_size=8))
def test_encoding_can_be_read_back(texts: list[list[str]]) -> None:
    names = ["", "<unknown>", *WORDS.words]
    tokens, lengths = WORDS.encode(" ".join(text) for text in texts)
    assert tokens.shape == (len(texts), max([1, *map(len, texts)]))
    for row, length, text in zip(tokens, lengths, texts, strict=True):
        known = [word if word != "cat" else "<unknown>" for word in text] or ["<unknown>"]
        assert [names[number] for number in row[:length]] == known
        assert not row[length:].any()


@pytest.mark.parametrize("header", ["", "4 2\n"])
@pytest.mark.parametrize("ending", ["\n", " \n", "\r\n"])
def test_vectors_with_and_without_a_header(tmp_path: Path, header: str, ending: str) -> None:
    path = tmp_path / "vectors.txt"
    lines = ["cat 9 9", "café -1.5 2e-1", "1990 8 8", "dog 3 4"]
    path.write_text(header + "".join(line + ending for line in lines), newline="")
    vectors, found = read_vectors(path, WORDS)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(
        vectors, np.array([[0, 0], [0, 0], [3, 4], [0, 0], [-1.5, 0.2]], np.float32)
    )
    assert found == 2


def test_the_first_of_two_vectors_counts(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("dog\t1 2\ndog 3 4\n")
    vectors, found = read_vectors(path, WORDS)
    assert vectors[2].tolist() == [1, 2]
    assert found == 1


def test_words_may_have_blanks_and_need_not_be_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes("dog 1 2\n. . . 3 4\nat name@domain.com 5 6\nnew\u00a0york 7 8\n".encode())
    path.write_bytes(path.read_bytes() + b"\xff\xfe 9 9\nsky 5 6\n")
    vectors, found = read_vectors(path, WORDS)
    assert vectors[2:4].tolist() == [[1, 2], [5, 6]]
    assert found == 2


BAD_LINES = {
    "fewer": ("dog 1 2 3\nsky 1 2\n", "line 2: 2 values after the word, not 3; give a complete"),
    "more": ("dog 1 2\ncat 1 2 3\n", "line 2: 3 values after the word, not 2"),
    "not the header's": ("2 3\ndog 1 2\n", "line 2: 2 values after the word, not 3"),
    "cut off": ("cat 1 2\nsky 1 2\ndog", "line 3: 0 values after the word, not 2"),
    "blank": ("dog 1 2\n\nsky 1 2\n", "line 2: 0 values after the word, not 2"),
    "blank first": ("\ndog 1 2\n", "line 1: 0 values after the word, not some"),
    "no number": ("cat x 2\ndog 1 y2\n", "line 2: 'y2' is no finite number"),
    "not finite": ("2 2\ndog 1 nan\n", "line 2: 'nan' is no finite number"),
    "too large": ("dog 1 -1e39\n", "line 1: '-1e39' is no finite number"),
    "binary": (b"3 4\ndog \x00\x01\x02\x03\x04\x05\x06\x07", "line 2: 1 values after the word"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_named(tmp_path: Path, kind: str) -> None:
    content, words = BAD_LINES[kind]
    path = tmp_path / "vectors.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as error:
        read_vectors(path, WORDS)
    assert str(error.value).startswith(f"{path}, {words}")


def test_a_file_without_a_vector_of_use(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    with pytest.raises(DataError, match=r"vectors.txt cannot be read \(.*No such file"):
        read_vectors(path, WORDS)
    for content in ("", "0 5\n"):
        path.write_text(content)
        with pytest.raises(DataError, match="has no word vector"):
            read_vectors(path, WORDS)
    path.write_text("DOG 1 2\nSKY 1 2\n")
    with pytest.raises(DataError, match=r"has none of the 3 words .* in lower case"):
        read_vectors(path, WORDS)
    vectors, found = read_vectors(path, Vocabulary([]))  # nothing is looked for
    assert (vectors.shape, found) == ((2, 2), 0)
