"""Models as they are: torchvision's, Hugging Face's, open_clip's, and modules of one's own with such a model inside.

All of them hold their blocks in one list, and these blocks look alike: attention, then a norm and an FFN on a residual
stream. So nothing is converted: the model's own forward pass runs, on its own weights, and only the blocks in it are
exchanged. They hand over what enters the first block, and what is to leave the last one comes back as logits. That a
model can be cut so is found out on random images, block by block, before anything is computed with it.

Shapes: N images or sequences, T tokens, D width, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Adapter, Scope
from neuron_path.models.blocks import Ffn, Gamma, ResidualBlock, gamma_of, identity
from neuron_path.models.grafting import graft, stand_in
from neuron_path.models.guard import check_weights, exact, frozen, one_at_a_time

_NORMS = ("norm2", "layernorm_after", "layer_norm2", "ln_2")  # before the FFN, by the libraries' names
_OTHERWISE = 224  # pixels, where a model does not say its image size


class OwnFfn(Ffn):
    """An FFN of any library, whose last linear layer reads the neurons: it runs without that layer."""

    def __init__(self, parts: _Parts, gamma: Gamma) -> None:
        self.mlp, self.linear, self.gamma = parts.mlp, parts.linear, gamma
        self._first = graft(parts.mlp, {parts.linear: stand_in(parts.linear, identity)})

    def neurons(self, y: Tensor) -> Tensor:
        return self._first(y)


class OwnBlock(ResidualBlock):
    """A block of any library, which runs without its FFN to mix tokens.

    Attributes:
        arguments: what the model gives the block beside the stream, as positions or masks; set when it embeds.
    """

    def __init__(self, block: nn.Module) -> None:
        parts = _parts(block)
        assert parts is not None
        norm, mlp, linear = parts
        super().__init__(identity, OwnFfn(parts, gamma_of(block, 2)), identity, identity, norm)
        is_whole = any(module is linear for module in mlp.modules())
        silent = {norm: stand_in(norm, identity), mlp: stand_in(mlp, _nothing if is_whole else identity)}
        self._silent = graft(block, {linear: stand_in(linear, _nothing), **silent})
        self.arguments: tuple[tuple[Any, ...], dict[str, Any]] = (), {}

    def mix(self, x: Tensor, rows: slice | None = None) -> Tensor:
        args, options = self.arguments
        u = _stream(self._silent(x, *args, **options))
        return u if rows is None else u[:, rows]


class _Call(NamedTuple):
    """A block's call in a forward pass: the stream that went in, and what came out."""

    block: nn.Module
    x: Any
    out: Any


