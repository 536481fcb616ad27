"""Workers, with a script in the place of what they do."""

from __future__ import annotations

import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.pipeline.launch import workers
from neuron_path.pipeline.launch.share import Share

SCRIPT = """
import json, sys
order = json.loads(sys.stdin.readline())
print(json.dumps(order["report"]), end="")
sys.exit(order["code"])
"""


@pytest.fixture(autouse=True)
def _script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_WORKER", ("-c", SCRIPT))


def test_a_report_may_be_longer_than_what_a_pipe_holds() -> None:
    report = {"seconds": 1.0, "device": "x" * 2**20, "threads": 1, "precision": "fp32"}
    assert workers.search_in_workers([{"report": report, "code": 0}]) == [Share(1.0, "x" * 2**20, 1, "fp32")]


def test_so_may_the_cause_of_a_failure() -> None:
    cause = f"{'word ' * 2**18}and an end"
    with pytest.raises(NeuronPathError) as failed:
        workers.search_in_workers([{"report": {"error": cause}, "code": 1}])
    assert str(failed.value) == cause
