"""What rates neurons, as classes whose fields are options.

>>> import neuron_path
>>> neuron_path.scorers.Ablation(shortlist=8).name
'ablation'

Each can be given to `neuron_path.find_paths` as `scorer=`; docs/measures.md defines them. Another one is a file:
docs/how-to/add-a-scorer.md.
"""

from neuron_path.attribution.scorers.ablation import Ablation
from neuron_path.attribution.scorers.activation import Activation
from neuron_path.attribution.scorers.activation_matched_random import ActivationMatchedRandom
from neuron_path.attribution.scorers.complete_attribution import CompleteAttribution
from neuron_path.attribution.scorers.conductance import Conductance
from neuron_path.attribution.scorers.gradient_x_activation import GradientXActivation
from neuron_path.attribution.scorers.guided_influence_pattern import GuidedInfluencePattern
from neuron_path.attribution.scorers.influence_pattern import InfluencePattern
from neuron_path.attribution.scorers.integrated_gradients import IntegratedGradients
from neuron_path.attribution.scorers.joint_attribution import JointAttribution
from neuron_path.attribution.scorers.knowledge_neurons import KnowledgeNeurons
from neuron_path.attribution.scorers.random import Random

__all__ = [
    "Ablation",
    "Activation",
    "ActivationMatchedRandom",
    "CompleteAttribution",
    "Conductance",
    "GradientXActivation",
    "GuidedInfluencePattern",
    "InfluencePattern",
    "IntegratedGradients",
    "JointAttribution",
    "KnowledgeNeurons",
    "Random",
]
