"""Files of data sets: where they lie, reading them, and fetching those that are absent."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import lzma
import os
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import platformdirs

from kdgan_core.data.dataset import DataError
from kdgan_core.files import atomic_write


class PublishedFile(NamedTuple):
    """A file as a mirror has it: its name below the mirror's address, and its md5."""

    name: str
    md5: str


def default_data_dir() -> Path:
    """KDGAN_DATA if it is set, else the user's cache directory."""
    return Path(os.environ.get("KDGAN_DATA") or platformdirs.user_cache_path("kdgan"))


def data_folder(data_dir: Path | None, name: str) -> Path:
    """The folder of the data set `name`, which need not exist; None is the default data folder.

    Raises:
        DataError: it, or the data folder, is a file.
    """
    folder = (data_dir or default_data_dir()) / name
    for parent in (folder.parent, folder):
        if parent.exists() and not parent.is_dir():
            raise DataError(f"the data folder {parent} is a file: give a folder with --data-dir")
    return folder


def find_file(folder: Path, name: str, endings: Sequence[str]) -> Path | None:
    """The first of `name` with each ending that exists, or None."""
    candidates = (folder / f"{name}{ending}" for ending in endings)
    return next((path for path in candidates if path.exists()), None)


def read_content(path: Path) -> bytes:
    """The content of a file, unpacked where its name ends in .gz or .xz.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    try:
        content = path.read_bytes()
        match path.suffix:
            case ".gz":
                return gzip.decompress(content)
            case ".xz":
                return lzma.decompress(content)
        return content
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): delete it and let it be downloaded again,"
            " or replace it"
        ) from error


def md5_of(content: bytes) -> str:
    """The md5 in hexadecimal: it tells damage and mix-ups, not malice."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def download(
    title: str, folder: Path, files: Sequence[PublishedFile], mirrors: Sequence[str]
) -> None:
    """Puts every file into `folder`, each checked and in one step.

    Args:
        title: what is absent, for the message.
        folder: made where it is absent.
        files: to fetch.
        mirrors: base addresses, which end in a slash, tried in turn for each file.

    Raises:
        DataError: a file cannot be had or not be written; those before it are in place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            _download(folder, file, mirrors)
    except OSError as error:
        wanted = "; ".join(f"{file.name} (md5 {file.md5})" for file in files)
        raise DataError(
            f"{title} is not in {folder} and could not be downloaded ({error}). Put there:"
            f" {wanted}. Or name another folder with --data-dir or KDGAN_DATA. The experiment"
            " 'digits' needs no download."
        ) from error


def _download(folder: Path, file: PublishedFile, mirrors: Sequence[str]) -> None:
    """Fetch one file, check its md5, then move it into place in one step.

    Raises:
        OSError: no mirror gave a file with the right checksum; the last reason.
    """
    reason: OSError = OSError("no mirror is known")
    for mirror in mirrors:
        try:
            with urllib.request.urlopen(f"{mirror}{file.name}", timeout=30) as answer:
                content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            reason = OSError(f"{mirror}: {error}")
            continue
        if md5_of(content) != file.md5:
            reason = OSError(f"{mirror}{file.name} has a wrong checksum")
            continue
        with atomic_write(folder / file.name) as part:
            part.write(content)
        return
    raise reason
