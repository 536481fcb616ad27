"""What an objective is to first order around rated paths, and the path that is best by it: arithmetic, no network.

Of the paths Q of an image, near a path P whose gradients D are known, the *model* is

- for the joint score (Σ_Q w) · (Σ_Q D), per token, then the mean over tokens (`Product`);
- for the complete score, and for the effect of an edit, Σ_Q g, with what each neuron contributes alone (`Sum`).

Both are exact at Q = P.

Its place in a search: docs/how-it-works.md.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.exactness import TIE, largest, ranked

_ANGLES = 32  # directions in which the two sums of a product are traded against each other
_MOST_ROUNDS = 20  # of an ascent, which was seen to end after 2 to 5


class Written(Protocol):
    """What a `Product` asks of a block; see `Block`."""

    def pullback(self, g: Float[Tensor, "*N D"], /) -> Float[Tensor, "*N F"]: ...

    def columns(self, neurons: Int[Tensor, "*B k"], /) -> Float[Tensor, "*B k D"]: ...


class Proposal(NamedTuple):
    """The best path of n images by the model.

    Attributes:
        paths: (n, L, k).
        clearance: (n,) the closest call that led to it, relative to the largest contribution of a neuron compared.
    """

    paths: Int[Tensor, "n L k"]
    clearance: Float[Tensor, "n"]


class Swaps(NamedTuple):
    """The c most promising swaps in each block of n paths.

    Attributes:
        scores: (n, L, c) what the path's score would be by the model, in descending order.
        neurons: (n, L, c) the neuron that comes in.
        places: (n, L) the place, among the block's k, of the one that goes: the one that is missed least.
    """

    scores: Float[Tensor, "n L c"]
    neurons: Int[Tensor, "n L c"]
    places: Int[Tensor, "n L"]


class Linear(ABC):
    """The model of n images; each of its methods takes a path of each."""

    n_blocks: int

    @abstractmethod
    def joined(self) -> Linear:
        """The same over one block that has the neurons of all, those of the first block first."""

    @abstractmethod
    def best(self, top_k: int, start: Int[Tensor, "n L k"] | None = None) -> Proposal:
        """The path with the largest value by the model, k neurons a block.

        Args:
            top_k: k.
            start: paths to begin with too.
        """

    @abstractmethod
    def value(self, paths: Int[Tensor, "n L k"]) -> Float[Tensor, "n"]:
        """The model's value of paths."""

    @abstractmethod
    def without(self, paths: Int[Tensor, "n L k"]) -> list[Float[Tensor, "n k"]]:
        """Per block, the model's values of the paths without each of its neurons."""

    @abstractmethod
    def exchanged(self, paths: Int[Tensor, "n L k"], others: Int[Tensor, "n L k"]) -> Float[Tensor, "n L k"]:
        """The model's values of the paths with one neuron as others have it in its place."""

    @abstractmethod
    def candidates(self, paths: Int[Tensor, "n L k"]) -> list[tuple[Float[Tensor, "n F"], Int[Tensor, "n"]]]:
        """Per block, the model's values of the paths with each neuron in the place of the one that is missed least, and
        that place."""

    def swaps(self, paths: Int[Tensor, "n L k"], length: int) -> Swaps:
        """The most promising swaps of each path, `length` in each block."""
        found = []
        for index, (every, place) in enumerate(self.candidates(paths)):
            scores = every.scatter(1, paths[:, index], -torch.inf)
            values, order = ranked(F.pad(scores, (0, max(0, length - scores.shape[1])), value=-torch.inf))
            found.append((values[:, :length], order[:, :length], place))
        return Swaps(*(torch.stack(values, 1) for values in zip(*found, strict=True)))

    def margins(self, paths: Int[Tensor, "n L k"]) -> Float[Tensor, "n L"]:
        """How much of its value a path would lose by the most promising swap in each block; a gain is below 0."""
        value, found = self.value(paths).unsqueeze(1), []
        for index, (scores, _) in enumerate(self.candidates(paths)):
            found.append(scores.scatter(1, paths[:, index], -torch.inf).amax(1))
        return (value - torch.stack(found, 1)) / value.abs()

    def in_order(self, paths: Int[Tensor, "n L k"]) -> Int[Tensor, "n L k"]:
        """The same paths, each block's neurons in descending order of what is lost without them."""
        places = [ranked(-values)[1] for values in self.without(paths)]
        return torch.stack([paths[:, index].gather(1, place) for index, place in enumerate(places)], 1)


