"""Shards: what is found in tar files, as another library writes them, and what is refused."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from neuron_path.data import cache, shards
from neuron_path.data.shards import ShardDataset
from neuron_path.errors import NeuronPathError
from tests import pictures


def transform(picture: Image.Image) -> Tensor:
    """Pixels in [0, 1]."""
    return pil_to_tensor(picture.convert("RGB")) / 255


def open_shards(root: str | Path, **options: Any) -> ShardDataset:
    return ShardDataset(root, transform, preprocessing={"mean": [0.0]}, **options)


def png(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    pictures.picture(seed).save(stream, format="PNG")
    return stream.getvalue()


def write(file: Path, members: Mapping[str, bytes], **options: Any) -> Path:
    """A tar file of members."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w", **options) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file


def refusal(root: str | Path, **options: Any) -> str:
    with pytest.raises(NeuronPathError) as caught:
        open_shards(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_shards_of_the_webdataset_library(tmp_path: Path) -> None:
    webdataset: Any = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(f"{tmp_path}/train-%04d.tar", maxcount=3, verbose=0) as writer:
        for number in range(7):
            picture = pictures.picture(number)
            writer.write({"__key__": f"{number:06d}", "png": picture, "cls": number % 3, "json": {"number": number}})
    data = open_shards(tmp_path)
    names = [f"train-{number // 3:04d}.tar/{number:06d}.png" for number in range(7)]
    assert data.sample_ids == names
    assert data.labels == [number % 3 for number in range(7)]
    assert (data.classes, data.is_indexed) == (["0", "1", "2"], True)
    for number in range(7):
        image = data[number]["image"]
        assert image is not None
        assert torch.equal(image, transform(pictures.picture(number)))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tar(format: int, tmp_path: Path) -> None:
    long = "d" * 60 + "/" + "f" * 80 + ".png" if format != tarfile.USTAR_FORMAT else "short/f.png"
    members = {long: png(1), "ä/日本.PNG": png(2), "é/no.jpeg": png(3)}
    data = open_shards(write(tmp_path / "a.tar", members, format=format))
    assert data.sample_ids == sorted(f"a.tar/{name}" for name in members)
    assert data.classes == sorted(name.split("/")[0] for name in members)
    assert [item["problem"] for item in map(data.__getitem__, range(3))] == [None] * 3


def test_folders_in_a_tar_file_are_classes(tmp_path: Path) -> None:
    write(tmp_path / "b.tar", {"./dog/1.png": png(1), "./cat/x.y.png": png(2)})
    write(tmp_path / "a.tar", {"./cat/9.png": png(3)})
    data = open_shards(tmp_path)
    assert data.sample_ids == ["a.tar/./cat/9.png", "b.tar/./cat/x.y.png", "b.tar/./dog/1.png"]
    assert (data.labels, data.classes, data.is_indexed) == ([0, 0, 1], ["cat", "dog"], False)


def test_pictures_alone_have_no_labels(tmp_path: Path) -> None:
    data = open_shards(write(tmp_path / "a.tar", {"1.png": png(), "2.png": png(), "readme.txt": b"hello"}))
    assert (data.labels, data.classes) == ([None, None], [])


def test_labels_may_be_names(tmp_path: Path) -> None:
    members = {"1.png": png(), "1.class": b"dog\n", "2.png": png(), "2.class": b" cat"}
    file = write(tmp_path / "a.tar", members)
    data = open_shards(file, label_key="class")
    assert (data.labels, data.classes) == ([1, 0], ["cat", "dog"])
    index = tmp_path / "index.json"
    index.write_text(json.dumps({"dog": 5, "cat": 2}))
    assert open_shards(file, label_key="class", class_index=index).labels == [5, 2]
    assert open_shards(file).labels == [None, None]
    assert open_shards(file, label_key="class", classes=["dog"]).sample_ids == ["a.tar/1.png"]


def test_a_part_reads_its_own_pictures(tmp_path: Path) -> None:
    for shard in range(3):
        write(tmp_path / f"{shard}.tar", {f"{n}.png": png(10 * shard + n) for n in range(4)})
    data = open_shards(tmp_path, limit=5)
    assert data.sample_ids == ["0.tar/0.png", "0.tar/2.png", "1.tar/0.png", "1.tar/3.png", "2.tar/1.png"]
    for place, seed in enumerate((0, 2, 10, 13, 21)):
        image = data[place]["image"]
        assert image is not None
        assert torch.equal(image, transform(pictures.picture(seed)))


def test_shards_may_be_a_folder_a_file_or_a_pattern(tmp_path: Path) -> None:
    for name in ("train-1.tar", "train-2.tar", "val-1.tar", "deep/er.tar"):
        write(tmp_path / name, {"1.png": png()})
    (tmp_path / "notes.txt").write_text("hello")
    found = {
        str(tmp_path): ["deep/er.tar/1.png", "train-1.tar/1.png", "train-2.tar/1.png", "val-1.tar/1.png"],
        f"{tmp_path}/train-*.tar": ["train-1.tar/1.png", "train-2.tar/1.png"],
        f"{tmp_path}/train-[2-9].tar": ["train-2.tar/1.png"],
        f"{tmp_path}/val-1.tar": ["val-1.tar/1.png"],
    }
    for root, names in found.items():
        assert open_shards(root).sample_ids == names
    for root in ("absent", "no-*.tar", "absent/*.tar", "*/er.tar", ""):
        empty = tmp_path / "empty"
        empty.mkdir(exist_ok=True)
        assert "There are no shards at" in refusal(f"{empty}/{root}")


def test_names_that_lead_elsewhere_are_names_only(tmp_path: Path) -> None:
    members = {"../../evil.png": png(1), "/etc/passwd.png": png(2), "<b>x</b>.png": png(3)}
    data = open_shards(write(tmp_path / "in" / "a.tar", members))
    assert [item["problem"] for item in map(data.__getitem__, range(3))] == [None] * 3
    assert [file.name for file in tmp_path.rglob("*")] == ["in", "a.tar"]


def test_broken_pictures_and_links_are_named_problems(tmp_path: Path) -> None:
    file = tmp_path / "a.tar"
    with tarfile.open(file, "w") as tar:
        for name, data in {"1.png": png(), "2.png": b"hello", "3.png": b""}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, kind in {"4.png": tarfile.SYMTYPE, "5.png": tarfile.LNKTYPE, "6.png": tarfile.FIFOTYPE}.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
    data = open_shards(file)
    problems = [item["problem"] for item in map(data.__getitem__, range(6))]
    assert problems[0] is None
    assert all(problems[1:3])
    assert problems[3:] == ["it is a link or another special file inside the shard"] * 3
    with pytest.raises(NeuronPathError, match=r"File 'a\.tar/2\.png' is no image"):
        data.check()


def test_a_sample_with_several_pictures_must_say_which(tmp_path: Path) -> None:
    members = {"1.jpg": png(1), "1.seg.png": png(2), "2.jpg": png(3), "2.seg.png": png(4)}
    file = write(tmp_path / "a.tar", members)
    told = refusal(file)
    assert "The sample '1' of shard" in told
    assert "(1.jpg, 1.seg.png): say which by what follows the first dot of its name" in told
    assert open_shards(file, image_key="jpg").sample_ids == ["a.tar/1.jpg", "a.tar/2.jpg"]
    assert open_shards(file, image_key="seg.png").sample_ids == ["a.tar/1.seg.png", "a.tar/2.seg.png"]


def test_a_picture_of_any_name_is_found_by_its_key(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tar", {"1.img": png(), "1.cls": b"0", "2.img": png(), "2.cls": b"1"})
    assert "has a label and no picture" in refusal(file)
    assert open_shards(file, image_key="img").labels == [0, 1]


REFUSED = {
    "not tar": (b"hello" * 300, "is torn or no tar file"),
    "empty": (b"", "is torn or no tar file"),
    "gzip": (b"\x1f\x8b" + bytes(600), "is compressed with gzip"),
    "zeros": (bytes(10240), "hold no picture"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_shard_is_refused(kind: str, tmp_path: Path) -> None:
    data, expected = REFUSED[kind]
    (tmp_path / "a.tar").write_bytes(data)
    assert expected in refusal(tmp_path)


@pytest.mark.parametrize("blocks", range(1, 12))
def test_a_shard_cut_anywhere_is_refused(blocks: int, tmp_path: Path) -> None:
    file = write(tmp_path / "a.tar", {f"{n}.png": png(n) for n in range(4)})
    data = file.read_bytes()
    end = 4 * (512 + 512 * -(-len(png()) // 512))
    cut = blocks * end // 12 + 37 * (blocks % 3)
    file.write_bytes(data[:cut])
    assert "is torn or no tar file" in refusal(file)


def test_a_shard_with_a_damaged_header_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tar", {f"{n}.png": png(n) for n in range(4)})
    data = bytearray(file.read_bytes())
    second = 512 + 512 * -(-len(png()) // 512)
    data[second + 150] ^= 0xFF  # in the checksum of the second header
    file.write_bytes(data)
    assert "is torn or no tar file" in refusal(file)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"1.png": b"", "1.cls": b"0", "2.png": b""}, "The sample 'a.tar/2.png' has no label (1 of 2 lack one)"),
        ({"1.png": b"", "x/2.png": b""}, "The sample 'a.tar/1.png' has no label"),
        ({"notes.txt": b"hello"}, "hold no picture"),
        ({"1.png": b"", "1.cls": b"\xff"}, "is not UTF-8: expected a class index"),
    ],
)
def test_odd_members_are_refused(members: dict[str, bytes], expected: str, tmp_path: Path) -> None:
    assert expected in refusal(write(tmp_path / "a.tar", members))


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tar", {"1.png": png()})
    with tarfile.open(file, "a") as tar:
        info = tarfile.TarInfo("./1.png".removeprefix("./"))
        tar.addfile(info)
    assert "has several pictures (1.png, 1.png)" in refusal(file)


def test_the_index_is_remembered_until_a_shard_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SETTLED", -60.0)
    read: list[Path] = []
    rows = shards._rows

    def counted(file: Path, *rest: Any) -> Any:
        read.append(file)
        return rows(file, *rest)

    monkeypatch.setattr(shards, "_rows", counted)
    for name in "ab":
        write(tmp_path / f"{name}.tar", {"1.png": png(), "1.cls": b"1"})
    before = open_shards(tmp_path)
    again = open_shards(tmp_path)
    assert (again.sample_ids, again.labels) == (before.sample_ids, before.labels)
    assert len(read) == 2
    write(tmp_path / "a.tar", {"1.png": png(), "1.cls": b"0"})
    assert open_shards(tmp_path).labels == [0, 1]
    assert len(read) == 4
    write(tmp_path / "c.tar", {"1.png": png(), "1.cls": b"1"})
    assert open_shards(tmp_path).labels == [0, 1, 1]
    assert open_shards(tmp_path, label_key="none").labels == [None] * 3
    open_shards(tmp_path, cache=False)
    assert len(read) == 13


def test_it_travels_to_other_processes(tmp_path: Path) -> None:
    data = ShardDataset(write(tmp_path / "a.tar", {"1.png": png(5)}), pil_to_tensor, preprocessing={})
    image = pickle.loads(pickle.dumps(data))[0]["image"]
    assert torch.equal(image, pil_to_tensor(pictures.picture(5)))
