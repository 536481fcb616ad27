"""`--debug` shows where an error comes from; without it there is the line alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_input.refusals import check_refusal
from tests.command import call

MISTAKES = {
    "setting": ("search", "data.limitt=3"),
    "value": ("run", "data.limit=0"),
    "directory": ("compare", "none"),
    "name": ("models", "resnet18"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_debug_shows_where_an_error_comes_from(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call(*MISTAKES[name])
    line = check_refusal(code, err)
    for arguments in ((*MISTAKES[name], "--debug"), (MISTAKES[name][0], "--debug", *MISTAKES[name][1:])):
        code, out, err = call(*arguments)
        assert (code, out) == (1, "")
        assert err.startswith("Traceback (most recent call last):\n")
        assert err.endswith(f"neuron-path: error: {line}\n")


def test_a_job_of_a_sweep_has_its_own_traceback(tmp_path: Path) -> None:
    code, _, err = call("search", "-m", "target_class=99,98", "--debug", f"hydra.sweep.dir={tmp_path}")
    assert code == 1
    assert err.count("in build_targets") == 2
    assert err.count("neuron-path: error: Job ") == 2