class Sum(Linear):
    """Each neuron contributes alone.

    Args:
        gains: per block (n, F), the contribution of every neuron.
    """

    def __init__(self, gains: Sequence[Float[Tensor, "n F"]]) -> None:
        self.gains, self.n_blocks = gains, len(gains)

    def joined(self) -> Linear:
        return Sum([torch.cat(list(self.gains), 1)])

    def best(self, top_k: int, start: Tensor | None = None) -> Proposal:
        paths, clearance = [], []
        for gains in self.gains:
            values, order = ranked(gains)
            paths.append(order[:, :top_k])
            gap = values[:, top_k - 1] - values[:, top_k] if gains.shape[1] > top_k else values[:, 0] + torch.inf
            clearance.append(gap / largest(gains))
        return Proposal(torch.stack(paths, 1), torch.stack(clearance, 1).nan_to_num(torch.inf).amin(1))

    def value(self, paths: Tensor) -> Tensor:
        return self._of(paths).sum((1, 2))

    def without(self, paths: Tensor) -> list[Tensor]:
        whole = self.value(paths).unsqueeze(1)
        return [whole - gains for gains in self._of(paths).unbind(1)]

    def exchanged(self, paths: Tensor, others: Tensor) -> Tensor:
        before = self._of(paths)
        return before.sum((1, 2), keepdim=True) + self._of(others) - before

    def candidates(self, paths: Tensor) -> list[tuple[Tensor, Tensor]]:
        found = []
        for without, gains in zip(self.without(paths), self.gains, strict=True):
            place = _first_largest(without)
            found.append((without.gather(1, place.unsqueeze(1)) + gains, place))
        return found

    def _of(self, paths: Tensor) -> Float[Tensor, "n L k"]:
        return torch.stack([gains.gather(1, paths[:, index]) for index, gains in enumerate(self.gains)], 1)


