"""The study of contrasts: which images it takes, and what it prints of them."""

from __future__ import annotations

import pytest
import torch

import neuron_path
from contrast import Contrast, main, most_confused


def test_the_most_confused_lead_by_least() -> None:
    logits = torch.tensor([[4.0, 1.0, 0.0], [2.0, 2.1, 0.0], [0.3, 0.0, 0.2]])  # leads of 3/4, 1/21 and 1/3
    assert most_confused(logits, 2).tolist() == [1, 2]


def test_it_prints_what_removal_changes(capsys: pytest.CaptureFixture[str]) -> None:
    main(Contrast(images=2))
    lines = capsys.readouterr().out.splitlines()
    model, (images, _) = neuron_path.load_model(), neuron_path.load_digits("test")
    clean = model(images)
    best = clean.topk(2)
    chosen = ((best.values[:, 0] - best.values[:, 1]) / clean.abs().amax(1)).argsort()[:2]
    for line, target in zip(lines, ("contrast", "probability", "logit"), strict=False):
        paths = neuron_path.find_paths(model, images[chosen], target=target, search="linearized").paths
        edited = neuron_path.intervene(model, images[chosen], paths)
        leads = [z.gather(1, best.indices[chosen]) for z in (clean[chosen], edited)]
        before, after = (lead[:, 0] - lead[:, 1] for lead in leads)
        mean = float((after - before).mean())
        assert line.startswith(f"{target}: removing its path changes z_y − z_c by {mean:+.3f} [".replace("-", "−"))
    assert [line.split(":")[0] for line in lines[3:]] == ["contrast − probability", "contrast − logit"]
