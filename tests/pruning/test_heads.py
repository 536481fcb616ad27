"""Attention heads cut out of timm's models, against hooks on its own output projections, for every model of the zoo."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.pruning.activations import mean_activations
from neuron_path.pruning.allocation import Allocation, keep_neurons, keep_operations
from neuron_path.pruning.competitors import activation_ranking, magnitude_ranking, random_ranking, taylor_ranking
from neuron_path.pruning.cost import UnitCosts, count_flops, unit_costs
from neuron_path.pruning.description import DESCRIPTION_FILE
from neuron_path.pruning.ranking import hidden_widths
from neuron_path.pruning.saved import load_pruned, save_pruned
from neuron_path.pruning.slicing import slice_model
from neuron_path.pruning.torch_pruning import torch_pruning_ranking
from tests.zoo import SPECIMENS, Specimen, Timm

SHAPE: dict[str, Any] = {"img_size": 32, "num_classes": 5, "patch_size": 16, "depth": 2, "embed_dim": 24}
VIT = SHAPE | {"num_heads": 4}
NAME = "vit_tiny_patch16_224"
KEPT = [[3, 0], [1, 2, 0]]


def changed(name: str, **arguments: Any) -> Specimen:
    specimen = SPECIMENS[name]
    return replace(specimen, model=Timm(specimen.model.path, {**specimen.model.arguments, **arguments}))


CUT = {
    name: SPECIMENS[name]
    for name in (
        "vit-cls",
        "vit-registers",
        "vit-layer_scale",
        "vit-qk_norm",
        "vit-no_proj_bias",
        "vit-dropouts",
        "vit-map",
        "vit-res_post",
        "vit-glu",
        "vit-swiglu_packed",
        "deit-distilled_layer_scale",
        "eva-perception",
        "hybrid-conv_stem",
        "vitamin-avg",
        "naflex-map",
        "naflex-rope_oblong",
        "deepseek-avg",
        "qwen3-avg",
    )
} | {"apart": changed("eva-grouped_query", num_kv_heads=2)}
WHOLE = "its forward pass expects heads that together are as wide as the stream"
NOT_CUT = {
    "vit-inner_norms": r"it has a norm \(LayerNorm\) over all heads' outputs",
    "eva-rope_mixed": "its heads have rotary angles of their own",
    "naflex-rope_mixed": "its heads have rotary angles of their own",
    "eva-grouped_query": "its heads share keys and values",
    "eva-dinov3": WHOLE,
    "beit-bias": WHOLE,
    "relpos-shared": WHOLE,
    "cait-token": "use units=ffn",
}


def attentions(model: nn.Module) -> list[Any]:
    """timm's own layers of attention, block by block."""
    return [module for name, module in model.named_modules() if re.search(r"(^|\.)blocks\.\d+\.attn$", name)]


