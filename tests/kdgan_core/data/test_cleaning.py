"""Texts and tags as people write them become words."""

from __future__ import annotations

import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from kdgan_core.data.cleaning import (
    Cleaner,
    clean_tags,
    html_stripped,
    in_wordnet,
    snowball_stem,
    url_decoded,
)
from kdgan_core.data.dataset import DataError

HAS_NLTK = importlib.util.find_spec("nltk") is not None


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ('Our <a href="http://x.y/z?cat=1">old dog</a>!', ["our", "old", "dog", "!"]),
        ("one<br/>two<br>three", ["one", "two", "three"]),
        ("Tom &amp; Jerry&#39;s &eacute;t&eacute;", ["tom", "&", "jerry's", "été"]),
        ("<script>var cat;</script>dog<style>p {}</style> bird", ["dog", "bird"]),
        ("<script/>dog", ["dog"]),
        ("sea <!-- hidden --> sky", ["sea", "sky"]),
        ("a < b and c > d, I <3 you", "a < b and c > d, i <3 you".split()),
        ("before <![endif]> after <![if x", ["before", "after", "<if", "x"]),
    ],
)
def test_html_is_stripped(page: str, words: list[str]) -> None:
    assert html_stripped(page).lower().split() == words


def test_url_encoding_as_in_yfcc100m() -> None:
    assert url_decoded("New+York%21%20100%25") == "New York! 100%"
    text = "The+%3Cb%3Eold%3C%2Fb%3E+bridge%2C+sunset"
    assert Cleaner(url_encoded=True).clean([text]) == "old bridge sunset"
    assert Cleaner().clean(["C++ and 100%25 sugar"]) == "sugar"


def test_words_are_long_enough_lower_case_and_no_stop_words() -> None:
    title, description = "The DOG's 3 big 2019 an ox", "runs; runs with mp3s and été"
    assert Cleaner().clean([title, description]) == "dog big runs runs mp3s été"
    assert Cleaner().clean([]) == Cleaner().clean(["", "of the"]) == ""


def test_the_dictionary_sees_the_word_and_the_stemmer_what_it_left() -> None:
    seen: list[str] = []

    def is_known(word: str) -> bool:
        seen.append(word)
        return word != "flickr"

    cleaner = Cleaner(stem=lambda word: word[:3], is_known=is_known)
    assert cleaner.clean(["The boats on flickr"]) == "boa"
    assert seen == ["boats", "flickr"]


@given(
    st.lists(
        st.text(alphabet=st.characters(max_codepoint=0x24F) | st.sampled_from("<>&!/[-%+aA1 "))
    )
)
def test_any_text_becomes_clean_words_and_those_stay(texts: list[str]) -> None:
    cleaner = Cleaner()
    cleaned = cleaner.clean(texts)
    for word in cleaned.split():
        assert len(word) >= 3
        assert word not in ENGLISH_STOP_WORDS
        assert any(map(str.isalpha, word))
        assert word == word.lower()
    assert cleaner.clean([cleaned]) == cleaned


def test_tags_are_lower_case_trimmed_and_there_once() -> None:
    assert clean_tags([" Cat", "cat ", "", "New   York", "dog"]) == ("cat", "new york", "dog")
    assert clean_tags(["new+york", "caf%C3%A9"], url_encoded=True) == ("new york", "café")
    assert clean_tags(["c++"]) == ("c++",)


@pytest.mark.skipif(HAS_NLTK, reason="nltk is installed")
@pytest.mark.parametrize("make", [snowball_stem, in_wordnet])
def test_without_nltk_the_message_says_what_to_install(make: object) -> None:
    with pytest.raises(DataError, match=r"^--(stem|wordnet) needs nltk .*: pip install nltk"):
        make()  # type: ignore[operator]


@pytest.mark.skipif(not HAS_NLTK, reason="nltk is not installed")
def test_the_snowball_stemmer() -> None:
    assert Cleaner(stem=snowball_stem()).clean(["running boats"]) == "run boat"
