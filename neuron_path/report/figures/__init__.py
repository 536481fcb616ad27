"""One function for each figure: data in, a matplotlib `Figure` out."""

from neuron_path.report.figures.class_distribution import class_distribution_figure
from neuron_path.report.figures.class_overlap import class_overlap_figure
from neuron_path.report.figures.class_similarity import class_similarity_figure
from neuron_path.report.figures.edit_curves import edit_curves_figure
from neuron_path.report.figures.effects import effects_figure
from neuron_path.report.figures.image_path import image_path_figure
from neuron_path.report.figures.neuron_evidence import neuron_evidence_figure
from neuron_path.report.figures.nodes import score_against_nodes_figure
from neuron_path.report.figures.path_flow import path_flow_figure
from neuron_path.report.figures.protocol_curve import protocol_curve_figure
from neuron_path.report.figures.pruning_curve import pruning_curve_figure
from neuron_path.report.figures.top_neuron_blocks import count_top_neurons, top_neuron_blocks_figure
from neuron_path.report.figures.usage_heat_map import usage_heat_map_figure

__all__ = [
    "class_distribution_figure",
    "class_overlap_figure",
    "class_similarity_figure",
    "count_top_neurons",
    "edit_curves_figure",
    "effects_figure",
    "image_path_figure",
    "neuron_evidence_figure",
    "path_flow_figure",
    "protocol_curve_figure",
    "pruning_curve_figure",
    "score_against_nodes_figure",
    "top_neuron_blocks_figure",
    "usage_heat_map_figure",
]
