"""Figures of paths of attention heads speak of heads, those of FFN neurons of neurons."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from neuron_path.errors import NeuronPathError
from neuron_path.report import figures
from tests.report.figures import test_edit_curves as curves
from tests.report.figures.drawing import assert_apart, assert_inside, visible_texts
from tests.report.figures.test_class_similarity import draw_classes
from tests.report.figures.test_neuron_evidence import evidence
from tests.report.figures.test_usage_heat_map import draw_usage

PATHS = np.random.default_rng(0).integers(0, 3, (12, 4))
DRAWN: dict[str, Callable[[str], Figure]] = {
    "class_distribution": lambda units: figures.class_distribution_figure(
        PATHS, n_neurons=3, class_name="cat", units=units
    ),
    "path_flow": lambda units: figures.path_flow_figure(PATHS, np.arange(12) % 2, per_block=2, units=units),
    "usage_heat_map": lambda units: figures.usage_heat_map_figure(draw_usage(3, 4, 3)[1], units=units),
    "class_similarity": lambda units: figures.class_similarity_figure(*draw_classes(4), units=units),
    "edit_curves": lambda units: figures.edit_curves_figure(
        curves.effects(("activation",), ("keep_only", "remove")), units=units
    ),
    "neuron_evidence": lambda units: figures.neuron_evidence_figure(evidence(), 2, 7, units=units),
    "image_path": lambda units: figures.image_path_figure(None, PATHS[0], n_neurons=3, units=units),
    "image_path of a circuit": lambda units: figures.image_path_figure(None, [1, -1, 2], n_neurons=3, units=units),
    "path_edges": lambda units: figures.path_edges_figure(PATHS[:, 0], np.zeros((12, 12)), np.ones(12), units=units),
}


@pytest.mark.parametrize("figure", DRAWN)
def test_what_a_path_consists_of_has_its_name(figure: str) -> None:
    for units, own, others in (("heads", "heads?", "neurons?|units?"), ("ffn", "neurons?", "heads?|units?")):
        made = DRAWN[figure](units)
        texts = visible_texts(made)
        words = " ".join(text.get_text() for text in texts)
        assert re.search(rf"\b({own})\b", words, re.IGNORECASE), words
        assert not re.search(rf"\b({others})\b", words, re.IGNORECASE), words
        assert_inside(made)
        assert_apart(made, texts)
    with pytest.raises(NeuronPathError, match="choice of units"):
        DRAWN[figure]("neurons")
