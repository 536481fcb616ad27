"""One file per search; `neuron_path.search.search` finds them by itself."""
