"""Structural pruning: which FFN neurons or attention heads a model can do without, and the smaller model without them.

    ranking → allocation → slicing → saved

- ``ranking``      scores from stored neuron paths: how often and how strongly a neuron lies on them
- ``competitors``  scores from weights, activations, gradients or chance, for comparison
- ``activations``  every neuron's activations at every token, block by block
- ``allocation``   from scores to the neurons that stay: the same share in each block, or by rank over all blocks
- ``slicing``      the smaller model itself
- ``layers``       where a block's neurons or heads lie in its linear layers
- ``cost``         what a model costs, and each of its neurons or heads
- ``saved``        a pruned model on disk, and back
- ``description``  what lies beside its weights
- ``onnx``         a model as an ONNX file

A *ranking* is one float64 tensor (F,) for each block, on the CPU: the higher, the more a neuron matters. Unlike an
intervention, which edits the tokens in scope, pruning takes a neuron away at every token; so all rankings that look at
activations here count all tokens too.

What is said of neurons holds for heads, with ``units="heads"``: of a head, W / F activations lie side by side.
"""
