"""The command line: a module for each command, which reads its arguments, calls what does the work, and prints."""

from neuron_path.cli.main import main as main
