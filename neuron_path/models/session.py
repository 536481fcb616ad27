"""A model under study: checked once, run exactly, left untouched."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.models.adapter import Block, adapt
from neuron_path.models.guard import check_weights, exact, frozen, one_at_a_time, standing
from neuron_path.types import PathResult

_DIRECTIONS = 8  # in which an FFN's output is compared with what its weights tell

_LARGEST_PIXEL = 16  # that preprocessing leaves, with much to spare; above it, and none below 0, are raw pixels

# Models that were found to compute what their adapters do: for images of which size, and how they stood then.
_verified: WeakKeyDictionary[nn.Module, set[Hashable]] = WeakKeyDictionary()

Targets = Int[Tensor, "B"] | Sequence[int] | int | None


class Session:
    """A model with its adapter, and the checks on what goes in.

    Args:
        model: a vision transformer of a supported family, on any device, in any floating dtype.
        token_scope: "cls", "patch", or None for what follows from the model's head.
        units: what paths consist of, "ffn", "heads" or "ffn+heads".

    Raises:
        NeuronPathError: unsupported model, scope or units, weights that are not finite, or a model made under inference
            mode.
    """

    def __init__(self, model: nn.Module, token_scope: str | None = None, units: str = "ffn") -> None:
        self.adapter = adapt(model, token_scope, units)
        self.model: nn.Module = self.adapter.model
        check_weights(self.model)
        self._double: Session | None = None
        self._n_active = 0  # blocks of `active` that are entered, each inside the one before
        self._is_doubled = False  # whether the double was given its weights inside the outermost of them
        self._verified: set[torch.Size] = set()

    @property
    def device(self) -> torch.device:
        """Where the model is now."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The model's floating type."""
        return next(self.model.parameters()).dtype

    @contextmanager
    def active(self) -> Iterator[None]:
        """Frozen model, exact arithmetic; everything as before on the way out, also after an exception.

        One thread of a process at a time: the switches of the arithmetic, and torch's forward mode, are the process's.
        """
        with one_at_a_time, frozen(self.model), exact(self.device):
            self._n_active += 1
            try:
                yield
            finally:
                self._n_active -= 1
                self._is_doubled = self._is_doubled and self._n_active > 0

    def double(self) -> Session:
        """The same model in float64, with the weights of this moment; on the CPU where the device has no float64.

        Inside :meth:`active`, where no weight changes, these are copied once.
        """
        if self._double is not None and self._is_doubled:
            return self._double
        if self._double is None:
            device = "cpu" if self.device.type == "mps" else self.device
            with torch.inference_mode(False):  # the caller's, which would keep gradients from the copy
                double = copy.deepcopy(self.model).to(device=device, dtype=torch.float64)
            self._double = Session(double, self.adapter.scope.name, self.adapter.units)
        else:
            self._double.model.load_state_dict(self.model.state_dict())
            for mine, theirs in zip(self.model.buffers(), self._double.model.buffers(), strict=True):
                theirs.data = mine.to(theirs)  # also those that a state dict leaves out
        self._is_doubled = self._n_active > 0
        return self._double

    def images(self, images: Float[Tensor, "B c H W"]) -> Float[Tensor, "B c H W"]:
        """Images on the model's device in its dtype; the first of each size also checks the adapter."""
        images = images.to(device=self.device, dtype=self.dtype)
        if images.is_inference():
            images = images.clone()
        if images.shape[1:] not in self._verified:
            known, stands = _verified.setdefault(self.model, set()), standing(self.model)
            key = images.shape[1:], self.adapter.scope.name, self.adapter.units, self.dtype, self.device, stands
            if stands is None or key not in known:
                self._verify(images[:1])
                known.add(key)
            self._verified.add(images.shape[1:])
        return images

    def check_images(self, images: Tensor) -> None:
        """Raise a NeuronPathError unless these are preprocessed, finite images of the model's size."""
        _check_kind(images)
        if images.ndim != 4 or not images.is_floating_point():
            advice = ""
            if images.ndim == 3:
                advice = " A single image makes a batch of one: image[None]."
            elif images.dtype == torch.int8:
                advice = " Dequantise them: (images.float() - zero_point) * scale."
            elif images.is_complex():
                advice = " Take real ones, such as their magnitudes: images.abs()."
            elif not images.is_floating_point():
                advice = " Scale and normalise whole numbers as in training: ((images.float() / 255) - mean) / std."
            raise NeuronPathError(
                f"Images are a {str(images.dtype).removeprefix('torch.')} tensor of shape {tuple(images.shape)}; "
                f"expected preprocessed floating-point images of shape (B, channels, height, width).{advice}"
            )
        if len(images) == 0:
            raise NeuronPathError("There are no images, the batch is empty; expected one or more.")
        self.adapter.check_images(images)
        # A sum hides no NaN and no infinity, it can only overflow; a mask would take as much room as the images.
        for row in (~torch.isfinite(images.sum((1, 2, 3)))).nonzero().flatten().tolist():
            if not torch.isfinite(images[row]).all():
                raise NeuronPathError(
                    f"Image {row} of the batch holds NaN or infinity; expected finite numbers: leave it out."
                )
        if images.max() > _LARGEST_PIXEL and images.min() >= 0:
            warnings.warn(
                f"Images reach from {float(images.min()):.4g} to {float(images.max()):.4g}, as pixels of 0 … 255 do: "
                "preprocess them as in training, by images / 255 and then mean and standard deviation.",
                stacklevel=2,
            )

    def check_targets(self, targets: Targets, n_images: int) -> Int[Tensor, "B"] | None:
        """Targets as an int64 tensor on the model's device, one for all repeated; None (the predicted class) stays.

        Raises:
            NeuronPathError: not one per image, not integers, or outside the model's classes.
        """
        if targets is None:
            return None
        try:
            tensor = torch.as_tensor(targets)
            tensor = tensor.expand(n_images) if tensor.ndim == 0 else tensor
        except (TypeError, ValueError, RuntimeError) as error:
            raise NeuronPathError(f"Targets are no integer class indices, one per image: {error}.") from error
        if tensor.shape != (n_images,) or tensor.is_floating_point() or tensor.dtype == torch.bool:
            raise NeuronPathError(
                f"Targets have shape {tuple(tensor.shape)} and dtype {tensor.dtype}; expected {n_images} integer class "
                "indices, one per image, or one for all."
            )
        tensor = tensor.to(torch.int64)
        n_classes = self.adapter.n_classes
        wrong = ((tensor < 0) | (tensor >= n_classes)).nonzero()
        if len(wrong):
            first = int(wrong[0])
            raise NeuronPathError(
                f"Target {int(tensor[first])} of image {first} is not a class of this model: expected 0 … "
                f"{n_classes - 1}."
            )
        return tensor.to(self.device)

    def check_paths(self, paths: Tensor, n_images: int) -> Int[Tensor, "B L k"]:
        """Paths of shape (B, L) or (B, L, k) as (B, L, k) int64 on the model's device; −1 stands for no neuron.

        Raises:
            NeuronPathError: another shape, another number of blocks, or a neuron that a block does not have.
        """
        widths = [block.n_neurons for block in self.adapter.blocks]
        shape = f"({n_images}, {len(widths)}) or ({n_images}, {len(widths)}, k): one image a row, one block a column"
        try:
            tensor = torch.as_tensor(paths)
        except (TypeError, ValueError, RuntimeError) as error:
            advice = "; give its .paths" if isinstance(paths, PathResult) else ""
            raise NeuronPathError(
                f"Paths are a {type(paths).__name__} of no integers ({error}); expected those of shape {shape}{advice}."
            ) from error
        found = tuple(tensor.shape)
        tensor = tensor.unsqueeze(-1) if tensor.ndim == 2 else tensor
        is_index = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
        if tensor.ndim != 3 or tensor.shape[:2] != (n_images, len(widths)) or not is_index:
            raise NeuronPathError(
                f"Paths have shape {found} and dtype {tensor.dtype}; expected integers of shape {shape}."
            )
        tensor = tensor.to(device=self.device, dtype=torch.int64)
        limits = torch.tensor(widths, device=self.device).view(1, -1, 1)
        wrong = ((tensor < -1) | (tensor >= limits)).nonzero()
        if len(wrong):
            image, index, slot = wrong[0].tolist()
            raise NeuronPathError(
                f"Path of image {image} names neuron {int(tensor[image, index, slot])} in block {index}, which has "
                f"neurons 0 … {widths[index] - 1}; expected one of these, or −1 for none."
            )
        empty = (tensor < 0).flatten(1).all(1).nonzero()
        if len(empty) and tensor.shape[2]:
            raise NeuronPathError(
                f"Path of image {int(empty[0])} names no neuron at all: every index is −1, which stands for none; name "
                "one, or leave the image out."
            )
        return tensor

    def _verify(self, image: Tensor) -> None:
        """The adapter must compute what the model computes."""
        try:
            h = self.adapter.embed(image)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise NeuronPathError(
                f"The model does not take images of shape {tuple(image.shape[1:])} ({reason}): resize them."
            ) from error
        for index in range(len(self.adapter.blocks)):
            h = self.adapter.run(index, h)
        ours, theirs = self.adapter.head(h), self.adapter.logits(image)
        if theirs.shape != (1, self.adapter.n_classes):
            raise NeuronPathError(
                f"The model returns a tensor of shape {tuple(theirs.shape)} for one image; expected logits of shape "
                f"(1, {self.adapter.n_classes}): load it with its own global_pool."
            )
        if not torch.isfinite(theirs).all():
            raise NeuronPathError(
                "The model's logits are not finite for an image of the data: its weights are damaged, or need a wider "
                "type than theirs."
            )
        tolerance = self.adapter.tolerance(self.dtype)
        largest = float(theirs.abs().max().clamp(1))  # rounding is as large for all logits
        if ours.shape != theirs.shape or not torch.allclose(ours, theirs, rtol=0, atol=tolerance * largest):
            raise NeuronPathError(
                f"The model computes other logits than its family '{self.adapter.name}' does block by block: it "
                "changes the forward pass (a subclass or a hook) in a way that NeuronPath cannot follow."
            )
        for index, block in enumerate(self.adapter.blocks):
            self._verify_projection(index, block, tolerance)

    def _verify_projection(self, index: int, block: Block, tolerance: float) -> None:
        """The weights must tell what the neurons add: a hook on the layer behind would silently bend the scores."""
        like = next(self.model.parameters())
        silent, active = like.new_zeros(1, 1, block.width), like.new_ones(1, 1, block.width)
        added = (block.project(active) - block.project(silent))[0, 0]
        # In a few directions: all columns would take longer than the passes themselves.
        signs = torch.randint(2, (_DIRECTIONS, len(added)), generator=torch.Generator().manual_seed(index)) * 2 - 1
        directions = signs.to(added) / len(added) ** 0.5
        expected, found = block.pullback(directions).sum(1), directions @ added
        if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance * float(added.norm())):
            part, layer = ("FFN", "second layer") if block.channels == 1 else ("attention", "output projection")
            raise NeuronPathError(
                f"The {part} of block {index} adds something else than its weights tell: a hook on its {layer}, or a "
                "wrapper around it, changes the activations. Remove it first."
            )


def _check_kind(images: Any) -> None:
    """Raise a NeuronPathError unless these are a tensor with a value in each place."""
    if not isinstance(images, Tensor):
        advice = ""
        if isinstance(images, np.ndarray):
            advice = ": torch.from_numpy(images)"
        elif isinstance(images, list | tuple):
            advice = ": torch.stack(images) of tensors (channels, H, W)"
        raise NeuronPathError(
            f"Images are a {type(images).__name__}; expected a torch tensor (B, channels, H, W){advice}."
        )
    if images.layout != torch.strided or images.is_meta:
        kind = "on the meta device, without values" if images.is_meta else "a sparse tensor"
        advice = "" if images.is_meta else ": images.to_dense()"
        raise NeuronPathError(f"Images are {kind}; expected a dense tensor with values{advice}.")
