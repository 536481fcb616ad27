"""The method written down literally: hooks on timm's own modules and plain autograd.

Shares no code with the package. One image at a time, its m quadrature nodes as a batch; for every step a whole forward
pass and one gradient per visited block, nothing kept from one step to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal, localcontext

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True)
class Site:
    """A module whose input holds neurons: an FFN's second linear layer, or some columns of a layer that has more."""

    module: str
    columns: slice = field(default_factory=lambda: slice(None))


# A block's neurons are those of its sites, one after another.
Block = Sequence[Site]
# Called with the block's index, which of its neurons these are, and the activations (N, T, F of the site).
Hook = Callable[[int, slice, Tensor], "Tensor | None"]


@dataclass
class Setting:
    """What the literal computations need: a timm model, the in-scope tokens, the nodes and weights.

    The counted blocks are, unless named, those of all modules `*mlp.fc2`. Where the tokens of a block are `pooled`, the
    objective multiplies their means. The target function is probability (softmax), logit or margin
    (the logarithm of the odds p / (1 - p)).
    """

    model: nn.Module
    tokens: slice
    alpha: Tensor
    weights: Tensor
    blocks: Sequence[Block] | None = None
    pooled: bool = False
    target_function: str | Callable[[Tensor, int], Tensor] = "probability"


def cls_tokens(model: VisionTransformer) -> slice:
    return slice(0, 1)


def patch_tokens(model: VisionTransformer) -> slice:
    return slice(model.num_prefix_tokens, None)


def counted_blocks(setting: Setting) -> Sequence[Block]:
    if setting.blocks is not None:
        return setting.blocks
    return [[Site(name)] for name, _ in setting.model.named_modules() if name.endswith("mlp.fc2")]


def attach(layer: nn.Module, site: Site, start: int, run: Callable[[slice, Tensor], Tensor | None]) -> RemovableHandle:
    """Let `run` see, and replace, a site's activations as (N, T, F of the site)."""

    def pre_hook(_: nn.Module, args: tuple[Tensor]) -> Tensor | None:
        tokens = args[0].flatten(1, -2)
        seen = tokens[..., site.columns]
        replaced = run(slice(start, start + seen.shape[-1]), seen)
        if replaced is None:
            return None
        tokens = tokens.clone()
        tokens[..., site.columns] = replaced
        return tokens.view_as(args[0])

    return layer.register_forward_pre_hook(pre_hook)


def width(layer: nn.Module, site: Site) -> int:
    """The number of neurons of a site."""
    weight = next(layer.parameters())
    return len(range(weight.shape[1])[site.columns])


@contextmanager
def hooked(setting: Setting, hook: Hook) -> Iterator[None]:
    """Run `hook` on every site of every counted block; it may return other activations."""
    handles = []
    for index, block in enumerate(counted_blocks(setting)):
        start = 0
        for site in block:
            layer = setting.model.get_submodule(site.module)
            handles.append(attach(layer, site, start, lambda where, a, index=index: hook(index, where, a)))
            start += width(layer, site)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def target_values(setting: Setting, logits: Tensor, target: int) -> Tensor:
    """The target function of every row of the logits."""
    if callable(setting.target_function):
        return setting.target_function(logits, target)
    p = logits.softmax(1)
    values = {"probability": p, "logit": logits, "margin": (p / (1 - p)).log()}
    return values[setting.target_function][:, target]


def clean_activations(setting: Setting, image: Tensor) -> list[Tensor]:
    """w of every block: (S, F)."""
    seen: list[list[Tensor]] = [[] for _ in counted_blocks(setting)]

    def keep(index: int, where: slice, a: Tensor) -> None:
        seen[index].append(a[0, setting.tokens].detach().clone())

    with hooked(setting, keep), torch.no_grad():
        setting.model(image.unsqueeze(0))
    return [torch.cat(parts, -1) for parts in seen]


