"""Workers, with a script in the place of what they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from neuron_path.errors import NeuronPathError
from neuron_path.pipeline.launch import workers
from neuron_path.pipeline.launch.runner import Share
from neuron_path.pipeline.launch.workers import Workers

SCRIPT = """
import json, sys
run = json.loads(sys.stdin.readline())
for line in sys.stdin:
    order = json.loads(line)
    if order["stage"] is None:
        break
    print(json.dumps(run["report"] | {"threads": len(order["left"] or [])}), flush=True)
    if "code" in run:
        sys.exit(run["code"])
"""


@pytest.fixture(autouse=True)
def _script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_WORKER", ("-c", SCRIPT))


def crew(*orders: Mapping[str, Any]) -> Workers:
    return Workers(orders, torch.device("cpu"))


def test_workers_stay_for_all_stages_and_the_first_one_is_told_what_is_left() -> None:
    with crew(*[{"report": {"seconds": rank, "device": "x", "precision": "fp32"}} for rank in range(2)]) as both:
        for left in ([4, 5, 6], [7]):
            shares = both.order({"stage": "part", "left": left, "given": {}})
            assert shares == [Share(0, "x", len(left), "fp32"), Share(1, "x", 0, "fp32")]


def test_a_report_may_be_longer_than_what_a_pipe_holds() -> None:
    report = {"seconds": 1.0, "device": "x" * 2**20, "precision": "fp32"}
    with crew({"report": report}) as alone:
        assert alone.order({"stage": "part", "left": [1]}) == [Share(1.0, "x" * 2**20, 1, "fp32")]


def test_so_may_the_cause_of_a_failure() -> None:
    cause = f"{'word ' * 2**18}and an end"
    with crew({"report": {"error": cause}, "code": 1}) as alone, pytest.raises(NeuronPathError) as failed:
        alone.order({"stage": "part", "left": [1]})
    assert str(failed.value) == cause


def test_a_worker_that_ends_without_a_word_is_one_line() -> None:
    with (
        crew({"report": {}, "code": 0}) as alone,
        pytest.raises(NeuronPathError, match=r"^Process 1 of 1 ended without a word, with code 0\.$"),
    ):
        alone.order({"stage": "part", "left": [1]})
