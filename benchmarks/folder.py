"""A folder of pictures through ViT-Tiny at 224 pixels: the linearised search against plain loops over the same ones.

    python -m benchmarks.folder                   # 1,000 pictures, 25 minutes on 2 cores
    python -m benchmarks.folder --images 10000

The command `neuron-path search search=linearized` on a folder of JPEGs, from its start to the stored paths; and loops
that do no more than decode the same pictures by the same data loader and take so many forward and backward passes of
each, the gradient of the target's probability by the picture. One takes as many as the search spent on looking for the
path; the other as many as it took in all, with the clean pass, the copy that tells its rounding and the final scores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.harness import Table, positive, ratios, record, rounds_of, show, spread
from neuron_path.data.folder import ImageFolderDataset
from neuron_path.models.preprocessing import image_transform
from neuron_path.store.reader import load_paths

IMAGES, CLASSES, BATCH, WORKERS = 1000, 10, 64, 2
MODEL = "vit_tiny_patch16_224"
SETTINGS = (
    "model=timm", f"model.name={MODEL}", "data=image_folder", f"data.batch_size={BATCH}", f"data.num_workers={WORKERS}",
    "search=linearized", "logger=none", "target_class=prediction",
)  # fmt: skip


def make_pictures(folder: Path, n: int) -> None:
    """Coloured clouds as JPEGs, 320 × 240, in class folders."""
    rng = np.random.default_rng(0)
    for index in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        file = folder / str(index % CLASSES) / f"{index:05d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((320, 240), Image.Resampling.BICUBIC).save(file, quality=90)


def search(pictures: Path, run_dir: Path) -> float:
    """Seconds of the whole command."""
    given = [f"hydra.run.dir={run_dir}", f"data.root={pictures}", *SETTINGS]
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "neuron_path", "search", *given], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def passes_of(run_dir: Path) -> dict[str, float]:
    """How many forward and backward passes a picture took in the mean: on the way alone, and in all."""
    paths = load_paths(run_dir)
    way, nodes = (float(paths[name].to_numpy().mean()) for name in ("passes", "n_steps"))
    # The clean pass and its nudged copy; the nodes of the final score, of which the way has left one; and the forward
    # pass of the path at 0, which tells that score's convergence delta.
    return {"way": way, "all": way + 2 + (nodes - 1) + 0.5}


def plain_loop(pictures: Path, passes: float) -> float:
    """Seconds of the loop, with so many passes of a picture in the mean."""
    model = timm.create_model(MODEL).eval().requires_grad_(False)
    transform, preprocessing = image_transform(model)
    data: Any = ImageFolderDataset(str(pictures), transform, preprocessing=preprocessing)
    loader = DataLoader(data, BATCH, num_workers=WORKERS, collate_fn=lambda items: [item["image"] for item in items])
    began = time.perf_counter()
    for batch in loader:
        images = torch.stack(batch)
        whole, rest = divmod(round(passes * len(images)), len(images))
        for part in [images] * whole + [images[:rest]] * (rest > 0):
            _gradient(model, part)
    return time.perf_counter() - began


def _gradient(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    images = images.clone().requires_grad_()
    probabilities = model(images).softmax(1).amax(1)
    return torch.autograd.grad(probabilities.sum(), images)[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=positive, default=IMAGES, help=f"how many pictures (default: {IMAGES})")
    parser.add_argument("--rounds", type=positive, default=2, help="interleaved rounds (default: 2)")
    options = parser.parse_args(arguments)
    seconds: dict[str, list[float]] = {"search": [], "way": [], "all": []}
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        make_pictures(pictures, options.images)
        passes: dict[str, float] = {}
        for number in range(options.rounds):
            run_dir = Path(folder) / f"run{number}"
            seconds["search"].append(search(pictures, run_dir))
            passes = passes_of(run_dir)
            for name, count in passes.items():
                seconds[name].append(plain_loop(pictures, count))
    rates = {name: spread(options.images / value for value in values) for name, values in seconds.items()}
    rows: list[tuple[str, ...]] = [(f"search of {options.images:,} pictures", "–", rates["search"].text(1), "–")]
    for name, what in (("way", "loop, as many as on the way"), ("all", "loop, as many as in all")):
        ratio = ratios(seconds["search"], seconds[name])
        rows.append((what, f"{passes[name]:.2f}", rates[name].text(1), ratio.text(2, "×")))
    columns = ("", "passes of a picture", "pictures / s", "search / this, time")
    note = f"{MODEL}, random weights, {rounds_of(options.rounds)}, {WORKERS} workers that decode."
    tables = {"folder": Table(columns, rows, note)}
    if options.images >= IMAGES:
        record("folder", {"seconds": seconds, "passes": passes, "images": options.images}, tables)
    else:
        show(tables)


if __name__ == "__main__":
    main()
