"""Which units act most on a prediction, as many of them: FFN neurons, attention heads, or the best of both?

    python experiments/units.py                                       the digits model: about a minute on a CPU
    python experiments/units.py model=vit_small_patch14_dinov2.lvd142m image_size=224 head=FILE photographs=DIR

The effect search takes the given number of units of any blocks, whose removal lowers the probability of the predicted
class most. They are removed, and the kinds of unit are compared image by image (sign-flip permutation test). A head has
many activations, an FFN neuron one: a last row has as many FFN neurons as the heads have activations.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf

import neuron_path
from neuron_path.models.session import Session
from neuron_path.stats.intervals import bootstrap_mean
from neuron_path.stats.paired import paired_test
from neuron_path.types import UnitsName
from subject import Subject, in_words


@dataclass
class Units(Subject):
    """Settings; `images` of the data are taken, evenly spread; `sizes` are the numbers of units."""

    images: int = 60
    sizes: list[int] = field(default_factory=lambda: [1, 4, 12])


def main(settings: Units) -> None:
    """Print the mean changes with their intervals, and the tests."""
    model, images = settings.load()
    images = images[:: max(1, len(images) // settings.images)][: settings.images]
    search = neuron_path.searches.Linearized(measure="effect")
    channels = Session(model, units="heads").adapter.blocks[0].channels
    kinds: dict[str, tuple[UnitsName, int]] = {
        "ffn": ("ffn", 1),
        "heads": ("heads", 1),
        "ffn+heads": ("ffn+heads", 1),
        f"ffn, {channels} for one": ("ffn", channels),
    }
    for size in settings.sizes:
        changes = {}
        for kind, (units, times) in kinds.items():
            given: dict[str, Any] = {"units": units, "top_k": size * times, "per_block": False}
            found = neuron_path.find_paths(model, images, search=search, **given)
            _, before, after = neuron_path.intervene(model, images, found.paths, units=units, return_values=True)
            changes[kind] = (100 * (after - before) / before).double().numpy()
            told = in_words(bootstrap_mean(changes[kind]), " %")
            print(f"{size} of {kind}: removal changes the probability by {told}, n = {len(images)}", flush=True)
        for other in list(kinds)[::2] + list(kinds)[3:]:
            test = paired_test(changes["heads"], changes[other])
            print(f"heads − {other}: {in_words(test.difference)} points, p = {test.p:.2g}", flush=True)


if __name__ == "__main__":
    given = OmegaConf.merge(OmegaConf.structured(Units), OmegaConf.from_cli(sys.argv[1:]))
    main(OmegaConf.to_object(given))  # type: ignore[arg-type]
