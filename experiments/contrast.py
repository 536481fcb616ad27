"""Does the path of a contrast move the difference of two logits more than the class's own path does?

    python experiments/contrast.py                                    the digits model: about a minute on a CPU
    python experiments/contrast.py model=vit_small_patch14_dinov2.lvd142m image_size=224 head=FILE photographs=DIR

Of the images whose predicted class y leads its runner-up c by least, relative to the largest logit, the path of
`target=contrast` (z_y − z_c) and the paths of y alone (`probability`, `logit`) are found and removed. Each time the
change of z_y − z_c is measured, and the paths are compared image by image (sign-flip permutation test).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from omegaconf import OmegaConf
from torch import Tensor

import neuron_path
from neuron_path.stats.intervals import bootstrap_mean
from neuron_path.stats.paired import paired_test
from subject import Subject, in_words

OWN = ("probability", "logit")


@dataclass
class Contrast(Subject):
    """Settings; `images` is how many of the most confused ones are taken; `measure` is what the linearised search
    maximises: joint, complete or effect."""

    images: int = 60
    measure: str = "joint"
    top_k: int = 1


def most_confused(logits: Tensor, n: int) -> Tensor:
    """Which images' predicted classes lead by least, relative to the largest logit."""
    best = logits.topk(2).values
    return ((best[:, 0] - best[:, 1]) / logits.abs().amax(1)).argsort()[:n]


def main(settings: Contrast) -> None:
    """Print the mean changes with their intervals, and the tests."""
    model, images = settings.load()
    with torch.no_grad():
        logits = torch.cat([model(part) for part in images.split(32)])
    images = images[most_confused(logits, settings.images)]
    search = neuron_path.searches.Linearized(measure=settings.measure)
    changes = {}
    for target in ("contrast", *OWN):
        found = neuron_path.find_paths(model, images, target=target, search=search, top_k=settings.top_k)
        _, before, after = neuron_path.intervene(model, images, found.paths, return_values=True, target="contrast")
        changes[target] = (after - before).double().numpy()
        told = in_words(bootstrap_mean(changes[target]))
        print(f"{target}: removing its path changes z_y − z_c by {told} logits, n = {len(images)}", flush=True)
    for target in OWN:
        test = paired_test(changes["contrast"], changes[target])
        print(f"contrast − {target}: {in_words(test.difference)}, p = {test.p:.2g}")


if __name__ == "__main__":
    given = OmegaConf.merge(OmegaConf.structured(Contrast), OmegaConf.from_cli(sys.argv[1:]))
    main(OmegaConf.to_object(given))  # type: ignore[arg-type]
