"""Heads of patches: a class's mean logit over patches or masks of them, against a convolution spelt out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.models.heads import LinearHead, attach_head, load_head
from neuron_path.pruning.saved import load_pruned, save_pruned
from tests import oracle, zoo
from tests.command import call, run_in
from tests.pipeline.test_head import FEATURES

pytestmark = pytest.mark.filterwarnings("ignore:The weights of .* are random")
# A class token that the model's own head reads, a norm behind the pooling, registers, rotary positions, an oblong grid.
SPECIMENS = ["vit-registers", "vit-avg", "eva-rope-oblong", "eva-dinov3", "beit-oblong"]
N_CLASSES, WIDTH = 5, 16


class Segmentation(nn.Module):
    """A backbone, a 1 × 1 convolution of its grid of patches, and the mean of its logits over each mask."""

    def __init__(self, backbone: Any, head: LinearHead, masks: Tensor) -> None:
        super().__init__()
        self.backbone, self.masks = backbone, masks
        self.convolution = nn.Conv2d(WIDTH, len(head.weight), 1).double()
        with torch.no_grad():
            self.convolution.weight.copy_(head.weight[:, :, None, None])
            self.convolution.bias.copy_(head.bias)  # pyright: ignore[reportOptionalMemberAccess]

    def forward(self, images: Tensor) -> Tensor:
        found = self.backbone.forward_features(images)
        tokens = found["patches"] if isinstance(found, dict) else found
        tokens = self.backbone.fc_norm(tokens)[:, self.backbone.num_prefix_tokens :]
        z = self.convolution(tokens.mT.unflatten(2, self.masks.shape[1:]))
        return torch.cat([z[:, :, mask].mean(2) for mask in self.masks], 1)


def linear_head(n_classes: int = N_CLASSES, seed: int = 0, width: int = WIDTH) -> LinearHead:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n_classes, width, generator=generator)
    return LinearHead(weight, torch.randn(n_classes, generator=generator), of_patches=True)


def some_masks(name: str, n: int) -> Tensor:
    height, width = (size // 4 for size in zoo.SPECIMENS[name].image[1:])
    masks = torch.rand(n, height, width, generator=torch.Generator().manual_seed(3)) < 0.5
    masks[:, 0, 1] = True
    return masks


def both(name: str, masks: Tensor | None, head: LinearHead) -> tuple[Any, Segmentation]:
    """The package's model and the literal one."""
    specimen = zoo.SPECIMENS[name]
    every = torch.ones_like(some_masks(name, 1)) if masks is None else masks
    model, backbone = (specimen.make().eval().requires_grad_(False) for _ in range(2))
    return attach_head(model, head, masks), Segmentation(backbone, head, every)


@pytest.mark.parametrize("n_masks", [0, 3])
@pytest.mark.parametrize("name", SPECIMENS)
def test_paths_drive_the_mean_logit_over_a_mask(name: str, n_masks: int) -> None:
    masks = some_masks(name, n_masks) if n_masks else None
    model, literal = both(name, masks, linear_head())
    images = zoo.SPECIMENS[name].images(3)
    torch.testing.assert_close(model(images), literal(images), rtol=0, atol=1e-9)
    classes = torch.tensor([3, 0, 4])
    targets = classes if masks is None else torch.arange(3) * N_CLASSES + classes  # each image's own mask
    nodes, weights = (torch.from_numpy(x) for x in neuron_path.Quadrature("gauss_legendre", 4).nodes())
    tokens = slice(literal.backbone.num_prefix_tokens, None)
    setting = oracle.Setting(literal, tokens, nodes, weights, target_function="logit")
    options: dict[str, Any] = {"target": "logit", "n_steps": 4}
    found = neuron_path.find_paths(model, images, targets, keep_candidates=True, **options)
    assert found.candidate_scores is not None
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        path, candidates = oracle.greedy_path(setting, image, target)
        assert found.paths[row].tolist() == [neuron for (neuron,) in path]
        torch.testing.assert_close(found.candidate_scores[row], candidates, rtol=1e-9, atol=1e-12)
        score = oracle.joint_score(setting, image, target, path)
        torch.testing.assert_close(found.scores[row], score, rtol=1e-9, atol=1e-12)
        # By the class token's neurons too, which the patches read through attention alone.
        other = replace(setting, tokens=slice(0, 1))
        complete, _ = oracle.complete_score(other, image, target, path)
        ours = neuron_path.score_paths(
            model,
            image[None],
            target,
            found.paths[row : row + 1],
            measure="complete",
            token_scope="cls",
            **options,
        )
        torch.testing.assert_close(ours, complete[None], rtol=1e-9, atol=1e-12)
    removed, before, after = neuron_path.intervene(
        model, images, found.paths, return_values=True, targets=targets, target="logit"
    )
    for row, image in enumerate(images):
        path = [[int(neuron)] for neuron in found.paths[row]]
        logits = oracle.intervened(setting, image, path, 0.0)
        torch.testing.assert_close(removed[row], logits, rtol=0, atol=1e-9)
        torch.testing.assert_close(after[row], logits[targets[row]], rtol=0, atol=1e-9)
        torch.testing.assert_close(before[row], literal(image[None])[0, targets[row]], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["vit-map_cls", "relpos-shared", "relpos-bias", "naflex-map", "naflex-cls"])