class Product(Linear):
    """A product of two sums over the path, per token, then the mean over tokens.

    Args:
        blocks: the model's blocks.
        w: per block (n, s, F), the first factor's terms: clean activations.
        gradients: per block (n, s, D), at the projections; the second factor's terms follow from them.
        own: per block (n, F), the mean over tokens of a neuron's own two terms; only for s > 1.
    """

    def __init__(
        self,
        blocks: Sequence[Written],
        w: Sequence[Float[Tensor, "n s F"]],
        gradients: Sequence[Float[Tensor, "n s D"]],
        own: Sequence[Float[Tensor, "n F"]],
    ) -> None:
        self.blocks, self.w, self.gradients, self.own, self.n_blocks = blocks, w, gradients, own, len(blocks)
        self.mean_w = [values.mean(1) for values in w]
        self.mean_g = [block.pullback(g.mean(1)) for block, g in zip(blocks, gradients, strict=True)]

    def joined(self) -> Linear:
        widths = [(w.shape[2], g.shape[2]) for w, g in zip(self.w, self.gradients, strict=True)]
        own = [torch.cat(list(self.own), 1)] if self.own else []
        block = _Joined(self.blocks, widths)
        return Product([block], [torch.cat(list(self.w), 2)], [torch.cat(list(self.gradients), 2)], own)

    def best(self, top_k: int, start: Tensor | None = None) -> Proposal:
        starts = self._starts(top_k)
        if start is not None:
            starts = torch.cat((starts, start.unsqueeze(0)))
        if self.w[0].shape[1] == 1:
            return self._best_of(starts, [])
        # Several tokens trade against each other in more ways than two sums: begin from a few starts.
        others = [self._best_of(quarter, []) for quarter in starts[:_ANGLES].chunk(4)]
        others += [
            self._ascend(paths, self.mean_w[0].new_full(paths.shape[:1], torch.inf)) for paths in starts[_ANGLES:]
        ]
        return self._best_of(torch.stack([one.paths for one in others]), others)

    def _best_of(self, starts: Int[Tensor, "A n L k"], ends: Sequence[Proposal]) -> Proposal:
        """The best start, and the ascent from it; where all are ends of ascents, the best of these."""
        values = self.value(starts)  # (A, n)
        best = values.argmax(0)
        every = torch.arange(values.shape[1], device=values.device)
        # Another start that is as good and elsewhere may lead elsewhere.
        sets = starts.sort(3).values
        others = values.masked_fill((sets == sets[best, every]).flatten(2).all(2), -torch.inf)
        gap = (values[best, every] - others.amax(0)) / values.abs().amax(0)
        gap = gap.nan_to_num(torch.inf)
        if not ends:
            return self._ascend(starts[best, every], gap)
        clearance = torch.stack([one.clearance for one in ends])[best, every]
        return Proposal(starts[best, every], torch.minimum(gap, clearance))

    def value(self, paths: Int[Tensor, "*A n L k"]) -> Float[Tensor, "*A n"]:
        weight, slope, _ = self._sums(paths)
        return (weight * slope).mean(-1)

    def without(self, paths: Tensor) -> list[Tensor]:
        weight, slope, chosen = self._sums(paths)
        return [((weight.unsqueeze(2) - w) * (slope.unsqueeze(2) - g)).mean(1) for w, g in chosen]

    def exchanged(self, paths: Tensor, others: Tensor) -> Tensor:
        weight, slope, chosen = self._sums(paths)
        weight, slope = weight.unsqueeze(2), slope.unsqueeze(2)
        values = [
            ((weight + w2 - w) * (slope + g2 - g)).mean(1)
            for (w, g), (w2, g2) in zip(chosen, self._sums(others)[2], strict=True)
        ]
        return torch.stack(values, 1)

    def candidates(self, paths: Tensor) -> list[tuple[Tensor, Tensor]]:
        weight, slope, chosen = self._sums(paths)
        found = []
        for index, (w, g) in enumerate(chosen):
            place, rest_w, rest_g = _without_least(weight, slope, w, g)
            found.append((self._with_each(index, rest_w, rest_g), place))
        return found

    def _ascend(self, paths: Tensor, clearance: Tensor) -> Proposal:
        """Take each block's best neuron given the others, round after round, until nothing changes."""
        paths = paths.clone()
        weight, slope, _ = self._sums(paths)
        for _ in range(_MOST_ROUNDS):
            before = paths.clone()
            for index in range(self.n_blocks):
                w, g = self._chosen(index, paths[:, index])
                place, rest_w, rest_g = _without_least(weight, slope, w, g)
                scores = self._with_each(index, rest_w, rest_g)
                base = (rest_w * rest_g).mean(1, keepdim=True)
                stays = torch.arange(paths.shape[2], device=paths.device) != place.unsqueeze(1)
                # Neurons that stay cannot come in; scatter the one that goes back in.
                scores = scores.scatter(
                    1, paths[:, index], torch.where(stays, -torch.inf, scores.gather(1, paths[:, index]))
                )
                comes = _first_largest(scores)
                scale = (scores - base).masked_fill(scores == -torch.inf, 0).abs().amax(1)
                if scores.shape[1] > 1:
                    two = scores.topk(2, 1).values
                    clearance = torch.minimum(clearance, ((two[:, 0] - two[:, 1]) / scale).nan_to_num(torch.inf))
                paths[:, index] = paths[:, index].scatter(1, place.unsqueeze(1), comes.unsqueeze(1))
                new_w, new_g = self._chosen(index, comes.unsqueeze(1))
                weight, slope = rest_w + new_w.squeeze(2), rest_g + new_g.squeeze(2)
            if torch.equal(paths, before):
                break
        return Proposal(paths, clearance)

    def _starts(self, top_k: int) -> Int[Tensor, "A n L k"]:
        """The supported points: for each direction the block's largest neurons by the two terms weighed by it."""
        angle = torch.arange(_ANGLES) * (2 * math.pi / _ANGLES)
        cos, sin = (values.to(self.mean_w[0]).view(-1, 1, 1) for values in (angle.cos(), angle.sin()))
        most_w, most_g = (
            torch.stack([values.abs().amax(1) for values in terms]).amax(0).clamp(min=torch.finfo(cos.dtype).tiny)
            for terms in (self.mean_w, self.mean_g)
        )
        paths = []
        for w, g in zip(self.mean_w, self.mean_g, strict=True):
            mixed = cos * (w / most_w.unsqueeze(1)) + sin * (g / most_g.unsqueeze(1))  # (A, n, F)
            paths.append(mixed.topk(top_k, 2).indices)
        found = torch.stack(paths, 2)
        if self.own:
            found = torch.cat((found, torch.stack([own.topk(top_k, 1).indices for own in self.own], 1).unsqueeze(0)))
        return found

    def _sums(
        self, paths: Int[Tensor, "*A n L k"]
    ) -> tuple[Float[Tensor, "*A n s"], Float[Tensor, "*A n s"], list[tuple[Tensor, Tensor]]]:
        """Both sums over the paths, and both terms of each block's neurons."""
        chosen = [self._chosen(index, neurons) for index, neurons in enumerate(paths.unbind(-2))]
        weight, slope = (torch.stack([x.sum(-1) for x in parts]).sum(0) for parts in zip(*chosen, strict=True))
        return weight, slope, chosen

    def _chosen(
        self, index: int, neurons: Int[Tensor, "*A n k"]
    ) -> tuple[Float[Tensor, "*A n s k"], Float[Tensor, "*A n s k"]]:
        """Both terms of a block's neurons."""
        w = self.w[index]
        places = neurons.unsqueeze(-2).expand(*neurons.shape[:-1], w.shape[1], -1)
        chosen_w = w.expand(*places.shape[:-1], -1).gather(-1, places)
        if w.shape[1] == 1:
            return chosen_w, self.mean_g[index].expand(*neurons.shape[:-1], -1).gather(-1, neurons).unsqueeze(-2)
        return chosen_w, self.gradients[index] @ self.blocks[index].columns(neurons).mT

    def _with_each(
        self, index: int, rest_w: Float[Tensor, "n s"], rest_g: Float[Tensor, "n s"]
    ) -> Float[Tensor, "n F"]:
        """The values with each neuron of a block beside the rest of the path: mean over tokens of (W + w) (G + g)."""
        w = self.w[index]
        if w.shape[1] == 1:
            return (rest_w + self.mean_w[index]) * (rest_g + self.mean_g[index])
        crossed = self.blocks[index].pullback((rest_w.unsqueeze(2) * self.gradients[index]).mean(1))
        other = (rest_g.unsqueeze(1) @ w).squeeze(1) / w.shape[1]
        return (rest_w * rest_g).mean(1, keepdim=True) + crossed + other + self.own[index]


