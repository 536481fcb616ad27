"""Listings of folders: complete, in order, and remembered until the folder changes, whatever changes in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neuron_path.data import cache, listing
from neuron_path.data.listing import list_files
from neuron_path.errors import NeuronPathError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three class folders, one with a folder in it."""
    for name in ("cat/a.png", "cat/b.png", "cat-like/a.png", "dog/deep/er/a.png"):
        touch(tmp_path / "root" / name)
    return tmp_path / "root"


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Every listing is worth remembering at once; those that were made anew are in the list."""
    monkeypatch.setattr(listing, "WORTHWHILE", 1)
    monkeypatch.setattr(cache, "SETTLED", -60.0)
    made: list[Path] = []
    walk = listing._walk
    monkeypatch.setattr(listing, "_walk", lambda root: made.append(root) or walk(root))
    yield made
    shutil.rmtree(cache._file("", Path()).parent, ignore_errors=True)


def touch(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("x")
    return file


def literal(root: Path) -> list[str]:
    """The same by the standard library's own walk."""
    found = [Path(folder, name) for folder, _, names in os.walk(root, followlinks=True) for name in names]
    return sorted(file.relative_to(root).as_posix() for file in found)


def test_files_stand_in_the_order_of_their_whole_names(root: Path) -> None:
    assert list_files(root) == ["cat-like/a.png", "cat/a.png", "cat/b.png", "dog/deep/er/a.png"]
    assert list_files(root) == literal(root)


def test_many_folders_are_listed_as_by_the_standard_library(tmp_path: Path) -> None:
    for number in range(300):
        touch(tmp_path / f"{number % 40}" / f"{number % 7}" / f"{number}.png")
    assert list_files(tmp_path) == literal(tmp_path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a new file": lambda root: touch(root / "cat" / "c.png"),
    "a file less": lambda root: (root / "cat" / "a.png").unlink(),
    "another name": lambda root: (root / "cat" / "a.png").rename(root / "cat" / "z.png"),
    "a new file deep down": lambda root: touch(root / "dog" / "deep" / "er" / "b.png"),
    "a new folder": lambda root: touch(root / "emu" / "a.png"),
    "a folder less": lambda root: shutil.rmtree(root / "dog"),
    "another folder of the same name": lambda root: (
        shutil.move(root / "cat", root.parent / "old"),
        touch(root / "cat" / "q.png"),
    ),
    "a file that became a folder": lambda root: (
        (root / "cat" / "a.png").unlink(),
        touch(root / "cat" / "a.png" / "x.png"),
    ),
    "a file with the folder's old time": lambda root: (
        before := os.stat(root / "cat"),
        touch(root / "cat" / "c.png"),
        os.utime(root / "cat", ns=(before.st_atime_ns, before.st_mtime_ns)),
    ),
    "another root": lambda root: (
        root.rename(root.parent / "old"),
        touch(root / "only.png"),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_remembered_listing_is_dropped_when_the_folder_changes(change: str, root: Path, walked: list[Path]) -> None:
    before = list_files(root)
    assert list_files(root) == before
    assert len(walked) == 1
    CHANGES[change](root)
    assert list_files(root) == literal(root) != before
    assert len(walked) == 2
    assert list_files(root) == literal(root)
    assert len(walked) == 2


def test_a_change_behind_a_link_is_seen(root: Path, walked: list[Path]) -> None:
    touch(root.parent / "elsewhere" / "a.png")
    (root / "emu").symlink_to(root.parent / "elsewhere")
    assert "emu/a.png" in list_files(root)
    touch(root.parent / "elsewhere" / "b.png")
    assert list_files(root) == literal(root)
    (root.parent / "elsewhere").rename(root.parent / "gone")
    touch(root.parent / "elsewhere" / "c.png")
    assert list_files(root) == literal(root)
    assert len(walked) == 3


def test_what_a_picture_holds_is_no_change(root: Path, walked: list[Path]) -> None:
    before = list_files(root)
    (root / "cat" / "a.png").write_text("other")
    assert list_files(root) == before
    assert len(walked) == 1


def test_a_link_to_nothing_is_listed_and_not_remembered(root: Path, walked: list[Path]) -> None:
    (root / "cat" / "link").symlink_to(root.parent / "mounted later")
    assert "cat/link" in list_files(root)
    touch(root.parent / "mounted later" / "a.png")
    assert "cat/link/a.png" in list_files(root)
    assert len(walked) == 2


def test_a_folder_that_changes_now_is_not_remembered(
    root: Path, walked: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SETTLED", 3.0)
    list_files(root)
    list_files(root)
    assert len(walked) == 2
    for folder, _, _ in os.walk(root):
        os.utime(folder, (1e9, 1e9))  # the change of the times themselves is as new
    list_files(root)
    list_files(root)
    assert len(walked) == 4


def test_without_the_cache_it_is_listed_each_time(root: Path, walked: list[Path]) -> None:
    assert list_files(root, cached=False) == list_files(root, cached=False)
    assert len(walked) == 2
    list_files(root)
    assert len(walked) == 3


def test_a_small_folder_is_not_remembered(root: Path, walked: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "WORTHWHILE", 5)
    list_files(root)
    list_files(root)
    assert len(walked) == 2


@pytest.mark.parametrize("damage", ["torn", "empty", "garbage", "foreign"])
def test_a_damaged_memory_is_made_anew(damage: str, root: Path, walked: list[Path]) -> None:
    before = list_files(root)
    file = cache._file("files", root)
    data = file.read_bytes()
    file.write_bytes({"torn": data[: len(data) // 2], "empty": b"", "garbage": b"PAR1" * 9, "foreign": b"{}"}[damage])
    assert list_files(root) == before
    assert len(walked) == 2
    assert list_files(root) == before
    assert len(walked) == 2


def test_a_cache_that_cannot_be_written_is_no_mistake(
    root: Path, walked: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert list_files(root) == list_files(root) == literal(root)
    assert len(walked) == 2


def test_relative_and_absolute_names_share_one_memory(
    root: Path, walked: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list_files(root)
    monkeypatch.chdir(root.parent)
    assert list_files(Path("root")) == before
    assert len(walked) == 1


def test_a_folder_that_may_not_be_listed_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(NeuronPathError, match=r"deep' cannot be listed: Permission denied\."):
        list_files(root)