def frozen_gradients(setting: Setting, image: Tensor, target: int, leaves: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """∂p/∂leaf for every visited block, and p, at all nodes: leaves (m, S, F) replace the in-scope activations.

    p stands for the target function, whichever it is.
    """
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]

    def overwrite(index: int, where: slice, a: Tensor) -> Tensor | None:
        if index >= len(leaves):
            return None
        a = a.clone()
        a[:, setting.tokens] = leaves[index][..., where]
        return a

    with hooked(setting, overwrite):
        logits = setting.model(image.expand(len(setting.alpha), *image.shape))
    p = target_values(setting, logits, target)
    gradients = [torch.autograd.grad(p.sum(), leaf, retain_graph=True)[0] for leaf in leaves]
    return gradients, p.detach()


def scaled(setting: Setting, w: Tensor, neurons: list[int] | None) -> Tensor:
    """(m, S, F): the activations w with the given neurons (all when None) multiplied by α."""
    leaf = w.expand(len(setting.alpha), *w.shape).clone()
    chosen = slice(None) if neurons is None else neurons
    leaf[:, :, chosen] = leaf[:, :, chosen] * setting.alpha.view(-1, 1, 1)
    return leaf


def integral(setting: Setting, values: Tensor) -> Tensor:
    """Σ_k ω_k values_k over the first dimension."""
    return torch.einsum("m,m...->...", setting.weights, values)


def gathered(setting: Setting, values: Tensor) -> Tensor:
    """(..., S, n) as the objectives take it: per token, or the mean over tokens (..., 1, n) where they are pooled."""
    return values.mean(-2, keepdim=True) if setting.pooled else values


def stacked(rows: list[Tensor]) -> Tensor:
    """(L, F); NaN behind the last neuron of a block that has fewer than another."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=torch.nan)


def greedy_path(
    setting: Setting, image: Tensor, target: int, k: int = 1, complete: bool = False
) -> tuple[list[list[int]], Tensor]:
    """The layer-progressive search: the path, k neurons a block, and all candidates' objectives (L, F)."""
    path: list[list[int]] = []
    objectives = []
    for _ in counted_blocks(setting):
        objectives.append(objective(setting, image, target, path, complete))
        path.append(objectives[-1].argsort(descending=True, stable=True)[:k].tolist())
    return path, stacked(objectives)


def objective(setting: Setting, image: Tensor, target: int, path: list[list[int]], complete: bool = False) -> Tensor:
    """(F,) of the candidates of the block after the path."""
    w, index = clean_activations(setting, image), len(path)
    leaves = [scaled(setting, w[n], path[n]) for n in range(index)] + [scaled(setting, w[index], None)]
    gradients, _ = frozen_gradients(setting, image, target, leaves)
    if complete:
        return (w[index] * integral(setting, gradients[index])).sum(0)
    v, g = ([gathered(setting, values) for values in block_values] for block_values in (w, gradients))
    zero = torch.zeros(1).to(w[0])
    weight = sum((v[n][:, path[n]].sum(-1) for n in range(index)), zero)
    earlier = sum((g[n][:, :, path[n]].sum(-1) for n in range(index)), zero)
    total = integral(setting, earlier.unsqueeze(-1) + g[index])
    return ((weight.unsqueeze(-1) + v[index]) * total).mean(0)


def path_gradients(setting: Setting, image: Tensor, target: int, path: list[list[int]]) -> tuple[list[Tensor], Tensor]:
    """Gradients of every block and p at all nodes with only the path's neurons scaled."""
    w = clean_activations(setting, image)
    leaves = [scaled(setting, w[n], path[n]) for n in range(len(w))]
    return frozen_gradients(setting, image, target, leaves)


def joint_score(setting: Setting, image: Tensor, target: int, path: list[list[int]]) -> Tensor:
    """JAS of a path."""
    w = clean_activations(setting, image)
    gradients, _ = path_gradients(setting, image, target, path)
    activation = sum(gathered(setting, w[n][:, path[n]]).sum(-1) for n in range(len(w)))
    gradient = sum(gathered(setting, gradients[n][:, :, path[n]]).sum(-1) for n in range(len(w)))
    return (activation * integral(setting, torch.as_tensor(gradient))).mean()


