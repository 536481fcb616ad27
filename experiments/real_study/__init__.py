"""Neuron paths of a pretrained model on photographs: what `real_model.py` measures, and what it makes of it.

    subject (model, probe, photographs) → cells (what is measured, each kept in a file) → tables → claims → page

A cell is one kind of measurement of one method on one chunk of images; it is written whole or not at all, so that a
study goes on wherever it was stopped.
"""
