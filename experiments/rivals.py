"""Effect search against what else would be used to find the neurons whose removal matters most, at what cost.

    python experiments/rivals.py [KEY=VALUE …] [--images=N] [--sizes=1,5,20] [--steps=N] [--leave-out=NAME,…]

KEY=VALUE are settings of `neuron-path run`; by default the embedded model on the embedded digits. Every method names k
neurons a block of each image; all are removed in the live network, and the change of the target's probability counts,
in percent of the clean one. The methods, with their cost in passes (one forward, or one forward and backward):

- `gradient × activation`: the largest of the untouched network; `integrated gradients`: the same as the block's own
  activations grow from 0 (8 nodes, through the blocks behind);
- `relevance`: the same with LRP's coefficients in place of gradients, as relevance patching takes them (Rezaei Jafari
  et al., 2025, arXiv 2508.21258): attention weights, deviations of norms, slopes of activation functions are constant;
- `learned mask`: hard-concrete gates on all neurons, fitted to each image by gradient descent (Louizos et al., 2018,
  arXiv 1712.01312), so that removing about k neurons a block lowers the target most; the k largest of each block;
- `exact on a shortlist`: block by block, one neuron after the other, that one of the eight with the largest
  gradient × activation whose removal, beside those chosen before, lowers the target most;
- `effect search`: `search=linearized search.measure=effect`;
- `random`: the null.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import neuron_path
from neuron_path.attribution.forward import through
from neuron_path.attribution.target import target_margin
from neuron_path.cli.arguments import parse_arguments, whole_number
from neuron_path.cli.hydra_app import compose_config
from neuron_path.models.session import Session
from neuron_path.pipeline.build import build_study
from neuron_path.searches import Linearized
from neuron_path.stats.intervals import bootstrap_mean
from neuron_path.stats.paired import holm, paired_test

SHORTLIST = 8
NODES = 8
BATCH = 16  # images, or edits of them, in a pass
BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1  # of the hard-concrete distribution, as in its paper
Scores = list[Tensor]  # per block (B, F): the larger, the more the neuron's removal lowers the target


def attributions(session: Session, images: Tensor, targets: Tensor) -> Scores:
    """w · ∂p/∂a in the live network, in which a block's gradient also goes through the blocks behind it."""
    adapter, leaves = session.adapter, []

    def project(index: int, u: Tensor) -> Tensor:
        a = adapter.blocks[index].activations(u)
        leaves.append(a if leaves else a.detach().requires_grad_())
        return adapter.blocks[index].project(leaves[-1])

    with session.active():
        h = adapter.embed(session.images(images))
        with torch.enable_grad():
            value = probability(adapter.head(through(adapter, h, project)), targets).sum()
            gradients = torch.autograd.grad(value, leaves)
    return [(a.detach() * gradient).sum(1) for a, gradient in zip(leaves, gradients, strict=True)]