class ObjectAdapter(Adapter):
    """Any model whose blocks lie in one list, run in order, each once."""

    name = "other"
    special = "models of other libraries and of one's own, as they are"
    closeness = 1e-5

    @classmethod
    def handles(cls, model: nn.Module) -> bool:
        return not type(model).__module__.startswith("timm.models.") and any(_stacks(model))

    def __init__(self, model: Any, token_scope: str | None = None) -> None:
        self.model = model
        self._entered: Tensor | None = None  # what enters the first block, while `embed` runs
        self._h: Tensor | None = None  # what is to leave the last block, while `head` runs
        check_weights(model)
        like = next(model.parameters())
        with one_at_a_time, frozen(model), exact(like.device):
            images = probe(model, like)
            calls, logits = self._recorded(images)
            self.blocks = self._own = [OwnBlock(call.block) for call in calls]
            self.n_classes = logits.shape[1]
            self._tuples = isinstance(calls[-1].out, tuple)
            self._grafted = graft(
                model, {call.block: stand_in(call.block, partial(self._pass, n)) for n, call in enumerate(calls)}
            )
            h = self.embed(images)
            if not torch.allclose(h, calls[0].x, rtol=1e-3, atol=1e-3):
                raise self._refusal(
                    "what enters its first block differs from pass to pass (load MAE's weights as a ViTModel or "
                    "ViTForImageClassification, which neither masks nor shuffles patches)"
                )
            n_prefix = self._n_prefix(h)
            self._check(calls, logits)
            scopes = self._scopes(_stream(calls[-1].out)[:1], n_prefix)
        self.scope = self._choose_scope(token_scope, *scopes)
        self.head_rows = scopes[0].tokens if scopes[0].name == "cls" else None

    def embed(self, images: Tensor) -> Tensor:
        self._grafted(images)
        h, self._entered = self._entered, None
        assert h is not None
        self._image, self._n_tokens = images[:1].detach(), h.shape[1]
        return h

    def head(self, h: Tensor) -> Tensor:
        n_missing = self._n_tokens - h.shape[1]  # tokens that the head does not read
        self._h = torch.cat((h, h.new_zeros(len(h), n_missing, h.shape[2])), 1) if n_missing else h
        try:
            return self._logits(self._grafted(self._image.expand(len(h), -1, -1, -1)))
        finally:
            self._h = None

    def logits(self, images: Tensor) -> Tensor:
        return self._logits(self.model(images))

    def check_images(self, images: Tensor) -> None:
        """Which images it takes is for the model itself to say, when it runs."""

    def _pass(self, index: int, x: Tensor, *args: Any, **options: Any) -> Any:
        """In the place of block `index`: let pass what is to leave the last block, or keep what enters the first."""
        if self._h is None:
            self._own[index].arguments = args, options
            if index == 0:
                self._entered = x
        out = x if self._h is None or index < len(self.blocks) - 1 else self._h
        return (out,) if self._tuples else out

    def _recorded(self, images: Tensor) -> tuple[list[_Call], Tensor]:
        """A forward pass of the model itself: its blocks' calls, which must be those of one whole list, and logits."""
        calls: list[_Call] = []

        def record(block: nn.Module, x: Any = None, *args: Any, **options: Any) -> Any:
            out = block(x, *args, **options)
            calls.append(_Call(block, x, out))
            return out

        stacks = list(_stacks(self.model))
        every = {block: stand_in(block, partial(record, block)) for stack in stacks for block in stack}
        try:
            output = graft(self.model, every)(images)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # any model's own code
            reason = (str(error).strip().splitlines() or [""])[0].rstrip(".")
            raise self._refusal(
                f"its forward pass fails on images of shape {tuple(images.shape)} ({type(error).__name__}: {reason}); "
                "give a module that takes a batch of images alone and returns logits"
            ) from error
        if [call.block for call in calls] not in stacks:
            raise self._refusal(
                f"{len(calls)} runs of blocks were seen in a forward pass, of {len(stacks)} list(s) of "
                f"{', '.join(str(len(stack)) for stack in stacks)} block(s); expected each block of one list to run "
                "once, in order"
            )
        shapes = {getattr(value, "shape", None) for call in calls for value in (call.x, _stream(call.out))}
        if len(shapes) != 1 or not _is_sequences(calls[0].x, len(images)):
            raise self._refusal("its blocks do not all take and return tokens of one shape (images, tokens, width)")
        logits = self._logits(output)
        if isinstance(output, Tensor) and type(self.model).__module__.startswith("open_clip."):
            warnings.warn(
                f"A {type(self.model).__name__} of open_clip returns an embedding: its {logits.shape[1]} numbers are "
                "taken as logits. For classes put their text embeddings behind it, as docs/models.md shows.",
                stacklevel=2,
            )
        return calls, logits

    def _logits(self, output: Any) -> Tensor:
        """The logits in what a model returns: a tensor, or what is called `logits` in a mapping or an object."""
        found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
        if not isinstance(found, Tensor) or found.ndim != 2 or found.shape[1] < 1:
            what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else _described(output)
            raise self._refusal(
                f"it returns {what}, and a path drives one of its classes; expected logits of shape (images, classes). "
                "Give the model with its classifier, or a module of your own that holds both: its forward may be "
                "`return self.classifier(self.backbone(images).last_hidden_state[:, 0])`"
            )
        return found

    def _n_prefix(self, h: Tensor) -> int:
        """How many tokens, which must come first, are not of the image: they are the same for two images."""
        same = (h[0] == h[1]).all(1)
        n_prefix = int(same.sum())
        if n_prefix == len(same) or not same[:n_prefix].all():
            raise self._refusal("its first block does not take class tokens first and then those of the image")
        return n_prefix

    def _check(self, calls: Sequence[_Call], logits: Tensor) -> None:
        """Each block must compute what its cut does, and the logits must come back from what leaves the last one."""
        precision = torch.finfo(logits.dtype).eps
        for index, (block, call) in enumerate(zip(self.blocks, calls, strict=True)):
            x, theirs = call.x[:1], _stream(call.out)[:1]  # of one image: not as many as the model embeds at once
            ours = block.feed(block.mix(x))
            allowed = precision**0.5 * (theirs - x).norm() + 8 * precision * theirs.norm()
            if ours.shape != theirs.shape or not (ours - theirs).norm() <= allowed:
                raise self._refusal(
                    f"block {index} ({type(call.block).__name__}) is not attention and then an FFN on a norm, each "
                    "added to the stream, or a hook changes it"
                )
        with torch.enable_grad():
            again = self.head(_stream(calls[-1].out).detach().requires_grad_())
        if not again.requires_grad:
            raise self._refusal(
                "no gradient flows back from its logits to its blocks: take torch.no_grad or detach out of its forward "
                "pass"
            )
        off = (again.detach() - logits).abs().max()
        if not off <= self.tolerance(logits.dtype) * logits.abs().max().clamp(1):
            raise self._refusal("its logits do not follow from what leaves its last block alone")

    def _scopes(self, last: Tensor, n_prefix: int) -> list[Scope]:
        """The scopes by what the head reads, its own first: where a token is no number, no logit that needs it is."""
        h = last.repeat(n_prefix + 1, 1, 1)
        for token in range(n_prefix):
            h[token, token] = torch.nan
        h[n_prefix, n_prefix:] = torch.nan
        *prefix, patches = self.head(h).isnan().any(1).tolist()
        patch, classes = Scope.patch(n_prefix), [index + 1 for index, read in enumerate(prefix) if read]
        if patches:
            return [patch, Scope.cls()] if n_prefix else [patch]
        if not classes:
            raise self._refusal("it cannot be told which tokens its logits read: they hide what is no number")
        return [Scope.cls(classes[-1]), patch]

    def _refusal(self, why: str) -> NeuronPathError:
        kind = type(self.model)
        return NeuronPathError(f"Models of type {kind.__module__}.{kind.__name__} cannot be read as they are: {why}.")


