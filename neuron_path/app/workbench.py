"""What the page shows, all from the API: pictures, paths, edits, heat maps, and the lines that give the same again.

Knows nothing of the page; every mistake that a user can make is a `NeuronPathError` of one line.
"""

from __future__ import annotations

import base64
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from neuron_path.api import find_paths, heat_map, intervene
from neuron_path.attribution.forward import clean_pass
from neuron_path.attribution.scorer import scorers
from neuron_path.classes.grouping import group_paths
from neuron_path.classes.neurons import neuron_classes
from neuron_path.classes.usage import count_usage
from neuron_path.config import Config, DigitsConfig, options_of
from neuron_path.data.pictures import unreadable
from neuron_path.errors import NeuronPathError
from neuron_path.evidence.thumbnails import thumbnail
from neuron_path.models.classes import class_names
from neuron_path.pipeline.build import build_quadrature, build_study
from neuron_path.pipeline.images import build_folder, preprocessing_of
from neuron_path.pipeline.report import picture as shown_pixels
from neuron_path.report.figures.neuron_evidence import neuron_evidence_figure
from neuron_path.search.search import Search, searches
from neuron_path.store.evidence import load_evidence
from neuron_path.types import OperationName, PathResult, QuantityName, TargetName

MOST_BYTES: Final = 20_000_000
"""Of a picture's file."""
MOST_PIXELS: Final = 50_000_000
"""Of a picture; a telephone's has 12 to 50 million."""
MOST_LISTED: Final = 500
"""Pictures of the data that are listed to pick from, spread evenly."""
MOST_TOP_K: Final = 20
"""Neurons a block."""
SEARCHES: Final[dict[str, dict[str, str]]] = {
    "linearized": {"search": "linearized"},
    "greedy": {"search": "greedy"},
    "effect of remove": {"search": "linearized", "search.measure": "effect"},
}
"""The searches that the page offers, by the settings that give them."""
OPERATIONS: Final[tuple[OperationName, ...]] = ("remove", "enhance", "mean_ablation")
_PAPER: Final = -1.0  # of the digits, preprocessed
_REFERENCES: Final = 64  # pictures of the data whose mean a mean-ablation takes
_SHOWN: Final = 384  # pixels a side of the picture, at most
_CLASSES: Final = 5  # whose probabilities are shown
_OWNED: Final = ("search", "target", "target_class", "contrast_class", "top_k", "per_block", "hydra")

Neuron = tuple[int, int]
"""(block, neuron)."""


@dataclass(frozen=True)
class Picture:
    """A picture as the model takes it.

    Attributes:
        name: of the file, or its sample id in the data.
        image: (c, H, W) preprocessed.
        pixels: what the model sees, (H, W) or (H, W, 3) in [0, 1].
        label: its class, where known.
        is_dropped: whether it was dropped on the page, and is not of the data.
    """

    name: str
    image: Float[Tensor, "c H W"]
    pixels: Float[np.ndarray, "H W *rgb"]
    label: int | None
    is_dropped: bool

    def as_url(self) -> str:
        """What the model sees, as an address that holds it."""
        return "data:image/png;base64," + base64.b64encode(thumbnail(self.pixels, _SHOWN)).decode()


@dataclass(frozen=True)
class Ranked:
    """A block's neurons on the path, and the best of the others.

    Attributes:
        block: its number.
        chosen: on the path.
        following: what the search maximises with each of the others, as a share of the same with the path's best one.
    """

    block: int
    chosen: list[int]
    following: list[tuple[int, str]]


@dataclass(frozen=True)
class Choice:
    """How a path is searched for.

    Attributes:
        search: a key of `SEARCHES`.
        target: the target function.
        top_k: neurons a block.
        target_class: what the path drives; None: the predicted class.
    """

    search: str = "linearized"
    target: TargetName = "probability"
    top_k: int = 1
    target_class: int | None = None


@dataclass(frozen=True)
class Found:
    """A picture's path, and the model's probabilities (C,)."""

    picture: Picture
    choice: Choice
    result: PathResult
    probabilities: Float[np.ndarray, "C"]

    @property
    def paths(self) -> Int[Tensor, "1 L k"]:
        """The path with an explicit top-k axis."""
        return torch.atleast_3d(self.result.paths)

    @property
    def target(self) -> int:
        """The class that the path drives."""
        return int(self.result.targets[0])


