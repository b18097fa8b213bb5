"""The words of a post's title and description, and its tags, cleaned as the authors' code does."""

from __future__ import annotations

import functools
import urllib.parse
from collections.abc import Callable, Iterable
from html.parser import HTMLParser

from kdgan_core.data.dataset import DataError
from kdgan_core.data.optional import optional_package
from kdgan_core.data.words import tokenise

LETTERS = 3  # a word has at least these (authors)
HIDDEN = ("script", "style")  # elements whose content is no text


def url_decoded(text: str) -> str:
    """'new+york%21' as 'new york!'."""
    return urllib.parse.unquote_plus(text)


class _Text(HTMLParser):
    """Collects what a reader of the page would see; a tag becomes a blank."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden = tag in HIDDEN
        self.parts.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parts.append(" ")  # <script/> hides nothing

    def handle_endtag(self, tag: str) -> None:
        self.hidden = False
        self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)


def html_stripped(text: str) -> str:
    """The text without its tags and comments, its character references replaced."""
    if "<" not in text and "&" not in text:
        return text
    parser = _Text()
    parser.feed(text.replace("<![", "<"))  # a marked section that is none is an AssertionError
    parser.close()
    return "".join(parser.parts)


class Cleaner:
    """Cleans texts: decodes, strips HTML, keeps words worth reading, stems them.

    A word is a run of letters and digits, one letter at least, in lower case. It is kept if it is
    in the dictionary (where there is one), has three characters or more and is no stop word
    (scikit-learn's English list).
    """

    def __init__(
        self,
        url_encoded: bool = False,
        stem: Callable[[str], str] | None = None,
        is_known: Callable[[str], bool] | None = None,
    ) -> None:
        """None: words stay as they are; every word is known."""
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        self.url_encoded, self.stem, self.is_known = url_encoded, stem, is_known
        self.stop_words = frozenset(ENGLISH_STOP_WORDS)

    def clean(self, texts: Iterable[str]) -> str:
        """The words of all texts in their order, a blank between two."""
        words: list[str] = []
        for text in texts:
            decoded = url_decoded(text) if self.url_encoded else text
            words += self._words(html_stripped(decoded))
        return " ".join(words)

    def _words(self, text: str) -> list[str]:
        found = [word for word in tokenise(text) if self._is_kept(word)]
        return found if self.stem is None else [self.stem(word) for word in found]

    def _is_kept(self, word: str) -> bool:
        return (
            len(word) >= LETTERS
            and any(map(str.isalpha, word))
            and word not in self.stop_words
            and (self.is_known is None or self.is_known(word))
        )


def clean_tags(tags: Iterable[str], url_encoded: bool = False) -> tuple[str, ...]:
    """The tags in lower case, blanks trimmed, each once, in their order."""
    decoded = (url_decoded(tag) if url_encoded else tag for tag in tags)
    trimmed = (" ".join(tag.lower().split()) for tag in decoded)
    return tuple(dict.fromkeys(tag for tag in trimmed if tag))


def snowball_stem() -> Callable[[str], str]:
    """NLTK's English Snowball stemmer, which the authors use.

    Raises:
        DataError: NLTK is not installed.
    """
    snowball = optional_package("nltk.stem.snowball", "nltk", "--stem", ", or leave --stem out")
    stem: Callable[[str], str] = functools.lru_cache(1 << 16)(
        snowball.SnowballStemmer("english").stem
    )
    return stem


def in_wordnet() -> Callable[[str], bool]:
    """Whether WordNet has a word, in any of its forms.

    Raises:
        DataError: NLTK or its WordNet corpus is not installed.
    """
    otherwise = " and python -m nltk.downloader wordnet, or leave --wordnet out"
    wordnet = optional_package("nltk.corpus", "nltk", "--wordnet", otherwise).wordnet
    try:
        wordnet.ensure_loaded()
    except LookupError as error:
        raise DataError(
            "--wordnet needs WordNet, which NLTK does not find:"
            " python -m nltk.downloader wordnet, or leave --wordnet out"
        ) from error

    @functools.lru_cache(1 << 16)
    def is_known(word: str) -> bool:
        return bool(wordnet.synsets(word))

    return is_known
