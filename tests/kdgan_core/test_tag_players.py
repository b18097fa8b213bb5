"""Players of tag recommendation: who sees what, and that padding is no text."""

from __future__ import annotations

import pytest
import torch

from kdgan_core.config import TrialConfig
from kdgan_core.data.post_data import PostInputs
from kdgan_core.data.task import PlayerShape
from kdgan_core.players import PLAYERS, build_player

CONFIG = TrialConfig(dataset="tags", train_size=0, classifier_dropout=0.3, teacher_dropout=0.3)
SHAPE = PlayerShape(features=7, words=11, classes=5)
ARCHITECTURES = ("paper", "authors", "small")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def posts(seed: int = 0, words: list[list[int]] | None = None) -> PostInputs:
    words = words or [[3, 4, 5], [2], [9, 8, 7, 6], [1]]
    lengths = torch.tensor([len(text) for text in words])
    tokens = torch.zeros((len(words), int(lengths.max())), dtype=torch.int32)
    for row, text in enumerate(words):
        tokens[row, : len(text)] = torch.tensor(text, dtype=torch.int32)
    return PostInputs(torch.randn((len(words), 7), generator=seeded(seed)), tokens, lengths)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("role", PLAYERS)
def test_scores_have_a_column_for_each_tag(role: str, architecture: str) -> None:
    player = build_player(role, CONFIG.replace(architecture=architecture), seeded(), SHAPE)
    scores = player(posts())
    assert scores.shape == (4, 5)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, player(posts()))
    assert not torch.equal(player(posts(), seeded()), scores)
    assert torch.equal(player(posts(), seeded()), player(posts(), seeded()))


def test_the_papers_sizes() -> None:
    """Appendix: C is an MLP 800-800, T and D have 1200-1200 behind 100 features of either kind."""
    shape = PlayerShape(features=512, words=1000, classes=200)
    count = {
        role: sum(p.numel() for p in build_player(role, CONFIG, seeded(), shape).parameters())
        for role in PLAYERS
    }
    assert count["classifier"] == 512 * 800 + 800 + 800 * 800 + 800 + 800 * 200 + 200
    lstm = 4 * 100 * (100 + 100 + 2)
    dense = 100 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 * 200 + 200
    assert count["teacher"] == 1000 * 100 + lstm + 512 * 100 + 100 + dense
    assert count["discriminator"] == count["teacher"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_classifier_is_blind_to_the_text(architecture: str) -> None:
    """Privileged means privileged: the text cannot change what C answers, and T's answer is
    another one."""
    config = CONFIG.replace(architecture=architecture)
    one, other = posts(), posts(words=[[10], [9, 9, 9], [2, 3], [4, 5, 6, 7, 8]])
    classifier, teacher = (build_player(r, config, seeded(), SHAPE) for r in PLAYERS[:2])
    assert torch.equal(classifier(one), classifier(other))
    assert not (teacher(one) == teacher(other)).all(dim=1).any()


def test_the_authors_discriminator_is_blind_to_the_text_too() -> None:
    config = CONFIG.replace(architecture="authors")
    one, other = posts(), posts(words=[[10], [9], [2], [4]])
    for architecture, is_blind in (("authors", True), ("paper", False)):
        player = build_player(
            "discriminator", config.replace(architecture=architecture), seeded(), SHAPE
        )
        assert torch.equal(player(one), player(other)) == is_blind


@pytest.mark.parametrize("pooling", ["sum", "max", "last"])
@pytest.mark.parametrize("architecture", ["paper", "authors"])
def test_padding_changes_nothing(pooling: str, architecture: str) -> None:
    """A post scores the same alone as beside a longer one."""
    config = CONFIG.replace(text_pooling=pooling, architecture=architecture)
    player = build_player("teacher", config, seeded(), SHAPE)
    together = player(posts())
    for row in range(4):
        alone = posts().take(torch.tensor([row]))
        assert alone.tokens.shape[1] == int(posts().lengths[row])
        torch.testing.assert_close(player(alone)[0], together[row])


@pytest.mark.parametrize("pooling, is_ordered", [("sum", True), ("max", True), ("last", True)])
def test_the_order_of_words_counts(pooling: str, is_ordered: bool) -> None:
    player = build_player("teacher", CONFIG.replace(text_pooling=pooling), seeded(), SHAPE)
    one, other = posts(words=[[3, 4, 5]] * 4), posts(words=[[5, 4, 3]] * 4)
    assert torch.equal(player(one), player(other)) != is_ordered


def test_the_poolings_differ() -> None:
    """A text of one word has one state, which is its own maximum and last, a quarter of it the
    scaled sum."""
    scores = {
        pooling: build_player(
            "teacher", CONFIG.replace(text_pooling=pooling), seeded(), SHAPE
        )(posts())
        for pooling in ("sum", "max", "last")
    }  # fmt: skip
    assert not torch.allclose(scores["max"][0], scores["last"][0])
    torch.testing.assert_close(scores["max"][1], scores["last"][1])
    for other in ("max", "last"):
        assert not torch.allclose(scores["sum"][:2], scores[other][:2])


def test_an_image_changes_the_teacher() -> None:
    player = build_player("teacher", CONFIG, seeded(), SHAPE)
    assert not (player(posts()) == player(posts(seed=1))).all(dim=1).any()


def test_dropout_of_features_and_words_is_for_training_only() -> None:
    quiet = CONFIG.replace(classifier_dropout=0.0, teacher_dropout=0.0)
    for name, role in (
        ("feature_dropout", "classifier"), ("feature_dropout", "teacher"),
        ("word_dropout", "teacher"),
    ):  # fmt: skip
        plain = build_player(role, quiet, seeded(), SHAPE)
        noisy = build_player(role, quiet.replace(**{name: 0.5}), seeded(), SHAPE)
        assert torch.equal(plain(posts()), noisy(posts()))
        assert torch.equal(plain(posts(), seeded()), plain(posts()))
        assert not torch.equal(noisy(posts(), seeded()), plain(posts()))


def test_word_vectors_are_where_the_embeddings_start() -> None:
    """A word that the file lacks keeps what was drawn; so does padding, which no one looks at."""
    vectors = torch.zeros((11, 6))
    vectors[3], vectors[5] = 1.0, 2.0
    for architecture, width in (("paper", 6), ("paper", 8), ("authors", 10)):
        config = CONFIG.replace(architecture=architecture)
        shape = SHAPE._replace(vectors=vectors, width=width)
        table = dict(build_player("teacher", config, seeded(), shape).named_parameters())
        (weight,) = (value for name, value in table.items() if name.endswith("words.weight"))
        assert weight.shape == (11, width)
        assert torch.equal(weight[[3, 5], :6], vectors[[3, 5]])
        assert (weight[[3, 5], 6:].abs() <= 0.1).all()
        others = weight[[1, 2, 4, 6, 7, 8, 9, 10]]
        assert (others != 0).all()
        assert (others.abs() <= 0.1).all()


@pytest.mark.parametrize("role", PLAYERS)
def test_a_seed_fixes_the_weights(role: str) -> None:
    one, two, other = (
        build_player(role, CONFIG, seeded(seed), SHAPE)(posts()) for seed in (0, 0, 1)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
