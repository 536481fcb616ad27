"""bfloat16 in the tails, and compiled tails: how fast, how many paths stay, and could a bound on the error settle them?

    python -m benchmarks.precision               # 2 minutes on 2 cores
    python -m benchmarks.precision --rounds 1 --images 24
    python -m benchmarks.precision --checkpoint FILE --data FOLDER    # bfloat16 on photographs, 6 minutes

A verified search would run the tails in bfloat16, bound their error soundly, and do again in float32 every image and
block whose winner leads by less than the bound. What it could win at best is told by a clairvoyant, who knows the
largest error of that very block of that very image and does again only what that error may turn. A bound that can be
proved is larger. How much larger is told from below: of all that a proof must allow for, only the growth of one
rounding through norms and FFNs is counted, with the norms of the weights; attention is left out.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import neuron_path
from benchmarks import real
from benchmarks.harness import Table, console, interleaved, positive, ratios, record, rounds_of, show
from benchmarks.models import Shape, random_images, random_vit
from neuron_path.attribution.arithmetic import Arithmetic, has_units
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorers.joint_attribution import JointAttribution
from neuron_path.models.session import Session

VIT_B = Shape(768, 12, 12)
TIMED = ("ViT-B/32", "digits, 8 images")
IMAGES, BOUNDED = 128, 48  # digits whose paths are compared, and of those whose errors are looked at
RANDOM_IMAGES = 3  # of ViT-B/32, whose paths are compared
ROUNDING = 2.0**-9  # of bfloat16, relative
GELU_SLOPE = 1.13  # at most
PHOTOGRAPHS, TIMED_PHOTOGRAPHS = 20, 2
NO_UNITS = "This processor has no units for bf16: fp32 would run in its place, so nothing is measured."


def subject(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A model of TIMED with its images and targets."""
    if name == "ViT-B/32":
        return random_vit(VIT_B), *random_images(VIT_B)
    images, labels = neuron_path.load_digits("test")
    return neuron_path.load_model(), images[:8], labels[:8]


def speed(name: str, rounds: int) -> dict[str, Any]:
    """Seconds of each arithmetic, interleaved, and of the first compiled search."""
    search = partial(neuron_path.find_paths, *subject(name))
    start = time.perf_counter()
    search(compile=True)
    first = time.perf_counter() - start
    calls = {"fp32": search, "bf16": partial(search, precision="bf16"), "compiled": partial(search, compile=True)}
    return {"seconds": interleaved(calls, rounds)[0], "first_compiled": first}


def agreement(model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Any]:
    """How many images keep the path of fp32, and the share of their neurons that is on it."""
    paths = [neuron_path.find_paths(model, images, targets, precision=name).paths for name in ("fp32", "bf16")]
    same = paths[0] == paths[1]
    return {"n_images": len(images), "same_path": int(same.all(1).sum()), "neurons": float(same.double().mean())}


