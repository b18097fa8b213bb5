"""Which posts are kept, with which tags, in which split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdgan_core.data.dataset import DataError
from kdgan_core.data.post_choice import Choice, Wish, check_share, choose
from kdgan_core.data.post_scan import SPLITS, Scan, scan
from kdgan_core.data.post_table import Post

EVENLY = ["train", "train", "validation", "test"]


def post(row: int, tags: Sequence[str], split: str = "", user: str = "", **more: object) -> Post:
    known: dict[str, object] = {"image_id": f"i{row}", "video": False, **more}
    return Post(
        row, str(known["image_id"]), "", (), tuple(tags), split, user, bool(known["video"])
    )


def scanned(posts: Sequence[Post], by_split: bool = False, by_user: bool = False) -> Scan:
    return scan(posts, lambda post: "", by_split, by_user)


def chosen(rows: Sequence[Post], by_split: bool = False, **wish: object) -> Choice:
    return choose(scanned(rows, by_split), Wish(**{"at_least": 1, **wish}))  # type: ignore[arg-type]


def names(choice: Choice) -> list[str]:
    assert choice.splits is not None
    return [SPLITS[split] for split in choice.splits]


def test_popular_tags_are_counted_over_training_posts_alone() -> None:
    tags = [["a", "b"], ["b"], ["c"], ["c", "a"], ["b", "c"], ["c"], ["c"], ["b"]]
    posts = [post(row, tags[row], EVENLY[row % 4]) for row in range(8)]
    # Over the training posts: b 3, then a and c 1 or 2; over all, c would be first.
    choice = chosen(posts, True, tags=2)
    assert choice.vocabulary == ("b", "c")
    assert choice.rows.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert names(choice) == EVENLY * 2
    assert chosen(posts, tags=2).vocabulary == ("c", "b")


def test_posts_without_a_tag_of_the_vocabulary_are_left_out_of_every_split() -> None:
    tags = [["a", "b"], ["x"], ["a"], ["b", "y"], [], ["b"], ["y"], ["y"]]
    posts = [post(row, tags[row], EVENLY[row % 4]) for row in range(8)]
    choice = chosen(posts, True, vocabulary=("b", "a", "y"))
    assert choice.vocabulary == ("b", "a")  # no training post has y
    assert choice.rows.tolist() == [0, 2, 3, 5]
    assert choice.left_out == {"without a tag of the vocabulary": 4}


def test_random_tags_are_drawn_by_seed_among_those_that_are_on_enough_posts() -> None:
    posts = [post(row, [f"t{row % 30}", "rare" if row == 0 else "all"]) for row in range(300)]
    wish = {"vocabulary": "random", "tags": 5, "at_least": 10}
    drawn = [chosen(posts, seed=seed, **wish).vocabulary for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    every = {tag for seed in range(60) for tag in chosen(posts, seed=seed, **wish).vocabulary}
    assert every == {"all", *(f"t{number}" for number in range(30))}
    assert all(len(vocabulary) == 5 for vocabulary in drawn)


@given(
    tags=st.lists(st.sets(st.sampled_from("abcdef")), min_size=40, max_size=90),
    valid=st.sampled_from([0.1, 0.2, 3]),
    test=st.sampled_from([0.1, 0.3, 5]),
    most=st.none() | st.integers(20, 100),
    seed=st.integers(0, 9),
)
def test_every_post_is_kept_once_or_left_out_for_a_reason(
    tags: list[set[str]], valid: float, test: float, most: int | None, seed: int
) -> None:
    posts = [post(row, sorted(row_tags | {"g"} if row < 20 else row_tags))
             for row, row_tags in enumerate(tags)]  # fmt: skip
    posts[1] = posts[1]._replace(tags=("g", "h"))
    choice = chosen(posts, valid_share=valid, test_share=test, posts=most, seed=seed, tags=3)
    assert len(choice.rows) + sum(choice.left_out.values()) == choice.total == len(posts)
    assert (np.diff(choice.rows) > 0).all()
    vocabulary = set(choice.vocabulary)
    assert all(vocabulary & set(posts[row].tags) for row in choice.rows)
    count = Counter(names(choice))
    n = len(choice.rows)
    assert n <= (most or n)
    assert count["validation"] == (valid if valid >= 1 else round(valid * n))
    assert count["test"] == (test if test >= 1 else round(test * n))


def test_fewer_posts_of_the_same_seed_are_among_the_more() -> None:
    posts = [post(row, ["a", "b"]) for row in range(100)]
    few, many = (set(chosen(posts, posts=n).rows.tolist()) for n in (30, 60))
    assert (len(few), len(many)) == (30, 60)
    assert few < many
    assert few != set(chosen(posts, posts=30, seed=1).rows.tolist())


def test_a_split_that_the_table_lacks_is_drawn_from_its_training_posts() -> None:
    posts = [post(row, ["a", "b"], "test" if row < 40 else "Training") for row in range(100)]
    count = Counter(names(chosen(posts, True, valid_share=0.2)))
    assert count == {"test": 40, "validation": 20, "train": 40}
    assert set(names(chosen(posts, True))[:40]) == {"test"}


def test_no_split_where_every_seed_is_to_draw_its_own() -> None:
    posts = [post(row, ["a", "b"]) for row in range(10)]
    assert chosen(posts, valid_share=0, test_share=0).splits is None


def test_every_user_gives_the_same_share() -> None:
    posts = [post(row, ["a", "b"], user=f"u{row % 7}") for row in range(700)]
    found = scanned(posts, by_user=True)
    choice = choose(found, Wish(at_least=1, valid_share=0.1, test_share=0.05))
    for split, share in (("test", 5), ("validation", 10)):
        per_user = Counter(
            posts[row].user
            for row, name in zip(choice.rows, names(choice), strict=True)
            if name == split
        )
        assert len(per_user) == 7
        assert all(abs(count - share) <= 1 for count in per_user.values())


def test_what_the_scan_leaves_out() -> None:
    posts = [
        post(0, ["a", "b"]), post(1, ["a"], image_id=""), post(2, ["b"], image_id="i0"),
        post(3, ["a", "c"], user="bad"), post(4, ["c"], video=True), post(5, ["b"]),
    ]  # fmt: skip
    found = scan(posts, lambda post: "bad" if post.user else "", False, True)
    assert list(found.rows) == [0, 5]
    assert found.left_out == {
        "without an image_id": 1, "with the image_id of an earlier row": 1, "bad": 1, "videos": 1,
    }  # fmt: skip
    assert [found.names[tag] for tag in found.tags] == ["a", "b", "b"]
    assert (list(found.lengths), list(found.users), found.total) == ([2, 1], [0, 0], 6)


def test_what_cannot_be_chosen() -> None:
    posts = [post(row, ["a"]) for row in range(20)]
    two = [post(row, ["a", "b"], "train") for row in range(20)]
    with pytest.raises(DataError, match=r"row 1 has the split 'trian': it must be train, val"):
        scanned([post(0, ["a"], "trian")], by_split=True)
    with pytest.raises(DataError, match="no post can be kept: 1 without an image_id"):
        chosen([post(0, ["a"], image_id="")])
    with pytest.raises(DataError, match="no tag is on 21 training posts or more: lower --at-leas"):
        chosen(posts, at_least=21)
    with pytest.raises(DataError, match="only the tag 'a' is left"):
        chosen(posts)
    with pytest.raises(DataError, match="no training post has a tag of the --vocabulary file"):
        chosen(posts, vocabulary=("z",))
    with pytest.raises(DataError, match=r"20 test posts are asked for, of 20 .* lower --test-sha"):
        chosen(two, test_share=20)
    with pytest.raises(DataError, match="no validation post is left"):
        chosen(two, True, valid_share=0)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_share_is_below_1_or_a_number_of_posts(share: float) -> None:
    with pytest.raises(DataError, match=r"--test-share .* is neither"):
        check_share("--test-share", share)
    for fine in (0, 0.5, 1, 2000):
        check_share("--test-share", fine)
