"""One function for each figure: data in, a matplotlib `Figure` out."""

from neuron_path.report.figures.class_distribution import class_distribution_figure
from neuron_path.report.figures.class_overlap import class_overlap_figure
from neuron_path.report.figures.class_similarity import class_similarity_figure
from neuron_path.report.figures.edit_curves import edit_curves_figure
from neuron_path.report.figures.effects import effects_figure
from neuron_path.report.figures.heat_map import heat_map_figure
from neuron_path.report.figures.image_path import image_path_figure
from neuron_path.report.figures.neuron_evidence import neuron_evidence_figure
from neuron_path.report.figures.path_edges import path_edges_figure
from neuron_path.report.figures.path_flow import path_flow_figure
from neuron_path.report.figures.pruning_curve import pruning_curve_figure
from neuron_path.report.figures.usage_heat_map import usage_heat_map_figure

__all__ = [
    "class_distribution_figure",
    "class_overlap_figure",
    "class_similarity_figure",
    "edit_curves_figure",
    "effects_figure",
    "heat_map_figure",
    "image_path_figure",
    "neuron_evidence_figure",
    "path_edges_figure",
    "path_flow_figure",
    "pruning_curve_figure",
    "usage_heat_map_figure",
]
