"""Which cells a study has, in the order of their worth: every kind for the first photographs, then for the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from neuron_path.errors import NeuronPathError, unknown_name
from real_study.evidence import SEARCH, evidence_cell
from real_study.methods import METHODS, PAPER, method
from real_study.store import Cell
from real_study.subject import CHANGES

PARTS: Final = ("table", "circuits", "nulls", "transfer", "changes", "minimality", "truth", "evidence", "rules")
FIRST: Final = (PAPER, "effect_remove", "linearized_joint", "gradient_x_activation", "activation")
"""Methods that the dearer parts take."""
RANKINGS: Final = (PAPER, "gradient_x_activation", "integrated_gradients", "activation", "influence_pattern", "random")
REASONS: Final = {"activation", "gradient_x_activation"}  # whose ratings say what the others' paths are made of
RULES: Final = {"riemann_left": 20, "gauss_legendre": 16}
TRUTH_SAMPLE: Final = 2


@dataclass(frozen=True)
class Scope:
    """What is wanted.

    Attributes:
        chunks: how many chunks of photographs.
        dear_chunks: how many of these by methods that search anew for each k with the greedy search, and k above 1.
        sizes: neurons a block.
        methods: by their names.
        parts: kinds of measurement, of `PARTS`.
    """

    chunks: int
    dear_chunks: int
    sizes: Sequence[int]
    methods: Sequence[str]
    parts: Sequence[str]

    def __post_init__(self) -> None:
        for name in self.methods:
            method(name)
        for part in self.parts:
            if part not in PARTS:
                raise unknown_name("part of this study", part, PARTS)
        if "transfer" in self.parts and "table" not in self.parts:
            raise NeuronPathError("The part 'transfer' takes the paths of 'table': name both in parts.")

    def cells(self) -> Iterator[Cell]:
        """All, the first ones first."""
        for chunk in range(self.chunks):
            yield Cell("clean", "", 0, chunk)
            sizes = sorted(self.sizes)
            for part in ("table", "circuits", "nulls", "transfer"):
                yield from self._of(part, chunk, sizes[:1])
            for part in ("table", "nulls", "transfer"):
                yield from self._of(part, chunk, sizes[1:], dear=False)
            for part in ("changes", "minimality", "truth"):
                yield from self._of(part, chunk, sizes)
            if chunk < self.dear_chunks:
                yield from self._of("table", chunk, sizes[1:])
            yield from self._of("rules", chunk, sizes)
        if "evidence" in self.parts and SEARCH in self.methods and 1 in self.sizes:
            yield evidence_cell(self.chunks - 1)

    def _of(self, part: str, chunk: int, sizes: Sequence[int], *, dear: bool = True) -> list[Cell]:
        """The cells of a part; without `dear` only those that are cheap at any size."""
        if part not in self.parts:
            return []
        methods = [name for name in self.methods if dear or not is_dear(name)]
        has_reasons = set(self.methods) >= REASONS
        first, is_first_wave = [name for name in FIRST if name in methods], chunk < self.dear_chunks
        cells = {
            "table": lambda: [
                *(Cell(kind, name, k, chunk) for k in sizes for name in methods for kind in ("paths", "effects")),
                *(Cell("reasons", name, 1, chunk) for name in methods if 1 in sizes and has_reasons),
            ],
            "circuits": lambda: [Cell("circuits", name, 0, chunk) for name in RANKINGS if name in methods],
            "nulls": lambda: [Cell("nulls", "", k, chunk) for k in sizes],
            "transfer": lambda: [Cell("transfer", name, k, chunk) for k in sizes for name in first if chunk],
            "changes": lambda: [
                Cell("changed", f"{name}.{change}", 1, chunk)
                for name in first
                for change in CHANGES
                if is_first_wave and not is_dear(name)
            ],
            "minimality": lambda: [Cell("minimality", name, 1, chunk) for name in first[:3] if is_first_wave],
            "truth": lambda: [
                Cell(kind, name, TRUTH_SAMPLE, chunk)
                for kind, name in [("truth", ""), *(("rated", name) for name in RANKINGS if name in methods)]
                if is_first_wave
            ],
            "rules": lambda: [
                Cell("rules", rule, nodes, chunk) for rule, nodes in RULES.items() if PAPER in methods and not chunk
            ],
        }
        return cells[part]()


def is_dear(name: str) -> bool:
    """Whether a method searches block by block anew for each size."""
    own = METHODS[name]
    return own.search == "greedy" and not own.is_ranking
