"""The model with its probe, and the photographs in chunks that hold every class alike."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

import neuron_path
from neuron_path.attribution.forward import clean_pass
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.data.folder import ImageFolderDataset
from neuron_path.errors import NeuronPathError
from neuron_path.interventions.donors import donors_of
from neuron_path.interventions.means import MeanActivations
from neuron_path.interventions.operations import MeanAblation
from neuron_path.models.heads import head_bytes
from neuron_path.models.preprocessing import image_transform
from neuron_path.models.session import Session
from neuron_path.store.atomic import write_bytes
from neuron_path.store.provenance import weight_hash
from real_study.store import Arrays, Cell, Store

ONE_NODE: Final = Quadrature("midpoint", 1)  # where nothing is integrated


@dataclass(frozen=True)
class Source:
    """Where model and photographs come from.

    Attributes:
        model: a name of timm's.
        checkpoint: a file of its weights; None: timm's own, from its hub.
        image_size: height and width; None: the model's own.
        train: class folders that the probe is fitted on, and that mean ablation takes its means of.
        test: class folders of the photographs under study.
        references: photographs of `train` that the means are taken of, spread over the classes.
        chunk: photographs of a cell.
        seed: of whatever is drawn.
        n_steps: quadrature nodes of the searches.
    """

    model: str
    checkpoint: str | None
    image_size: int | None
    train: str
    test: str
    references: int
    chunk: int
    seed: int
    n_steps: int


class Photographs:
    """Some photographs, prepared for the model.

    Attributes:
        places: (n,) in the order of the study.
        names, labels: of each.
        images: (n, c, H, W).
    """

    def __init__(self, data: ImageFolderDataset, places: Sequence[int], at: Sequence[int]) -> None:
        self.places = list(at)
        items = [data[place] for place in places]
        self.names = [item["sample_id"] for item in items]
        pixels = [item["image"] for item in items if item["image"] is not None]
        if len(pixels) < len(items):
            broken = next(item for item in items if item["image"] is None)
            raise NeuronPathError(f"'{broken['sample_id']}' cannot be read: {broken['problem']}. Leave it out.")
        self.images = torch.stack(pixels)
        self.labels = torch.tensor([item["label"] for item in items])

    def __len__(self) -> int:
        return len(self.names)


class Subject:
    """What is studied.

    Args:
        source: of model and photographs.
        store: keeps the probe and the means.

    Raises:
        NeuronPathError: a model or folder that is not there, folders of other classes, or a store of another study.
    """

    def __init__(self, source: Source, store: Store) -> None:
        options: dict[str, Any] = {} if source.image_size is None else {"img_size": source.image_size}
        model: Any = neuron_path.load_model(
            source.model,
            checkpoint=source.checkpoint,
            pretrained=source.checkpoint is None,
            num_classes=0,
            **options,
        )
        self.source, self.store = source, store
        transform, self.preprocessing = image_transform(model)
        self.data = ImageFolderDataset(source.test, transform, preprocessing=self.preprocessing)
        self.train = ImageFolderDataset(source.train, transform, preprocessing=self.preprocessing)
        if self.data.classes != self.train.classes:
            raise NeuronPathError(
                f"'{source.train}' and '{source.test}' have other class folders; expected the same in both."
            )
        self.order = in_rounds([int(label or 0) for label in self.data.labels])
        self.probe_accuracy = self._attach_probe(model)
        self.session = Session(model)
        self.identity = {
            "model": source.model,
            "weights": weight_hash((name, value.numpy()) for name, value in model.state_dict().items()),
            "image_size": list(self.preprocessing["input_size"]),
            "classes": self.data.classes,
            "images": [self.data.sample_ids[place] for place in self.order],
            "chunk": source.chunk,
            "seed": source.seed,
            "n_steps": source.n_steps,
            "references": min(source.references, len(self.train)),
            "n_train": len(self.train),
            "probe_accuracy": self.probe_accuracy,
            "n_blocks": len(self.session.adapter.blocks),
            "n_neurons": self.session.adapter.blocks[0].n_neurons,
            "scope": self.session.adapter.scope.name,
        }
        store.claim(self.identity)

    def _attach_probe(self, model: Any) -> float:
        """Put the probe on the model, fitted where that was not done; returns its accuracy on held-out photographs."""
        from neuron_path.config import ImageFolderConfig, LinearProbeConfig
        from neuron_path.pipeline.head import fit_probe

        file = self.store.folder / "probe.safetensors"
        notes = Cell("probe", "", 0, 0)
        if not (file.exists() and self.store.has(notes)):
            root = str(self.source.train)
            fitted = fit_probe(
                LinearProbeConfig(root=root), ImageFolderConfig(root=root), model, {}, torch.device("cpu")
            )
            write_bytes(file, head_bytes(fitted.head))
            self.store.put(notes, lambda: {"accuracy": np.array(fitted.record["accuracy_held_out"])})
        neuron_path.attach_head(model, neuron_path.load_head(file))
        return float(self.store.read(notes)["accuracy"])

    def labels(self, index: int) -> list[int]:
        """The classes of the photographs of a chunk."""
        places = self.order[index * self.source.chunk : (index + 1) * self.source.chunk]
        return [int(self.data.labels[place] or 0) for place in places]

    def chunk(self, index: int) -> Photographs:
        """The photographs of a chunk."""
        at = range(len(self.order))[index * self.source.chunk : (index + 1) * self.source.chunk]
        return Photographs(self.data, [self.order[place] for place in at], at)

    def donors(self, chunk: Photographs) -> Tensor:
        """For each photograph of a chunk another one, drawn from all."""
        lent = donors_of(self.data.sample_ids, self.source.seed)
        places = {name: place for place, name in enumerate(self.data.sample_ids)}
        return Photographs(self.data, [places[lent[name]] for name in chunk.names], chunk.places).images

    @cached_property
    def means(self) -> MeanAblation:
        """Mean activations over photographs of `train`."""

        def compute() -> Arrays:
            places = in_rounds([int(label or 0) for label in self.train.labels])[: self.source.references]
            activations = MeanActivations(self.session)
            for part in (places[start : start + 8] for start in range(0, len(places), 8)):
                activations.update(Photographs(self.train, part, part).images)
            means = activations.operation().means
            return {f"{index}_{side}": pair[side].numpy() for index, pair in enumerate(means) for side in (0, 1)}

        found = self.store.put(Cell("means", "", 0, 0), compute)
        blocks = range(len(self.session.adapter.blocks))
        return MeanAblation(
            [(torch.from_numpy(found[f"{index}_0"]), torch.from_numpy(found[f"{index}_1"])) for index in blocks]
        )

    def changed(self, name: str, photographs: Photographs) -> Tensor:
        """The photographs' pixels, changed."""
        generator = torch.Generator().manual_seed(self.source.seed + photographs.places[0])
        return CHANGES[name](photographs.images, generator, self.preprocessing)


