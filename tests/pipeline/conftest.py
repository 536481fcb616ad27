"""One finished run of the embedded model, which many tests read."""

from __future__ import annotations

import pytest

from tests.command import Outcome, run_in

LIMIT = 12


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """`neuron-path run` on twelve digits, in batches of five."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    outcome = run_in(run_dir, "run", f"data.limit={LIMIT}", "data.batch_size=5", "seed=3")
    assert (outcome.code, outcome.err) == (0, "")
    return outcome
