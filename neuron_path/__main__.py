"""`python -m neuron_path` is the console script `neuron-path`."""

from neuron_path.cli import main

main()
