"""The shapes and types that signatures promise, checked by jaxtyping and beartype from ranking to saved model.

In a process of its own: the import hook wraps every function, which hides docstrings' examples from doctest.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import tempfile

import timm
import torch
from jaxtyping import install_import_hook

with install_import_hook("neuron_path.pruning", "beartype.beartype"):
    from neuron_path.pruning import activations, allocation, competitors, ranking, saved, slicing
import neuron_path
from tests.zoo import SPECIMENS

torch.set_num_threads(1)
arguments = {"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5}
model = timm.create_model("vit_tiny_patch16_224", **arguments).eval()
images, labels = torch.randn(4, 3, 32, 32), [0, 1, 2, 3]
found = neuron_path.find_paths(model, images, labels, top_k=2)
rankings = [
    ranking.rank_neurons(found.paths, found.scores, ranking.hidden_widths(model)),
    competitors.random_ranking(model),
    competitors.magnitude_ranking(model),
    competitors.activation_ranking(model, images),
    competitors.taylor_ranking(model, images, labels),
]
means = activations.mean_activations(model, images)
for one in rankings:
    small = slicing.slice_model(model, allocation.keep_neurons(one, 0.5, "global", then=rankings[2]), means)
with tempfile.TemporaryDirectory() as folder:
    saved.save_pruned(small, folder, kwargs=arguments)
    saved.load_pruned(folder)
for name in ("hiera-plain", "vit-parallel_things", "vit-parallel_scaling_fused", "vit-swiglu"):
    specimen = SPECIMENS[name]
    model, images = specimen.make(), specimen.images(2)
    kept = allocation.keep_neurons(competitors.taylor_ranking(model, images), 0.3)
    slicing.slice_model(model, kept, activations.mean_activations(model, images))
try:
    competitors.taylor_ranking(model, images[0])
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.slow
def test_shapes_and_types_are_as_annotated() -> None:
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.strip() == "TypeCheckError"  # the checks were on
