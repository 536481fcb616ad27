"""A short training of a pruned model on the images that selected, the same for every way to prune."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import lightning
import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.progress import hushed


@dataclass(frozen=True)
class Recipe:
    """AdamW on the cross-entropy; the rate rises for a sixth of the steps, then falls along a cosine.

    Attributes:
        epochs: passes over the images; 0 leaves the model as it is.
        learning_rate: the largest.
        batch_size: images per step.
        weight_decay: of AdamW.
        label_smoothing: of the loss.
        shift: pixels by which each image moves at random, each way; what comes in at a border repeats it.
        clip: largest norm of the gradient.
    """

    epochs: int = 0
    learning_rate: float = 3e-4
    batch_size: int = 32
    weight_decay: float = 0.05
    label_smoothing: float = 0.0
    shift: int = 0
    clip: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("batch_size", 1), ("shift", 0)):
            if not getattr(self, name) >= least:
                raise NeuronPathError(f"fine_tune.{name} is {getattr(self, name)}; expected at least {least}.")
        if not self.learning_rate > 0:
            raise NeuronPathError(
                f"fine_tune.learning_rate is {self.learning_rate}; expected a number above 0, such as 0.0003."
            )


class FineTuningModule(lightning.LightningModule):
    """The model, its loss and its optimizer.

    Args:
        model: trained in place.
        recipe: how.
        seed: of the images' shifts.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, seed: int) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self._generator = torch.Generator().manual_seed(seed)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """The batch's mean cross-entropy."""
        images, labels = batch
        logits = self.model(self._moved(images))
        return nn.functional.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW and its schedule."""
        recipe = self.recipe
        optimizer = torch.optim.AdamW(self.model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        rising = max(1, steps // 6)

        def factor(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            return (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _moved(self, images: Tensor) -> Tensor:
        reach = self.recipe.shift
        if not reach:
            return images
        height, width = images.shape[-2:]
        padded = nn.functional.pad(images, (reach,) * 4, mode="replicate")
        down, right = torch.randint(0, 2 * reach + 1, (2, len(images)), generator=self._generator).tolist()
        cut = [one[:, y : y + height, x : x + width] for one, y, x in zip(padded, down, right, strict=True)]
        return torch.stack(cut)


class _Batches:
    """Images in memory, in another order in each epoch."""

    def __init__(self, images: Tensor, labels: Tensor, size: int, seed: int) -> None:
        self._images, self._labels, self._size = images, labels, size
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return math.ceil(len(self._labels) / self._size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for chosen in torch.randperm(len(self._labels), generator=self._generator).split(self._size):
            yield self._images[chosen], self._labels[chosen]


def fine_tune(
    model: nn.Module,
    images: Float[Tensor, "B c H W"],
    labels: Int[Tensor, "B"],
    recipe: Recipe,
    *,
    seed: int = 0,
    accelerator: str = "auto",
) -> nn.Module:
    """Train a model in place and return it, frozen and in eval mode; with the same seed the same images come in order.

    Args:
        model: any classifier.
        images: (B, channels, height, width) preprocessed, of selection: never those that the model is tested on.
        labels: (B,) classes.
        recipe: how; with 0 epochs nothing happens.
        seed: of order and shifts, and of the model's own dropout.
        accelerator: of Lightning's Trainer.
    """
    if not recipe.epochs:
        return model
    device = next(model.parameters()).device
    with _quiet(), torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        model.train().requires_grad_(True)
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=recipe.epochs,
            gradient_clip_val=recipe.clip,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        trainer.fit(FineTuningModule(model, recipe, seed), _Batches(images, labels, recipe.batch_size, seed))
    return model.to(device).eval().requires_grad_(False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's remarks about itself off the screen."""
    with hushed("lightning.pytorch"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        yield
