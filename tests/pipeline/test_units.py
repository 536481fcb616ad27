"""Runs of attention heads on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neuron_path.app.workbench import Workbench
from neuron_path.cli.hydra_app import compose_config
from neuron_path.errors import NeuronPathError
from neuron_path.store.reader import load_effects, load_paths, read_provenance
from tests.command import call, run_in

SMALL = ["data.limit=4", "quadrature.n_steps=1", "baselines=[activation]", "evaluation.operations=[remove]"]
EFFECT = ["search=linearized", "search.measure=effect"]
UNITS = {"heads": [3] * 12, "ffn+heads": [3, 192] * 12}


@pytest.mark.parametrize("units", UNITS)
def test_a_run_of_heads_is_complete(units: str, tmp_path: Path) -> None:
    is_drawn = units != "heads"  # a report of both kinds shows heads too
    shown = [f"{stage}={str(is_drawn).lower()}" for stage in ("evidence", "report")]
    outcome = run_in(tmp_path / "run", "run", f"units={units}", *SMALL, *EFFECT, *shown)
    assert (outcome.code, outcome.err) == (0, "")
    provenance = read_provenance(outcome.run_dir)
    assert (provenance["units"], provenance["identity"]["units"]) == (units, units)
    assert provenance["n_neurons"] == UNITS[units]
    paths = load_paths(outcome.run_dir)
    own = paths.loc[paths["scorer"] == "joint_attribution", "path"].tolist()
    assert all(0 <= unit < width for path in own for unit, width in zip(path, UNITS[units], strict=True))
    effects = load_effects(outcome.run_dir)
    changes = {}
    for scorer in ("joint_attribution", "activation"):
        own = effects[(effects["operation"] == "remove") & (effects["scorer"] == scorer)]
        changes[scorer] = float(np.mean(own["edited_probability"] / own["clean_probability"])) - 1
    assert changes["joint_attribution"] < changes["activation"] < 0
    if is_drawn:
        assert "Units" in (outcome.run_dir / "report.html").read_text(encoding="utf-8")
    code, out, err = call("verify", str(outcome.run_dir), "--sample=3")
    assert (code, err) == (0, "")
    assert "6 paths identical" in out


def test_what_takes_neurons_only_refuses_a_run_of_heads(tmp_path: Path) -> None:
    quick = ["data.limit=1", "scorer=activation"]
    outcome = run_in(tmp_path / "run", "search", "units=heads", *quick)
    other = run_in(tmp_path / "other", "search", *quick)
    assert (outcome.code, other.code) == (0, 0)
    assert "units" not in read_provenance(other.run_dir)["identity"]
    code, _, err = call("search", f"hydra.run.dir={outcome.run_dir}", *quick)
    assert (code, "of another search: units" in err) == (1, True), err
    with pytest.raises(NeuronPathError, match=r"use units=ffn\.$"):
        Workbench(compose_config(["units=heads"]))