def make(**changed_arguments: Any) -> Any:
    torch.manual_seed(0)
    arguments: dict[str, Any] = VIT | changed_arguments
    model = timm.create_model(NAME, **arguments).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # timm's heads begin as zeros
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def images_of(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@contextmanager
def edited(model: nn.Module, edit: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """What each block's output projection reads, (B, T, heads, channels), replaced in timm's own forward pass."""

    def hook(index: int, attn: Any) -> Callable[[nn.Module, tuple[Tensor]], Tensor]:
        return lambda _, args: edit(index, args[0].unflatten(-1, (attn.num_heads, -1))).flatten(-2)

    with ExitStack() as stack:
        for index, attn in enumerate(attentions(model)):
            stack.callback(attn.proj.register_forward_pre_hook(hook(index, attn)).remove)
        yield


def replaced(model: nn.Module, images: Tensor, kept: Sequence[Sequence[int]], by: Sequence[Tensor] | None) -> Tensor:
    """Logits with all other heads' outputs replaced by constants, or by zeros, at every token."""

    def edit(index: int, a: Tensor) -> Tensor:
        out = a.clone()
        for head in set(range(a.shape[2])) - set(kept[index]):
            out[:, :, head] = 0.0 if by is None else by[index].view(a.shape[2], -1)[head]
        return out

    with edited(model, edit), torch.no_grad():
        return model(images)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("name", CUT)
def test_a_model_without_heads_is_the_one_in_which_they_are_silent(name: str, folded: bool) -> None:
    specimen = CUT[name]
    model, images = specimen.make(), specimen.images(2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        clean = model(images)
    kept = [[index % 2] if index != 1 else [1, 0] for index in range(len(attentions(model)))]
    generator = torch.Generator().manual_seed(5)
    means = [torch.rand(attn.proj.in_features, generator=generator, dtype=torch.float64) for attn in attentions(model)]
    by = means if folded else None
    sliced = slice_model(model, kept, by, units="heads")
    assert type(sliced) is type(model)
    assert [attn.num_heads for attn in attentions(sliced)] == [len(heads) for heads in kept]
    assert hidden_widths(sliced, units="heads") == [len(heads) for heads in kept]
    with torch.no_grad():
        found = sliced(images)
    tolerance = max(1e-9, 10 * specimen.precision * (specimen.precision > 1e-9))
    torch.testing.assert_close(found, replaced(model, images, kept, by), rtol=tolerance, atol=tolerance)
    assert (found - clean).abs().max() > 1e-4
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    found_paths = neuron_path.find_paths(sliced, images, units="heads").paths  # follows the model block by block
    assert all(int(found_paths[:, index].max()) < len(heads) for index, heads in enumerate(kept))


@pytest.mark.parametrize("name", NOT_CUT)
def test_attention_that_cannot_lose_heads_is_refused(name: str) -> None:
    model = SPECIMENS[name].make()
    with pytest.raises(NeuronPathError, match=NOT_CUT[name]) as error:
        slice_model(model, [[0]] * len(attentions(model)), units="heads")
    assert "\n" not in str(error.value)


def test_both_kinds_are_cut_in_turn() -> None:
    model, images = make(), images_of()
    neurons = [range(0, 96, 3), range(50)]
    both = slice_model(model, [KEPT[0], neurons[0], KEPT[1], neurons[1]], units="ffn+heads")
    one_by_one = slice_model(slice_model(model, neurons), KEPT, units="heads")
    with torch.no_grad():
        torch.testing.assert_close(both(images), one_by_one(images))
    assert hidden_widths(both, units="ffn+heads") == [2, 32, 3, 50]


def test_attention_that_blocks_share_is_refused() -> None:
    model = make()
    model.blocks[1].attn = model.blocks[0].attn
    with pytest.raises(NeuronPathError, match="Blocks 0 and 1 share one attention, so their heads"):
        slice_model(model, [[0], [0]], units="heads")


def test_rankings_of_heads_are_literal() -> None:
    model, images, labels = make(init_values=0.5), images_of(), torch.tensor([3, 1, 0])
    seen: list[Tensor] = []

    def keep(_: int, a: Tensor) -> Tensor:
        a.retain_grad()
        seen.append(a)
        return a

    with edited(model, keep):
        losses = nn.functional.cross_entropy(model(images), labels, reduction="sum")  # each image's own gradient
    losses.backward()
    taylor, active = (
        taylor_ranking(model, images, labels, units="heads"),
        activation_ranking(model, images, units="heads"),
    )
    means, weights = mean_activations(model, images, units="heads"), magnitude_ranking(model, units="heads")
    group = torch_pruning_ranking(model.float(), "magnitude", images.float(), units="heads")
    for index, (a, attn) in enumerate(zip(seen, attentions(model), strict=True)):
        assert a.grad is not None
        change = (a.detach() * a.grad).sum((1, 3)).abs().mean(0)
        torch.testing.assert_close(taylor[index], change, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(active[index], a.detach().square().sum(3).sqrt().mean((0, 1)), rtol=1e-9, atol=0)
        torch.testing.assert_close(means[index], a.detach().mean((0, 1)).flatten(), rtol=1e-9, atol=1e-12)
        for head in range(4):
            own, gamma = range(6 * head, 6 * head + 6), model.blocks[index].ls1.gamma
            rows = [attn.qkv.weight[part * 24 + channel] for part in range(3) for channel in own]
            columns = [gamma * attn.proj.weight[:, channel] for channel in own]
            expected = sum(float(weight.detach().square().sum()) for weight in rows + columns) ** 0.5
            assert float(weights[index][head]) == pytest.approx(expected, rel=1e-6)
        squares = attn.qkv.weight.square().sum(1).view(3, 24).mean(0) * 3 + attn.proj.weight.square().sum(0)
        order = squares.view(4, 6).mean(1).argsort()
        assert torch.equal(group[index].argsort(), order), (group[index], squares)


def test_chance_and_torch_prunings_taylor_rate_every_head() -> None:
    model, images = make().float(), images_of().float()
    for ranking in (
        random_ranking(model, 3, units="ffn+heads"),
        torch_pruning_ranking(model, "taylor", images, units="ffn+heads"),
    ):
        assert [len(scores) for scores in ranking] == [4, 96, 4, 96]
        assert all(len(set(scores.tolist())) == len(scores) for scores in ranking)


@pytest.mark.parametrize("units", ["ffn", "heads", "ffn+heads"])
def test_what_units_cost_is_counted(units: str) -> None:
    """Two operations for each multiplication: five tokens, 24 wide, six channels of a head."""
    model = make()
    head, neuron = 2 * (5 * 4 * 24 * 6 + 2 * 5 * 5 * 6), 2 * 5 * 2 * 24
    each = {"ffn": [neuron] * 2, "heads": [head] * 2, "ffn+heads": [head, neuron] * 2}[units]
    costs = unit_costs(model, units=units)
    assert (costs.total, costs.each) == (count_flops(model), each)
    kept = [range(1 + index % 2) for index in range(len(each))]
    left = count_flops(slice_model(model, kept, units=units))
    assert costs.share([len(one) for one in kept]) == pytest.approx(left / costs.total, rel=1e-9)


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize("keep", [0.5, 0.6, 0.75, 0.9, 1.0])
def test_as_many_units_stay_as_their_operations_allow(allocation: Allocation, keep: float) -> None:
    """Of all numbers of units that are kept by rank, the largest that fits."""
    generator = torch.Generator().manual_seed(1)
    widths, each = [3, 5, 4], [100.0, 30.0, 70.0]
    ranking = [torch.rand(width, generator=generator, dtype=torch.float64) for width in widths]
    costs = UnitCosts(1000, each, widths)
    fits = []
    for share in [k / 240 for k in range(1, 241)]:  # every number of units, and every step of a rounding
        counts = [len(one) for one in keep_neurons(ranking, share, allocation)]
        if 1000 - sum(cost * (width - n) for cost, width, n in zip(each, widths, counts, strict=True)) <= 1000 * keep:
            fits.append(counts)
    found = keep_operations(ranking, keep, costs, allocation)
    assert [len(one) for one in found] == max(fits, key=sum)


def test_a_share_that_pruning_does_not_get_down_to_is_refused() -> None:
    model = make()
    costs, ranking = unit_costs(model, units="heads"), random_ranking(model, units="heads")
    with pytest.raises(
        NeuronPathError, match=r"The kept share of operations is 0.1, but .* from (0\.\d+) to 1"
    ) as error:
        keep_operations(ranking, 0.1, costs)
    least = float(str(error.value).split(" from ")[1].split(" to ")[0])
    assert [len(one) for one in keep_operations(ranking, least, costs)] == [1, 1]


def test_what_comes_back_has_as_many_heads(tmp_path: Path) -> None:
    means = [torch.linspace(0, 1, 24)] * 2
    for kwargs in (VIT, VIT | {"proj_bias": False}, VIT | {"qk_norm": True}):
        small = slice_model(make(**kwargs), KEPT, means, units="heads")
        small = slice_model(small, [range(9), range(4)])
        save_pruned(small, tmp_path, name=NAME, kwargs=kwargs)
        again = load_pruned(tmp_path)
        with torch.no_grad():
            torch.testing.assert_close(again(images_of()), small(images_of()))
        assert hidden_widths(again, units="ffn+heads") == [2, 9, 3, 4]
    held = json.loads((tmp_path / DESCRIPTION_FILE).read_text())
    assert (held["version"], held["heads"]) == (2, [[2], [3]])
    twice = slice_model(again, [[1], [0]], units="heads")
    save_pruned(twice, tmp_path, name=NAME, kwargs=kwargs)
    assert hidden_widths(load_pruned(tmp_path), units="heads") == [1, 1]


def test_a_model_with_all_its_heads_is_described_as_ever(tmp_path: Path) -> None:
    save_pruned(slice_model(make(), [range(9)] * 2), tmp_path, name=NAME, kwargs=VIT)
    held = json.loads((tmp_path / DESCRIPTION_FILE).read_text())
    assert held["version"] == 1
    assert "heads" not in held


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ([[2]], "do not fit the architecture"),
        ([[5], [3]], "do not fit the architecture"),
        ([2, 3], "heads missing or of"),
    ],
)
def test_spoilt_numbers_of_heads_are_one_clear_line(heads: Any, message: str, tmp_path: Path) -> None:
    save_pruned(slice_model(make(), KEPT, units="heads"), tmp_path, name=NAME, kwargs=VIT)
    file = tmp_path / DESCRIPTION_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {"heads": heads}))
    with pytest.raises(NeuronPathError, match=message) as error:
        load_pruned(tmp_path)
    assert "\n" not in str(error.value)
