"""What every refusal has in common, and how files are damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st

LONGEST = 1500  # characters of a line that someone still reads


def check_refusal(code: int, err: str, expected: int = 1) -> str:
    """Assert that a command failed with one clear line, which is returned."""
    assert code == expected, (code, err)
    assert err.count("\n") == 1, err
    assert err.startswith("neuron-path: error: "), err
    line = err.removeprefix("neuron-path: error: ").strip()
    assert 10 < len(line) < LONGEST, err
    assert "Traceback" not in line, err
    return line


@dataclass(frozen=True)
class Damage:
    """One way to damage a file: `at` and `length` are shares of it, in thousandths."""

    kind: str
    at: int
    length: int
    seed: int

    def of(self, data: bytes) -> bytes:
        """The damaged bytes, which are others."""
        begin = min(len(data) * self.at // 1000, max(len(data) - 1, 0))
        end = min(begin + 1 + len(data) * self.length // 1000, len(data))
        damaged = _KINDS[self.kind](data, begin, end, self.seed)
        return damaged if damaged != data else data[:-1]


def _noise(n: int, seed: int) -> bytes:
    return bytes((seed + 97 * place + place * place) % 256 for place in range(n))


_KINDS: dict[str, Callable[[bytes, int, int, int], bytes]] = {
    "cut": lambda data, begin, end, seed: data[:begin],
    "headless": lambda data, begin, end, seed: data[end:],
    "hole": lambda data, begin, end, seed: data[:begin] + bytes(end - begin) + data[end:],
    "lost": lambda data, begin, end, seed: data[:begin] + data[end:],
    "noise": lambda data, begin, end, seed: data[:begin] + _noise(end - begin, seed) + data[end:],
    "flipped bit": lambda data, begin, end, seed: (
        data[:begin] + bytes([data[begin] ^ (1 << seed % 8)]) + data[begin + 1 :] if data else data
    ),
    "grown": lambda data, begin, end, seed: data + _noise(end - begin, seed),
    "twice": lambda data, begin, end, seed: data + data,
    "other": lambda data, begin, end, seed: _noise(1 + len(data) // 2, seed),
    "text": lambda data, begin, end, seed: b"hello " * (1 + seed % 9),
}

damages = st.builds(
    Damage, st.sampled_from(sorted(_KINDS)), st.integers(0, 999), st.integers(0, 400), st.integers(0, 255)
)


def few_by_default(few: int, many: int) -> pytest.MarkDecorator:
    """The argument `examples` of a test: few by default, many under stress; each is a whole command."""
    return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])
