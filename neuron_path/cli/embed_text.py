"""`neuron-path embed-text`: from names of classes to a zero-shot head for a tower of pictures."""

from __future__ import annotations

import shlex
from pathlib import Path

from neuron_path.api import save_head
from neuron_path.cli.arguments import parse_arguments
from neuron_path.errors import NeuronPathError
from neuron_path.models.text import TEMPLATE, embed_text

USAGE = f"""\
Make a classifier of class names: embed prompts by a CLIP or SigLIP, as a head for its picture tower.

usage: neuron-path embed-text --model=NAME --out=FILE.safetensors [--pretrained=TAG] [--template=TEXT] CLASS…

  CLASS         a class's name; or --classes=FILE, one on each line
  --model       one of open_clip's, with --pretrained=TAG or FILE; or a folder or repository of Hugging Face
  --template    a prompt with {{}} where the name goes ('{TEMPLATE}'); several lines are averaged with --templates=FILE

Needs open-clip-torch or transformers. The picture tower must be of the same weights.

examples:
  neuron-path embed-text --model=ViT-B-16-quickgelu --pretrained=openai --out=pets.safetensors cat dog hamster
  neuron-path run model=timm model.name=vit_base_patch16_clip_quickgelu_224.openai model.pretrained=true \\
                  head=file head.path=pets.safetensors data=image_folder data.root=DIR
  neuron-path embed-text --model=./siglip --classes=names.txt --out=names.safetensors
"""
_OPTIONS = ("--model", "--out", "--pretrained", "--template", "--templates", "--classes")


def show(arguments: list[str]) -> None:
    """Embed what the arguments name, write the head, and say how to use it.

    Raises:
        NeuronPathError: options that are missing or contradict each other, or whatever keeps texts from being embedded.
    """
    classes, options = parse_arguments("embed-text", arguments, _OPTIONS)
    for name in ("--model", "--out"):
        if name not in options:
            raise NeuronPathError(f"neuron-path embed-text needs {name}=…; neuron-path embed-text --help shows how.")
    for one, other in (("--template", "--templates"), ("--classes", "CLASS")):
        if one in options and (other in options or (other == "CLASS" and classes)):
            raise NeuronPathError(f"Give either {one} or {other}, not both.")
    if not options["--out"].endswith(".safetensors"):  # before anything is fetched
        out = shlex.quote(f"--out={Path(options['--out']).with_suffix('.safetensors')}")
        raise NeuronPathError(f"--out is '{options['--out']}'; a head is written as safetensors: give it as {out}.")
    classes = _lines(options["--classes"]) if "--classes" in options else classes
    templates = _lines(options["--templates"]) if "--templates" in options else [options.get("--template", TEMPLATE)]
    head = embed_text(options["--model"], classes, templates, options.get("--pretrained"))
    path = save_head(head, options["--out"])
    print(f"Classes: {len(head.classes)}, {', '.join(head.classes[:5])}{', …' if len(head.classes) > 5 else ''}")
    print(f"Head:    {path}; give the picture tower of the same weights head=file head.path={path}")


def _lines(file: str) -> list[str]:
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise NeuronPathError(f"Cannot read '{file}', a text file with one entry on each line: {error}.") from error
    return [line.strip() for line in lines if line.strip()]
