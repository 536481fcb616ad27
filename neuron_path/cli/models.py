"""`neuron-path models`: the table of supported models, and all about one of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import groupby
from operator import itemgetter

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from neuron_path.errors import NeuronPathError, nearest
from neuron_path.estimate import Estimate, estimate
from neuron_path.models.catalogue import ModelCard, all_models, describe, is_model, outline, span, supported_models
from neuron_path.models.loading import EMBEDDED

USAGE = """\
List the vision transformers that NeuronPath supports, or explain one.

usage: neuron-path models [PATTERN | NAME]

  PATTERN  a part of the name, or a glob; without it, all models
  NAME     a model's whole name: its neurons, tokens and pictures, what a search costs, and the command that runs it

examples:
  neuron-path models                          all, for pretrained weights or your own
  neuron-path models dinov3                   those whose name holds dinov3
  neuron-path models 'vit_small*'             those whose name matches the glob
  neuron-path models vit_base_patch16_224     one
  neuron-path models | cut -f1                names only: a pipe gets tab-separated columns without a header:
                                              model, family, blocks, FFN width, scope, parameters
"""


def show(arguments: list[str]) -> None:
    """Print what the arguments ask for.

    Raises:
        NeuronPathError: more than one argument, a name or pattern that no supported model has.
    """
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        one = next((argument for argument in arguments if not argument.startswith("-")), "PATTERN")
        raise NeuronPathError(
            f"neuron-path models takes one pattern or name, not '{' '.join(arguments)}': neuron-path models {one}."
        )
    pattern = arguments[0] if arguments else ""
    if ":" in pattern:
        raise NeuronPathError(
            f"'{pattern}' names a model of a hub, which is not listed here: search its paths with neuron-path search "
            f"model=timm model.name={pattern}."
        )
    if pattern and is_model(pattern):
        _explain(pattern)
    else:
        _list(pattern)


def _list(pattern: str) -> None:
    names = [name for name in supported_models() if _matches(name, pattern)]
    if not names:
        raise _none(pattern)
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        for row in _rows(names):
            print(*row, sep="\t")
        return
    console.print(_table(list(_rows(names))))
    print(_caption(names, pattern))


def _table(rows: list[tuple[str, ...]]) -> Table:
    """One section for each family; 80 columns are enough."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    table.add_column("model", no_wrap=True)
    for header in ("blocks", "FFN width", "scope", "parameters"):
        table.add_column(header, no_wrap=True, justify="left" if header == "scope" else "right")
    for family, members in groupby(sorted(rows, key=itemgetter(1)), key=itemgetter(1)):
        table.add_row(Text(family, style="bold"))
        for name, _, *values in members:
            table.add_row(Text(f"  {name}"), *map(Text, values))
        table.add_section()
    return table


def _rows(names: list[str]) -> Iterator[tuple[str, ...]]:
    """Model, family, blocks, FFN width, scope and parameters of each, as they are found.

    On a terminal a bar tells how far it is.
    """
    console = Console(stderr=True)
    columns = (TextColumn("Reading timm's models"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        for name in bar.track(names):
            adapter, n_parameters = outline(name)
            width = span(block.n_neurons for block in adapter.blocks)
            yield name, adapter.name, str(len(adapter.blocks)), width, adapter.scope.name, _count(n_parameters)


def _caption(names: list[str], pattern: str) -> str:
    more = sum(_matches(name, pattern) for name in all_models()) - len(names)
    others = f"; {more} more of timm's match, but are not supported" if pattern and more > 0 else ""
    return f"{len(names)} model{'s' if len(names) > 1 else ''}{others}. neuron-path models NAME explains one."


def _matches(name: str, pattern: str) -> bool:
    pattern = pattern.lower()
    return fnmatchcase(name.lower(), pattern) if any(sign in pattern for sign in "*?[") else pattern in name.lower()


def _none(pattern: str) -> NeuronPathError:
    """Nothing supported matches: is it all that timm has of them, or is it a slip?"""
    others = [name for name in all_models() if _matches(name, pattern)]
    if not others:
        return NeuronPathError(f"No supported model matches '{pattern}'.{nearest(pattern, supported_models())}")
    what = f"None of timm's {len(others)} models that match '{pattern}' is supported."
    try:
        outline(others[0])
    except NeuronPathError as error:
        return NeuronPathError(f"{what} {error}")
    return NeuronPathError(what)


def _explain(name: str) -> None:
    card = describe(name)
    lines = {**_facts(card), **_costs(estimate(name))}
    console = Console(file=sys.stdout)
    command = f"Run it:\n  {_command(card)}"
    if not console.is_terminal:
        print(card.name)
        for label, text in lines.items():
            print(f"  {label:<14}{text}")
        print(command)
        return
    grid = Table.grid(padding=(0, 2))
    for label, text in lines.items():
        grid.add_row(Text(f"  {label}"), Text(text))
    console.print(Text(card.name, style="bold"))
    console.print(grid)
    print(command)  # never wrapped or styled: it is to be copied


def _facts(card: ModelCard) -> dict[str, str]:
    others = "".join(f"; also token_scope={other}" for other in card.scopes[1:])
    width = f"{span(card.widths)} in{' each of' if len(set(card.widths)) == 1 else ''}"
    made = card.preprocessing
    return {
        "family": f"{card.family}: {card.special}",
        "neurons": f"{card.n_neurons:,}: {width} {card.n_blocks} blocks; {card.neurons}",
        "scope": f"{card.scope}, since the head reads {card.reads}{others}",
        "tokens": f"{card.n_tokens} where the first block begins, {card.n_in_scope} of them in scope",
        "parameters": _count(card.n_parameters),
        "classes": str(card.n_classes) if card.n_classes > 1 else "none: give it a head, as in the command below",
        "images": " × ".join(map(str, card.image_size)),
        "preprocessing": (
            f"{made['interpolation']}, crop_mode {made['crop_mode']}, crop_pct {made['crop_pct']:.3g}, "
            f"mean {_list_of(made['mean'])}, std {_list_of(made['std'])}"
        ),
    }


def _costs(cost: Estimate) -> dict[str, str]:
    return {
        "memory": (
            f"about {_bytes(cost.weights + cost.activations)}: weights {_bytes(cost.weights)}, a pass of "
            f"{cost.micro_batch} sequences {_bytes(cost.activations)}"
        ),
        "time": (
            f"about {_duration(cost.seconds)} for an image on {cost.device}, or up to three times that: an estimate "
            f"from {cost.flops / 1e9:,.0f} billion operations and {cost.throughput / 1e9:,.0f} billion a second in a "
            "matrix product just now"
        ),
    }


def _command(card: ModelCard) -> str:
    """What runs a search with the model, in lines of a shell."""
    if card.name == EMBEDDED:
        return "neuron-path search"
    weights = "model.pretrained=true" if card.has_weights else "model.checkpoint=FILE"
    head = [] if card.n_classes > 1 else ["head=linear_probe head.root=LABELLED_DIR"]
    parts = [
        f"neuron-path search model=timm model.name={card.name} {weights}",
        *head,
        "data=image_folder data.root=DIR",
    ]
    return " \\\n    ".join(parts)


def _count(n: int) -> str:
    return f"{n / 1e9:.2f} G" if n >= 1e9 else f"{n / 1e6:.1f} M"


def _bytes(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    """Two digits at most: it is an estimate."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1g} s"


def _list_of(values: list[float]) -> str:
    """One number where all channels have the same."""
    numbers = dict.fromkeys(f"{value:.4g}" for value in values)
    return next(iter(numbers)) if len(numbers) == 1 else f"({', '.join(f'{value:.4g}' for value in values)})"