class Workbench:
    """A model with its data, as the settings of `neuron-path run` name them.

    Args:
        config: the configuration.
        overrides: the settings that gave it, as they were typed; the commands to copy repeat them.
        run_dir: a run with `evidence.parquet`, which says what neurons answer to and on whose paths they are; or None.

    Raises:
        NeuronPathError: whatever is wrong with model, data or evidence.
    """

    def __init__(self, config: Config, overrides: Sequence[str] = (), run_dir: str | None = None) -> None:
        if config.units != "ffn":
            raise NeuronPathError(f"The page shows paths of FFN neurons, and units is {config.units}: use units=ffn.")
        on_gpu = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        device = torch.device("cuda" if on_gpu else "cpu")
        self._config, self._overrides = config, list(overrides)
        study = build_study(config, device)
        self._session, self._data = study.session, study.data.dataset
        self._model = self._session.model.to(device)
        self._head = study.head
        self._names = class_names(self._model) or tuple(self._data.classes)
        self.n_classes = self._session.adapter.n_classes
        self.widths = [block.n_neurons for block in self._session.adapter.blocks]
        n_listed = min(len(self._data), MOST_LISTED)
        places = (np.arange(n_listed) * len(self._data) // n_listed).tolist()
        self._places: dict[str, int] = {self._data.sample_ids[place]: place for place in places}
        self._means: Tensor | None = None
        self._evidence = None if run_dir is None else load_evidence(run_dir)
        self._usage = None if run_dir is None else count_usage(group_paths(run_dir, scorer=config.scorer.name))
        self._own_scorer = scorers.create(config.scorer.name, **options_of(config.scorer))

    @property
    def sample_ids(self) -> list[str]:
        """The data's pictures to pick from."""
        return list(self._places)

    def class_name(self, index: int) -> str:
        """A class by its number and, where it says more, its name."""
        name = self._names[index] if index < len(self._names) else str(index)
        return str(index) if name == str(index) else f"{index} {name}"

    def picked(self, name: str) -> Picture:
        """A picture of the data.

        Raises:
            NeuronPathError: no picture of that name, or one that cannot be read.
        """
        if name not in self._places:
            raise NeuronPathError(f"The data has no picture '{name}' to pick from.")
        return self._made(self._data[self._places[name]], self._data.preprocessing, is_dropped=False)

    def dropped(self, name: str, content: bytes) -> Picture:
        """A picture from a file's name and bytes, prepared as the data's are.

        Raises:
            NeuronPathError: a file that is too large or no picture.
        """
        if len(content) > MOST_BYTES:
            raise NeuronPathError(
                f"File '{name}' has {len(content) / 1e6:.1f} MB; expected {MOST_BYTES / 1e6:.0f} MB at most."
            )
        with tempfile.TemporaryDirectory(prefix="neuron-path-app-") as folder:  # alone in a folder, a data set of one
            (Path(folder) / _file_name(name)).write_bytes(content)
            preparing = preprocessing_of(self._config)
            pictures: Any = build_folder(folder, self._config.data, self._model, preparing).dataset
            pictures.max_pixels = MOST_PIXELS
            return self._made(pictures[0], pictures.preprocessing, is_dropped=True)

    def find(self, picture: Picture, choice: Choice) -> Found:
        """The picture's path, with the scores of all candidates where the search has them."""
        search = self._search(choice)
        result = find_paths(
            self._model,
            picture.image.unsqueeze(0),
            choice.target_class,
            scorer=self._own_scorer,
            search=search,
            quadrature=build_quadrature(self._config),
            target=choice.target,
            token_scope=self._scope,
            top_k=choice.top_k,
            keep_candidates=True,
        ).cpu()
        return Found(picture, choice, result, self._probabilities(self._logits(picture)))

    def facts(self, found: Found) -> str:
        """What is to be said beside the picture."""
        result, label = found.result, found.picture.label
        named = [] if label is None else [f"label {self.class_name(label)}"]
        probability, score = float(result.target_probabilities[0]), float(result.scores[0])
        named += [f"target {self.class_name(found.target)}", f"probability {probability:.4f}"]
        return ", ".join([*named, f"joint score of the path {score:.4g}"])

    def prediction(self, found: Found) -> pd.DataFrame:
        """The most probable classes: `class`, `probability`."""
        best = found.probabilities.argsort()[::-1][:_CLASSES]
        return pd.DataFrame(
            {"class": [self.class_name(int(c)) for c in best], "probability": found.probabilities[best]}
        )

    def neurons(self, found: Found) -> list[Neuron]:
        """The path's neurons, block by block."""
        slots = found.paths[0].tolist()
        return [(block, neuron) for block, chosen in enumerate(slots) for neuron in chosen if neuron >= 0]

    def ranked(self, found: Found, most: int = 3) -> list[Ranked]:
        """Each block's neurons on the path, and so many of the others."""
        scores = found.result.candidate_scores
        assert scores is not None
        blocks = []
        for block, slots in enumerate(found.paths[0].tolist()):
            chosen = [neuron for neuron in slots if neuron >= 0]
            own = scores[0, block, : self.widths[block]].double()
            base, others = float(own[chosen[0]]), own.clone()
            others[chosen] = -torch.inf
            best = others.topk(min(most, len(others) - len(chosen))).indices.tolist()
            shares = [f"{float(own[neuron]) / base:.0%}" if base else "all are 0" for neuron in best]
            blocks.append(Ranked(block, chosen, list(zip(best, shares, strict=True))))
        return blocks

    def edited(self, found: Found, operation: OperationName, where: Neuron | None = None) -> pd.DataFrame:
        """The probabilities before and after an edit of the path or of one of its neurons.

        Returns:
            `class`, `before`, `after`, `change` of the classes that are most probable before or after, and the target.
        """
        paths = found.paths
        if where is not None:
            block, neuron = where
            paths = torch.where(torch.arange(paths.shape[1]).view(1, -1, 1) == block, paths, -1)
            paths = torch.where(paths == neuron, paths, -1)
        references = self._references() if operation == "mean_ablation" else None
        image = found.picture.image.unsqueeze(0)
        logits = intervene(self._model, image, paths, operation, self._scope, reference_images=references)[0]
        before, after = found.probabilities, self._probabilities(logits)
        best = [*before.argsort()[::-1][:_CLASSES], *after.argsort()[::-1][:2], found.target]
        chosen = list(dict.fromkeys(map(int, best)))
        return pd.DataFrame(
            {
                "class": [self.class_name(index) for index in chosen],
                "before": before[chosen],
                "after": after[chosen],
                "change": (after - before)[chosen],
            }
        )

    def heat_figure(self, found: Found, where: Neuron | None, quantity: QuantityName) -> Figure:
        """Where in the picture the path, or one neuron, looks; effects as against blank paper of digits, else grey."""
        image = found.picture.image.unsqueeze(0)
        is_digit = isinstance(self._config.data, DigitsConfig)
        found_map = heat_map(
            self._model,
            image,
            found.paths if where is None else where,
            found.target,
            quantity,
            baseline_images=torch.full_like(image, _PAPER) if is_digit else None,
            target=found.choice.target,
            token_scope=self._scope,
        )
        what = "path" if where is None else f"block {where[0]}, neuron {where[1]}"
        return found_map.plot(found.picture.pixels, sample_id=what)

    def evidence_figure(self, where: Neuron) -> Figure | None:
        """What activates a neuron most in the run that was given, and on which classes' paths it is there.

        None where the run does not say.
        """
        if self._evidence is None or self._usage is None:
            return None
        block, neuron = where
        rows = self._evidence[(self._evidence["block"] == block) & (self._evidence["neuron"] == neuron)]
        if not len(rows):
            return None
        classes, names = neuron_classes(self._usage, block, neuron), dict(enumerate(self._names))
        return neuron_evidence_figure(self._evidence, block, neuron, classes=classes, class_names=names)

    def compared(self, one: Found, other: Found) -> pd.DataFrame:
        """Two paths block by block: `block`, both pictures' neurons, and how many they share."""
        rows = []
        for block, (mine, theirs) in enumerate(zip(one.paths[0].tolist(), other.paths[0].tolist(), strict=True)):
            shared = len((set(mine) & set(theirs)) - {-1})
            rows.append((block, ", ".join(map(str, mine)), ", ".join(map(str, theirs)), shared))
        first, second = (f"{found.picture.name}: {self.class_name(found.target)}" for found in (one, other))
        return pd.DataFrame(rows, columns=["block", first, second, "shared"])

    def command(self, found: Found) -> str:
        """The command that finds the same path; DIR stands for the folder that holds a dropped picture."""
        choice, picture = found.choice, found.picture
        owned = (*_OWNED, "data") if picture.is_dropped else _OWNED
        kept = [text for text in self._overrides if text.lstrip("+~").partition("=")[0].partition(".")[0] not in owned]
        own = {
            **({"data": "image_folder", "data.root": "DIR"} if picture.is_dropped else {}),
            **SEARCHES[choice.search],
            "target": choice.target,
            "target_class": str(found.target),
            "top_k": str(choice.top_k),
            "hydra.run.dir": "outputs/app",
        }
        words = ["neuron-path", "search", *kept, *(f"{key}={value}" for key, value in own.items())]
        return f"# the row of '{picture.name}' in outputs/app/paths.parquet\n{shlex.join(words)}"

    def python(self, found: Found) -> str:
        """Lines of Python that find the same path."""
        config, choice, picture = self._config, found.choice, found.picture
        model = config.model
        named: dict[str, Any] = {
            "checkpoint": model.checkpoint,
            "checkpoint_key": model.checkpoint_key,
            "pretrained": model.pretrained or None,
            **model.kwargs,
        }
        given = [repr(model.name), *(f"{key}={value!r}" for key, value in named.items() if value is not None)]
        lines = ["import neuron_path", "", f"model = neuron_path.load_model({', '.join(given)})"]
        if self._head is not None:
            lines.append("# give it the run's head: neuron_path.attach_head(model, neuron_path.load_head(FILE))")
        if isinstance(config.data, DigitsConfig) and not picture.is_dropped:
            place = self._digits_place(picture.name, config.data.split)
            lines.append(f"image = neuron_path.load_digits({config.data.split!r})[0][{place}:{place + 1}]")
        else:
            overrides = {name: value for name, value in preprocessing_of(config).items() if value is not None}
            lines[1:1] = ["from PIL import Image", "from neuron_path.models.preprocessing import image_transform"]
            lines.append(f"transform, _ = image_transform(model{f', {overrides!r}' if overrides else ''})")
            lines.append(f"image = transform(Image.open({picture.name!r})).unsqueeze(0)")
        search = SEARCHES[choice.search]
        measure = search.get("search.measure")
        how = f"neuron_path.searches.Linearized(measure={measure!r})" if measure else repr(search["search"])
        options = {
            "search": how,
            "scorer": self._scorer_as_python(),
            "quadrature": repr(config.quadrature.rule),
            "n_steps": repr(config.quadrature.n_steps),
            "target": repr(choice.target),
            "token_scope": repr(config.token_scope),
            "top_k": repr(choice.top_k),
        }
        lines.append(f"result = neuron_path.find_paths(\n    model, image, {found.target},")
        lines += [f"    {key}={value}," for key, value in options.items()]
        return "\n".join([*lines, ")", "result.paths"])

    @property
    def _scope(self) -> Literal["cls", "patch"] | None:
        return self._config.token_scope  # pyright: ignore[reportReturnType] - one of these, or the session refuses it

    def _scorer_as_python(self) -> str:
        options = options_of(self._config.scorer)
        kind = type(self._own_scorer).__name__
        arguments = ", ".join(f"{key}={value!r}" for key, value in options.items())
        return f"neuron_path.scorers.{kind}({arguments})" if options else repr(self._config.scorer.name)

    def _digits_place(self, name: str, split: str) -> int:
        from neuron_path.data.digits import DigitsDataset

        return DigitsDataset(split).sample_ids.index(name)

    def _search(self, choice: Choice) -> Search:
        if choice.search not in SEARCHES:
            raise NeuronPathError(f"No search is named '{choice.search}'. Known: {', '.join(SEARCHES)}.")
        settings = SEARCHES[choice.search]
        options = {key.removeprefix("search."): value for key, value in settings.items() if key != "search"}
        return searches.create(settings["search"], **options)

    def _made(self, item: Any, preprocessing: Any, *, is_dropped: bool) -> Picture:
        if item["image"] is None:
            raise unreadable(item["sample_id"], item["problem"])
        pixels = shown_pixels(item["image"].numpy(), preprocessing)
        return Picture(item["sample_id"], item["image"], pixels, None if is_dropped else item["label"], is_dropped)

    def _logits(self, picture: Picture) -> Tensor:
        """(C,) of the untouched model."""
        session = self._session
        with session.active():
            return clean_pass(session.adapter, session.images(picture.image.unsqueeze(0))).logits[0]

    def _probabilities(self, logits: Tensor) -> np.ndarray:
        """(C,) by softmax; of a single output its sigmoid."""
        values = logits.detach().double().cpu()
        return (values.softmax(0) if len(values) > 1 else values.sigmoid()).numpy()

    def _references(self) -> Tensor:
        """(R, c, H, W) pictures of the data, spread evenly."""
        if self._means is None:
            places = list(self._places.values())
            n_references = min(_REFERENCES, len(places))
            chosen = [places[at * len(places) // n_references] for at in range(n_references)]
            items = [self._data[place]["image"] for place in chosen]
            readable = [image for image in items if image is not None]
            if not readable:
                raise NeuronPathError("No picture of the data can be read, and a mean-ablation needs some.")
            self._means = torch.stack(readable)
        return self._means


def _file_name(name: str) -> str:
    """A file's name without folders, and without what does not show in a command.

    >>> _file_name("../of mine/cat\\n.png")
    'cat.png'
    """
    own = "".join(letter for letter in name.replace("\\", "/").rpartition("/")[2] if letter.isprintable())
    return own if own.strip(".") else "picture"
