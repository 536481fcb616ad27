"""A table of effects to draw and print."""

from __future__ import annotations

import math

import pandas as pd

COLUMNS = [
    "scorer", "search", "operation", "n",
    "probability_deviation", "probability_deviation_low", "probability_deviation_high",
    "clean_probability", "edited_probability", "clean_accuracy", "edited_accuracy",
    "accuracy_deviation", "accuracy_deviation_low", "accuracy_deviation_high", "includes_zero",
]  # fmt: skip


def effects() -> pd.DataFrame:
    """Three methods, two operations, as the evaluation summarises them."""
    rows = [
        ("joint_attribution", "greedy", "remove", 359, -0.0314, -0.0392, -0.0241, 0.95, 0.92, 98.1, 96.9,
         -1.2, -2.1, -0.4, False),
        ("activation", "greedy", "remove", 359, -0.012, -0.018, -0.006, 0.95, 0.94, 98.1, 98.1, 0.0, -0.3, 0.3, False),
        ("random", "greedy", "remove", 359, 0.0004, -0.0012, 0.0021, 0.95, 0.951, 98.1, 98.1, 0.0, 0.0, 0.0, True),
        ("joint_attribution", "greedy", "enhance", 359, 0.011, 0.009, 0.013, 0.95, 0.96, 98.1, 98.3,
         0.2, -0.1, 0.6, False),
        ("activation", "greedy", "enhance", 359, 0.00004, 0.00001, 0.00007, 0.95, 0.95, 98.1, 98.1,
         0.0, -0.2, 0.2, False),
        ("random", "greedy", "enhance", 1, 0.002, math.nan, math.nan, 0.95, 0.95, 98.1, 98.1, 0.0, math.nan, math.nan,
         True),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)
