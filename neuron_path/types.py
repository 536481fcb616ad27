"""The records that pass between stages, and the glossary.

- **block**: one transformer block; L of them, numbered 0 … L−1 from input to output
- **neuron**: one unit of a block's FFN; F of them; its *activation* is the input of the FFN's second linear layer
  (post-GELU; for a gated FFN, post-gate)
- **neuron path**: one neuron (or k) per block, from input to output
- **target**: the class that is attributed, one per image; the *target function* says what of it: its softmax
  probability, its logit, its margin (log-odds) over the other classes, its lead over one of them (contrast), …
- **token scope**: the tokens at which activations count as neurons' values: `cls` or `patch`
- **quadrature**: the rule that integrates a gradient from 0 to the clean activation: nodes α and weights ω
- **scorer, search**: what rates a candidate neuron; what picks a path by those ratings
- **JAS**: joint attribution score of a path
- **margin**: relative gap between the chosen neuron and the best one left out
- **sequence**: one (quadrature node, image) pair: the unit that micro-batches count

Shape letters, everywhere: B images, T tokens, S tokens in scope, D embedding width, F neurons of a block, L blocks,
C classes, k neurons a block, m quadrature nodes, N sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.errors import NeuronPathError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from neuron_path.report.figures.picture import ClassNames

Measure = Literal["joint", "complete"]
TokenScopeName = Literal["cls", "patch"]
OperationName = Literal["remove", "enhance", "mean_ablation", "resample_ablation", "keep_only"]
UnitsName = Literal["ffn", "heads", "ffn+heads"]
TokensName = Literal["scope", "all"]
TargetName = Literal["probability", "logit", "margin", "sigmoid", "contrast"]
QuantityName = Literal["effect", "activation"]


class _OfImages:
    """What results that have a row for each image in every tensor have in common."""

    def cpu(self) -> Self:
        """The same result with every tensor in main memory."""
        return self.to(torch.device("cpu"))

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Self:
        """The same result on another device, its floats of another type where one is given."""

        def moved(values: Any) -> Any:
            if not isinstance(values, Tensor):
                return values
            return values.to(device, dtype if values.is_floating_point() else None)

        return type(self)(**{name: moved(values) for name, values in vars(self).items()})

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Join the results of consecutive chunks of images."""
        columns: dict[str, list[Any]] = {name: [vars(part)[name] for part in parts] for name in vars(parts[0])}
        joined: dict[str, Any] = {
            name: torch.cat(values) if isinstance(values[0], Tensor) else values[0] for name, values in columns.items()
        }
        return cls(**joined)


