"""Evaluation: what editing a path does to a prediction, with the uncertainty of the answer.

- ``measures``    per-image effects of an intervention
- ``statistics``  means with bootstrap intervals over images
- ``summary``     the table of a run: one row per method and operation

It reads what the store holds and never runs a model, so nothing here imports torch.
"""
