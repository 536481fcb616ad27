"""What picks paths, as classes whose fields are options.

>>> import neuron_path
>>> neuron_path.searches.Linearized(measure="effect", operation="enhance").maximises
'effect of enhance'

Each can be given to `neuron_path.find_paths` as `search=`; docs/searches.md says which to use for what. Another one is
a file: docs/how-to/add-a-search.md.
"""

from neuron_path.search.searches.exhaustive import Exhaustive
from neuron_path.search.searches.greedy import Greedy
from neuron_path.search.searches.linearized import Linearized

__all__ = [
    "Exhaustive",
    "Greedy",
    "Linearized",
]