@dataclass(frozen=True, repr=False)
class PathResult(_OfImages):
    """The neuron paths of a batch of images. A notebook shows it as a table of the first ones and a figure.

    Attributes:
        paths: (B, L), or (B, L, k) for `top_k` > 1: chosen neurons, in descending order of the scorer's objective. Of
            k neurons of any blocks (`per_block=False`) each block has its own first, and −1 in the places left.
        scores: (B,) the final joint attribution score of `paths`, whatever the scorer, in units of the target
            function; see `neuron_path.score_paths`.
        margins: (B, L) how far each block's choice is from changing: (last chosen − best left out) / |last chosen|,
            which for one neuron a block is the relative gap of best to runner-up. Of searches other than `greedy`:
            how much of the final score the most promising swap in the block, of neurons of any blocks the most
            promising of all, would cost, to first order.
        targets: (B,) the attributed class of each image.
        predictions: (B,) the class the untouched model predicts.
        target_probabilities: (B,) softmax probability of the target class, untouched model; with target="sigmoid" the
            sigmoid of its logit.
        n_steps: (B,) quadrature nodes of each image: the most that a block or the score took.
        score_errors: (B,) the estimated error of `scores` as integrals, in the same units; None where the rule gives
            none, which is any but `adaptive`, for scorers that have integrated along the path.
        rounding: (B,) ρ, how much float32 rounds on the image, measured: the largest gradients of a block are right to
            about ρ. Scores of paths that are searched for are right to ten times that, and to 1e-4 at least. The score
            of a path of small gradients, or of terms that cancel, as a random one's, is right to as much of what the
            largest would give. None where all was computed in another type.
        complete_scores: (B,) the complete variant of `scores`, where it came along: for scorers that rate each block on
            its own; else None, see `neuron_path.score_paths`.
        convergence_deltas: (B,) what is missing from `complete_scores`; None as before.
        measure: what a search other than `greedy` maximised: "joint", "complete" or "effect of …" with the operation.
        objectives: (B,) its value, of `paths`, in units of the target function; None of the greedy search.
        passes: (B,) forward and backward passes of the network that the search took, beside the clean one and those of
            `scores`; None as before.
        candidate_scores: (B, L, F) the scorer's objective for every candidate neuron, or None when not kept. Blocks
            narrower than the widest are padded with NaN.
        n_neurons: F of each block, of results of `neuron_path.find_paths`; else None.
        units: what the neurons are, of such results.
    """

    paths: Int[Tensor, "B L"] | Int[Tensor, "B L k"]
    scores: Float[Tensor, "B"]
    margins: Float[Tensor, "B L"]
    targets: Int[Tensor, "B"]
    predictions: Int[Tensor, "B"]
    target_probabilities: Float[Tensor, "B"]
    n_steps: Int[Tensor, "B"]
    score_errors: Float[Tensor, "B"] | None = None
    rounding: Float[Tensor, "B"] | None = None
    complete_scores: Float[Tensor, "B"] | None = None
    convergence_deltas: Float[Tensor, "B"] | None = None
    measure: str = "joint"
    objectives: Float[Tensor, "B"] | None = None
    passes: Int[Tensor, "B"] | None = None
    candidate_scores: Float[Tensor, "B L F"] | None = None
    n_neurons: tuple[int, ...] | None = None
    units: UnitsName = "ffn"

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        n_images, n_blocks, *k = self.paths.shape
        return f"PathResult(images={n_images}, blocks={n_blocks}, top_k={k[0] if k else 1}, measure='{self.measure}')"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from neuron_path.report.notebook import figure_as_html, paths_as_html

        drawn = figure_as_html(self.plot(), "Neuron path of image 0") if len(self) and self.n_neurons else ""
        return paths_as_html(self.to_frame(), repr(self)) + drawn

    def to_frame(self) -> pd.DataFrame:
        """The paths as a table: one row per image, block and neuron, with the names that a run's tables have.

        Returns:
            Columns `image` (0 … B−1, its place in the batch), `block` (0 … L−1; of neurons of any blocks only those
            that have one), `rank` (0 … k−1, 0 is the block's best), `neuron`, `margin` (the block's, the same for all
            its ranks), and of the image `target`, `prediction`, `target_probability` and `score`.

        >>> import neuron_path
        >>> model = neuron_path.load_model("digits_vit")
        >>> images, labels = neuron_path.load_digits("test")
        >>> frame = neuron_path.find_paths(model, images[:2], labels[:2]).to_frame()
        >>> frame[["image", "block", "rank", "neuron", "target"]].head(3)
           image  block  rank  neuron  target
        0      0      0     0     134       1
        1      0      1     0      42       1
        2      0      2     0     110       1
        """
        import numpy as np
        import pandas as pd

        own = self.to(torch.device("cpu"), torch.float64)
        slots = np.atleast_3d(own.paths.numpy())
        image, block, rank = np.indices(slots.shape).reshape(3, -1)
        values = {
            "margin": own.margins.numpy()[image, block],
            "target": own.targets.numpy()[image],
            "prediction": own.predictions.numpy()[image],
            "target_probability": own.target_probabilities.numpy()[image],
            "score": own.scores.numpy()[image],
        }
        frame = pd.DataFrame({"image": image, "block": block, "rank": rank, "neuron": slots.ravel()} | values)
        return frame.loc[frame["neuron"] >= 0].reset_index(drop=True)

    def plot(
        self,
        image: ArrayLike | None = None,
        index: int = 0,
        *,
        n_neurons: int | Sequence[int] | None = None,
        label: int | None = None,
        sample_id: str | int | None = None,
        class_names: ClassNames | None = None,
    ) -> Figure:
        """Draw the path of one image: `neuron_path.report.figures.image_path_figure` of what this result knows.

        Args:
            image: the picture, not the model's input: (H, W) or (H, W, 3), values in [0, 1], or 0 to 255 of type
                uint8. None draws the path alone.
            index: which image of the batch, 0 … B−1.
            n_neurons: F, one for all blocks or one per block; by default what the result knows.
            label: the image's class, where known.
            sample_id: the image's name; by default its index.
            class_names: names by class index.

        Returns:
            The figure, which a notebook shows and `neuron_path.report.style.save_figure` writes.

        Raises:
            NeuronPathError: no image of that index, widths that are not known, or a picture of another shape or range.

        >>> import neuron_path
        >>> model = neuron_path.load_model("digits_vit")
        >>> images, labels = neuron_path.load_digits("test")
        >>> result = neuron_path.find_paths(model, images[:2], labels[:2])
        >>> figure = result.plot(images[1, 0] / 2 + 0.5, 1, label=int(labels[1]))  # the digits' normalisation undone
        """
        from neuron_path.report.figures.image_path import image_path_figure

        if not 0 <= index < len(self):
            raise NeuronPathError(f"There is no image {index} in this result; expected 0 … {len(self) - 1}.")
        widths = self.n_neurons if n_neurons is None else n_neurons
        if widths is None:
            raise NeuronPathError(
                "This result does not know how many neurons each block has: give n_neurons, one number for each block."
            )
        own = self.to(torch.device("cpu"), torch.float64)
        return image_path_figure(
            image,
            own.paths[index].numpy(),
            n_neurons=widths,
            candidate_scores=None if own.candidate_scores is None else own.candidate_scores[index].numpy(),
            margins=own.margins[index].numpy(),
            label=label,
            target=int(own.targets[index]),
            prediction=int(own.predictions[index]),
            target_probability=float(own.target_probabilities[index]),
            score=float(own.scores[index]),
            sample_id=index if sample_id is None else sample_id,
            class_names=class_names,
            units=self.units,
        )


