"""One file per model family; `neuron_path.models.adapter` finds them by itself."""
