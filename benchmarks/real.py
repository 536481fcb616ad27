"""A pretrained model with a linear probe, and photographs: what benchmarks measure with `--checkpoint` and `--data`.

The model is one of timm's, by default DINOv2-small, whose weights are read from a file. It has no classifier: a linear
probe is fitted on the class folders in `train/` and put on it, as `head=linear_probe` does on the command line, and is
kept in the user's cache. The photographs come from `test/`, spread over its classes, and their labels are the targets.
`docs/performance.md` says where to get both.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import platformdirs
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import neuron_path
from benchmarks.harness import Table, console, positive, record, show
from neuron_path.data.folder import ImageFolderDataset
from neuron_path.models.heads import LinearHead, head_bytes
from neuron_path.models.preprocessing import image_transform
from neuron_path.store.atomic import write_bytes

MODEL = "vit_small_patch14_dinov2.lvd142m"
IMAGE_SIZE = 224


class Source(NamedTuple):
    """Where a model's weights and the photographs are.

    Attributes:
        model: a name of timm's.
        checkpoint: a file with its weights.
        data: a folder with `train/` and `test/`, each with a folder for every class.
        image_size: height and width of the model's images.
    """

    model: str
    checkpoint: str
    data: str
    image_size: int


class Subject(NamedTuple):
    """What is measured.

    Attributes:
        model: with its probe, frozen.
        images, targets: (B, 3, height, width) photographs and (B,) labels.
        about: for the record: names, sizes, and how good the probe is.
    """

    model: VisionTransformer
    images: Tensor
    targets: Tensor
    about: dict[str, Any]


def add_arguments(parser: ArgumentParser) -> None:
    """The options that name a source."""
    group = parser.add_argument_group("a pretrained model on photographs")
    group.add_argument("--checkpoint", metavar="FILE", help="its weights; with it goes --data")
    group.add_argument("--data", metavar="FOLDER", help="with train/ and test/, each with a folder for every class")
    group.add_argument("--model", default=MODEL, help="its name in timm (%(default)s)")
    group.add_argument("--image-size", type=positive, default=IMAGE_SIZE, help="of its images (%(default)s)")
    group.add_argument("--trial", action="store_true", help="write nothing")


def source_of(parser: ArgumentParser, arguments: Namespace) -> Source | None:
    """The source that the options name; None without them. What is missing ends the program."""
    if (arguments.checkpoint is None) != (arguments.data is None):
        parser.error("--checkpoint and --data go together")
    if arguments.checkpoint is None:
        return None
    folder = Path(arguments.data)
    for path in (Path(arguments.checkpoint), folder / "train", folder / "test"):
        if not path.exists():
            parser.error(f"there is no {path}")
    return Source(arguments.model, arguments.checkpoint, arguments.data, arguments.image_size)


def options_of(source: Source) -> list[str]:
    """The options that name it, for another process."""
    given = {
        "--checkpoint": source.checkpoint,
        "--data": source.data,
        "--model": source.model,
        "--image-size": str(source.image_size),
    }
    return [text for pair in given.items() for text in pair]


def finish(name: str, values: Mapping[str, Any], table: Table, *, trial: bool) -> None:
    """Record a benchmark's result on the pretrained model as `NAME_real`; only print that of a trial."""
    if trial:
        show({name: table})
    else:
        record(f"{name}_real", values, {name: table})


def load(source: Source, n_images: int) -> Subject:
    """The model with its probe, and so many photographs."""
    loaded = neuron_path.load_model(
        source.model, checkpoint=source.checkpoint, num_classes=0, img_size=source.image_size
    )
    transform, preprocessing = image_transform(loaded)
    test = ImageFolderDataset(Path(source.data) / "test", transform, preprocessing=preprocessing, limit=n_images)
    head, accuracy = _probe(source, loaded)
    model = cast("VisionTransformer", neuron_path.attach_head(loaded, head))
    items = [test[place] for place in range(len(test))]
    images = torch.stack([item["image"] for item in items if item["image"] is not None])
    targets = torch.tensor(test.labels)
    with torch.inference_mode():
        right = (model(images).argmax(1) == targets).sum()
    about = {
        "model": source.model,
        "image_size": source.image_size,
        "blocks": len(model.blocks),
        "width": model.embed_dim,
        "classes": len(head.classes),
        "probe_accuracy_held_out": accuracy,
        "images": test.sample_ids,
        "predicted_right": int(right),
    }
    return Subject(model, images, targets, about)


def untrained(source: Source, n_classes: int) -> VisionTransformer:
    """The same architecture with timm's own initial weights, always the same."""
    torch.manual_seed(0)
    made: Any = timm.create_model(source.model, num_classes=n_classes, img_size=source.image_size)
    return made.eval().requires_grad_(False)


def _probe(source: Source, model: torch.nn.Module) -> tuple[LinearHead, float]:
    """A linear probe and its accuracy on held-out photographs of `train/`, from the cache where it is there."""
    train = Path(source.data) / "train"
    file = platformdirs.user_cache_path("neuron-path") / "probes" / f"{_digest(source, train)}.safetensors"
    notes = file.with_suffix(".json")
    if not notes.exists():
        from neuron_path.config import ImageFolderConfig, LinearProbeConfig
        from neuron_path.pipeline.head import fit_probe  # with Lightning, which nothing else here needs

        console.print("Fitting a linear probe, half a minute or so, once for these files.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of progress bars and threads
            options, data = LinearProbeConfig(root=str(train)), ImageFolderConfig(root=str(train))
            fitted = fit_probe(options, data, model, {}, torch.device("cpu"))
        write_bytes(file, head_bytes(fitted.head))
        write_bytes(notes, json.dumps({"accuracy": fitted.record["accuracy_held_out"]}).encode())
    return neuron_path.load_head(file), json.loads(notes.read_bytes())["accuracy"]


def _digest(source: Source, train: Path) -> str:
    """Of all that a probe depends on: the weights, the size of the images, and the photographs' names and sizes."""
    found = hashlib.sha256(f"{source.model} {source.image_size}".encode())
    found.update(hashlib.sha256(Path(source.checkpoint).read_bytes()).digest())
    for file in sorted(train.rglob("*")):
        if file.is_file():
            found.update(f"{file.relative_to(train)} {file.stat().st_size}\n".encode())
    return found.hexdigest()[:16]
