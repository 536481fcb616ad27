"""Table 1: the sweep of `conf/experiment/table1.yaml`, then the table. That file says the cost and what to expect."""

from __future__ import annotations

import sys

from sweep import neuron_path, sweep_and_gather

if __name__ == "__main__":
    sys.exit(sweep_and_gather("table1", sys.argv[1:], lambda folder: neuron_path("compare", folder)))
