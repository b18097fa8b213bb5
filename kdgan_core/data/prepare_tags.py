"""The command line that turns a user's table of images into the file that a sweep of tags reads.

The only module of the core that knows a command line.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from kdgan_core.data.dataset import DataError

if TYPE_CHECKING:
    from kdgan_core.data.cleaning import Cleaner
    from kdgan_core.data.image_features import FeatureSource

EXIT_INTERRUPTED = 130
LINE_SECONDS = 15.0  # between lines on how it goes, where there is no terminal
POSITIVE = click.IntRange(min=1)


class Problem(click.ClickException):
    """Ends the command with exit code 2 and one sentence."""

    exit_code = 2


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("table", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.parquet")
@click.option("--id", metavar="COLUMN", help="Name of the image; each once.  [default: image_id]")
@click.option(
    "--image", metavar="COLUMN",
    help="Path of the image; without it IMAGE_ID, or IMAGE_ID.jpg.  [default: image]",
)  # fmt: skip
@click.option("--title", metavar="COLUMN", help="Its words.  [default: title]")
@click.option("--description", metavar="COLUMN", help="Its words.  [default: description]")
@click.option("--text", metavar="COLUMN", help="More words.  [default: text]")
@click.option("--tags", metavar="COLUMN", help="A list, or text.  [default: tags]")
@click.option(
    "--split", metavar="COLUMN",
    help="train, validation or test.  [default: split]",
)  # fmt: skip
@click.option(
    "--user", metavar="COLUMN",
    help="Take of every user's posts the same share for validation and test.",
)  # fmt: skip
@click.option(
    "--tag-separator", type=click.Choice(["comma", "semicolon", "space"]), default="comma",
    show_default=True, help="Between two tags, where these are text.",
)  # fmt: skip
@click.option("--url-encoded", is_flag=True, help="Texts and tags are URL-encoded: new+york%21.")
@click.option(
    "--yfcc100m", is_flag=True,
    help="TABLE is YFCC100M's own file (yfcc100m_dataset, also .bz2, or some of its lines): 23 or"
    " 25 columns without a header line, URL-encoded. Images are IMAGE_ID.jpg; videos are left"
    " out.",
)  # fmt: skip
@click.option(
    "--vocabulary", default="popular", show_default=True, metavar="popular|random|FILE",
    help="Tags to recommend: the most popular, as many at random, or those of a file, one a line."
    " Counted over the training posts, or over all where there is no --split.",
)  # fmt: skip
@click.option("--tags-count", type=POSITIVE, default=200, show_default=True, help="How many.")
@click.option(
    "--at-least", type=POSITIVE, default=10, show_default=True,
    help="Images that a tag must be on, unless it is from a file.",
)  # fmt: skip
@click.option("--posts", type=POSITIVE, help="Keep so many, drawn by --seed.  [default: all]")
@click.option(
    "--valid-share", type=float, default=0.1, show_default=True,
    help="Share of the posts, or from 1 on their number; unless the table has validation posts.",
)  # fmt: skip
@click.option(
    "--test-share", type=float, default=0.1, show_default=True,
    help="Likewise. Both 0, and no --split: every seed of a sweep draws its own.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--stem", is_flag=True, help="Stem words (Snowball); needs nltk.")
@click.option(
    "--wordnet", is_flag=True,
    help="Keep only words that WordNet has; needs nltk and its corpus wordnet.",
)  # fmt: skip
@click.option(
    "--images", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Where paths of images start.  [default: TABLE's folder]",
)  # fmt: skip
@click.option(
    "--features", type=click.Path(path_type=Path), metavar="FILE",
    help="Features made elsewhere: .npy, row i for row i of TABLE, or Parquet with image_id and"
    " image_feature. Default: fc7 of VGG-16 (4,096 wide); needs torchvision and pillow, a GPU"
    " makes it fast.",
)  # fmt: skip
@click.option("--device", metavar="NAME", help="For VGG-16: cuda, cpu.  [default: a GPU if any]")
@click.option(
    "--thumbnails", is_flag=True,
    help="Keep a small picture of each post, to be shown with results; needs pillow.",
)  # fmt: skip
@click.option(
    "--strict", is_flag=True,
    help="End at the first post whose image or features cannot be used, rather than leave it out.",
)  # fmt: skip
@click.option(
    "--chunk", type=POSITIVE, default=256, show_default=True,
    help="Posts done at a time; what is kept when the command is interrupted.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace another OUT.parquet.")
def main(
    table: Path, out: Path, tag_separator: str, url_encoded: bool, yfcc100m: bool,
    vocabulary: str, tags_count: int, at_least: int, posts: int | None, valid_share: float,
    test_share: float, seed: int, stem: bool, wordnet: bool, images: Path | None,
    features: Path | None, device: str | None, thumbnails: bool, strict: bool, chunk: int,
    overwrite: bool, **columns: str | None,
) -> None:  # fmt: skip
    """Turn TABLE, a row an image with its text and tags, into the file a sweep of tags reads.

    TABLE is CSV, TSV (also .gz, .bz2, .zst) or Parquet. Posts without any tag of the vocabulary
    are left out, in every split: they have nothing to learn or to score. So are posts whose image
    cannot be read; each is named. The same command again goes on where it was interrupted: what is
    done lies in OUT.parquet.partial until all is.

    Words of title, description and text: HTML stripped, lower case, three letters or more, no
    English stop words. The paper's are also looked up in WordNet and stemmed: --wordnet --stem.

    \b
    Examples:
      python kdgan_core/data/prepare_tags.py posts.csv posts.parquet --images photos
      python kdgan_core/data/prepare_tags.py posts.tsv posts.parquet --features fc7.npy
      python kdgan_core/data/prepare_tags.py yfcc100m_dataset.bz2 popular.parquet --yfcc100m \\
        --images photos --user user --posts 24000 --valid-share 2000 --test-share 2000 \\
        --wordnet --stem              20,000 posts to train on, 200 popular tags, as in the paper
      ... --vocabulary random         200 tags at random

    \b
    Exit code: 0 the file is there; 2 the command or its input is at fault; 130 interrupted.
    """
    # Imported here so that --help answers at once.
    from kdgan_core.data.image_features import stored_features
    from kdgan_core.data.post_choice import Wish, check_share
    from kdgan_core.data.post_job import Job, Watcher, prepare
    from kdgan_core.data.post_parts import Makers
    from kdgan_core.data.post_report import report
    from kdgan_core.data.post_table import SEPARATORS, open_table

    screen = Screen()
    warnings.filterwarnings("ignore", module="PIL")  # of damaged metadata, which nothing reads
    try:
        check_share("--valid-share", valid_share)
        check_share("--test-share", test_share)
        opened = open_table(
            table, {what: name for what, name in columns.items() if name}, yfcc100m, url_encoded,
            SEPARATORS[tag_separator],
        )  # fmt: skip
        wish = Wish(
            _vocabulary(vocabulary), tags_count, at_least, posts, valid_share, test_share, seed
        )
        folder = images or table.parent
        options = {
            "stem": stem, "wordnet": wordnet, "images": str(folder.resolve()),
            "features": "file" if features else "vgg16 fc7", "thumbnails": thumbnails,
            "strict": strict,
        }  # fmt: skip

        def makers(scratch: Path) -> Makers:
            cleaner = _cleaner(opened.url_encoded, stem, wordnet)
            source = stored_features(features, scratch) if features else _fc7(device)
            return Makers(cleaner, source, folder, thumbnails, strict)

        inputs = (features,) if features else ()
        job = Job(opened, wish, out, makers, options, inputs, chunk, overwrite)
        with screen:
            facts = prepare(job, Watcher(screen.on_progress, screen.say))
    except DataError as error:
        raise Problem(str(error)) from None
    except OSError as error:
        raise Problem(
            f"{out} cannot be written ({error}): what is done is kept, the same command goes on"
        ) from None
    except KeyboardInterrupt:
        click.echo(f"interrupted: {screen.kept}, the same command goes on", err=True)
        sys.exit(EXIT_INTERRUPTED)
    click.echo(report(out, facts))


def _vocabulary(words: str) -> str | tuple[str, ...]:
    """ "popular", "random", or the tags of a file.

    Raises:
        DataError: there is no such file, or no tag in it.
    """
    from kdgan_core.data.cleaning import clean_tags

    if words in ("popular", "random"):
        return words
    try:
        tags = clean_tags(Path(words).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"--vocabulary {words} is neither popular nor random, nor a file that can be read"
            f" ({error})"
        ) from error
    if not tags:
        raise DataError(f"--vocabulary {words} has no tag: write one a line")
    return tags


def _cleaner(url_encoded: bool, stem: bool, wordnet: bool) -> Cleaner:
    """Raises a DataError where a package for it is absent."""
    from kdgan_core.data.cleaning import Cleaner, in_wordnet, snowball_stem

    return Cleaner(
        url_encoded, snowball_stem() if stem else None, in_wordnet() if wordnet else None
    )


def _fc7(device: str | None) -> FeatureSource:
    """VGG-16. Imported here: torch takes seconds, and features made elsewhere do not need it."""
    from kdgan_core.data.vgg_features import Fc7Features

    return Fc7Features(device)


class Screen:
    """Shows how it goes: a bar on a terminal, elsewhere a line every few seconds."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(), console=self.console, disable=not self.console.is_terminal,
        )  # fmt: skip
        self.tasks: dict[str, TaskID] = {}
        self.kept = "nothing is kept yet"
        self.due = time.monotonic() + LINE_SECONDS

    def __enter__(self) -> Screen:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.bar.stop()

    def on_progress(self, what: str, done: int, total: int | None) -> None:
        from kdgan_core.data.post_job import MAKING

        if what == MAKING:
            self.kept = f"{done:,} of {total:,} posts are kept"
        if what not in self.tasks:  # what was done earlier says nothing about the speed
            self.tasks[what] = self.bar.add_task(what, total=total, completed=done)
        self.bar.update(self.tasks[what], completed=done, total=total)
        if self.bar.disable and time.monotonic() > self.due:
            self.due = time.monotonic() + LINE_SECONDS
            click.echo(f"{done:,}{f' of {total:,}' if total else ''} {what}", err=True)

    def say(self, sentence: str) -> None:
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
