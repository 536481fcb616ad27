"""Batches: named, in the order of the data, on any number of workers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from neuron_path.data.digits import DigitsDataset, load_digits
from neuron_path.data.folder import ImageFolderDataset
from neuron_path.data.shards import ShardDataset
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.datamodule import Batch, DigitsDataModule, ImageDataModule, collate
from tests import pictures
from tests.data.test_shards import png, write


def transform(picture: Image.Image) -> Tensor:
    """Pixels in [0, 1]."""
    return pil_to_tensor(picture.convert("RGB")) / 255


def batches(module: ImageDataModule) -> list[Batch]:
    return list(module.predict_dataloader())


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 50, 1000])
def test_digits_come_in_order_whatever_the_batches(batch_size: int, num_workers: int) -> None:
    limit = 360 if batch_size > 1 else 5
    module = DigitsDataModule(batch_size=batch_size, num_workers=num_workers, limit=limit)
    got = batches(module)
    assert [len(batch) for batch in got[:-1]] == [batch_size] * (len(got) - 1)
    names = [name for batch in got for name in batch.sample_ids]
    assert names == list(module.dataset.sample_ids)
    assert [label for batch in got for label in batch.labels] == list(module.dataset.labels)
    if limit == 360:
        images, _ = load_digits("test")
        assert torch.equal(torch.cat([batch.images for batch in got]), images)


def test_a_part_of_the_digits() -> None:
    module = DigitsDataModule("val", classes=["0", "9"], limit=4)
    assert len(module.dataset) == 4
    assert set(module.dataset.labels) == {0, 9}
    assert set(module.dataset.sample_ids) < set(DigitsDataset("val").sample_ids)
    assert module.dataset.preprocessing["split"] == "val"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_broken_pictures_are_set_apart(num_workers: int, tmp_path: Path) -> None:
    root = pictures.class_folders(tmp_path, classes=2, each=2)
    pictures.truncated(root / "00" / "aa.jpg")
    (root / "01" / "c.png").write_text("hello")
    folder = ImageFolderDataset(root, transform, preprocessing={})
    module = ImageDataModule(folder, batch_size=3, num_workers=num_workers)
    first, second = batches(module)
    assert (first.sample_ids, first.labels, first.images.shape) == (["00/a.png", "00/b.png"], [0, 0], (2, 3, 10, 12))
    assert [name for name, _ in first.problems] == ["00/aa.jpg"]
    assert (second.sample_ids, [name for name, _ in second.problems]) == (["01/a.png", "01/b.png"], ["01/c.png"])
    with pytest.raises(NeuronPathError, match=r"File '01/c\.png' is no image"):
        folder.check()


def test_a_batch_of_broken_pictures_only_is_empty() -> None:
    batch = collate([{"image": None, "label": 0, "sample_id": "a", "problem": "torn"}])
    assert (len(batch), batch.labels, batch.problems) == (0, [], [("a", "torn")])


def test_a_batch_moves_between_devices_with_its_names(device: torch.device) -> None:
    batch = batches(DigitsDataModule(limit=2))[0].to(device)
    assert batch.images.device.type == device.type
    assert len(batch.sample_ids) == len(batch.labels) == 2


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_shards_come_in_order_whatever_the_batches(batch_size: int, num_workers: int, tmp_path: Path) -> None:
    for shard in range(2):
        write(tmp_path / f"{shard}.tar", {f"{n}.png": png(10 * shard + n) for n in range(4)})
    shards = ShardDataset(tmp_path, transform, preprocessing={})
    got = batches(ImageDataModule(shards, batch_size=batch_size, num_workers=num_workers))
    assert [name for batch in got for name in batch.sample_ids] == shards.sample_ids
    expected = torch.stack([transform(pictures.picture(10 * shard + n)) for shard in range(2) for n in range(4)])
    assert torch.equal(torch.cat([batch.images for batch in got]), expected)
