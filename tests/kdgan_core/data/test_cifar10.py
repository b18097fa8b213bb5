"""CIFAR-10: every published form gives the same arrays, whatever is wrong is said.

The batches are small ones of noise that take the place of the published ones in the table of
sizes and md5 sums; one test reads the real files. Pickles and downloads have files of their own.
"""

from __future__ import annotations

import gzip
import io
import lzma
import os
import pickle
import tarfile
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from kdgan_core.config import TrialConfig
from kdgan_core.data import DataError, cifar10, load_dataset
from kdgan_core.data.cifar10 import BATCHES, RECORD, find_form, load
from kdgan_core.data.digits import Arrays
from kdgan_core.data.fetch import md5_of
from kdgan_core.names import DATASET_SIZES

Batches = Mapping[str, bytes]  # name -> content of the binary version
IMAGES = 20


def pickled(content: bytes) -> bytes:
    """A batch in the python version, as Python 3 writes it."""
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    batch = {b"labels": records[:, 0].tolist(), b"data": records[:, 1:].copy()}
    return pickle.dumps(batch, protocol=3)


def packed(members: Mapping[str, bytes], kind: str) -> bytes:
    """A tar; kind is ".gz", ".xz" or ""."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return PACK.get(kind, bytes)(buffer.getvalue())


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def archived(batches: Batches, kind: str, python: bool = False) -> bytes:
    """The published archive: a folder with other files, the batches in no order."""
    inside = f"cifar-10-batches-{'py' if python else 'bin'}"
    files = {
        f"{inside}/{name}{'' if python else '.bin'}": pickled(content) if python else content
        for name, content in reversed([*batches.items()])
    }
    return packed(
        {f"{inside}/readme.html": b"<html>", f"{inside}/batches.meta": b"x"} | files, kind
    )


# In the order in which they are looked for; {} is the name of a loose batch.
FORMS = (
    "{}.bin", "{}.bin.gz", "{}.bin.xz", "cifar-10-batches-bin/{}.bin",
    "cifar-10-batches-bin/{}.bin.gz", "cifar-10-batches-py/{}", "{}", "{}.xz",
    "cifar-10-binary.tar.gz", "cifar-10-binary.tar", "cifar-10-binary.tar.xz",
    "cifar-10-python.tar.gz", "cifar-10-python.tar", "cifar-10-python.tar.xz",
)  # fmt: skip
PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress}


def made(form: str, batches: Batches) -> dict[str, bytes]:
    """The files of a form of `FORMS`."""
    if "{}" not in form:
        return {form: archived(batches, form.partition(".tar")[2], python="python" in form)}
    pack = PACK.get(Path(form).suffix, bytes)
    return {
        form.format(name): pack(content if ".bin" in form else pickled(content))
        for name, content in batches.items()
    }


OTHERS: dict[str, Callable[[Batches], dict[str, bytes]]] = {
    "each batch its own": lambda b: {
        name: content
        for number, form in enumerate(("{}.bin", "{}.bin.gz", "{}.bin.xz"))
        for name, content in [*made(form, b).items()][number::3]
    },
    "python archive under the other name": lambda b: {
        "cifar-10-binary.tar.gz": archived(b, ".gz", python=True)
    },
    "unpacked by the browser": lambda b: {"cifar-10-binary.tar.gz": archived(b, "")},
    "packed without the folder": lambda b: {
        "cifar-10-binary.tar": packed({f"./{n}": c for n, c in made("{}.bin", b).items()}, "")
    },
}


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Batches:
    """Six batches of noise, which are the published ones for this test."""
    rng = np.random.default_rng(0)
    contents = {}
    for batch in BATCHES:
        records = rng.integers(0, 256, (IMAGES, RECORD), np.uint8)
        records[:, 0] = rng.integers(0, 10, IMAGES)
        contents[batch.name] = records.tobytes()
    table = [batch._replace(md5=md5_of(contents[batch.name]), images=IMAGES) for batch in BATCHES]
    monkeypatch.setattr(cifar10, "BATCHES", tuple(table))
    return contents


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "cifar10"


def check(arrays: Arrays, batches: Batches) -> None:
    """Types, and each pixel and label at the place where the file has it."""
    images, labels, test_images, test_labels = arrays
    assert images.dtype == test_images.dtype == np.uint8
    assert labels.dtype == test_labels.dtype == np.int64
    assert images.shape == (5 * IMAGES, 3, 32, 32)
    assert test_images.shape == (IMAGES, 3, 32, 32)
    pool = b"".join(batches[f"data_batch_{number}"] for number in range(1, 6))
    for content, pixels, found in (
        (pool, images, labels),
        (batches["test_batch"], test_images, test_labels),
    ):
        assert found.tolist() == list(content[::RECORD])
        for row, channel, y, x in ((0, 0, 0, 0), (0, 0, 0, 1), (1, 2, 5, 7), (-1, 1, 31, 30)):
            start = range(0, len(content), RECORD)[row]
            assert pixels[row, channel, y, x] == content[start + 1 + channel * 1024 + y * 32 + x]
    assert images.flags.writeable and images.flags.c_contiguous  # torch warns where it is not


def refusal(folder: Path) -> str:
    """The one sentence with which the folder is refused."""
    with pytest.raises(DataError) as error:
        load(folder.parent, mirrors=())
    message = str(error.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_arrays(batches: Batches, folder: Path, form: str) -> None:
    assert find_form(folder) == []
    files = made(form, batches)
    put(folder, files)
    assert find_form(folder) == [folder / name for name in files]
    check(load(folder.parent, mirrors=()), batches)


@pytest.mark.parametrize("form", OTHERS)
def test_what_users_have_is_read_too(batches: Batches, folder: Path, form: str) -> None:
    put(folder, OTHERS[form](batches))
    check(load(folder.parent, mirrors=()), batches)


def test_the_environment_names_the_folder(
    batches: Batches, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, made("{}.bin", batches))
    monkeypatch.setenv("KDGAN_DATA", str(folder.parent))
    check(load(None, mirrors=()), batches)
    monkeypatch.setenv("KDGAN_DATA", str(folder))
    with pytest.raises(DataError, match="could not be downloaded"):
        load(None, mirrors=())


@pytest.mark.parametrize(("form", "later"), [*pairwise(FORMS)])
def test_the_first_form_is_read(batches: Batches, folder: Path, form: str, later: str) -> None:
    """The one after it is damaged: it would be refused."""
    put(folder, dict.fromkeys(made(later, batches), b"damaged"))
    refusal(folder)
    put(folder, made(form, batches))
    check(load(folder.parent, mirrors=()), batches)


@pytest.mark.parametrize("form", [form for form in FORMS if "{}" in form])
def test_an_archive_is_read_where_a_form_is_incomplete(
    batches: Batches, folder: Path, form: str
) -> None:
    put(folder, dict([*made(form, batches).items()][:4]))
    put(folder, made("cifar-10-python.tar.gz", batches))
    check(load(folder.parent, mirrors=()), batches)


@pytest.mark.parametrize("form", ["{}.bin", "cifar-10-batches-py/{}"])
def test_missing_batches_are_named(batches: Batches, folder: Path, form: str) -> None:
    files = made(form, batches)
    absent = [name for name in files if name.partition("_batch")[2][1:2] in ("2", "5")]
    put(folder, {name: content for name, content in files.items() if name not in absent})
    names = ", ".join(Path(name).name for name in absent)
    assert len(absent) == 2
    assert f"All of CIFAR-10 (missing: {names}) is not in {folder}" in refusal(folder)


def changed(content: bytes, record: int, byte: int) -> bytes:
    """Another label in a record, which is counted from 1."""
    start = (record - 1) * RECORD
    return content[:start] + bytes([byte]) + content[start + 1 :]


SIZE = IMAGES * RECORD
DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "empty": ("{}.bin", lambda c: b"", f"is truncated: 0 bytes of records instead of {SIZE:,}"),
    "a page": ("{}.bin", lambda c: b"<html>", "is truncated: 6 bytes of records"),
    "truncated": ("{}.bin", lambda c: c[:-1], f"is truncated: {SIZE - 1:,} bytes of records"),
    "a record less": ("{}.bin", lambda c: c[:-RECORD], "is truncated"),
    "padded": ("{}.bin", lambda c: c + b"\0", f"is padded: {SIZE + 1:,} bytes of records"),
    "truncated inside": ("{}.bin.gz", lambda c: gzip.compress(c[:-9]), "is truncated: 61,451"),
    "label": ("{}.bin", lambda c: changed(c, 7, 11), "the label 11 in record 7 of 20"),
    "first label": ("{}.bin", lambda c: changed(changed(c, 1, 10), 3, 255), "label 10 in record"),
    "last label": ("{}.bin.xz", lambda c: lzma.compress(changed(c, 20, 255)), "255 in record 20"),
    "pixel": ("{}.bin", lambda c: c[:-1] + bytes([c[-1] ^ 1]), "but not its content (md5)"),
    "other label": ("{}.bin", lambda c: changed(c, 1, (c[0] + 1) % 10), "not its content (md5)"),
    "truncated xz": ("{}.bin.xz", lambda c: lzma.compress(c)[:5000], "cannot be read"),
    "damaged gz": ("{}.bin.gz", lambda c: gzip.compress(c)[:99] + b"?" * 9000, "cannot be read"),
    "CIFAR-100": ("{}.bin", lambda c: bytes(IMAGES * 3074), "has CIFAR-100's records"),
    "CIFAR-100, training": ("{}.bin", lambda c: bytes(5 * IMAGES * 3074), "CIFAR-100's records"),
    "pickle: label": ("{}", lambda c: pickled(changed(c, 7, 11)), "label 11 in record 7 of 20"),
    "pickle: pixel": ("{}", lambda c: pickled(c[:-1] + bytes([c[-1] ^ 1])), "content (md5)"),
    "pickle: a record less": ("{}", lambda c: pickled(c[:-RECORD]), "is truncated"),
    "pickle: truncated": ("{}", lambda c: pickled(c)[:-1000], "python version (pickle data was"),
    "pickle: forged": ("{}", lambda c: b"cposix\nsystem\n.", "it asks for 'posix.system'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_batch_is_named(batches: Batches, folder: Path, kind: str) -> None:
    form, damage, words = DAMAGE[kind]
    put(folder, made(form, batches))
    path = folder / form.format("data_batch_3")
    assert path.exists()
    path.write_bytes(damage(batches["data_batch_3"]))
    message = refusal(folder)
    assert message.startswith(str(path))
    assert words in message
    assert "replace it" in message or "in its place" in message


def test_batches_in_another_order_are_refused(batches: Batches, folder: Path) -> None:
    swapped = {
        **batches, "data_batch_1": batches["data_batch_2"], "data_batch_2": batches["data_batch_1"]
    }  # fmt: skip
    put(folder, made("{}.bin", swapped))
    message = refusal(folder)
    assert f"{folder / 'data_batch_1.bin'} has the shape of CIFAR-10's data_batch_1" in message


def test_a_folder_in_place_of_a_batch_is_named(batches: Batches, folder: Path) -> None:
    put(folder, made("{}.bin", batches))
    (folder / "test_batch.bin").unlink()
    (folder / "test_batch.bin").mkdir()
    assert "test_batch.bin cannot be read" in refusal(folder)


@pytest.mark.parametrize("python", [False, True])
def test_a_wrong_batch_in_an_archive_is_named(
    batches: Batches, folder: Path, python: bool
) -> None:
    damaged = {**batches, "test_batch": changed(batches["test_batch"], 2, 77)}
    put(folder, {"cifar-10-binary.tar.gz": archived(damaged, ".gz", python)})
    name = "test_batch" if python else "test_batch.bin"
    message = refusal(folder)
    assert message.startswith(f"{name} in {folder / 'cifar-10-binary.tar.gz'} has the label 77")


NO_ARCHIVE: dict[str, tuple[Callable[[Batches], bytes], str]] = {
    "empty": (lambda b: b"", "is no tar archive that can be read"),
    "a page": (lambda b: b"<html>404</html>", "is no tar archive that can be read"),
    "gz of something else": (lambda b: gzip.compress(b"a" * 5000), "is no tar archive"),
    "truncated": (lambda b: archived(b, ".gz")[:9000], "is no tar archive that can be read"),
    "truncated xz": (lambda b: archived(b, ".xz")[:9000], "is no tar archive that can be read"),
    "damaged": (lambda b: archived(b, ".xz")[:9000] + b"?" * 9000, "is no tar archive"),
    "other files": (lambda b: packed({"a.txt": b"a"}, ".gz"), "has none of CIFAR-10's batches"),
    "no files": (lambda b: packed({}, ".gz"), "has none of CIFAR-10's batches"),
    "some batches": (
        lambda b: packed({"x/data_batch_2.bin": b["data_batch_2"], "test_batch.bin": b""}, ""),
        "has only data_batch_2.bin, test_batch.bin of CIFAR-10's batches",
    ),
    "CIFAR-100": (
        lambda b: packed({f"cifar-100-binary/{n}.bin": b"x" for n in ("train", "test")}, ".gz"),
        "is CIFAR-100: put cifar-10-binary.tar.gz in its place",
    ),
    "CIFAR-100, python": (
        lambda b: packed({f"cifar-100-python/{n}": b"x" for n in ("train", "test")}, ".gz"),
        "is CIFAR-100: put cifar-10-binary.tar.gz in its place",
    ),
    "CIFAR-100, packed again": (
        lambda b: packed({"train.bin": b"x", "test.bin": b"x"}, ""), "is CIFAR-100",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_ARCHIVE)
@pytest.mark.parametrize("name", ["cifar-10-binary.tar.gz", "cifar-10-python.tar.xz"])
def test_a_wrong_archive_is_named(batches: Batches, folder: Path, name: str, kind: str) -> None:
    make, words = NO_ARCHIVE[kind]
    put(folder, {name: make(batches)})
    message = refusal(folder)
    assert message.startswith(str(folder / name))
    assert words in message
    assert "replace it" in message or "in its place" in message


def test_links_in_an_archive_are_not_followed(batches: Batches, folder: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in made("{}.bin", batches):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, str(folder.parent / name)
            archive.addfile(info)
    put(folder.parent, made("{}.bin", batches))
    put(folder, {"cifar-10-binary.tar": buffer.getvalue()})
    assert "has none of CIFAR-10's batches" in refusal(folder)


@pytest.mark.parametrize(
    "name", ["cifar-100-binary.tar.gz", "cifar-100-python/train", "train.bin", "train.bin.gz"]
)
def test_a_folder_of_cifar_100_is_named(
    batches: Batches, folder: Path, closed_port: str, name: str
) -> None:
    put(folder, {name: b"x"})
    assert f"{folder} holds CIFAR-100: put cifar-10-binary.tar.gz there" in refusal(folder)
    put(folder, made("{}.bin", batches))
    check(load(folder.parent, mirrors=(closed_port,)), batches)


def test_a_folder_that_is_a_file_is_named(batches: Batches, folder: Path) -> None:
    put(folder.parent, {"cifar10": b"not a folder"})
    assert f"{folder} is a file: give a folder" in refusal(folder)


def test_the_table_agrees_with_the_config() -> None:
    pool, test, classes = DATASET_SIZES["cifar10"]
    assert sum(batch.images for batch in BATCHES[:-1]) == pool
    assert BATCHES[-1].images == test
    assert classes == cifar10.HIGHEST_LABEL + 1
    assert len({batch.md5 for batch in BATCHES}) == len(BATCHES)


def test_it_is_loaded_by_name(batches: Batches, folder: Path) -> None:
    put(folder, made("{}.bin.xz", batches))
    dataset = load_dataset("cifar10", folder.parent)
    check((dataset.images, dataset.labels, dataset.test_images, dataset.test_labels), batches)
    assert (dataset.name, dataset.white, dataset.classes) == ("cifar10", 255.0, 10)


def test_sizes_that_cifar_10_has() -> None:
    for size in (10, 45_000):
        TrialConfig(dataset="cifar10", train_size=size, architecture="paper")


@pytest.mark.parametrize("size", [45_001, 50_000, 60_000])
def test_more_images_than_there_are(size: int) -> None:
    words = f"train_size={size} plus valid_size=5000 is more than the 50,000 images of cifar10"
    with pytest.raises(ValueError, match=words):
        TrialConfig(dataset="cifar10", train_size=size, architecture="paper")


def test_fewer_images_than_classes() -> None:
    with pytest.raises(ValueError, match="train_size=9 is less than the 10 classes of cifar10"):
        TrialConfig(dataset="cifar10", train_size=9, architecture="paper")


def test_real_files_are_read() -> None:
    """Ten seconds, most of them for unpacking where the files are packed with xz."""
    data_dir = Path(os.environ.get("KDGAN_DATA") or "nowhere")
    if not (data_dir / "cifar10").is_dir():
        pytest.skip("KDGAN_DATA names no folder with cifar10")
    dataset = load_dataset("cifar10", data_dir)
    assert dataset.images.shape == (50_000, 3, 32, 32)
    assert dataset.test_images.shape == (10_000, 3, 32, 32)
    train, test = np.bincount(dataset.labels), np.bincount(dataset.test_labels)
    assert train.tolist() == [5_000] * 10
    assert test.tolist() == [1_000] * 10
    assert dataset.labels[:5].tolist() == [6, 9, 9, 4, 1]  # a frog, two trucks, a deer, a car
    mean = dataset.images.mean(axis=(0, 2, 3)) / 255
    assert mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)  # red, green, blue
    assert dataset.checksum == "9048fcbac9c08a64d57a7c5a5a66750a974ad4eab380914df129f7e223d823df"
