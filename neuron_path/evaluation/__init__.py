"""Evaluation: what editing a path does to a prediction, with the uncertainty of the answer.

- ``measures``    per-image effects of an intervention, and areas under curves
- ``quantity``    what a run has attributed, and its unit
- ``summary``     the table of a run: one row per method and operation

and, over many runs,

- ``discovery``   run directories below a folder, also those without results
- ``methods``     a run's methods as per-image values
- ``agreement``   what runs must have in common
- ``columns``     what is compared, and which direction is better
- ``contrasts``   means, tests and the best method of one model
- ``comparison``  all of it: ``compare``

It reads what the store holds and never runs a model, so nothing here imports torch.
"""
