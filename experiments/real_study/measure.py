"""What each kind of cell measures.

Logits are kept whole, so that what is made of them (probabilities, accuracy, other classes) is decided afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.errors import NeuronPathError
from neuron_path.interventions.edited import edited_logits
from neuron_path.interventions.operations import KeepOnly, MeanAblation, Operation, ResampleAblation, Scale
from neuron_path.models.adapter import taken
from neuron_path.search.chunk import Chunk
from neuron_path.search.finder import PathFinder
from neuron_path.search.settings import SearchSettings
from neuron_path.types import PathResult
from real_study.evidence import most_used, strongest_patches
from real_study.methods import PAPER, method
from real_study.store import Arrays, Cell
from real_study.subject import ONE_NODE, Part, Photographs, Subject, complement

AT_ONCE: Final = 4  # images of a pass
SHARES: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # of a circuit's neurons: MIB's grid
N_RANDOM: Final = 20  # random sets that a path is held against
VIEW: Final = "flip"  # the picture that a path is measured on, but not found on
SHORTLIST: Final = 0.05  # of a block's neurons, by gradient × activation: half of the sample for the truth


class Measurements:
    """Measures cells of one subject; keeps what cells of one chunk share.

    Args:
        subject: the model and its photographs.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject, self.store, self.session = subject, subject.store, subject.session
        self.widths = [block.n_neurons for block in self.session.adapter.blocks]
        self._chunk = cache(subject.chunk)
        self._current = -1

    def measure(self, cell: Cell) -> Arrays:
        """The numbers of a cell, measured now where they are not in the store."""
        if cell.chunk != self._current:  # the chunks before are not needed any more
            self._chunk, self._parts = cache(self.subject.chunk), cache(self._make_parts)
            self._current = cell.chunk
        kinds: dict[str, Callable[[Cell], Arrays]] = {
            "clean": self._clean,
            "ratings": self._ratings,
            "paths": self._paths,
            "reasons": self._reasons,
            "effects": self._effects,
            "transfer": self._transfer,
            "circuits": self._circuits,
            "nulls": self._nulls,
            "minimality": self._minimality,
            "changed": self._changed,
            "truth": self._truth,
            "rated": self._rated,
            "evidence": self._evidence,
            "rules": self._rules,
        }
        return self.store.put(cell, lambda: kinds[cell.kind](cell))

    # What cells have in common.

    def _make_parts(self, chunk: int, view: str = "") -> list[Part]:
        photographs = self._chunk(chunk)
        images = self.subject.changed(view, photographs) if view else photographs.images
        donors = None if view else self.subject.donors(photographs)
        with self.session.active():
            return [
                Part(self.session, images[rows], photographs.labels[rows], None if donors is None else donors[rows])
                for rows in _runs(len(photographs))
            ]

    def _edit(
        self, chunk: int, paths: Int[Tensor, "n L k"], operation: Callable[[Part, Tensor], Operation], view: str = ""
    ) -> np.ndarray:
        """(n, C) logits with every image's path edited."""
        parts, found = self._parts(chunk, view), []
        with self.session.active():
            for part, rows in zip(parts, _runs(len(paths)), strict=True):
                found.append(edited_logits(part.problem, paths[rows], operation(part, paths[rows])))
        return torch.cat(found).numpy()

    def _mean(self, *_: object) -> Operation:
        return self.subject.means

    def found(self, name: str, k: int, chunk: int) -> Int[Tensor, "n L k"]:
        """The paths of a method, searched for now where that was not done."""
        return torch.from_numpy(self.measure(Cell("paths", name, k, chunk))["paths"].astype(np.int64))

    def ratings(self, name: str, chunk: int) -> Float[np.ndarray, "n L F"]:
        """What a method that ranks gives every neuron; the paper's, given its path of one neuron a block."""
        return self.measure(Cell("ratings", name, 1 if name == PAPER else 0, chunk))["ratings"]

    def _search(
        self, name: str, k: int, photographs: Photographs, images: Tensor, *, keep_candidates: bool = False
    ) -> PathResult:
        finder = method(name).finder(
            self.session,
            self.subject.source.n_steps,
            top_k=k,
            keep_candidates=keep_candidates,
            lender=_Lender(self.subject, photographs),
        )
        own, labels, names = finder.method, photographs.labels, photographs.names
        if own.reference is None:
            return finder.find(images, labels, names, progress=False)[0]
        # Its reference's paths are known: they are not searched for again.
        references = self.found(own.reference.scorer.name, k, self._current)
        results = []
        for rows in _runs(len(images)):
            with self.session.active():
                plan = finder.planner.plan(images[rows])
                chunk = Chunk(self.session, images[rows], labels[rows], names[rows], plan, finder.settings)
            results.append(own.find(chunk, references[rows], keep_candidates=keep_candidates))
        return PathResult.cat(results)

    # The kinds.

    def _clean(self, cell: Cell) -> Arrays:
        """Logits of the photographs and of the changed ones, labels, and each photograph's rounding."""
        photographs = self._chunk(cell.chunk)
        found = {"labels": photographs.labels.numpy()}
        for view in ("", VIEW):
            parts = self._parts(cell.chunk, view)
            found[f"logits_{view}".rstrip("_")] = torch.cat([part.problem.clean.logits for part in parts]).numpy()
        return found

    def _ratings(self, cell: Cell) -> Arrays:
        """Paths of one neuron a block with their scores, and the ratings of all neurons, which are large."""
        photographs = self._chunk(cell.chunk)
        result = self._search(cell.method, 1, photographs, photographs.images, keep_candidates=True)
        assert result.candidate_scores is not None
        return _path_arrays(result) | {"ratings": result.candidate_scores.numpy().astype(np.float32)}

    def _paths(self, cell: Cell) -> Arrays:
        """Paths with their scores; of a method that ranks, the scores are those of one neuron a block."""
        photographs, ranks = self._chunk(cell.chunk), method(cell.method).is_ranking
        if not ranks and (cell.method, cell.k) != (PAPER, 1):
            return _path_arrays(self._search(cell.method, cell.k, photographs, photographs.images))
        arrays = self.measure(Cell("ratings", cell.method, 0 if ranks else 1, cell.chunk))
        found = {name: arrays[name] for name in ("paths", "scores", "passes") if name in arrays}
        if ranks:
            found["paths"] = _in_order(arrays["ratings"])[..., : cell.k]
        return found

    def _reasons(self, cell: Cell) -> Arrays:
        """Activation w and w · g, g the gradient, of the path's neurons at the clean point."""
        path = self.found(cell.method, cell.k, cell.chunk).numpy()
        rated = {"w": "activation", "wg": "gradient_x_activation"}
        return {
            name: np.take_along_axis(self.ratings(scorer, cell.chunk), path, axis=2) for name, scorer in rated.items()
        }

    def _effects(self, cell: Cell) -> Arrays:
        """Logits with the path edited in every way, and on the flipped photograph removed."""
        paths = self.found(cell.method, cell.k, cell.chunk)
        others = complement(paths, self.widths[0])

        def edit(operation: Callable[[Part, Tensor], Operation], chosen: Tensor = paths, view: str = "") -> np.ndarray:
            return self._edit(cell.chunk, chosen, operation, view)

        return {
            "remove": edit(lambda *_: Scale(0.0)),
            "enhance": edit(lambda *_: Scale(2.0)),
            "mean_ablation": edit(self._mean),
            "resample_ablation": edit(_resampled),
            "keep_only": edit(lambda *_: KeepOnly()),
            "keep_mean": edit(self._mean, others),
            "keep_resample": edit(_resampled, others),
            "flipped": edit(lambda *_: Scale(0.0), view=VIEW),
        }

    def _transfer(self, cell: Cell) -> Arrays:
        """Logits with the paths of other photographs removed: of one of the class, and of one of another class.

        They come from the chunk before; −1 stands for a photograph that has none.
        """
        labels = self._chunk(cell.chunk).labels.tolist()
        place_of = {label: place for place, label in enumerate(self.subject.labels(cell.chunk - 1))}
        turned = [labels[at:] + labels[:at] for at in range(len(labels))]
        others = [[label for label in row if label != row[0] and label in place_of] for row in turned]
        arrays = self.store.read(Cell("paths", cell.method, cell.k, cell.chunk - 1))
        lent = torch.from_numpy(arrays["paths"].astype(np.int64))
        found = {}
        for name, places in (
            ("own_class", [place_of.get(label, -1) for label in labels]),
            ("other_class", [place_of[row[0]] if row else -1 for row in others]),
        ):
            at = torch.tensor(places)
            paths = torch.where((at >= 0).view(-1, 1, 1), lent[at.clamp(min=0)], -1)
            found[name] = self._edit(cell.chunk, paths, lambda *_: Scale(0.0))
            found[f"{name}_from"] = at.numpy()
        return found

    def _circuits(self, cell: Cell) -> Arrays:
        """Logits with only a share of each block's neurons kept, the best by the method, all others resampled."""
        ranked = torch.from_numpy(_in_order(self.ratings(cell.method, cell.chunk)).astype(np.int64))
        sizes = circuit_sizes(self.widths[0])
        kept = [self._edit(cell.chunk, ranked[..., size:], _resampled) for size in sizes]
        return {"sizes": np.array(sizes), "kept": np.stack(kept)}

    def _nulls(self, cell: Cell) -> Arrays:
        """Logits with random sets of k neurons a block removed, and with only these kept (the others at their mean)."""
        drawn = self._random_sets(cell.chunk, cell.k)
        removed, kept = [], []
        for paths in drawn:
            removed.append(self._edit(cell.chunk, paths, lambda *_: Scale(0.0)))
            kept.append(self._edit(cell.chunk, complement(paths, self.widths[0]), self._mean))
        return {"removed": np.stack(removed), "kept": np.stack(kept)}

    def _random_sets(self, chunk: int, k: int) -> list[Int[Tensor, "n L k"]]:
        names = self._chunk(chunk).names
        draws = [np.random.default_rng([self.subject.source.seed, _number(name)]) for name in names]
        sets = []
        for _ in range(N_RANDOM):
            found = [[rng.permutation(width)[:k] for width in self.widths] for rng in draws]
            sets.append(torch.from_numpy(np.array(found)))
        return sets

    def _minimality(self, cell: Cell) -> Arrays:
        """Logits with all of the path removed but one block's neuron, and with a random one of a block in addition."""
        paths = self.found(cell.method, 1, cell.chunk)
        (drawn,) = self._random_sets(cell.chunk, 2)[:1]
        extra = torch.where(drawn[..., :1] == paths, drawn[..., 1:], drawn[..., :1])
        without, added = [], []
        for index in range(len(self.widths)):
            spared, more = paths.clone(), torch.full_like(paths, -1)
            spared[:, index] = -1
            more[:, index] = extra[:, index]
            without.append(self._edit(cell.chunk, spared, lambda *_: Scale(0.0)))
            added.append(self._edit(cell.chunk, torch.cat([paths, more], 2), lambda *_: Scale(0.0)))
        return {"without": np.stack(without), "added": np.stack(added)}

    def _changed(self, cell: Cell) -> Arrays:
        """Paths on changed photographs; the cell's method is METHOD.CHANGE."""
        name, view = cell.method.split(".")
        photographs = self._chunk(cell.chunk)
        result = self._search(name, 1, photographs, self.subject.changed(view, photographs))
        return {"paths": result.paths[..., 0].numpy().astype(np.int16)}

    def _rules(self, cell: Cell) -> Arrays:
        """The paper's search with other quadratures; the cell's method is RULE, its k the nodes."""
        from neuron_path.attribution.quadrature import Quadrature

        photographs = self._chunk(cell.chunk)
        own = method(PAPER).finder(self.session, 1).method
        finder = PathFinder(self.session, own, SearchSettings(Quadrature.of(cell.method, cell.k)))
        [result] = finder.find(photographs.images, photographs.labels, photographs.names, progress=False)
        return {"paths": result.paths[..., 0].numpy().astype(np.int16), "scores": result.scores.numpy()}

    def _truth(self, cell: Cell) -> Arrays:
        """The target's loss of probability when single neurons are removed, exactly, in float64.

        Of each image and block k neurons of all, and k of those that gradient × activation puts first.
        """
        photographs = self._chunk(cell.chunk)
        strength = np.abs(self.ratings("gradient_x_activation", cell.chunk))
        images, blocks, neurons, is_strong = [], [], [], []
        for image, name in enumerate(photographs.names):
            rng = np.random.default_rng([self.subject.source.seed, 1, _number(name)])
            for block, width in enumerate(self.widths):
                strongest = np.argsort(-strength[image, block, :width])[: max(cell.k, round(SHORTLIST * width))]
                for pool in (np.arange(width), strongest):
                    drawn = rng.choice(pool, cell.k, replace=False)
                    neurons += drawn.tolist()
                    images += [image] * cell.k
                    blocks += [block] * cell.k
                    is_strong += [len(pool) < width] * cell.k
        lost = []
        double = self.session.double()
        with double.active():
            for rows in _runs(len(photographs)):
                problem = Problem.pose(
                    double.adapter,
                    double.images(photographs.images[rows]),
                    photographs.labels[rows],
                    ONE_NODE,
                    AT_ONCE,
                    nudged=False,
                )
                own = [place for place, image in enumerate(images) if rows.start <= image < rows.stop]
                for some in (own[start : start + AT_ONCE] for start in range(0, len(own), AT_ONCE)):
                    which = torch.tensor([images[place] - rows.start for place in some])
                    paths = torch.full((len(some), len(self.widths), 1), -1)
                    for row, place in enumerate(some):
                        paths[row, blocks[place], 0] = neurons[place]
                    few = problem.take(which, ONE_NODE)
                    edited = edited_logits(few, paths, Scale(0.0)).softmax(1)
                    clean = few.clean.logits.softmax(1)
                    lost += (clean - edited).gather(1, few.targets.unsqueeze(1)).squeeze(1).tolist()
        return {
            "image": np.array(images),
            "block": np.array(blocks),
            "neuron": np.array(neurons),
            "strong": np.array(is_strong),
            "lost": np.array(lost),
        }

    def _rated(self, cell: Cell) -> Arrays:
        """A method's ratings of the neurons that the truth is known of."""
        truth = self.measure(Cell("truth", "", cell.k, cell.chunk))
        ratings = self.ratings(cell.method, cell.chunk)
        return {"rated": ratings[truth["image"], truth["block"], truth["neuron"]]}

    def _evidence(self, cell: Cell) -> Arrays:
        """What activates the neurons most that are on most paths of the chunks up to the cell's."""
        chunks = [self.store.read(Cell("paths", cell.method, cell.k, chunk)) for chunk in range(cell.chunk + 1)]
        units = most_used(np.concatenate([arrays["paths"] for arrays in chunks]))
        return strongest_patches(self.session, self.subject.data, units)


