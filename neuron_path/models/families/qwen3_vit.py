"""timm's `Qwen3VitClassifier`: the vision encoder of Qwen3-VL."""

from __future__ import annotations

from typing import Any

from timm.models.qwen3_vit import Qwen3VitClassifier
from torch import Tensor

from neuron_path.models.adapter import Block, families
from neuron_path.models.families.deepseek_vit import DeepseekAdapter
from neuron_path.models.families.eva import cut


@families.register("qwen3_vit")
class Qwen3Adapter(DeepseekAdapter):
    """`timm.models.qwen3_vit.Qwen3VitClassifier`; the encoder's projector, if it has one, is part of the head.

    It embeds as DeepSeek's does, but has EVA's blocks, and its projector has the last norm.
    """

    kind = Qwen3VitClassifier
    special = "rotary and learned positions"

    def head(self, h: Tensor) -> Tensor:
        merger = self.model.encoder.merger
        h = h.unflatten(1, self._grid)
        return self.model.forward_head(h if merger is None else merger(h))

    def _cut(self, block: Any) -> Block:
        return cut(block, lambda: self._rope)