class _Joined:
    """One block with the neurons of several, whose projection is theirs side by side.

    Args:
        blocks: L of them.
        widths: of each, how many neurons it has and how wide its projection is.
    """

    def __init__(self, blocks: Sequence[Written], widths: Sequence[tuple[int, int]]) -> None:
        self._blocks, self._widths = blocks, widths

    def pullback(self, g: Float[Tensor, "*N E"]) -> Float[Tensor, "*N G"]:
        parts = g.split([width for _, width in self._widths], -1)
        return torch.cat([block.pullback(part) for block, part in zip(self._blocks, parts, strict=True)], -1)

    def columns(self, neurons: Int[Tensor, "*B k"]) -> Float[Tensor, "*B k E"]:
        """A neuron writes to its own block's part only."""
        parts, first = [], 0
        for block, (n_neurons, _) in zip(self._blocks, self._widths, strict=True):
            own = neurons - first
            is_own = (own >= 0) & (own < n_neurons)
            parts.append(block.columns(own.clamp(0, n_neurons - 1)) * is_own.unsqueeze(-1))
            first += n_neurons
        return torch.cat(parts, -1)


def _without_least(weight: Tensor, slope: Tensor, w: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The place whose neuron is missed least, and both sums without it."""
    without = ((weight.unsqueeze(2) - w) * (slope.unsqueeze(2) - g)).mean(1)
    place = _first_largest(without)
    at = place.view(-1, 1, 1).expand(-1, w.shape[1], 1)
    return place, weight - w.gather(2, at).squeeze(2), slope - g.gather(2, at).squeeze(2)


def _first_largest(scores: Float[Tensor, "n F"]) -> Int[Tensor, "n"]:
    """The index of the largest, of those within the tolerance of a tie the first."""
    bar = scores.amax(1, keepdim=True) - TIE * largest(scores).unsqueeze(1)
    return (scores >= bar).to(torch.uint8).argmax(1)
