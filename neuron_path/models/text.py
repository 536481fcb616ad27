"""Classes from prompts: the embeddings of texts by a model of pictures and text, as a head for its picture tower."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.errors import NeuronPathError
from neuron_path.models.heads import LinearHead, similarity_head

TEMPLATE = "a photo of a {}."
_BATCH = 256  # prompts at a time


def embed_text(
    model: str, classes: Sequence[str], templates: Sequence[str] = (TEMPLATE,), pretrained: str | None = None
) -> LinearHead:
    """A zero-shot head: a class is the mean of the embeddings of its prompts, each scaled to length 1.

    The scale of the logits, and SigLIP's bias, are the model's own, so that softmax (sigmoid for SigLIP) gives the
    probabilities that it was trained for. The head reads the output of the picture tower, behind its projection.

    Args:
        model: a name of open_clip's (`ViT-B-16-quickgelu`), or a folder or repository of Hugging Face with a CLIP or
            SigLIP model and its tokenizer.
        classes: their names.
        templates: prompts with `{}` where the name goes; several are averaged.
        pretrained: of open_clip: the weights' tag (`openai`), or a file of them.

    Raises:
        NeuronPathError: a library that is not installed, a model or weights that are not to be had or embed no text, no
            classes, one given twice, or a template without its place.
    """
    if not classes or len(set(classes)) < len(classes):
        given = "none" if not classes else f"'{next(name for name in classes if list(classes).count(name) > 1)}' twice"
        raise NeuronPathError(f"The classes to embed are {given}: name each class once.")
    for template in templates:
        if template.count("{}") != 1:
            raise NeuronPathError(f"The template '{template}' needs one {{}}, where the class's name goes.")
    is_folder = "/" in model or Path(model).expanduser().is_dir()
    if is_folder and pretrained is not None:
        raise NeuronPathError(f"'{model}' has its own weights: leave out pretrained={pretrained}.")
    encode, scale, bias = _from_transformers(model) if is_folder else _from_open_clip(model, pretrained)
    prompts = [template.format(name) for name in classes for template in templates]
    with torch.inference_mode():
        parts = [encode(prompts[start : start + _BATCH]) for start in range(0, len(prompts), _BATCH)]
    embedded = torch.nn.functional.normalize(torch.cat(parts).double(), dim=1)
    vectors = embedded.unflatten(0, (len(classes), len(templates))).mean(1)
    return similarity_head(vectors.float(), classes, scale=scale, bias=bias, of_output=True)


_Found = tuple[Callable[[Sequence[str]], Float[Tensor, "n D"]], float, float]


def _from_open_clip(name: str, pretrained: str | None) -> _Found:
    try:
        import open_clip
    except ImportError as error:
        raise NeuronPathError(
            f"'{name}' is no folder, so it is looked for in open_clip, which is not installed: pip install "
            "open-clip-torch"
        ) from error
    if name not in open_clip.list_models():
        from neuron_path.errors import nearest

        raise NeuronPathError(
            f"open_clip has no model '{name}'.{nearest(name, open_clip.list_models())} A folder of Hugging Face is "
            "given by its path."
        )
    if pretrained is None:
        known = [tag for own, tag in open_clip.list_pretrained() if own == name]
        raise NeuronPathError(
            f"The weights of '{name}' are not named: give pretrained={' or '.join(known[:3]) or 'FILE'}, else its text "
            "tower would be random."
        )
    try:
        made: Any = open_clip.create_model(name, pretrained=pretrained).eval().requires_grad_(False)
        tokenizer: Any = open_clip.get_tokenizer(name)
    except Exception as error:  # whatever a download or a file comes to
        raise NeuronPathError(f"The weights '{pretrained}' of '{name}' cannot be had: {_line(error)}") from error
    return (
        lambda prompts: made.encode_text(tokenizer(list(prompts))).float(),
        float(made.logit_scale.exp()),
        0.0 if made.logit_bias is None else float(made.logit_bias),
    )


def _from_transformers(folder: str) -> _Found:
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise NeuronPathError(
            f"The model '{folder}' is read by transformers, which is not installed: pip install "
            "'neuron-path[huggingface]'"
        ) from error
    path = Path(folder).expanduser()
    source = str(path) if path.is_dir() else folder
    if path.is_dir() and not (path / "config.json").exists():
        raise NeuronPathError(f"The folder '{folder}' has no config.json: give that of a CLIP or SigLIP model.")
    if path.is_dir() and "text_config" not in json.loads((path / "config.json").read_text(encoding="utf-8")):
        raise NeuronPathError(f"The model in '{folder}' embeds no text: give a CLIP or SigLIP with its text tower.")
    try:
        made: Any = (
            AutoModel.from_pretrained(source, use_safetensors=True, trust_remote_code=False)
            .eval()
            .requires_grad_(False)
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # whatever a download or a file comes to
        raise NeuronPathError(f"The model '{folder}' cannot be read: {_line(error)}") from error
    if not hasattr(made, "get_text_features"):
        raise NeuronPathError(f"The model '{folder}' ({type(made).__name__}) embeds no text: give a CLIP or SigLIP.")
    length = getattr(made.config.text_config, "max_position_embeddings", None)

    def encode(prompts: Sequence[str]) -> Tensor:
        # SigLIP was trained on prompts that fill its whole length, CLIP does not mind.
        tokens = tokenizer(list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        found = made.get_text_features(**tokens)
        return (found if isinstance(found, Tensor) else found.pooler_output).float()

    bias = getattr(made, "logit_bias", None)
    return encode, float(made.logit_scale.exp()), 0.0 if bias is None else float(bias)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
