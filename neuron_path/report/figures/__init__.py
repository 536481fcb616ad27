"""One function for each figure: data in, a matplotlib `Figure` out."""

from neuron_path.report.figures.class_distribution import class_distribution_figure
from neuron_path.report.figures.effects import effects_figure
from neuron_path.report.figures.image_path import image_path_figure

__all__ = ["class_distribution_figure", "effects_figure", "image_path_figure"]
