"""The command `prune`: its settings, the run and images it works on, and the pruned models that it measures."""