def walk(model: VisionTransformer, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Along the path of fp32: (B, L) the lead of the winner by bf16, the largest error of a rating, and the scale."""
    session = Session(model)
    with session.active():
        posed = [
            Problem.pose(session.adapter, session.images(images), targets, Quadrature(), 64),
            Problem.pose(session.adapter, session.images(images), targets, Quadrature(), 64),
        ]
        object.__setattr__(posed[1], "arithmetic", Arithmetic("bf16"))
        exact, rough = (JointAttribution().start(problem) for problem in posed)
        leads, errors, scales = [], [], []
        for index in range(len(session.adapter.blocks)):
            true, found = exact.candidates(index), rough.candidates(index)
            best = found.topk(2, dim=1).values
            leads.append(best[:, 0] - best[:, 1])
            errors.append((found - true).abs().amax(1))
            scales.append(true.abs().amax(1))
            neurons = true.argmax(1, keepdim=True)
            exact.choose(index, neurons)
            rough.choose(index, neurons)
    return torch.stack(leads, 1), torch.stack(errors, 1), torch.stack(scales, 1)


def growth(model: Any, images: Tensor) -> Tensor:
    """(L,) by how much a proof must let one rounding grow, relative to the stream, from each block's output to the
    head: through the norms and FFNs of the blocks behind it, attention left out."""
    sigmas: dict[nn.Module, float] = {}
    handles = [
        block.norm2.register_forward_pre_hook(
            lambda layer, args: sigmas.__setitem__(layer, float(args[0].var(-1, unbiased=False).amin().sqrt()))
        )
        for block in model.blocks
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    grown, total = [], 1.0
    for block in reversed(model.blocks):
        grown.append(total)
        slopes = [float(torch.linalg.matrix_norm(layer.weight, 2)) for layer in (block.mlp.fc1, block.mlp.fc2)]
        norm = float(block.norm2.weight.abs().amax()) / sigmas[block.norm2]
        total *= 1 + GELU_SLOPE * slopes[0] * slopes[1] * norm
    return torch.tensor(grown[::-1])


def verified(model: Any, images: Tensor, targets: Tensor) -> dict[str, Any]:
    """What a verified search would have to do again, by a clairvoyant and by the least that a proof allows."""
    lead, error, scale = walk(model, images, targets)
    provable = ROUNDING * growth(model, images) * scale
    return {
        "median_error": float((error / scale).median()),
        "median_lead": float((lead / scale).median()),
        "again_clairvoyant": float((lead <= 2 * error).double().mean()),
        "again_provable": float((lead[:, :-1] <= 2 * provable[:, :-1]).double().mean()),
        "median_growth": float(growth(model, images).median()),
    }


def tables(
    speeds: dict[str, Any], agreed: dict[str, dict[str, Any]], bounds: dict[str, dict[str, Any]], rounds: int
) -> dict[str, Table]:
    """Three tables."""
    rows = []
    for name, found in speeds.items():
        seconds = found["seconds"]
        rows.append(
            [
                name,
                ratios(seconds["fp32"], seconds["bf16"]).text(2, "×"),
                ratios(seconds["fp32"], seconds["compiled"]).text(2, "×"),
                f"{found['first_compiled']:.0f} s",
            ]
        )
    columns = ("model", "bf16, faster than fp32", "compiled, faster than not", "first compiled search")
    again = [
        [
            name,
            f"{found['median_lead']:.1%}",
            f"{found['median_error']:.2%}",
            f"{found['again_clairvoyant']:.1%}",
            f"{found['median_growth']:.0e}",
            f"{found['again_provable']:.1%}",
        ]
        for name, found in bounds.items()
    ]
    told = (
        "model",
        "median lead of the winner",
        "median largest error",
        "again, by a clairvoyant",
        "growth that a proof allows, at least",
        "again, by a proof, at least",
    )
    shares = [
        [name, str(found["same_path"]), str(found["n_images"]), f"{found['neurons']:.2%}"]
        for name, found in agreed.items()
    ]
    note = f"Median and range of {rounds_of(rounds)}, 8 Gauss–Legendre nodes; nothing compiled before the first."
    return {
        "speed": Table(columns, rows, note),
        "agreement": Table(("model", "images with the path of fp32", "of", "neurons as in it"), shares),
        "verified": Table(told, again),
    }


def run_real(source: real.Source, n_images: int, rounds: int, *, trial: bool) -> None:
    """Measure a pretrained model on photographs, and record: on a GPU where there is one, else on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rough = [name for name in ("tf32", "bf16") if has_units(name, device)]
    if not rough:
        console.print(NO_UNITS)
        return
    model, images, targets, about = real.load(source, n_images)
    model.to(device)
    few = images[:TIMED_PHOTOGRAPHS], targets[:TIMED_PHOTOGRAPHS]

    def search(images: Tensor, targets: Tensor, precision: str) -> Tensor:
        return neuron_path.find_paths(model, images, targets, precision=precision).paths.cpu()  # when it is done

    seconds, _ = interleaved({name: partial(search, *few, name) for name in ("fp32", *rough)}, rounds)
    exact = search(images, targets, "fp32")
    rows, agreed = [], {}
    for name in rough:
        same = search(images, targets, name) == exact
        agreed[name] = {"same_path": int(same.all(1).sum()), "neurons": float(same.double().mean())}
        faster = ratios(seconds["fp32"], seconds[name]).text(2, "×")
        kept = f"{agreed[name]['same_path']} of {n_images}"
        rows.append([name, faster, kept, f"{agreed[name]['neurons']:.2%}"])
    columns = ("tails", "faster than fp32", "photographs with the path of fp32", "neurons as in it")
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU, which has no tf32"
    note = (
        f"`{source.model}` at {source.image_size} pixels, 8 Gauss–Legendre nodes, on {on}. Time: median and range of "
        f"{rounds_of(rounds)} on {len(few[0])} of the photographs."
    )
    values = {"about": about, "seconds": seconds, "agreement": agreed}
    real.finish("precision", values, Table(columns, rows, note), trial=trial)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=2, help="interleaved rounds")
    parser.add_argument(
        "--images", type=positive, help=f"digits ({IMAGES}; fewer write nothing), or photographs ({PHOTOGRAPHS})"
    )
    real.add_arguments(parser)
    arguments = parser.parse_args()
    source = real.source_of(parser, arguments)
    if source is not None:
        run_real(source, arguments.images or PHOTOGRAPHS, arguments.rounds, trial=arguments.trial)
        return
    if not has_units("bf16", torch.device("cpu")):
        console.print(NO_UNITS)
        return
    digits, (images, labels) = neuron_path.load_model(), neuron_path.load_digits("test")
    images, labels = (x[: arguments.images or IMAGES] for x in (images, labels))
    speeds: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as empty:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty  # so that nothing was compiled before
        for name in TIMED:
            console.print(f"[bold]{name}[/bold]")
            speeds[name] = speed(name, arguments.rounds)
    agreed = {
        "digits": agreement(digits, images, labels),
        "ViT-B/32, random": agreement(random_vit(VIT_B), *random_images(VIT_B._replace(n_images=RANDOM_IMAGES))),
    }
    small, (noise, targets) = random_vit(Shape(192, 12, 3)), random_images(Shape(192, 12, 3, n_images=8))
    bounds = {
        "digits": verified(digits, images[:BOUNDED], labels[:BOUNDED]),
        "12 blocks × 192, random": verified(small, noise, targets),
    }
    found = tables(speeds, agreed, bounds, arguments.rounds)
    if len(images) == IMAGES:
        record("precision", {"speed": speeds, "agreement": agreed, "verified": bounds}, found)
    else:
        show(found)


if __name__ == "__main__":
    main()