def complete_score(setting: Setting, image: Tensor, target: int, path: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The complete variant and its convergence delta."""
    w = clean_activations(setting, image)
    gradients, _ = path_gradients(setting, image, target, path)
    parts = [(w[n][:, path[n]] * integral(setting, gradients[n][:, :, path[n]])).sum() for n in range(len(w))]
    attribution = torch.stack(parts).sum()
    zero = replace(setting, alpha=torch.zeros(1).to(w[0]), weights=torch.ones(1).to(w[0]))
    _, zeroed = path_gradients(zero, image, target, path)
    with torch.no_grad():
        clean = target_values(setting, setting.model(image.unsqueeze(0)), target)
    return attribution, attribution - (clean[0] - zeroed[0])


def influence_pattern(setting: Setting, image: Tensor, target: int) -> Tensor:
    """(L, F) integrals of the live network's gradients over inputs α·x, summed over tokens in scope."""
    seen: list[list[Tensor]] = [[] for _ in counted_blocks(setting)]

    def keep(index: int, where: slice, a: Tensor) -> Tensor:
        a = a.clone()
        seen[index].append(a)
        return a

    inputs = (setting.alpha.view(-1, 1, 1, 1) * image).requires_grad_()
    with hooked(setting, keep):
        p = target_values(setting, setting.model(inputs), target)
    integrals = []
    for parts in seen:
        gradient = torch.cat(torch.autograd.grad(p.sum(), parts, retain_graph=True), -1)
        integrals.append(integral(setting, gradient[:, setting.tokens].sum(1)))
    return stacked(integrals)


def intervened(setting: Setting, image: Tensor, path: list[list[int]], factor: float) -> Tensor:
    """(C,) logits with the path's neurons multiplied by `factor` in the live network."""

    def edit(index: int, where: slice, a: Tensor) -> Tensor:
        a = a.clone()
        for neuron in path[index]:
            if where.start <= neuron < where.stop:
                a[:, setting.tokens, neuron - where.start] *= factor
        return a

    with hooked(setting, edit), torch.no_grad():
        return setting.model(image.unsqueeze(0))[0]


def live_network(setting: Setting, inputs: Tensor, target: int) -> tuple[list[list[Tensor]], Tensor]:
    """Every block's activations, site by site, as parts of the live network's graph; and the target function (N,).

    Plain attention: PyTorch cannot differentiate its fused kernels twice.
    """
    seen: list[list[Tensor]] = [[] for _ in counted_blocks(setting)]

    def keep(index: int, where: slice, a: Tensor) -> Tensor:
        a = a.clone()
        seen[index].append(a)
        return a

    with hooked(setting, keep), sdpa_kernel(SDPBackend.MATH):
        values = target_values(setting, setting.model(inputs), target)
    return seen, values


def gradient_at(values: Tensor, sites: list[Tensor]) -> Tensor:
    """(N, T, F): ∂f/∂a of one block, everywhere."""
    return torch.cat(torch.autograd.grad(values.sum(), sites, retain_graph=True), -1)


def derivative_along(outputs: list[Tensor], inputs: list[Tensor], direction: list[Tensor]) -> Tensor:
    """J·direction, J = ∂outputs/∂inputs, exactly: it is the gradient of uᵀJ·direction with respect to u."""
    u = [torch.zeros_like(output, requires_grad=True) for output in outputs]
    pulled_back = torch.autograd.grad(outputs, inputs, u, create_graph=True)
    product = sum((p * d).sum() for p, d in zip(pulled_back, direction, strict=True))
    return torch.cat(torch.autograd.grad(torch.as_tensor(product), u, retain_graph=True), -1)


def gradient_x_activation(setting: Setting, image: Tensor, target: int) -> Tensor:
    """(L, F): Σ_t w_t ∂f/∂a_t at the clean point."""
    seen, values = live_network(setting, image.unsqueeze(0), target)
    products = [torch.cat(sites, -1) * gradient_at(values, sites) for sites in seen]
    return stacked([product[0, setting.tokens].sum(0).detach() for product in products])


def conductance(setting: Setting, image: Tensor, target: int) -> Tensor:
    """(L, F): Σ_t ∫ ∂f/∂a_t(αx) · da_t(αx)/dα dα."""
    alpha = setting.alpha.clone().requires_grad_()
    seen, values = live_network(setting, alpha.view(-1, 1, 1, 1) * image, target)
    rows = []
    for sites in seen:
        speed = derivative_along(sites, [alpha], [torch.ones_like(alpha)])  # a sequence depends on its own α only
        flow = integral(setting, gradient_at(values, sites) * speed)
        rows.append(flow[setting.tokens].sum(0).detach())
    return stacked(rows)


def guided_influence_pattern(
    setting: Setting, image: Tensor, target: int, k: int = 1
) -> tuple[list[list[int]], Tensor]:
    """The path along the strongest chain of derivatives at inputs α·x, and all candidates' objectives (L, F).

    Block by block, `chain` (m, T, F) is the sum over all chains of derivatives that lead from the first block's chosen
    neurons, at any tokens in scope, to each neuron and token: 1 in the first block.
    """
    seen, values = live_network(setting, setting.alpha.view(-1, 1, 1, 1) * image, target)
    path: list[list[int]] = []
    objectives = []
    chain = torch.ones_like(torch.cat(seen[0], -1))
    for index, sites in enumerate(seen):
        if index > 0:
            onward = torch.zeros_like(chain)
            onward[:, setting.tokens, path[-1]] = chain[:, setting.tokens, path[-1]]
            before = seen[index - 1]
            chain = derivative_along(sites, before, list(onward.split([a.shape[-1] for a in before], -1)))
        product = integral(setting, chain * gradient_at(values, sites))
        objectives.append(product[setting.tokens].sum(0).detach())
        path.append(objectives[-1].argsort(descending=True, stable=True)[:k].tolist())
    return path, stacked(objectives)


def one_block_gradients(
    setting: Setting, image: Tensor, target: int, index: int, leaf: Tensor
) -> tuple[Tensor, Tensor]:
    """∂f/∂leaf and f, where leaf (N, S, F) takes the place of the in-scope activations of one block alone."""
    leaf = leaf.clone().requires_grad_()
    values = target_values(setting, one_block_logits(setting, image, index, leaf), target)
    return torch.autograd.grad(values.sum(), leaf)[0], values.detach()


def one_block_logits(setting: Setting, image: Tensor, index: int, leaf: Tensor) -> Tensor:
    """(N, C), where leaf (N, S, F) takes the place of the in-scope activations of one block alone."""

    def overwrite(this: int, where: slice, a: Tensor) -> Tensor | None:
        if this != index:
            return None
        a = a.clone()
        a[:, setting.tokens] = leaf[..., where]
        return a

    with hooked(setting, overwrite):
        return setting.model(image.expand(len(leaf), *image.shape))


def integrated_gradients(setting: Setting, image: Tensor, target: int) -> Tensor:
    """(L, F): Σ_t w_t ∫ ∂f/∂a_t with the block's whole in-scope layer scaled, all before it clean."""
    rows = []
    for index, w in enumerate(clean_activations(setting, image)):
        gradients, _ = one_block_gradients(setting, image, target, index, scaled(setting, w, None))
        rows.append((w * integral(setting, gradients)).sum(0))
    return stacked(rows)


def knowledge_neurons(setting: Setting, image: Tensor, target: int) -> Tensor:
    """(L, F): Σ_t w_t ∫ ∂f/∂a_t with this neuron alone scaled, at all its tokens in scope."""
    rows = []
    for index, w in enumerate(clean_activations(setting, image)):
        leaves = torch.stack([scaled(setting, w, [neuron]) for neuron in range(w.shape[1])])
        gradients, _ = one_block_gradients(setting, image, target, index, leaves.flatten(0, 1))
        own = gradients.view_as(leaves).diagonal(dim1=0, dim2=3)  # (m, S, F): of each neuron where it was scaled
        rows.append((w * integral(setting, own)).sum(0))
    return stacked(rows)


def ablation(setting: Setting, image: Tensor, target: int) -> Tensor:
    """(L, F): f(clean) − f(this neuron zeroed at its tokens in scope); 0 where that is no more than rounding."""
    rows = []
    for index, w in enumerate(clean_activations(setting, image)):
        leaves = w.expand(1 + w.shape[1], *w.shape).clone()
        for neuron in range(w.shape[1]):
            leaves[1 + neuron, :, neuron] = 0
        clean, *zeroed = one_block_logits(setting, image, index, leaves).detach()
        difference = torch.stack([fallen(setting, clean, other, target) for other in zeroed])
        # What logits that are off in their last digits make of f, a probability's derivative being at most p (1 − p).
        rounding = 8 * torch.finfo(clean.dtype).eps * clean.abs().max().clamp(min=1)
        if setting.target_function == "probability":
            p = clean.softmax(0)
            rounding = rounding * p[target] * torch.cat((p[:target], p[target + 1 :])).sum()
        rows.append(difference.where(difference.abs() > rounding, 0.0))
    return stacked(rows)


def fallen(setting: Setting, clean: Tensor, edited: Tensor, target: int) -> Tensor:
    """f(clean) − f(edited) from logits (C,); of probabilities in fifty digits, for near 1 they leave no difference."""
    if setting.target_function != "probability":
        before, after = target_values(setting, torch.stack([clean, edited]), target)
        return before - after
    with localcontext(prec=50):
        powers = [[Decimal(z).exp() for z in logits.tolist()] for logits in (clean, edited)]
        before, after = (row[target] / sum(row) for row in powers)
        return clean.new_tensor(float(before - after))


def shortlisted(ratings: Tensor, quick: Tensor, shortlist: int | None) -> Tensor:
    """(L, F) ratings with −∞ for all but each block's `shortlist` best by the quick ratings."""
    if shortlist is None:
        return ratings
    rows = []
    for rating, rough in zip(ratings, quick, strict=True):
        left_out = rough.nan_to_num(-torch.inf).argsort(descending=True, stable=True)[shortlist:]
        row = rating.clone()
        row[left_out] = row[left_out].where(row[left_out].isnan(), -torch.inf)  # padding stays
        rows.append(row)
    return torch.stack(rows)


def everywhere(setting: Setting) -> Setting:
    """The same with every token in scope."""
    return replace(setting, tokens=slice(None))


def operated(
    setting: Setting,
    image: Tensor,
    path: list[list[int]],
    operation: str,
    *,
    factor: float = 2.0,
    all_tokens: bool = False,
    references: Tensor | None = None,
    donor: Tensor | None = None,
) -> Tensor:
    """(C,) logits of the live network with its activations edited: at the tokens in scope, or at all of them.

    `remove`, `enhance`, `mean_ablation` and `resample_ablation` edit the path's neurons, `keep_only` all others.
    """
    means, donated = [], []
    if operation == "mean_ablation":
        assert references is not None
        runs = [clean_activations(everywhere(setting), reference) for reference in references]
        for block in zip(*runs, strict=True):
            a = torch.stack(block)  # (R, T, F)
            scope = in_scope(setting, a.shape[1])
            mean = torch.empty_like(a[0])
            mean[scope] = a[:, scope].mean((0, 1))
            mean[~scope] = a[:, ~scope].mean((0, 1))
            means.append(mean)
    elif operation == "resample_ablation":
        assert donor is not None
        donated = clean_activations(everywhere(setting), donor)

    def edit(index: int, where: slice, a: Tensor) -> Tensor:
        edited = {
            "remove": lambda: torch.zeros_like(a),
            "enhance": lambda: factor * a,
            "mean_ablation": lambda: means[index][:, where].expand_as(a),
            "resample_ablation": lambda: donated[index][:, where].expand_as(a),
            "keep_only": lambda: torch.zeros_like(a),
        }[operation]()
        on_path = torch.tensor([neuron in path[index] for neuron in range(where.start, where.stop)])
        neurons = ~on_path if operation == "keep_only" else on_path
        tokens = torch.ones(a.shape[1], dtype=torch.bool) if all_tokens else in_scope(setting, a.shape[1])
        return edited.where(tokens.unsqueeze(1) & neurons, a)

    with hooked(setting, edit), torch.no_grad():
        return setting.model(image.unsqueeze(0))[0]


def in_scope(setting: Setting, n_tokens: int) -> Tensor:
    """(T,) which tokens are in scope."""
    marks = torch.zeros(n_tokens, dtype=torch.bool)
    marks[setting.tokens] = True
    return marks
