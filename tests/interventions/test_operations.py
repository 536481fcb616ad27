"""Every operation against hooks on the live timm model, and what must come out the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import neuron_path
from neuron_path.errors import NeuronPathError
from neuron_path.interventions.evaluate import Evaluator, Intervention, Subject
from neuron_path.models.session import Session
from neuron_path.types import OperationName
from tests import oracle, tiny

pytestmark = pytest.mark.covering

# Each operation, as the package is told and as the oracle is.
OPERATIONS: list[tuple[OperationName, dict[str, Any]]] = [
    ("remove", {}),
    ("enhance", {}),
    ("enhance", {"factor": -1.5}),
    ("mean_ablation", {}),
    ("resample_ablation", {}),
    ("keep_only", {}),
]

every_extent = pytest.mark.parametrize("tokens", ["scope", "all"])


def others(operation: str, images: Tensor) -> dict[str, Any]:
    """What else the operation needs: other images, as many as there are or more."""
    if operation == "mean_ablation":
        return {"reference_images": tiny.make_images(5, seed=9)}
    if operation == "resample_ablation":
        return {"donor_images": tiny.make_images(len(images), seed=9)}
    return {}


@every_extent
@pytest.mark.parametrize(("operation", "options"), OPERATIONS, ids=str)
@pytest.mark.core
def test_logits_are_the_oracles(
    case: tiny.Case, operation: OperationName, options: dict[str, Any], tokens: Any, images: Tensor
) -> None:
    model, scope = case
    setting, more = tiny.literal(model, scope), others(operation, images)
    clean = model(images)
    for k in (1, 3):
        paths = tiny.random_paths(model, len(images), k)
        given = paths.squeeze(2) if k == 1 else paths
        logits = neuron_path.intervene(
            model, images, given, operation, token_scope=scope, tokens=tokens, **options, **more
        )
        for row, (image, path) in enumerate(zip(images, paths.tolist(), strict=True)):
            expected = oracle.operated(
                setting,
                image,
                path,
                operation,
                all_tokens=tokens == "all",
                references=more.get("reference_images"),
                donor=more["donor_images"][row] if "donor_images" in more else None,
                **options,
            )
            torch.testing.assert_close(logits[row], expected, rtol=1e-9, atol=1e-12)
        # Of a cls-headed model in patch scope the last block is read by nobody; all earlier ones are.
        assert ((logits - clean).abs().amax(1) > 1e-6).all()


def test_the_oracles_agree(case: tiny.Case, images: Tensor) -> None:
    model, scope = case
    setting = tiny.literal(model, scope)
    path = tiny.random_paths(model, 1, 2)[0].tolist()
    for operation, factor in (("remove", 0.0), ("enhance", 2.0)):
        expected = oracle.intervened(setting, images[0], path, factor)
        torch.testing.assert_close(oracle.operated(setting, images[0], path, operation), expected)


@every_extent
def test_identities(case: tiny.Case, tokens: Any, images: Tensor) -> None:
    model, scope = case
    paths = tiny.random_paths(model, 3, 2)
    clean = model(images)
    n_neurons = int(model.state_dict()["blocks.0.mlp.fc2.weight"].shape[1])
    every = torch.arange(n_neurons).expand(3, len(model.blocks), -1)

    def edited(operation: OperationName, paths: Tensor = paths, images: Tensor = images, **options: Any) -> Tensor:
        return neuron_path.intervene(model, images, paths, operation, token_scope=scope, tokens=tokens, **options)

    same: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-13}
    torch.testing.assert_close(edited("enhance", factor=0.0), edited("remove"), **same)
    torch.testing.assert_close(edited("enhance", factor=1.0), clean, **same)
    torch.testing.assert_close(edited("keep_only", every), clean, **same)
    torch.testing.assert_close(edited("resample_ablation", donor_images=images), clean, **same)
    # Every block's edit is on its own: keeping all but some is removing those.
    left = torch.stack([every[0, 0][~torch.isin(every[0, 0], row)] for row in paths.flatten(0, 1)]).unflatten(
        0, (3, -1)
    )
    torch.testing.assert_close(edited("keep_only", left), edited("remove"), **same)
    if scope == "cls" and tokens == "scope":
        # Over one image and one token, the mean is the activation.
        for row in range(3):
            mean = edited("mean_ablation", paths[[row]], images[[row]], reference_images=images[[row]])
            torch.testing.assert_close(mean, clean[[row]], **same)
    # The order of the reference images does not matter, nor how often each of them is there.
    means = [edited("mean_ablation", reference_images=images[rows]) for rows in ([0, 1, 2], [2, 1, 0, 0, 2, 1])]
    torch.testing.assert_close(*means, **same)


def test_a_neuron_named_twice_is_edited_once(model: VisionTransformer, images: Tensor) -> None:
    paths = tiny.random_paths(model, 3, 1)
    for operation in ("remove", "enhance", "keep_only"):
        once = neuron_path.intervene(model, images, paths, operation)
        twice = neuron_path.intervene(model, images, paths.repeat(1, 1, 2), operation)
        torch.testing.assert_close(twice, once, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("operation", "options", "says"),
    [
        ("removed", {}, r"No operation is named 'removed'\. Did you mean 'remove'"),
        ("mean_ablation", {}, "reference"),
        ("resample_ablation", {}, "donor"),
        ("resample_ablation", {"donor_images": 2}, "donor"),
        ("mean_ablation", {"reference_images": 0}, "images"),
        ("remove", {"factor": 3.0}, "factor"),
        ("enhance", {"factor": float("nan")}, "finite number"),
        ("enhance", {"factor": "2"}, "finite number"),
        ("remove", {"tokens": "al"}, "tokens"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(
    model: VisionTransformer, images: Tensor, operation: Any, options: dict[str, Any], says: str
) -> None:
    paths = tiny.random_paths(model, 3, 1)
    given: dict[str, Any] = {
        key: tiny.make_images(3)[:value] if key.endswith("images") else value for key, value in options.items()
    }
    with pytest.raises(NeuronPathError, match=says) as error:
        neuron_path.intervene(model, images, paths, operation, **given)
    assert "\n" not in str(error.value)


def test_images_and_donors_are_embedded_once(model: VisionTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    session, embedded = Session(model), []
    images, donors = tiny.make_images(3), tiny.make_images(3, seed=9)
    with session.active():
        session.images(images)  # the check of the model embeds too
    embed = session.adapter.embed
    monkeypatch.setattr(session.adapter, "embed", lambda x: embedded.append(len(x)) or embed(x))
    operations = [Intervention(name) for name in ("remove", "enhance", "resample_ablation", "keep_only")]
    paths = [tiny.random_paths(model, 3, 2, seed=seed) for seed in (1, 2)]
    with session.active():
        Evaluator(operations).measure(session, images, None, [Subject(path) for path in paths], 8, donors)
    assert embedded == [3, 3]


def test_no_hook_and_no_change_is_left(model: VisionTransformer, images: Tensor) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = images.clone()
    for operation, options in OPERATIONS:
        more = others(operation, images)
        neuron_path.intervene(model, images, tiny.random_paths(model, 3, 2), operation, **options, **more)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(images, given)
