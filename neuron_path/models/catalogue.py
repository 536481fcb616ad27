"""Which of timm's models are supported, and what each is like, without the memory of its weights.

    python -m neuron_path.models.catalogue docs/models.md

writes the table of that page anew.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neuron_path.errors import NeuronPathError, nearest
from neuron_path.models.adapter import Adapter, Block, adapt, families
from neuron_path.models.loading import EMBEDDED, load_model
from neuron_path.models.preprocessing import image_transform, input_size
from neuron_path.types import TokenScopeName

_ENCODERS = "*_enc"  # timm's bare encoders, which take no classifier: their module has the model with one as well


@dataclass(frozen=True)
class ModelCard:
    """What a supported model is like, with timm's default arguments.

    Attributes:
        name: timm's, or that of the embedded model.
        family: the adapter's.
        special: what is special about the family.
        widths: F of each block.
        neurons: where the neurons are, in words.
        scope: the default token scope.
        scopes: all token scopes of the model, the default first.
        reads: the tokens that the head reads, in words.
        n_tokens: T where the first block is entered.
        n_in_scope: how many of them are in the default scope.
        n_parameters: of the whole model.
        n_classes: C; 0 where timm's own weights have no classifier, so that the model must be given one.
        image_size: channels, height and width.
        preprocessing: how timm prepares pictures for it.
        has_weights: whether timm knows trained weights.
    """

    name: str
    family: str
    special: str
    widths: tuple[int, ...]
    neurons: str
    scope: TokenScopeName
    scopes: tuple[TokenScopeName, ...]
    reads: str
    n_tokens: int
    n_in_scope: int
    n_parameters: int
    n_classes: int
    image_size: tuple[int, int, int]
    preprocessing: dict[str, Any]
    has_weights: bool

    @property
    def n_blocks(self) -> int:
        """L."""
        return len(self.widths)

    @property
    def n_neurons(self) -> int:
        """Of all blocks together."""
        return sum(self.widths)


def supported_models(pattern: str = "*") -> list[str]:
    """Names of timm's models that NeuronPath supports, given a classifier of two classes or more.

    Args:
        pattern: a glob that the whole name must match.

    >>> supported_models("deit_base_dist*")
    ['deit_base_distilled_patch16_224', 'deit_base_distilled_patch16_384']
    """
    modules = [module for name, family in families for module in family.modules or (name,)]
    return [name for name in timm.list_models(pattern, module=modules) if not fnmatchcase(name, _ENCODERS)]


def describe(name: str) -> ModelCard:
    """Say what a supported model is like; no weights are loaded or made.

    Args:
        name: a model of timm, with or without the tag of its weights, or `digits_vit`.

    Raises:
        NeuronPathError: no such model, or one that is not supported; the message says why.
    """
    model = blueprint(name)
    n_parameters, n_classes = _count(model), getattr(model, "num_classes", 0)
    adapter = with_classes(model)
    blocks, size = adapter.blocks, input_size(model)
    with torch.no_grad():
        n_tokens = adapter.embed(next(model.parameters()).new_empty(1, *size)).shape[1]
    own = adapter.scope.name
    return ModelCard(
        name=name,
        family=adapter.name,
        special=adapter.special,
        widths=tuple(block.n_neurons for block in blocks),
        neurons=_where(model, blocks),
        scope=own,
        scopes=(own, *(other for other in ("cls", "patch") if other != own and _has(model, other))),
        reads=_reads(model, adapter),
        n_tokens=n_tokens,
        n_in_scope=len(range(n_tokens)[adapter.scope.tokens]),
        n_parameters=n_parameters,
        n_classes=n_classes,
        image_size=size,
        preprocessing=image_transform(model)[1],
        has_weights=name == EMBEDDED or timm.is_model_pretrained(name),
    )


def outline(name: str) -> tuple[Adapter, int]:
    """The adapter of a supported model on the meta device, and its number of parameters: less than `describe`, sooner.

    Raises:
        NeuronPathError: no such model, or one that is not supported.
    """
    model = blueprint(name)
    n_parameters = _count(model)
    return with_classes(model), n_parameters


def blueprint(name: str) -> Any:
    """A model of timm on the meta device: its modules and shapes, but no numbers. (The embedded model has numbers.)

    Raises:
        NeuronPathError: no such model.
    """
    if name == EMBEDDED:
        return load_model()
    if not is_model(name):
        near = nearest(name, [EMBEDDED, *timm.list_models()])
        raise NeuronPathError(f"No model is named '{name}'.{near} neuron-path models lists the supported ones.")
    try:
        with torch.device("meta"), _Unfilled(), _without_collection():
            return timm.create_model(name).eval().requires_grad_(False)
    except (RuntimeError, NotImplementedError) as error:  # an unknown tag, or a model that computes as it is made
        if "tag" in str(error):
            raise NeuronPathError(f"The model '{name}' cannot be made: {str(error).rstrip('.')}.") from error
        return timm.create_model(name).eval().requires_grad_(False)


def with_classes(model: Any) -> Adapter:
    """The adapter of a model, which is given two classes if it has none."""
    if any(family.handles(model) for _, family in families) and model.num_classes < 2:
        with torch.device("meta"), _Unfilled():
            model.reset_classifier(2)
    return adapt(model)


def all_models() -> list[str]:
    """Names of all of timm's models, supported or not."""
    return timm.list_models()


