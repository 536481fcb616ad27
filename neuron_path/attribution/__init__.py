"""The maths of neuron attribution: pure functions and small states on tensors."""