def test_whatever_pools_the_tokens_gives_way(name: str) -> None:
    masks = some_masks(name, 2)
    model, literal = both(name, masks, linear_head())
    images = zoo.SPECIMENS[name].images(2)
    torch.testing.assert_close(model(images), literal(images), rtol=0, atol=1e-9)
    found = neuron_path.find_paths(model, images, 7, target="logit", search="linearized")
    _, before, _ = neuron_path.intervene(model, images, found.paths, return_values=True, targets=7, target="logit")
    torch.testing.assert_close(before, literal(images)[:, 7], rtol=0, atol=1e-9)


def test_the_other_functions_in_python_take_it() -> None:
    masks = some_masks("vit-registers", 1)
    model, literal = both("vit-registers", masks, linear_head())
    images = zoo.SPECIMENS["vit-registers"].images(2)
    paths = neuron_path.find_paths(model, images, 2, target="logit", units="heads").paths
    assert paths.shape == (2, 3)
    paths = neuron_path.find_paths(model, images, 2, target="logit").paths
    heat = neuron_path.heat_map(model, images, paths, 2, target="logit")
    setting = oracle.Setting(literal, slice(3, None), torch.zeros(1), torch.ones(1))
    for row, image in enumerate(images):
        path = [[int(neuron)] for neuron in paths[row]]
        fall = literal(image[None])[0, 2] - oracle.intervened(setting, image, path, 0.0)[2]
        assert heat.effects is not None
        torch.testing.assert_close(heat.effects[row], fall, rtol=0, atol=1e-9)


def test_classes_are_not_compared_across_masks() -> None:
    model, _ = both("vit-cls", some_masks("vit-cls", 2), linear_head())
    images = zoo.SPECIMENS["vit-cls"].images(1)
    for target in ("probability", "margin", "contrast"):
        with pytest.raises(NeuronPathError, match=f"reads 2 masks, and the target '{target}' would .*: use 'logit'"):
            neuron_path.find_paths(model, images, 3, target=target)
    model, literal = both("vit-cls", some_masks("vit-cls", 1), linear_head())
    found = neuron_path.find_paths(model, images, 3, search="linearized")
    torch.testing.assert_close(found.target_probabilities, literal(images).softmax(1)[:, 3], rtol=1e-9, atol=0)


def test_weights_of_patches_are_a_weighted_mean() -> None:
    name = "beit-oblong"
    shares = torch.rand(2, *some_masks(name, 1).shape[1:], generator=torch.Generator().manual_seed(1))
    model, _ = both(name, shares, linear_head())
    each = torch.eye(shares[0].numel()).view(-1, *shares.shape[1:]).bool()
    _, literal = both(name, each, linear_head())
    images = zoo.SPECIMENS[name].images(2)
    of_patches = literal(images).unflatten(1, (-1, N_CLASSES))
    expected = torch.einsum("kp,npc->nkc", shares.double().flatten(1), of_patches)
    expected /= shares.double().sum((1, 2))[:, None]
    torch.testing.assert_close(model(images), expected.flatten(1), rtol=0, atol=1e-9)


