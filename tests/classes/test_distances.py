"""Distances between classes from files, against graphs that networkx walks, and from a stand-in for WordNet."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

from neuron_path.classes.distances import read_distances, tree_distances
from neuron_path.errors import NeuronPathError

TREE: Any = {
    "animal": {"mammal": ["cat", "dog"], "bird": {"owl": None, "penguin": None}},
    "artefact": {"vehicle": {"truck": None}, "tool": ["axe"]},
}
NAMES = ["axe", "cat", "dog", "owl", "penguin", "truck"]


def walked(tree: Any) -> np.ndarray:
    """Steps through the tree as a graph."""
    graph = nx.Graph()

    def add(node: Any, above: str) -> None:
        for key in node:
            here = f"{above}/{key}"
            graph.add_edge(above, here, leaf=key)
            if isinstance(node, dict) and node[key] is not None:
                add(node[key], here)

    add(tree, "")
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    ends = {node.rsplit("/", 1)[1]: node for node in graph if node}
    return np.array([[lengths[ends[one]][ends[other]] for other in NAMES] for one in NAMES])


def test_a_tree_gives_the_steps_between_its_leaves(tmp_path: Path) -> None:
    (tmp_path / "tree.json").write_text(json.dumps(TREE))
    found = read_distances(tmp_path / "tree.json", range(6), NAMES)
    np.testing.assert_array_equal(found.values, walked(TREE))
    assert found.source == "tree.json, steps through a tree"
    some = read_distances(tmp_path / "tree.json", [4, 1], NAMES)
    np.testing.assert_array_equal(some.values, [[0, 4], [4, 0]])


def test_a_tree_may_name_classes_by_index(tmp_path: Path) -> None:
    (tmp_path / "tree.json").write_text('[{"round": [0, 6, 8]}, {"straight": ["1", "7"]}]')
    found = read_distances(tmp_path / "tree.json", [0, 1, 6, 7])
    np.testing.assert_array_equal(found.values, [[0, 4, 2, 4], [4, 0, 4, 2], [2, 4, 0, 4], [4, 2, 4, 0]])


def test_nodes_of_one_name_under_different_parents_are_different() -> None:
    np.testing.assert_array_equal(tree_distances([("a", "x", 0), ("b", "x", 1)]), [[0, 6], [6, 0]])


def test_a_leaf_above_another_is_as_far_as_the_steps_down() -> None:
    np.testing.assert_array_equal(tree_distances([("a",), ("a", "b", "c")]), [[0, 2], [2, 0]])


def test_a_matrix_is_read_by_its_names(tmp_path: Path) -> None:
    (tmp_path / "matrix.csv").write_text(",dog,cat,owl\nowl,3,2.5,0\ncat,1,0,2.5\ndog,0,1,3\n")
    found = read_distances(tmp_path / "matrix.csv", [0, 1, 2], ["cat", "dog", "owl"])
    np.testing.assert_array_equal(found.values, [[0, 1, 2.5], [1, 0, 3], [2.5, 3, 0]])
    assert found.source == "matrix.csv, a matrix"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("m.csv", ",0,1\n0,0,1\n1,2,0\n", "not symmetric"),
        ("m.csv", ",0,1\n0,0,x\n1,x,0\n", "no matrix of distances"),
        ("m.csv", ",0,1\n0,0,-1\n1,-1,0\n", "no similarities"),
        ("m.csv", ",0,1\n0,1,0.5\n1,0.5,1\n", "no similarities"),
        ("m.csv", ",0,1\n0,0,1\n2,1,0\n", "expected the same ones"),
        ("m.csv", ",0\n0,0\n", "has no class '1'"),
        ("t.json", "{", "no JSON tree"),
        ("t.json", '{"a": [0, 0], "b": [1]}', "leaf '0' more than once"),
        ("t.json", "[]", "no leaf"),
        ("t.json", '{"a": 1.5}', "no JSON tree"),
        ("m.txt", "", "matrix as .csv, a tree as .json"),
        ("absent.csv", None, "Cannot read"),
    ],
)
def test_what_is_no_distance_is_refused(tmp_path: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(NeuronPathError, match=words):
        read_distances(tmp_path / name, [0, 1])


class _Synset:
    """What NLTK gives, of a graph in which a dog is both a canine and a pet."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Synset) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def hypernym_distances(self) -> set[tuple[_Synset, int]]:
        """Every way up, also the longer ones."""
        found: set[tuple[_Synset, int]] = {(self, 0)}
        for above in HYPERNYMS.get(self.name, []):
            found |= {(synset, steps + 1) for synset, steps in _Synset(above).hypernym_distances()}
        return found


HYPERNYMS = {
    "dog": ["canine", "pet"], "tabby_cat": ["cat"], "cat": ["feline", "pet"], "wolf": ["canine"],
    "canine": ["carnivore"], "feline": ["carnivore"], "carnivore": ["animal"], "pet": ["animal"], "animal": ["entity"],
    "axe": ["tool"], "tool": ["entity"],
}  # fmt: skip


def test_wordnet_is_asked_for_nouns_and_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in has NLTK's interface; NLTK's own data cannot be had without a network."""
    wordnet = types.SimpleNamespace(
        synsets=lambda word, pos: [_Synset(word), _Synset("axe")] if word in HYPERNYMS and pos == "n" else [],
        synset_from_pos_and_offset=lambda pos, offset: _Synset("axe") if offset == 12 else None,
    )
    corpus = types.ModuleType("nltk.corpus")
    corpus.wordnet = wordnet  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "nltk", types.ModuleType("nltk"))
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)
    names = ["tabby cat", "wug, dog", "n00000012", "wolf", "canine"]
    found = read_distances("wordnet", range(5), names)
    graph = nx.Graph([(below, above) for below, ways in HYPERNYMS.items() for above in ways])
    nodes = ["tabby_cat", "dog", "axe", "wolf", "canine"]
    expected = [[nx.shortest_path_length(graph, one, other) for other in nodes] for one in nodes]
    np.testing.assert_array_equal(found.values, expected)
    assert expected[0][1] == 3  # by way of pet
    with pytest.raises(NeuronPathError, match="has no id 'n00000100'"):
        read_distances("wordnet", [0], ["n00000100"])
    with pytest.raises(NeuronPathError, match="knows no noun 'wug'"):
        read_distances("wordnet", [0], ["wug"])

    def absent(word: str, pos: str) -> None:
        raise LookupError("Resource wordnet not found.")

    wordnet.synsets = absent
    with pytest.raises(NeuronPathError, match="no WordNet data"):
        read_distances("wordnet", [0], ["dog"])


def test_wordnet_without_its_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    with pytest.raises(NeuronPathError, match="pip install nltk"):
        read_distances("wordnet", [0], ["dog"])
