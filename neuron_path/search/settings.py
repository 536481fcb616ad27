"""How paths are searched, whatever the method."""

from __future__ import annotations

from dataclasses import dataclass

from neuron_path.attribution.arithmetic import Arithmetic
from neuron_path.attribution.quadrature import Quadrature, is_whole
from neuron_path.attribution.target import Target
from neuron_path.errors import NeuronPathError
from neuron_path.search.plan import in_bytes

_RULE, _TARGET = Quadrature(), Target()


@dataclass(frozen=True)
class SearchSettings:
    """What all methods of a run have in common.

    Attributes:
        quadrature: the rule of the integral.
        target: the function of the logits and of the target class that is attributed.
        top_k: neurons a block, or in all.
        per_block: False: the `top_k` neurons are of any blocks.
        micro_batch: most sequences, i.e. (node, image) pairs, in one pass; None suits it to the device.
        memory_budget: bytes above the loaded model, as 2e9 or "1.5GB"; None: on a GPU most of what is free, else no
            limit.
        precision: of the tails: "fp32", "tf32" or "bf16".
        compile: whether to run the tails' blocks through torch.compile.

    Raises:
        NeuronPathError: an option out of range.
    """

    quadrature: Quadrature = _RULE
    target: Target = _TARGET
    top_k: int = 1
    per_block: bool = True
    micro_batch: int | None = None
    memory_budget: float | str | None = None
    precision: str = "fp32"
    compile: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.per_block, bool):
            raise NeuronPathError(f"per_block is {self.per_block!r}; expected True or False.")
        if self.micro_batch is not None and (not is_whole(self.micro_batch) or self.micro_batch < 1):
            raise NeuronPathError(f"micro_batch is {self.micro_batch!r}; expected at least 1 sequence.")
        _ = self.budget, self.arithmetic  # checked now

    @property
    def budget(self) -> float | None:
        """The memory budget in bytes."""
        return None if self.memory_budget is None else in_bytes(self.memory_budget)

    @property
    def arithmetic(self) -> Arithmetic:
        """Of the tails."""
        return Arithmetic(self.precision, self.compile)