def span(widths: Iterable[int]) -> str:
    """F in a few characters, also where blocks differ.

    >>> span([384, 768, 768]), span([768, 768])
    ('384–768', '768')
    """
    found = set(widths)
    return "–".join(map(str, sorted({min(found), max(found)})))


def is_model(name: str) -> bool:
    """Whether timm has a model of that name, which may carry a tag, or it is the embedded one."""
    return name == EMBEDDED or timm.is_model(name.partition(".")[0])


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class _Unfilled(TorchFunctionMode):
    """Leave meta tensors without the initial values that they could not hold: a model is made eight times as fast."""

    _IN_PLACE = frozenset(("add_", "clamp_", "copy_", "erfinv_", "fill_", "mul_", "normal_", "uniform_", "zero_"))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do nothing where a tensor is filled, else what is asked for."""
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func.__name__ in self._IN_PLACE and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Many new modules would make Python look for garbage again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _has(model: nn.Module, scope: str) -> bool:
    try:
        adapt(model, scope)
    except NeuronPathError:
        return False
    return True


def _reads(model: Any, adapter: Adapter) -> str:
    """The tokens that the head reads, in words."""
    if adapter.head_rows == slice(0, 1):
        return "the class token"
    if adapter.head_rows is not None:
        return "the class token and the distillation token"
    pooling = {
        "avg": "the mean of the patch tokens",
        "max": "the maximum over the patch tokens",
        "avgmax": "mean and maximum of the patch tokens",
        "map": "tokens pooled by attention",
        "token": "a class token that joins behind these blocks and gathers the patch tokens",
    }
    return pooling.get(str(getattr(model, "global_pool", "")), "the patch tokens")


class _Noted(TorchFunctionMode):
    """Notes which tensors are handed to torch's functions."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the tensors, then go on."""
        self.seen += [arg for arg in args if isinstance(arg, Tensor)]
        return func(*args, **(kwargs or {}))


def _where(model: nn.Module, blocks: Iterable[Block]) -> str:
    """The layers that the blocks' neurons enter, by timm's names: those whose weights the projections use."""
    names = {id(weight): name.removesuffix(".weight") for name, weight in model.named_parameters() if weight.ndim == 2}
    like = next(model.parameters())
    layers: list[tuple[str, int]] = []
    for block in blocks:
        with _Noted() as noted, torch.no_grad():
            block.project(like.new_empty(1, 1, block.n_neurons))
        used = dict.fromkeys((id(tensor), tensor.shape[-1]) for tensor in noted.seen if id(tensor) in names)
        part = "part of the " if sum(width for _, width in used) > block.n_neurons else ""
        for key, _ in used:
            number = re.search(r"\d+", names[key])
            text = re.sub(r"\d+", "N", names[key], count=1)
            layers.append((f"{part}input of {text}", int(number[0]) if number else 0))
    runs = [
        (text, [index for _, index in run]) for text, run in groupby(sorted(set(layers)), key=lambda layer: layer[0])
    ]
    return ", ".join(f"{text} (N = {min(run)} … {max(run)})" for text, run in runs)


MARKERS = ("<!-- made by python -m neuron_path.models.catalogue -->", "<!-- end of what is made -->")


def family_table(names: Iterable[str]) -> str:
    """A Markdown table with one row for each family of these models."""
    found: dict[str, list[str]] = {}
    scopes: dict[str, set[str]] = {}
    for name in names:
        adapter, _ = outline(name)
        found.setdefault(adapter.name, []).append(name)
        scopes.setdefault(adapter.name, set()).add(adapter.scope.name)
    special = {family: adapter.special for family, adapter in families}
    rows = [
        f"| {family} | {len(names)} | {' or '.join(sorted(scopes[family]))} | {special[family]} | `{_typical(names)}` |"
        for family, names in sorted(found.items())
    ]
    total = sum(map(len, found.values()))
    return "\n".join(
        [
            f"timm {timm.__version__}: {total} models.",
            "",
            "| family | models | scope | special | for example |",
            "| --- | --- | --- | --- | --- |",
            *rows,
        ]
    )


def _typical(models: Iterable[str]) -> str:
    return min(models, key=lambda name: ("base_patch16_224" not in name, len(name), name))


def rewrite(page: str, table: str) -> str:
    """The page with the table between its markers."""
    before, _, rest = page.partition(MARKERS[0])
    _, _, after = rest.partition(MARKERS[1])
    return f"{before}{MARKERS[0]}\n\n{table}\n\n{MARKERS[1]}{after}"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(rewrite(file.read_text(encoding="utf-8"), family_table(supported_models())), encoding="utf-8")
