"""ONNX files against the models they were made of, run by ONNX Runtime."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.preprocessing import input_size
from neuron_path.pruning.onnx import export_onnx
from tests.pruning.test_saved import make, prune

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def run(file: Path, images: torch.Tensor) -> torch.Tensor:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"images": images.numpy()})
    return torch.from_numpy(found)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2"])
def test_an_exported_model_computes_the_same(name: str, tmp_path: Path) -> None:
    small = prune(make(name)).train()
    file = export_onnx(small, tmp_path / "deep" / "model.onnx")
    assert all(module.training for module in small.modules())
    small.eval()
    for n in (1, 3):
        images = torch.randn(n, *input_size(small), generator=torch.Generator().manual_seed(n))
        with torch.no_grad():
            torch.testing.assert_close(run(file, images), small(images), rtol=1e-4, atol=1e-4)
    assert [path.name for path in file.parent.iterdir()] == ["model.onnx"]


def test_what_torch_cannot_export_is_one_clear_line(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch_embed = nn.Conv2d(3, 1, 1)
            self.pretrained_cfg = {"input_size": (3, 8, 8)}

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(NeuronPathError, match=r"This Odd cannot be exported to ONNX: .*data-dependent") as error:
        export_onnx(Odd(), tmp_path / "model.onnx")
    assert not any(sign in str(error.value) for sign in "\n\x1b")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        return None if name == "onnxscript" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(NeuronPathError, match="Exporting to ONNX needs onnxscript: pip install onnxscript"):
        export_onnx(make(), tmp_path / "model.onnx")
