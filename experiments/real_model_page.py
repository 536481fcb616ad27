"""Write docs/real-model.md and its figures from the tables that `real_model.py` has left."""

from __future__ import annotations

import sys
from pathlib import Path

from real_study.page import write_page

ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    folder, page, *_ = [*sys.argv[1:], "", ""]
    write_page(folder or ROOT / "experiments/results/real_model", page or ROOT / "docs/real-model.md")
