"""What activates neurons most, against activations that hooks take from timm's own forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from neuron_path.errors import NeuronPathError
from neuron_path.evidence.choice import choose_neurons
from neuron_path.evidence.grid import patch_grid
from neuron_path.evidence.strongest import Strongest, exact_grid, rank_candidates
from neuron_path.models.session import Session
from neuron_path.store.evidence import evidence_schema
from neuron_path.store.schema import build_table
from tests import oracle, tiny, zoo

pytestmark = pytest.mark.covering

N, N_TOP = 11, 4
NAMES = [f"image/{index:02d}" for index in range(N)]


def found(session: Session, images: Tensor, names: list[str], cuts: list[int], n_top: int = N_TOP) -> dict[str, Any]:
    neurons = [np.array([0, 3, block.n_neurons - 1]) for block in session.adapter.blocks]
    strongest = Strongest(session, neurons, NAMES, n_top)
    batches = zip(images.tensor_split(cuts), np.split(np.array(names), cuts), strict=True)
    return ranked(strongest, session, *((part, own.tolist()) for part, own in batches if len(part)))


def ranked(strongest: Strongest, session: Session, *batches: tuple[Tensor, list[str]]) -> dict[str, Any]:
    """What is left of all batches."""
    parts: list[dict[str, Any]] = []
    for images, names in batches:
        for run, part in strongest.update(images, names):
            parts.append(part | {"sample_id": np.array(names[run])[part["image"]]})
    candidates = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return rank_candidates(candidates, strongest.n_top, exact_grid(session, batches[0][0][:1]))


def hooked(model: VisionTransformer, images: Tensor) -> list[Tensor]:
    """(N, T, F) of each block."""
    seen: list[Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        for name, layer in model.named_modules() if name.endswith("mlp.fc2")
    ]  # fmt: skip
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return seen


def test_ranks_are_those_of_a_literal_sort(case: tiny.Case) -> None:
    model, scope = case
    images = tiny.make_images(N)
    columns = found(Session(model, scope), images, NAMES, [4])
    in_scope = oracle.cls_tokens(model) if scope == "cls" else oracle.patch_tokens(model)
    patches = oracle.patch_tokens(model)
    rows: list[dict[str, Any]] = []
    for block, a in enumerate(hooked(model, images)):
        for neuron in (0, 3, a.shape[2] - 1):
            value = a[:, in_scope, neuron].mean(1)
            best, token = a[:, patches, neuron].max(1)
            for kind, by in (("image", value), ("patch", best)):
                for rank, image in enumerate(by.argsort(descending=True)[:N_TOP].tolist()):
                    row, column = divmod(int(token[image]), 2)
                    rows.append(
                        {
                            "block": block,
                            "neuron": neuron,
                            "kind": kind,
                            "rank": rank,
                            "sample_id": NAMES[image],
                            "activation": pytest.approx(float(value[image]), abs=1e-12),
                            "patch_activation": pytest.approx(float(best[image]), abs=1e-12),
                            "patch_token": int(token[image]),
                            "patch_row": row,
                            "patch_column": column,
                            "left": column / 2,
                            "top": row / 2,
                            "right": column / 2 + 0.5,
                            "bottom": row / 2 + 0.5,
                        }
                    )
    assert [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)] == rows


@pytest.mark.parametrize("cuts", [[1, 2, 3], [5], list(range(1, N))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_and_order_leave_no_trace(cuts: list[int], dtype: torch.dtype) -> None:
    session = Session(tiny.make(dtype=dtype))
    images = tiny.make_images(N, dtype=dtype)
    images[7] = images[2]  # the same activations: by name
    whole = found(session, images, NAMES, [])
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    other = found(session, images[order], [NAMES[place] for place in order.tolist()], cuts)
    for name, values in whole.items():
        expected = values
        if "activation" in name:
            expected = pytest.approx(values, rel=1e-12)
        assert other[name] == expected, name


def test_equal_activations_go_by_name() -> None:
    images = tiny.make_images(1).expand(N, -1, -1, -1)
    columns = found(Session(tiny.make()), images.flip(0), NAMES[::-1], [3])
    assert columns["sample_id"] == NAMES[:N_TOP] * (len(columns["rank"]) // N_TOP)


def test_fewer_images_than_ranks_are_all_kept() -> None:
    columns = found(Session(tiny.make()), tiny.make_images(2), NAMES[:2], [], n_top=5)
    assert set(columns["rank"]) == {0, 1}
    none = dict.fromkeys(("thumbnail", "maps", "edges"), [None] * len(columns["rank"]))
    assert build_table(evidence_schema(), columns | none).num_rows == 36


def test_a_patch_is_where_the_image_is_bright() -> None:
    """A neuron that adds up the pixels of its own patch finds it, on an image that is not square."""
    model = VisionTransformer(
        img_size=(8, 16), patch_size=4, embed_dim=8, depth=1, num_heads=2, num_classes=3, mlp_ratio=1, in_chans=1
    ).eval()
    block: Any = model.blocks[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.patch_embed.proj.weight[0] = 1  # pyright: ignore[reportIndexIssue]
        for norm in (block.norm1, block.norm2, model.norm):
            norm.weight.fill_(1)  # pyright: ignore[reportCallIssue]
        block.mlp.fc1.weight[5, 0] = 1
        block.mlp.fc2.weight[0, 5] = 1
        model.get_classifier().weight.normal_()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    image = torch.zeros(1, 1, 8, 16)
    image[0, 0, 4:, 8:12] = 1
    session = Session(model)
    columns = ranked(Strongest(session, [np.array([5])], ["a"], 1), session, (image, ["a"]))
    assert columns["kind"] == ["image", "patch"]
    assert (columns["patch_row"], columns["patch_column"]) == ([1, 1], [2, 2])
    assert [columns[name][0] for name in ("left", "top", "right", "bottom")] == [0.5, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("name", zoo.SPECIMEN_PARAMS)
def test_a_grid_is_named_only_where_tokens_are_in_one(name: str) -> None:
    """Whatever the family does: a place is told where the embedding puts it, and nowhere else."""
    specimen = zoo.SPECIMENS[name]
    session = Session(specimen.make())
    channels, height, width = specimen.image
    image = torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(0)).to(session.dtype)
    with session.active(), torch.no_grad():
        grid = patch_grid(session, image)
    if specimen.family == "vision_transformer":
        assert grid is not None
    if specimen.family == "hiera":
        assert grid is None


def test_class_attention_sees_no_patches() -> None:
    name = next(name for name, specimen in zoo.SPECIMENS.items() if specimen.family == "cait")
    specimen = zoo.SPECIMENS[name]
    session = Session(specimen.make(), "cls")
    images = torch.randn(3, *specimen.image, generator=torch.Generator().manual_seed(0)).to(session.dtype)
    strongest = Strongest(session, [np.array([1])] * len(session.adapter.blocks), NAMES, 2)
    columns = ranked(strongest, session, (images, NAMES[:3]))
    assert set(columns["kind"]) == {"image"}
    assert set(columns["patch_activation"]) == {None}


def test_neurons_that_the_model_lacks_are_refused() -> None:
    session = Session(tiny.make())
    for neurons in ([[0]], [[0], [0], [24]], [[0], [-1], [0]]):
        with pytest.raises(NeuronPathError, match="a list per block"):
            Strongest(session, [np.array(part) for part in neurons], NAMES, 1)
    with pytest.raises(NeuronPathError, match="n_top is 0"):
        Strongest(session, [np.array([0])] * 3, NAMES, 0)


def test_the_most_used_neurons_are_chosen_first() -> None:
    first = np.array([[[5], [0]], [[5], [1]], [[2], [1]], [[7], [1]]])
    second = np.array([[[9], [0]], [[9], [1]], [[5], [1]], [[1], [1]]])
    neurons, left = choose_neurons([first, second], limit=4)
    assert [part.tolist() for part in neurons] == [[2, 5, 7, 9], [0, 1]]
    assert left == [1, 0]
