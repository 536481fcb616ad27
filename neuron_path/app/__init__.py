"""The page of `neuron-path app`: one picture after another, its path, and what becomes of the prediction without it."""
