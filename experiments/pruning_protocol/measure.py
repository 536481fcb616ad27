"""The paper's pruning protocol on stored runs: class paths from some images, masked evaluation on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.pipeline.pruning.study import Images, PruneStudy, open_run
from neuron_path.progress import progress_bar
from pruning_protocol.masks import class_path, draw_masks, masked_probabilities
from pruning_protocol.summary import RECORD_COLUMNS

Protocol = Literal["corrected", "paper"]


@dataclass(frozen=True)
class ProtocolSettings:
    """What is masked, and which images tell.

    Attributes:
        protocol: "corrected": selection and evaluation share no image, and a class path has k distinct neurons;
            "paper": each class's last selection image is evaluated as well, and duplicates are kept, as the authors do.
        shares: β, of the neurons off the path.
        depths: d, blocks from the first on; those that the model has not are left out, and all blocks are added.
        seeds: each splits the images and draws the masks anew.
        selection_share: of each class's images that select.
    """

    protocol: Protocol = "corrected"
    shares: Sequence[float] = (0.1, 0.3, 0.5, 1.0)
    depths: Sequence[int] = (3, 6, 9, 12)
    seeds: Sequence[int] = (0, 1, 2)
    selection_share: float = 0.5

    def __post_init__(self) -> None:
        if self.protocol not in get_args(Protocol):
            raise unknown_name("protocol", str(self.protocol), get_args(Protocol))
        if not self.seeds or any(not 0 <= share <= 1 for share in self.shares) or any(d < 1 for d in self.depths):
            raise NeuronPathError(
                f"The protocol has shares {list(self.shares)}, depths {list(self.depths)} and seeds "
                f"{list(self.seeds)}; expected 0 … 1, 1 or more, and one seed at least."
            )


def measure_protocol(run_dir: str, settings: ProtocolSettings) -> pd.DataFrame:
    """Apply the protocol to the paths of one run.

    Returns:
        The columns `pruning_protocol.summary.RECORD_COLUMNS`: a row per setting, seed and image.

    Raises:
        NeuronPathError: whatever is wrong with the run, or images without labels.
    """
    study = open_run(run_dir)
    if study.units != "ffn":
        raise NeuronPathError(f"'{run_dir}' holds paths of units={study.units}: the protocol takes units=ffn.")
    if not study.own.labelled:
        raise NeuronPathError(f"The images of '{run_dir}' have no labels, and a class's path needs them.")
    n_blocks = len(study.study.session.adapter.blocks)
    depths = sorted({depth for depth in settings.depths if depth < n_blocks} | {n_blocks})
    cells = [(n_blocks, 0.0), *((depth, share) for depth in depths for share in settings.shares if share)]
    parts = []
    with progress_bar() as bar:
        task = bar.add_task("Masked models", total=len(cells) * len(settings.seeds))
        for seed in settings.seeds:
            selection, evaluation = split_for_protocol(study, settings, seed)
            paths = class_paths(study, selection, distinct=settings.protocol == "corrected")
            for depth, share in cells:
                parts.append(_record(study, evaluation, paths, depth, share, seed))
                bar.advance(task)
    top_k = int(study.paths["top_k"].iloc[0])
    whose = {"model": study.provenance["model"], "protocol": settings.protocol, "top_k": top_k}
    return pd.concat(parts, ignore_index=True).assign(**whose).reindex(columns=list(RECORD_COLUMNS))


def split_for_protocol(study: PruneStudy, settings: ProtocolSettings, seed: int) -> tuple[Images, Images]:
    """The images that select and those that evaluate; only with the paper's protocol do they overlap."""
    selection, evaluation = study.split(settings.selection_share, seed)
    if settings.protocol == "corrected":
        return selection, evaluation
    last = {index: name for name, index in zip(selection.names, selection.classes, strict=True)}
    wanted = {*evaluation.names, *last.values()}
    return selection, study.own.take([place for place, name in enumerate(study.own.names) if name in wanted])


def class_paths(study: PruneStudy, selection: Images, *, distinct: bool) -> dict[int, Tensor]:
    """Each class's path, (L, k), from the images that select."""
    widths = [block.n_neurons for block in study.study.session.adapter.blocks]
    paths = np.stack(list(study.paths.loc[selection.names, "path"]))
    classes = np.asarray(selection.classes)
    return {int(index): class_path(paths[classes == index], widths, distinct=distinct) for index in np.unique(classes)}


def _record(
    study: PruneStudy, images: Images, paths: dict[int, Tensor], depth: int, share: float, seed: int
) -> pd.DataFrame:
    widths = [block.n_neurons for block in study.study.session.adapter.blocks]
    masks = {
        index: draw_masks(paths[index], widths, share, depth, f"class {index}, seed {seed}")
        for index in set(images.classes)
    }
    of_images = [torch.stack([masks[index][block] for index in images.classes]) for block in range(len(widths))]
    probabilities = masked_probabilities(study.study.session, images.images, of_images).numpy()
    labels = np.asarray(images.classes)
    columns = {
        "depth": depth,
        "share": share,
        "seed": seed,
        "sample_id": images.names,
        "label": labels,
        "prediction": probabilities.argmax(1),
        "probability": probabilities[np.arange(len(labels)), labels],
    }
    return pd.DataFrame(columns)
