"""Words of texts: taking them apart, numbering them, and word vectors trained elsewhere."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdgan_core.data.dataset import DataError

PADDING, UNKNOWN = 0, 1
FIRST_WORD = 2
LARGEST = float(np.finfo(np.float32).max)
# Letters and digits of any script, and the accents that no single letter has.
WORD = re.compile(r"(?:[^\W_][\u0300-\u036f]*)+")


def tokenise(text: str) -> list[str]:
    """The words of a text, in lower case: runs of letters and digits, so "it's" is two.

    Scripts that write vowels as marks of their own, or no spaces, are taken apart too much or too
    little.
    """
    return WORD.findall(unicodedata.normalize("NFKC", text).lower())


class Encoded(NamedTuple):
    """tokens: (N, L) int32, 0 behind the last word; lengths: (N,) int64, at least 1."""

    tokens: NDArray[np.int32]
    lengths: NDArray[np.int64]


class Vocabulary:
    """Words and their numbers: 0 is padding, 1 any other word, the known words follow."""

    def __init__(self, words: Sequence[str]) -> None:
        """words: numbered from 2 on."""
        self.words = tuple(words)
        self._numbers = {word: number for number, word in enumerate(words, FIRST_WORD)}

    def __len__(self) -> int:
        """How many numbers there are, padding and the unknown word among them."""
        return FIRST_WORD + len(self.words)

    def number(self, word: str) -> int:
        """The number of a word; 1 for one that is not known."""
        return self._numbers.get(word, UNKNOWN)

    @classmethod
    def of(cls, texts: Iterable[str], at_least: int = 2, at_most: int = 20_000) -> Vocabulary:
        """The words of texts, the most frequent first, then in the order of the alphabet.

        Args:
            texts: of the training posts alone.
            at_least: how often a word has to be there.
            at_most: how many words are kept.
        """
        counts = Counter(word for text in texts for word in tokenise(text))
        kept = [word for word, count in counts.items() if count >= at_least]
        return cls(sorted(kept, key=lambda word: (-counts[word], word))[:at_most])

    def encode(self, texts: Iterable[str], longest: int = 64) -> Encoded:
        """The first `longest` words of each text; L is how many the longest of them has.

        A text without words is one unknown word, so that every text has a last word to read.
        """
        numbers = [
            [self.number(word) for word in tokenise(text)[:longest]] or [UNKNOWN] for text in texts
        ]
        lengths = np.array([len(row) for row in numbers], np.int64)
        tokens = np.full((len(numbers), lengths.max(initial=1)), PADDING, np.int32)
        filled = np.arange(tokens.shape[1]) < lengths[:, None]
        tokens[filled] = [number for row in numbers for number in row]
        return Encoded(tokens, lengths)


def read_vectors(path: Path, vocabulary: Vocabulary) -> tuple[NDArray[np.float32], int]:
    """(V, E) vectors of the vocabulary's words, and how many of them the file has.

    The others are zeros, padding and the unknown word among them. Of a word that is there twice
    the first counts. The file is read line by line, and kept of it only what the vocabulary has.

    Args:
        path: text as word2vec or GloVe write it: a word and its values a line, with or without a
            first line that says how many words and values there are.
        vocabulary: whose words are looked up as they are, in lower case.

    Raises:
        DataError: the file cannot be read or has no word of the vocabulary; a line (the message
            names it) has another number of values, or those of a word of the vocabulary are no
            finite numbers.
    """
    wanted = {word.encode(): number for number, word in enumerate(vocabulary.words, FIRST_WORD)}
    absent = dict(wanted)
    vectors = np.zeros((len(vocabulary), 0), np.float32)
    for line, word, values in _lines(path):
        if not vectors.shape[1]:
            vectors = np.zeros((len(vocabulary), len(values)), np.float32)
        number = absent.pop(word, None)
        if number is not None:
            numbers = [_number(value) for value in values]
            if None in numbers:
                strange = values[numbers.index(None)].decode(errors="replace")
                raise _bad_line(path, line, f"{strange[:20]!r} is no finite number")
            vectors[number] = numbers
    if not vectors.shape[1]:
        raise DataError(f"{path} has no word vector: replace it")
    if wanted and len(absent) == len(wanted):
        raise DataError(
            f"{path} has none of the {len(wanted):,} words of the training posts: give vectors of"
            " their language, with the words in lower case"
        )
    return vectors, len(wanted) - len(absent)


def _lines(path: Path) -> Iterator[tuple[int, bytes, list[bytes]]]:
    """Line number from 1, word and values; as many values in every line.

    Bytes are split, which leaves blanks such as U+00A0 in a word. Words may even have spaces, as
    some in GloVe's largest file do: then there are more fields than usual, of which the one before
    the values is no number.

    Raises:
        DataError: the file cannot be read, or a line has another number of values.
    """
    width = 0
    try:
        with path.open("rb") as file:
            for line, content in enumerate(file, 1):
                fields = content.split()
                if line == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
                    width = int(fields[1])
                    continue
                values = max(0, len(fields) - 1)
                width = width or values
                spaced = 0 < width < values and _number(fields[values - width]) is None
                if values < 1 or (values != width and not spaced):
                    found = f"{values:,} values after the word, not {width or 'some'}"
                    raise _bad_line(path, line, found)
                yield line, b" ".join(fields[:-width]), fields[-width:]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): give a file of word vectors") from error


def _number(field: bytes) -> float | None:
    """The number that a field is, None for none or one that is not finite in float32."""
    try:
        number = float(field)
    except ValueError:
        return None
    return number if abs(number) <= LARGEST else None


def _bad_line(path: Path, line: int, problem: str) -> DataError:
    return DataError(
        f"{path}, line {line:,}: {problem}; give a complete file in the text form of word2vec or"
        " GloVe"
    )
