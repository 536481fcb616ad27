"""The shapes and types that signatures promise, checked by jaxtyping and beartype while every part works once.

In a process of its own: the import hook wraps every function, which hides docstrings' examples from doctest.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from jaxtyping import install_import_hook

with install_import_hook("neuron_path", "beartype.beartype"):
    import neuron_path.api as api
from neuron_path.attribution.scorer import scorers
from neuron_path.search.searches.linearized import Linearized
from tests import tiny

for name, scope, k in (("registers", "cls", 3), ("avg", "patch", 1)):
    model, images = tiny.make(name), tiny.make_images(2)
    for scorer in scorers.names():
        result = api.find_paths(model, images, scorer=scorer, token_scope=scope, top_k=k, n_steps=2, micro_batch=3)
    for options in ({"polish": True}, {"measure": "complete"}, {"measure": "effect", "n_steps": 2}):
        search = Linearized(**options)
        api.find_paths(model, images, search=search, token_scope=scope, top_k=k, n_steps=2, micro_batch=3)
    for measure in ("joint", "complete"):
        api.score_paths(model, images, [1, 2], result.paths, token_scope=scope, n_steps=2, measure=measure)
    api.intervene(model, images, result.paths, token_scope=scope)
try:
    api.PathResult(*[images] * 7)
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.slow
def test_shapes_and_types_are_as_annotated() -> None:
    root = Path(__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.strip() == "TypeCheckError"  # the checks were on
