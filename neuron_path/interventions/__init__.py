"""Interventions: other activations for a path's neurons, and what the live network makes of them.

- ``operations``  what the neurons become: scaled, their mean, another image's; or all others silenced
- ``edited``      the live network with an operation at work
- ``means``       mean activations over a reference split
- ``donors``      whose activations replace whose
"""