def test_another_head_of_patches_takes_the_place_of_the_first() -> None:
    name, images = "vit-registers", zoo.SPECIMENS["vit-registers"].images(2)
    model, _ = both(name, some_masks(name, 3), linear_head())
    head = linear_head(1, seed=7)  # foreground alone
    expected = both(name, some_masks(name, 2), head)[1](images)
    assert torch.equal(attach_head(model, head)(images), attach_head(model, head, some_masks(name, 1) | True)(images))
    found = attach_head(model, head, some_masks(name, 2))(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert neuron_path.find_paths(model, images, [0, 1], target="sigmoid").targets.tolist() == [0, 1]


@pytest.mark.parametrize("n_masks", [0, 2])
def test_a_saved_model_keeps_its_head(n_masks: int, tmp_path: Path) -> None:
    masks = (torch.eye(2)[:, None].expand(-1, 2, -1) > 0)[:n_masks] if n_masks else None
    model: Any = timm.create_model("test_vit", img_size=32, num_classes=0).eval().requires_grad_(False)
    attach_head(model, linear_head(width=64), masks)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    save_pruned(model, tmp_path, name="test_vit", kwargs={"img_size": 32})
    torch.testing.assert_close(load_pruned(tmp_path)(images), model(images))


def test_a_file_of_a_convolution_is_a_head_of_patches(tmp_path: Path) -> None:
    head = linear_head()
    save_file({"weight": head.weight[:, :, None, None].contiguous(), "bias": head.bias}, tmp_path / "a.safetensors")
    found = load_head(tmp_path / "a.safetensors")
    assert found.of_patches
    assert torch.equal(found.weight, head.weight)
    save_file({"weight": head.weight, "bias": head.bias}, tmp_path / "b.safetensors")
    assert not load_head(tmp_path / "b.safetensors").of_patches
    assert load_head(tmp_path / "b.safetensors", of_patches=True).of_patches
    assert load_head(neuron_path.save_head(head, tmp_path / "c.safetensors")).of_patches
    tensors = {"head.conv_seg.weight": head.weight[:, :, None, None].contiguous(), "head.bn.running_mean": head.bias}
    save_file(tensors, tmp_path / "d.safetensors")
    with pytest.raises(NeuronPathError, match=r"has a norm beside the layer, 'head\.bn\.running_mean', .* fold it"):
        load_head(tmp_path / "d.safetensors", key="head.conv_seg")


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (torch.ones(2, 2), r"masks have shape \(2, 2\); expected \(masks, rows, columns\) .* is mask\[None\]"),
        (torch.ones(0, 2, 2), r"masks have shape \(0, 2, 2\)"),
        (torch.tensor([[[1.0, 0], [0, 0]], [[0, 0], [0, 0]]]), "Mask 1 holds no patch: leave it out"),
        (-torch.ones(1, 2, 2), "numbers below 0"),
        (torch.ones(1, 2, 2) * torch.nan, "NaN"),
        (torch.ones(1, 3, 2), "The masks have 6 patches, but this model cuts an image into 4"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks: Tensor, message: str) -> None:
    model: Any = zoo.SPECIMENS["vit-cls"].make()
    with pytest.raises(NeuronPathError, match=message):
        neuron_path.find_paths(attach_head(model, linear_head(), masks), zoo.SPECIMENS["vit-cls"].images(1))


def test_what_no_head_of_patches_fits_is_refused() -> None:
    model: Any = zoo.SPECIMENS["vit-cls"].make()
    with pytest.raises(NeuronPathError, match=r"masks are for a head that reads patches: .*replace\(head, of_patches"):
        attach_head(model, replace(linear_head(), of_patches=False), torch.ones(1, 2, 2))
    with pytest.raises(NeuronPathError, match="leave out cosine and of_output"):
        attach_head(model, replace(linear_head(), cosine=True))
    with pytest.raises(NeuronPathError, match="reads 12 features, but the model gives 16"):
        attach_head(model, linear_head(width=12))
    for other in (zoo.SPECIMENS["xcit-cls"].make(), nn.Linear(3, 3)):
        with pytest.raises(NeuronPathError, match="put both into a module of your own"):
            attach_head(other, linear_head())


def test_a_module_of_ones_own_does_the_same_for_another_library() -> None:
    """As docs/measures.md has it."""
    config = transformers.Dinov2Config(
        image_size=28, patch_size=14, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2
    )
    torch.manual_seed(0)
    backbone = transformers.Dinov2Model(config).double().eval().requires_grad_(False)
    head, mask = linear_head(), torch.tensor([True, False, True, True])

    class Segmenter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = backbone, nn.Linear(WIDTH, N_CLASSES).double()
            self.head.load_state_dict({"weight": head.weight, "bias": head.bias})

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.backbone(images).last_hidden_state[:, 1:]).softmax(2)[:, mask].mean(1)

    model, images = Segmenter(), torch.randn(2, 3, 28, 28, dtype=torch.float64)
    found = neuron_path.find_paths(model, images, [1, 3], target="logit")
    _, before, after = neuron_path.intervene(
        model, images, found.paths, return_values=True, targets=[1, 3], target="logit"
    )
    torch.testing.assert_close(before, model(images)[[0, 1], [1, 3]])
    assert (after != before).all()


def test_a_run_takes_it_from_end_to_end(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
    head = linear_head(width=64)
    save_file({"weight": head.weight, "bias": head.bias}, tmp_path / "head.safetensors")
    chosen = [
        *FEATURES,
        "data=image_folder",
        f"data.root={root}",
        "head=file",
        f"head.path={tmp_path / 'head.safetensors'}",
        "head.of_patches=true",
        "target=logit",
        "target_class=2",
        "baselines=[]",
    ]
    outcome = run_in(tmp_path / "run", "run", *chosen)
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads((outcome.run_dir / "run.json").read_text())["token_scope"] == "patch"
    paths = neuron_path.load_paths(outcome.run_dir)
    assert list(paths["target"]) == [2, 2]
    assert (outcome.run_dir / "report.html").exists()
    assert call("verify", str(outcome.run_dir))[0] == 0
    assert call("evaluate", f"run_dir={outcome.run_dir}")[0] == 0