@dataclass(frozen=True, repr=False)
class HeatMap(_OfImages):
    """What `neuron_path.heat_map` finds: a number for each patch of each image. A notebook shows the first one.

    Attributes:
        values: (B, rows, columns), the upper left patch first. Of "effect" in units of the target function: how much a
            patch adds to what removing the path takes from it, negative where it lessens that. Of "activation" the sum
            of the neurons' activations at the patch's token.
        quantity: "effect" or "activation".
        targets: (B,) each image's target class; None of "activation".
        effects: (B,) f(image) − f(image; path removed); None of "activation".
        baseline_effects: (B,) the same of the baseline; None of "activation".
        convergence_deltas: (B,) what the quadrature misses: the map's sum − (`effects` − `baseline_effects`); None of
            "activation".
    """

    values: Float[Tensor, "B rows columns"]
    quantity: QuantityName = "effect"
    targets: Int[Tensor, "B"] | None = None
    effects: Float[Tensor, "B"] | None = None
    baseline_effects: Float[Tensor, "B"] | None = None
    convergence_deltas: Float[Tensor, "B"] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        n_images, rows, columns = self.values.shape
        return f"HeatMap(images={n_images}, rows={rows}, columns={columns}, quantity='{self.quantity}')"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from neuron_path.report.notebook import figure_as_html

        return figure_as_html(self.plot(), "Heat map of image 0") if len(self) else repr(self)

    def plot(self, image: ArrayLike | None = None, index: int = 0, *, sample_id: str | int | None = None) -> Figure:
        """Draw the map of one image: `neuron_path.report.figures.heat_map_figure`.

        Args:
            image: the picture, not the model's input: (H, W) or (H, W, 3), values in [0, 1], or 0 to 255 of type
                uint8, cut as the model saw it. None draws the map alone.
            index: which image of the batch, 0 … B−1.
            sample_id: the image's name; by default its index.

        Returns:
            The figure, which a notebook shows and `neuron_path.report.style.save_figure` writes.

        Raises:
            NeuronPathError: no image of that index, or a picture of another shape or range.
        """
        from neuron_path.report.figures.heat_map import heat_map_figure

        if not 0 <= index < len(self):
            raise NeuronPathError(f"There is no image {index} in this result: it has {len(self)}, from 0.")
        return heat_map_figure(
            image,
            self.values[index].detach().cpu().numpy(),
            quantity=self.quantity,
            sample_id=index if sample_id is None else sample_id,
        )


@dataclass(frozen=True, repr=False)
class PathEdges(_OfImages):
    """How the effect of each neuron of a path goes on, of a batch of images; see `neuron_path.path_edges`.

    Attributes:
        edges: (B, L, L), of k neurons a block (B, L, k, L, k): from the neuron of one block, the first index, through
            that of a later one; 0 else. In units of the target function.
        to_output: (B, L) or (B, L, k): what reaches the output through no other neuron of the path.
        paths: (B, L) or (B, L, k) the neurons.
        targets: (B,) the class whose target function it is.
        units: what the neurons are.
    """

    edges: Float[Tensor, "B L *k L *k"]
    to_output: Float[Tensor, "B L *k"]
    paths: Int[Tensor, "B L *k"]
    targets: Int[Tensor, "B"]
    units: UnitsName = "ffn"

    def __len__(self) -> int:
        return len(self.edges)

    def __repr__(self) -> str:
        n_images, n_blocks, *k = self.to_output.shape
        return f"PathEdges(images={n_images}, blocks={n_blocks}, top_k={k[0] if k else 1})"

    @property
    def totals(self) -> Float[Tensor, "B L *k"]:
        """The first-order effect of each neuron by all ways."""
        return self.to_output + self.edges.sum(tuple(range(self.to_output.ndim, self.edges.ndim)))

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from neuron_path.report.notebook import figure_as_html

        return figure_as_html(self.plot(), "Edges of the path of image 0") if len(self) else repr(self)

    def plot(self, index: int = 0, *, most: int = 20, sample_id: str | int | None = None) -> Figure:
        """Draw the edges of one image: `neuron_path.report.figures.path_edges_figure`.

        Args:
            index: which image of the batch, 0 … B−1.
            most: so many edges are drawn, the largest.
            sample_id: the image's name; by default its index.

        Returns:
            The figure, which a notebook shows and `neuron_path.report.style.save_figure` writes.

        Raises:
            NeuronPathError: no image of that index, or `most` below 1.
        """
        from neuron_path.report.figures.path_edges import path_edges_figure

        if not 0 <= index < len(self):
            raise NeuronPathError(f"There is no image {index} in this result; expected 0 … {len(self) - 1}.")
        own = self.to(torch.device("cpu"), torch.float64)
        return path_edges_figure(
            own.paths[index].numpy(),
            own.edges[index].numpy(),
            own.to_output[index].numpy(),
            most=most,
            sample_id=index if sample_id is None else sample_id,
            units=self.units,
        )
