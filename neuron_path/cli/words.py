"""`neuron-path words`: the words that are nearest to the images which activate a run's neurons."""

from __future__ import annotations

import sys

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neuron_path.cli.arguments import parse_arguments, whole_number
from neuron_path.errors import NeuronPathError
from neuron_path.pipeline.words import N_WORDS, WORDS_FILE, find_words

USAGE = f"""\
Name words for the neurons on a run's paths: those that are nearest to the images which activate a neuron most.

usage: neuron-path words DIR --words=FILE [--top=N]

  DIR      a run with evidence=true, of the picture tower of a model of pictures and text
  --words  the embeddings of a vocabulary, made with neuron-path embed-text by the same model
  --top    how many words for each neuron; default: {N_WORDS}

It writes DIR/{WORDS_FILE}. A word is near by the mean cosine of its embedding with those of the images, in so far as
that is more than for all images of the run's evidence. It says what these images have in common, not what the neuron
means.

examples:
  neuron-path embed-text --model=ViT-B-16-quickgelu --pretrained=openai --classes=nouns.txt --out=nouns.safetensors
  neuron-path words outputs/mine --words=nouns.safetensors
"""
_SHOWN = 20


def show(arguments: list[str]) -> None:
    """Find the words, and print those of the first neurons.

    Raises:
        NeuronPathError: wrong arguments, or whatever keeps words from being found.
    """
    directories, options = parse_arguments("words", arguments, ("--words", "--top"))
    if len(directories) != 1 or "--words" not in options:
        raise NeuronPathError(
            "neuron-path words needs one run directory and --words=FILE; neuron-path words --help shows how."
        )
    n_words = whole_number("--top", options["--top"]) if "--top" in options else None
    file = find_words(directories[0], options["--words"], n_words)
    found = pd.read_csv(file, keep_default_na=False)
    table = Table("block", "neuron", "words, and how much nearer than to all images", box=box.SIMPLE_HEAD)
    groups = found.groupby(["block", "neuron"], sort=True)
    for (block, neuron), rows in list(groups)[:_SHOWN]:  # pyright: ignore[reportGeneralTypeIssues, reportAssignmentType]
        numbers = [f"{above:+.3f}".replace("-", "−") for above in rows["above"]]
        words = ", ".join(f"{word} {number}" for word, number in zip(rows["word"], numbers, strict=True))
        table.add_row(str(block), str(neuron), Text(words))  # a word may hold what looks like markup
    Console(file=sys.stdout).print(table)
    more = len(groups) - _SHOWN
    print(f"Words: {file}" + (f", which also has {more} further neurons" if more > 0 else ""))