class Part:
    """A few images with their clean pass, whose edits cost one forward pass each; use it within `session.active()`.

    Attributes:
        problem: the images.
        donated: per block the donors' activations in scope (b, S, F); empty without donors.
    """

    def __init__(self, session: Session, images: Tensor, targets: Tensor, donors: Tensor | None = None) -> None:
        adapter = session.adapter
        self.problem = Problem.pose(adapter, session.images(images), targets, ONE_NODE, len(images), nudged=False)
        self.donated = [] if donors is None else clean_pass(adapter, session.images(donors)).activations


def in_rounds(labels: Sequence[int]) -> list[int]:
    """Places in an order that takes one of each class in turn, so that its first ones hold all classes alike.

    >>> in_rounds([0, 0, 0, 1, 1])
    [0, 3, 1, 4, 2]
    """
    seen: dict[int, int] = {}
    turns = []
    for place, label in enumerate(labels):
        seen[label] = seen.get(label, -1) + 1
        turns.append((seen[label], label, place))
    return [place for *_, place in sorted(turns)]


def _flip(images: Float[Tensor, "n c H W"], *_: Any) -> Float[Tensor, "n c H W"]:
    return images.flip(3)


def _crop(images: Float[Tensor, "n c H W"], *_: Any) -> Float[Tensor, "n c H W"]:
    height, width = images.shape[2:]
    part = images[..., : round(0.9 * height), : round(0.9 * width)]
    return interpolate(part, size=(height, width), mode="bilinear", align_corners=False, antialias=True)


def _noise(images: Float[Tensor, "n c H W"], generator: torch.Generator, _: Any) -> Float[Tensor, "n c H W"]:
    return images + 0.05 * images.std() * torch.randn(images.shape, generator=generator)


def _jpeg(
    images: Float[Tensor, "n c H W"], _: torch.Generator, preprocessing: dict[str, Any]
) -> Float[Tensor, "n c H W"]:
    mean, std = (torch.tensor(preprocessing[name]).view(-1, 1, 1) for name in ("mean", "std"))
    again = []
    for image in images:
        pixels = ((image * std + mean).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=50)
        decoded = torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)
        again.append((decoded.float() / 255 - mean) / std)
    return torch.stack(again)


CHANGES: Final[dict[str, Callable[[Tensor, torch.Generator, dict[str, Any]], Tensor]]] = {
    "flip": _flip,
    "crop": _crop,
    "jpeg": _jpeg,
    "noise": _noise,
}
"""`flip`: left for right; `crop`: without a tenth at the right and at the bottom, enlarged again; `jpeg`: quality 50;
`noise`: of 5 % of the pixels' standard deviation."""


def complement(paths: Int[Tensor, "n L k"], n_neurons: int) -> Int[Tensor, "n L _r"]:
    """The other neurons of each block.

    >>> complement(torch.tensor([[[1, 0]]]), 4).tolist()
    [[[2, 3]]]
    """
    kept = torch.zeros(*paths.shape[:2], n_neurons, dtype=torch.bool).scatter(2, paths, True)
    return kept.long().argsort(dim=2, stable=True)[..., : n_neurons - paths.shape[2]].sort(dim=2).values