@contextmanager
def lrp() -> Iterator[None]:
    """Gradients are LRP's coefficients while this lasts: what is not linear counts as the constant that it is here."""
    layer_norm, gelu = F.layer_norm, F.gelu

    def norm(x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
        deviation = (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt().detach()
        plain = (x - x.mean(-1, keepdim=True)) / deviation
        return plain if weight is None else plain * weight + (0 if bias is None else bias)

    def slope(x: Tensor, approximate: str = "none") -> Tensor:
        ratio = gelu(x, approximate=approximate) / x
        return x * torch.where(x == 0, torch.full_like(x, 0.5), ratio).detach()

    def attention(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> Tensor:
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1).detach() @ v

    with (
        patch.object(F, "layer_norm", norm),
        patch.object(F, "gelu", slope),
        patch.object(F, "scaled_dot_product_attention", attention),
    ):
        yield
    assert F.layer_norm is layer_norm


def relevance(session: Session, images: Tensor, targets: Tensor) -> Scores:
    """Input times LRP's coefficient of every neuron, for the target's logit."""
    with lrp(), patch.object(sys.modules[__name__], "probability", target_logit):
        return attributions(session, images, targets)


def learned_mask(session: Session, images: Tensor, targets: Tensor, k: int, n_steps: int, seed: int = 0) -> Scores:
    """log α of the gate that removes each neuron: the target's log-odds plus the share of gates above k, least."""
    adapter = session.adapter
    generator = torch.Generator().manual_seed(seed)
    with session.active():
        h = adapter.embed(session.images(images))
        widths = [block.n_neurons for block in adapter.blocks]
        gates = [torch.full((len(images), width), -3.0).to(h).requires_grad_() for width in widths]
        optimiser = torch.optim.Adam(gates, lr=0.1)
        for _ in range(n_steps):

            def project(index: int, u: Tensor) -> Tensor:
                gate = gates[index]
                u_01 = torch.rand(gate.shape, generator=generator).clamp(1e-6, 1 - 1e-6).to(gate)
                soft = ((u_01.logit() + gate) / BETA).sigmoid() * (ZETA - GAMMA) + GAMMA
                removed = soft.clamp(0, 1).unsqueeze(1)
                return adapter.blocks[index].project(adapter.blocks[index].activations(u) * (1 - removed))

            with torch.enable_grad():
                odds = target_margin(adapter.head(through(adapter, h, project)), targets)
                # P(gate > 0), by which the number of removed neurons is counted.
                counts = [(gate - BETA * float(np.log(-GAMMA / ZETA))).sigmoid().sum(1) for gate in gates]
                excess = torch.stack([(count / k - 1).clamp(min=0) for count in counts]).mean(0)
                loss = (odds + excess).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return [gate.detach() for gate in gates]


def exact_on_shortlist(session: Session, images: Tensor, targets: Tensor, scores: Scores, k: int) -> Tensor:
    """(B, L, k) chosen one after the other by the exact effect of removing each of a shortlist."""
    adapter = session.adapter
    rows, n_listed = len(images), max(SHORTLIST, k)
    gates = [torch.ones_like(block) for block in scores]  # (B, F) of each block: 0 for what is chosen
    paths: list[list[Tensor]] = [[] for _ in scores]

    def left(index: int, listed: Tensor) -> Tensor:
        """(B, c) the target's probability without what is chosen and, in one block, each that is listed."""

        def project(at: int, u: Tensor) -> Tensor:
            gate = gates[at].repeat_interleave(listed.shape[1], 0)
            if at == index:
                gate = gate.scatter(1, listed.reshape(-1, 1), 0)
            return adapter.blocks[at].project(adapter.blocks[at].activations(u) * gate.unsqueeze(1))

        with torch.no_grad():
            logits = adapter.head(through(adapter, h.repeat_interleave(listed.shape[1], 0), project))
        return probability(logits, targets.repeat_interleave(listed.shape[1])).view(rows, -1)

    with session.active():
        h = adapter.embed(session.images(images))
        for index, block in enumerate(scores):
            listed = block.topk(n_listed, 1).indices
            for _ in range(k):
                chosen = gates[index].gather(1, listed) == 0
                best = left(index, listed).masked_fill(chosen, torch.inf).argmin(1, keepdim=True)
                paths[index].append(listed.gather(1, best))
                gates[index].scatter_(1, paths[index][-1], 0)
    return torch.stack([torch.cat(neurons, 1) for neurons in paths], 1).cpu()


def probability(logits: Tensor, targets: Tensor) -> Tensor:
    """(B,) softmax probability of each row's target."""
    return target_logit(logits.log_softmax(1), targets).exp()


def target_logit(logits: Tensor, targets: Tensor) -> Tensor:
    """(B,)"""
    return logits.gather(1, targets.to(logits.device).unsqueeze(1)).squeeze(1)


def removed(model: nn.Module, images: Tensor, targets: Tensor, paths: Tensor) -> Tensor:
    """(B,) the target's probability without the neurons."""
    return probability(neuron_path.intervene(model, images, paths, "remove"), targets).cpu()


def largest(scores: Scores, k: int) -> Tensor:
    """(B, L, k) each block's largest."""
    return torch.stack([block.topk(k, 1).indices.cpu() for block in scores], 1)


def batched(rate: Callable[..., Scores], images: Tensor, targets: Tensor) -> Scores:
    """Scores of all images, a batch at a time."""
    parts = [rate(images[run], targets[run]) for run in torch.arange(len(images)).split(BATCH)]
    return [torch.cat(blocks) for blocks in zip(*parts, strict=True)]


def measure(
    model: nn.Module, images: Tensor, targets: Tensor, sizes: Sequence[int], n_steps: int, left_out: Sequence[str] = ()
) -> dict[int, dict[str, tuple[float, np.ndarray]]]:
    """By k and method: its passes, and the change of each image's target probability in percent, (B,)."""
    session = Session(model)
    with session.active():
        logits = torch.cat(
            [
                session.adapter.logits(session.images(images[run])).cpu()
                for run in torch.arange(len(images)).split(BATCH)
            ]
        )
    clean = probability(logits, targets)
    rate = partial(batched, images=images, targets=targets)
    single = rate(partial(attributions, session))
    rankings: dict[str, tuple[float, Scores]] = {
        "gradient × activation": (1, single),
        "relevance": (1, rate(partial(relevance, session))),
    }
    results: dict[int, dict[str, tuple[float, np.ndarray]]] = {}
    for k in sizes:
        chosen = {name: (passes, largest(scores, k)) for name, (passes, scores) in rankings.items()}
        if "learned mask" not in left_out:
            mask = rate(partial(learned_mask, session, k=k, n_steps=n_steps))
            chosen["learned mask"] = n_steps, largest(mask, k)
        if "exact on a shortlist" not in left_out:
            passes = 1 + len(single) * k * max(SHORTLIST, k)
            parts = []
            for run in torch.arange(len(images)).split(BATCH):
                ranked = [block[run] for block in single]
                parts.append(exact_on_shortlist(session, images[run], targets[run], ranked, k))
            chosen["exact on a shortlist"] = passes, torch.cat(parts)
        along = neuron_path.find_paths(model, images, targets, scorer="integrated_gradients", n_steps=NODES, top_k=k)
        passes = 1 + NODES * (len(single) + 1) / 2  # the blocks behind each block, at every node
        chosen["integrated gradients"] = passes, torch.atleast_3d(along.paths).cpu()
        found = neuron_path.find_paths(model, images, targets, search=Linearized(measure="effect"), top_k=k)
        assert found.passes is not None
        chosen["effect search"] = 1 + float(found.passes.double().mean()), torch.atleast_3d(found.paths).cpu()
        null = neuron_path.find_paths(model, images, targets, scorer="random", top_k=k).paths
        chosen["random"] = 0, torch.atleast_3d(null).cpu()
        results[k] = {}
        for name, (passes, paths) in chosen.items():
            left = torch.cat(
                [
                    removed(model, images[run], targets[run], paths[run])
                    for run in torch.arange(len(images)).split(BATCH)
                ]
            )
            results[k][name] = passes, (100 * (left - clean) / clean).double().numpy()
            print(f"k = {k}, {name}: {results[k][name][1].mean():+.2f}", file=sys.stderr, flush=True)
    return results


def as_table(results: dict[int, dict[str, tuple[float, np.ndarray]]]) -> str:
    """Markdown: intervals over images, and a test of each against effect search, corrected within each k (Holm)."""
    lines = ["| k | neurons by | passes | change when removed, % | effect search − this | p |", "| --- " * 6 + "|"]
    for k, methods in results.items():
        own = methods["effect search"][1]
        others = [name for name in methods if name != "effect search"]
        tests = {name: paired_test(own, methods[name][1]) for name in others}
        corrected = dict(zip(others, holm([tests[name].p for name in others]), strict=True))
        for place, (name, (passes, change)) in enumerate(methods.items()):
            mean = bootstrap_mean(change)
            ends = ["–", "–"]
            if name in tests:
                gap = tests[name].difference
                ends = [f"{gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]", f"{corrected[name]:.1g}"]
            shown = f"{mean.mean:+.2f} [{mean.low:+.2f}, {mean.high:+.2f}]"
            cells = [str(k) if place == 0 else "", name, f"{passes:.3g}", shown, *ends]
            lines.append(f"| {' | '.join(cells)} |".replace("-", "−"))
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Measure, and print a table in Markdown."""
    known = ["--images", "--sizes", "--steps", "--leave-out"]
    settings, options = parse_arguments("rivals", arguments, known)
    study = build_study(compose_config(settings))
    dataset, n = study.data.dataset, whole_number("--images", options.get("--images", "60"))
    places = np.arange(min(n, len(dataset))) * len(dataset) // min(n, len(dataset))
    images = torch.stack([dataset[int(place)]["image"] for place in places])
    model = study.session.model
    with torch.no_grad():
        targets = torch.cat([model(images[run]).argmax(1) for run in torch.arange(len(images)).split(BATCH)])
    sizes = [whole_number("--sizes", size) for size in options.get("--sizes", "1,5,20").split(",")]
    n_steps = whole_number("--steps", options.get("--steps", "400"))
    results = measure(model, images, targets, sizes, n_steps, options.get("--leave-out", "").split(","))
    print(f"{len(images)} images, predicted classes\n\n{as_table(results)}")


if __name__ == "__main__":
    main(sys.argv[1:])
