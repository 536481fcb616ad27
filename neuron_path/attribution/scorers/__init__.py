"""One file per scorer; `neuron_path.attribution.scorer` finds them by itself."""
