"""The number of threads: as asked, or this process's share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from neuron_path.errors import NeuronPathError
from neuron_path.pipeline.launch.threads import use_threads


@pytest.fixture(autouse=True)
def threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_wanted_number_is_set() -> None:
    assert use_threads(2) == 2
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("n_processes", "expected"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_processes_share_what_there_is(n_processes: int, expected: int) -> None:
    torch.set_num_threads(4)
    assert use_threads(None, n_processes) == expected
    assert torch.get_num_threads() == expected


def test_fewer_than_one_is_refused() -> None:
    with pytest.raises(NeuronPathError, match=r"trainer\.threads is 0; expected at least 1"):
        use_threads(0)