class _Lender:
    """Lends a search what an ablation sets neurons to."""

    def __init__(self, subject: Subject, photographs: Photographs) -> None:
        self._subject, self._photographs = subject, photographs

    def means(self) -> MeanAblation:
        return self._subject.means

    def donors(self, run: slice, names: Sequence[str]) -> Float[Tensor, "b c H W"]:
        raise NeuronPathError("No search of this study maximises the effect of a resample ablation.")


def _path_arrays(result: PathResult) -> Arrays:
    found = {"paths": result.paths.numpy().astype(np.int16), "scores": result.scores.numpy()}
    return found if result.passes is None else found | {"passes": result.passes.numpy()}


def _in_order(ratings: Float[np.ndarray, "n L F"]) -> Int[np.ndarray, "n L F"]:
    """Each block's neurons, the best first."""
    return np.argsort(-ratings, axis=2, kind="stable").astype(np.int16)


def _resampled(part: Part, paths: Int[Tensor, "b L k"]) -> Operation:
    """The donors' activations in the place of the path's."""
    lent = [(taken(a, paths[:, index]), a[:, :0]) for index, a in enumerate(part.donated)]
    return ResampleAblation(lent)


def circuit_sizes(n_neurons: int) -> list[int]:
    """How many neurons of each block a circuit of each share has, none and all among them.

    >>> circuit_sizes(1000)
    [0, 1, 2, 5, 10, 20, 50, 100, 200, 500]
    """
    return sorted({0} | {max(1, round(share * n_neurons)) for share in SHARES})


def _runs(n: int) -> Iterator[slice]:
    for start in range(0, n, AT_ONCE):
        yield slice(start, min(start + AT_ONCE, n))


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
