"""The parts that can be chosen, as public classes."""

from __future__ import annotations

from dataclasses import fields

import neuron_path
from neuron_path.attribution.scorer import scorers
from neuron_path.search.search import searches


def test_every_registered_part_is_public() -> None:
    for registry, module in ((scorers, neuron_path.scorers), (searches, neuron_path.searches)):
        public = [getattr(module, name) for name in module.__all__]
        assert {part for _, part in registry} == set(public)
        for part in public:
            assert part.__doc__
            assert all(f"{option.name}" in part.__doc__ for option in fields(part)), part


def test_their_options_count() -> None:
    model, (images, labels) = neuron_path.load_model(), neuron_path.load_digits("test")
    one, other = (
        neuron_path.find_paths(model, images[:2], labels[:2], scorer=scorer, keep_candidates=True)
        for scorer in (neuron_path.scorers.Ablation(shortlist=4), "ablation")
    )
    assert one.candidate_scores is not None
    assert other.candidate_scores is not None
    assert (one.candidate_scores.isfinite().sum(2) == 4).all()
    assert not (other.candidate_scores.isfinite().sum(2) == 4).any()
    search = neuron_path.searches.Linearized(measure="effect")
    assert neuron_path.find_paths(model, images[:2], labels[:2], search=search).measure == "effect of remove"
