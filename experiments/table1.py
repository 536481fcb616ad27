"""Table 1: the sweep of `conf/experiment/table1.yaml`, then the table. That file says the cost and what to expect.

Where models and data are the paper's, its pruning protocol follows on the paths by joint attribution, with the
published numbers beside ours.
"""

from __future__ import annotations

import sys

from neuron_path.evaluation.discovery import find_runs
from neuron_path.store.reader import read_provenance
from pruning_paper import write_protocol
from pruning_protocol.measure import ProtocolSettings
from pruning_protocol.summary import published_as
from sweep import neuron_path, sweep_and_gather


def gather(folder: str) -> int:
    """Write the table of all runs, and the protocol's of those that the paper has numbers of."""
    code = neuron_path("compare", folder)
    made = {run: read_provenance(run) for run in find_runs([folder])[0]}
    of_paper = [
        run for run, one in made.items() if one["scorer"] == "joint_attribution" and published_as(one) is not None
    ]
    return code or (write_protocol(folder, of_paper, ProtocolSettings()) if of_paper else 0)


if __name__ == "__main__":
    sys.exit(sweep_and_gather("table1", sys.argv[1:], gather))
