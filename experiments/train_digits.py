"""Train the embedded digits ViT: `train_digits.yaml` says the command, the cost and the number to expect."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import hydra
import lightning
import torch
from hydra.core.config_store import ConfigStore
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from omegaconf import OmegaConf
from safetensors.torch import save
from timm.models import VisionTransformer
from torch import Tensor
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from neuron_path.data.digits import MEAN, STD, load_digits, preprocessing

ARCHITECTURE: Final[dict[str, Any]] = {
    "img_size": 8, "patch_size": 2, "in_chans": 1, "num_classes": 10, "embed_dim": 48, "depth": 12, "num_heads": 3,
}  # fmt: skip
BACKGROUND: Final = (0 - MEAN) / STD  # a blank pixel, after preprocessing


@dataclass
class TrainDigits:
    """Settings of the recipe; their values and meaning are in `train_digits.yaml`."""

    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]
    warmup: float
    clip: float
    label_smoothing: float
    augmented: float
    rotation: float
    scale: float
    shift: float
    threads: int
    batches_per_epoch: int | None
    report_test: bool
    out: str


class Batches:
    """A split in batches; the whole split is in memory, so a DataLoader's workers would only cost time."""

    def __init__(self, split: str, batch_size: int, shuffle: bool = False) -> None:
        self.images, self.labels = load_digits(split)
        self.batch_size, self.shuffle = batch_size, shuffle

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self.labels)
        order = torch.randperm(count) if self.shuffle else torch.arange(count)
        for chosen in order.split(self.batch_size):
            yield self.images[chosen], self.labels[chosen]


def jitter(images: Tensor, config: TrainDigits) -> Tensor:
    """Turn, stretch and move a share of the images (n, 1, h, w) at random; blank pixels come in at the borders."""
    count, size = len(images), images.shape[-1]
    angle, zoom, right, down = torch.rand(4, count) * 2 - 1
    angle, zoom = angle * math.radians(config.rotation), 1 + zoom * config.scale
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    right, down = right * config.shift * 2 / size, down * config.shift * 2 / size  # the grid runs from −1 to 1
    rows = torch.stack([cosine, -sine, right, sine, cosine, down], dim=1).view(count, 2, 3)
    grid = affine_grid(rows, list(images.shape), align_corners=False)
    moved = grid_sample(images - BACKGROUND, grid, align_corners=False) + BACKGROUND
    return torch.where(torch.rand(count, 1, 1, 1) < config.augmented, moved, images)


class DigitsClassifier(lightning.LightningModule):
    """A thin wrapper: timm's model, the loss, the optimizer and the accuracy."""

    def __init__(self, config: TrainDigits) -> None:
        super().__init__()
        self.config = config
        self.model = VisionTransformer(**ARCHITECTURE)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        logits = self.model(jitter(images, self.config))
        return cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self._measure(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self._measure(batch, "test")

    def _measure(self, batch: tuple[Tensor, Tensor], split: str) -> None:
        images, labels = batch
        logits = self.model(images)
        hits = (logits.argmax(1) == labels).double().mean()
        scores = {f"{split}_accuracy": hits, f"{split}_loss": cross_entropy(logits, labels)}
        self.log_dict(scores, batch_size=len(labels), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings = self.config
        optimizer = torch.optim.AdamW(
            self.model.parameters(), settings.learning_rate, settings.betas, weight_decay=settings.weight_decay
        )
        steps = int(self.trainer.estimated_stepping_batches)
        # AdamW's first beta is a setting of its own here: without this OneCycle would replace it.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, steps, pct_start=settings.warmup, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def write(model: VisionTransformer, metadata: dict[str, str], out: Path) -> None:
    """Write weights and metadata, atomically and with the same bytes each time (safetensors shuffles the metadata)."""
    raw = save(model.state_dict(), metadata)
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.dumps(json.loads(raw[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors stay aligned
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    temporary.write_bytes(len(header).to_bytes(8, "little") + header + raw[start:])
    os.replace(temporary, out)


def train(config: TrainDigits) -> dict[str, float]:
    """Train on train, measure val (and test if asked) after the last epoch, write the weights; return the measures."""
    torch.set_num_threads(config.threads)
    lightning.seed_everything(config.seed, verbose=False)
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, deterministic=True, max_epochs=config.epochs, gradient_clip_val=config.clip,
        limit_train_batches=config.batches_per_epoch, num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=sys.stderr.isatty(),
    )  # fmt: skip
    classifier = DigitsClassifier(config)
    trainer.fit(classifier, Batches("train", config.batch_size, shuffle=True), Batches("val", 360))
    measures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if config.report_test:
        measures |= trainer.test(classifier, Batches("test", 360), verbose=False)[0]
    recipe = {name: value for name, value in asdict(config).items() if name != "out"}
    described = {"architecture": ARCHITECTURE, "preprocessing": preprocessing("train"), "recipe": recipe}
    metadata = {name: json.dumps(value, sort_keys=True) for name, value in described.items()}
    metadata |= {name: repr(value) for name, value in measures.items() if name.endswith("accuracy")}
    write(classifier.model, metadata, Path(config.out))
    return measures


ConfigStore.instance().store(name="train_digits_schema", node=TrainDigits)


@hydra.main(config_path=".", config_name="train_digits", version_base="1.3")
def main(config: Any) -> None:
    """Run the recipe from the command line."""
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, TrainDigits)
    print(json.dumps({"out": settings.out, **train(settings)}))


if __name__ == "__main__":
    main()
