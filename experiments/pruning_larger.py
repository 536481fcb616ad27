"""Pruning on a larger model than the embedded one: train it, search it, prune it. `main` says what each step does.

    python experiments/pruning_larger.py                 # into outputs/pruning_larger

The model is timm's ViT-Tiny (12 blocks of 768 neurons, 5.3 million parameters) for 16 × 16 pixels in patches of 4. It
is trained from random weights on the digits' training split, enlarged, by the same Lightning module that fine-tunes
pruned models. Its paths are those of the validation split, and what is pruned is tested on the test split, which was
used for nothing before.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save

from neuron_path.data.digits import MEAN, STD, DigitsDataset
from neuron_path.data.folder import ImageFolderDataset
from neuron_path.lightning.fine_tuning import Recipe, fine_tune
from neuron_path.models.preprocessing import image_transform
from neuron_path.pruning.predictions import class_probabilities
from neuron_path.store.atomic import atomic_write, write_bytes, write_json
from sweep import neuron_path

NAME = "vit_tiny_patch16_224"
KWARGS: dict[str, Any] = {"img_size": 16, "patch_size": 4, "in_chans": 1, "num_classes": 10}
PREPARED = {"mean": [0.5], "std": [0.5], "crop_pct": 1.0, "crop_mode": "squash"}
RECIPE = Recipe(epochs=60, learning_rate=1e-3, batch_size=32, label_smoothing=0.05, shift=2)
USAGE = "usage: python experiments/pruning_larger.py [DIR] [KEY=VALUE …]    the settings go to neuron-path prune"


def main(arguments: Sequence[str]) -> int:
    """Write the digits as pictures, train, search by the paper's method, prune; what is there already is kept."""
    folders = [argument for argument in arguments if "=" not in argument]
    if len(folders) > 1 or any(folder.startswith("-") for folder in folders):
        print(USAGE, file=sys.stdout if {"-h", "--help"} & set(arguments) else sys.stderr)
        return 0 if {"-h", "--help"} & set(arguments) else 2
    out = Path(folders[0] if folders else "outputs/pruning_larger")
    weights = out / "model.safetensors"
    for split in ("train", "val", "test"):
        write_pictures(split, out / "digits" / split)
    if not weights.exists():
        train(out, weights)
    model = [f"model.name={NAME}", f"model.checkpoint={weights}"]
    model += [f"+model.kwargs.{name}={value}" for name, value in KWARGS.items()]
    data = ["data=image_folder", f"data.root={out / 'digits' / 'val'}", "data.num_workers=0"]
    data += [f"data.{name}={json.dumps(value).replace(' ', '')}" for name, value in PREPARED.items()]
    if not (out / "paths" / "paths.parquet").exists():
        searched = neuron_path("search", "model=timm", *model, *data, f"hydra.run.dir={out / 'paths'}")
        if searched:
            return searched
    evaluated = [f"evaluate_on={out / 'digits' / 'test'}", "selection_share=0.5"]
    settings = [argument for argument in arguments if "=" in argument]
    return neuron_path("prune", f"run_dir={out / 'paths'}", f"hydra.run.dir={out / 'pruned'}", *evaluated, *settings)


def write_pictures(split: str, folder: Path) -> None:
    """A split of the digits as a folder of classes, one grey PNG of 8 × 8 pixels each, whole or absent."""
    data = DigitsDataset(split)
    for place, name in enumerate(data.sample_ids):
        file = folder / str(data.labels[place]) / f"{name.rpartition('/')[2]}.png"
        if not file.exists():
            grey = (data[place]["image"][0].numpy() * STD + MEAN) * 255
            with atomic_write(file) as opened:
                Image.fromarray(np.round(grey).astype(np.uint8)).save(opened, format="PNG")


def train(out: Path, weights: Path) -> None:
    """Train on the training split, and write the weights and how accurate they are on the other two."""
    torch.manual_seed(0)
    model = timm.create_model(NAME, **KWARGS)
    images, labels = read(out, "train", model)
    fine_tune(model, images, labels, RECIPE, accelerator="cpu")
    measured = {}
    for split in ("val", "test"):
        images, labels = read(out, split, model)
        measured[f"{split}_accuracy"] = float((class_probabilities(model, images).argmax(1) == labels).double().mean())
    print(measured)
    write_json(out / "training.json", {"recipe": RECIPE, "architecture": [NAME, KWARGS]} | measured)
    write_bytes(weights, save(model.state_dict()))


def read(out: Path, split: str, model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """A split's pictures, prepared for the model, with their labels."""
    transform, described = image_transform(model, PREPARED)
    data = ImageFolderDataset(out / "digits" / split, transform, preprocessing=described)
    images: list[Any] = [data[place]["image"] for place in range(len(data))]
    return torch.stack(images), torch.tensor(data.labels)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