def _stacks(model: nn.Module) -> Iterator[list[nn.Module]]:
    """The lists of blocks in a model."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList | nn.Sequential) and len(module) and all(map(_parts, module)):
            yield list(module)


class _Parts(NamedTuple):
    """A block's norm before the FFN, the FFN, and its last linear layer, which transformers 4 has apart from it."""

    norm: nn.Module
    mlp: nn.Module
    linear: nn.Linear


def _parts(block: Any) -> _Parts | None:
    """The parts of a module that looks like a block, by the names that libraries give to them; None of any other."""
    norm = next((part for name in _NORMS if isinstance(part := getattr(block, name, None), nn.Module)), None)
    mlp, first = getattr(block, "mlp", None), getattr(block, "intermediate", None)
    if isinstance(mlp, nn.Module):
        layers = [module for module in mlp.modules() if isinstance(module, nn.Linear)][1:]
    else:
        mlp, layers = first, [getattr(getattr(block, "output", None), "dense", None)]
    if norm is None or not isinstance(mlp, nn.Module) or not layers or not isinstance(layers[-1], nn.Linear):
        return None
    return _Parts(norm, mlp, layers[-1])


def _nothing(y: Tensor) -> Tensor:
    """What an FFN adds that adds nothing, at whichever token."""
    return y.new_zeros(y.shape[-1])


def _is_sequences(value: Any, n_images: int) -> bool:
    return isinstance(value, Tensor) and value.ndim == 3 and len(value) == n_images


def _stream(out: Any) -> Tensor:
    """The stream in what a block returns: some libraries' blocks return more in a tuple."""
    return out[0] if isinstance(out, tuple) else out


def _described(output: Any) -> str:
    names = list(output) if isinstance(output, Mapping) else []
    return f"a {type(output).__name__}" + (f" of {', '.join(map(str, names))}" if names else "")


def probe(model: nn.Module, like: Tensor) -> Tensor:
    """Two random images of the size that a model names, of the type and on the device of a tensor."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    size = next(_sizes(model), _OTHERWISE)
    height, width = (size, size) if isinstance(size, int) else size
    shape = (2, 3 if first is None else first.in_channels, height, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(like)


def _sizes(model: nn.Module) -> Iterator[Any]:
    """Image sizes, by the names that libraries give to them."""
    for module in model.modules():
        for holder in (module, getattr(module, "config", None)):
            for name in ("image_size", "img_size"):
                size = getattr(holder, name, None)
                if isinstance(size, int) or (isinstance(size, list | tuple) and len(size) == 2):
                    yield size
