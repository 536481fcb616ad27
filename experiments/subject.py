"""The model and the images of a small study that needs no run directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import neuron_path
from neuron_path.data.folder import ImageFolderDataset
from neuron_path.models.preprocessing import image_transform
from neuron_path.report import effects
from neuron_path.stats.intervals import Interval


@dataclass
class Subject:
    """Settings: `head` is for a model without classes, as the head.safetensors of a run with head=linear_probe;
    `checkpoint` has weights that do not come from timm's hub; without `photographs`, a folder, digits are taken."""

    model: str = "digits_vit"
    checkpoint: str | None = None
    image_size: int | None = None
    head: str | None = None
    photographs: str | None = None

    def load(self) -> tuple[nn.Module, Tensor]:
        """The model and its images."""
        if self.photographs is None:
            return neuron_path.load_model(self.model), neuron_path.load_digits("test")[0]
        size: dict[str, Any] = {} if self.image_size is None else {"img_size": self.image_size}
        model = neuron_path.load_model(
            self.model, checkpoint=self.checkpoint, pretrained=self.checkpoint is None, **size
        )
        if self.head is not None:
            neuron_path.attach_head(model, neuron_path.load_head(self.head))
        transform, preprocessing = image_transform(model)
        data = ImageFolderDataset(self.photographs, transform, preprocessing=preprocessing)
        pictures = (data[place]["image"] for place in range(len(data)))
        return model, torch.stack([picture for picture in pictures if picture is not None])


def in_words(mean: Interval, unit: str = "") -> str:
    """A mean with its interval."""
    return effects.Interval(mean.mean, mean.low, mean.high).in_words(unit, least=3)
