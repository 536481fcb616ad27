"""The target function before and after an edit: what Python and the stage give, against hooks on timm's modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import neuron_path
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.target import Target
from neuron_path.errors import NeuronPathError
from neuron_path.interventions.evaluate import Evaluator, Intervention
from neuron_path.lightning.datamodule import Batch
from neuron_path.lightning.evaluation import Evaluation, StoredPaths
from neuron_path.models.session import Session
from neuron_path.store.evaluation import split_measures
from neuron_path.types import TokenScopeName
from tests import oracle, tiny, zoo

FAMILIES = ("vit-cls", "eva-rope-swiglu", "beit-bias")
LABELS = [3, 0]
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}

every_case = pytest.mark.parametrize(("name", "scope"), [(name, scope) for name in FAMILIES for scope in tiny.SCOPES])


def margin(z: Tensor, y: int, clean: Tensor) -> Tensor:
    p = z.softmax(0)[y]
    return (p / (1 - p)).log()


def runner_up(z: Tensor, y: int, clean: Tensor) -> Tensor:
    _, c = max((value, c) for c, value in enumerate(clean.tolist()) if c != y)
    return z[y] - z[c]


LITERAL: dict[str, tuple[dict[str, Any], Callable[[Tensor, int, Tensor], Tensor]]] = {
    "probability": ({"target": "probability"}, lambda z, y, _: z.exp()[y] / z.exp().sum()),
    "sigmoid": ({"target": "sigmoid"}, lambda z, y, _: 1 / (1 + (-z[y]).exp())),
    "logit": ({"target": "logit"}, lambda z, y, _: z[y]),
    "margin": ({"target": "margin"}, margin),
    "runner-up": ({"target": "contrast"}, runner_up),
    "contrast": ({"target": "contrast", "contrast_class": 1}, lambda z, y, _: z[y] - z[1]),
    "function": ({"target": lambda z: z[:, 0] * z[:, 2]}, lambda z, y, _: z[0] * z[2]),
}


def edited(name: str, scope: TokenScopeName) -> tuple[Any, Tensor, Tensor, Tensor, Tensor]:
    """A model with images, paths and the oracle's logits of the images, untouched and without their paths."""
    specimen = zoo.SPECIMENS[name]
    model, images, paths = specimen.make(), specimen.images(2), specimen.random_paths(2, 2, scope)
    setting = specimen.literal(model, scope)
    after = [oracle.operated(setting, image, path, "remove") for image, path in zip(images, paths, strict=True)]
    with torch.no_grad():
        return model, images, torch.tensor(paths), model(images), torch.stack(after)


@every_case
@pytest.mark.core
def test_values_are_the_oracles(name: str, scope: TokenScopeName) -> None:
    model, images, paths, clean, after = edited(name, scope)
    for options, literal in LITERAL.values():
        logits, *found = neuron_path.intervene(
            model, images, paths, "remove", scope, return_values=True, targets=LABELS, **options
        )
        torch.testing.assert_close(logits, after, **EXACT)
        for values, literally in zip(found, (clean, after), strict=True):
            rows = zip(literally, LABELS, clean, strict=True)
            torch.testing.assert_close(values, torch.stack([literal(*row) for row in rows]), **EXACT)


@every_case
def test_the_stage_stores_the_same(name: str, scope: TokenScopeName) -> None:
    model, images, paths, clean, after = edited(name, scope)
    names, rows = ["a", "b"], {"a": 0, "b": 1}
    stored = StoredPaths("activation", "greedy", 2, rows, paths, torch.zeros(2), torch.zeros(2, 2))
    for kind, (options, literal) in LITERAL.items():
        if kind == "function":
            continue
        target = Target(options["target"], options.get("contrast_class"))
        evaluator = Evaluator([Intervention("remove")], quadrature=Quadrature("midpoint", 1), target=target)
        stage = Evaluation(Session(model, scope), [stored], dict(zip(names, LABELS, strict=True)), evaluator)
        [(_, table)] = stage.rows(Batch(images, list(LABELS), names, []))
        assert table.schema.equals(stage.schema)
        effects = split_measures(table)[1].to_pydict()
        is_own = kind in ("probability", "sigmoid")
        assert is_own == ("clean_value" not in effects)
        for when, logits in (("clean", clean), ("edited", after)):
            expected = [literal(*row).item() for row in zip(logits, LABELS, clean, strict=True)]
            assert effects[f"{when}_{'probability' if is_own else 'value'}"] == pytest.approx(expected, rel=1e-9)
        if kind == "runner-up":
            second = [
                max((v, c) for c, v in enumerate(z.tolist()) if c != y)[1] for z, y in zip(clean, LABELS, strict=True)
            ]
            assert effects["contrast_class"] == second
        elif not is_own:
            assert effects["contrast_class"] == [options.get("contrast_class")] * 2


def test_without_targets_values_are_of_the_predicted_class(images: Tensor) -> None:
    model, paths = tiny.make(), tiny.random_paths(tiny.make(), 3, 1)
    clean = model(images)
    _, before, _ = neuron_path.intervene(model, images, paths, return_values=True, target="logit")
    torch.testing.assert_close(before, clean.amax(1), **EXACT)


def test_a_target_without_values_is_refused(images: Tensor) -> None:
    model: Any = tiny.make()
    paths = tiny.random_paths(model, 3, 1)
    intervene: Any = neuron_path.intervene
    for options in ({"target": "margin"}, {"targets": 1}, {"contrast_class": 1}):
        with pytest.raises(NeuronPathError, match="add return_values=True, or leave them out"):
            intervene(model, images, paths, **options)
