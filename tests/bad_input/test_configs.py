"""Bad settings, drawn at random: each is one clear line, whatever the setting, and leaves no file."""

from __future__ import annotations

from pathlib import Path

from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from neuron_path.cli.main import COMMANDS
from tests.bad_input.refusals import check_refusal, few_by_default
from tests.command import call, run_in

letters = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
words = letters.filter(lambda text: text not in ("null", "true", "false", "on", "off", "yes", "no", "nan", "inf"))

INTEGERS = {  # setting: the first that is too small
    "data.limit": 0,
    "data.batch_size": 0,
    "data.num_workers": -1,
    "data.max_skipped": -1,
    "top_k": 0,
    "quadrature.n_steps": 0,
    "micro_batch": 0,
    "trainer.threads": 0,
    "seed": -1,
}
NAMES = (
    "target",
    "target_class",
    "token_scope",
    "precision",
    "memory_budget",
    "data.split",
    "data.on_error",
    "quadrature.rule",
    "evaluation.operations",
    "evaluation.tokens",
    "logger.name",
    "model.name",
    "scorer.name",
    "search.name",
)
LISTS = ("evaluation.operations", "data.classes", "baselines")
GROUPS = ("model", "head", "data", "preprocessing", "scorer", "search", "quadrature", "trainer", "logger", "experiment")
KEYS = (*INTEGERS, *NAMES, "data.cache", "head.C", "evaluation.factor", "paths.output_dir")

too_small = st.sampled_from(sorted(INTEGERS)).flatmap(
    lambda key: st.integers(-(2**70), INTEGERS[key]).map(lambda number: f"{key}={number}")
)
no_number = st.builds("{}={}".format, st.sampled_from(sorted(INTEGERS)), words)
fraction = st.builds("{}={}.5".format, st.sampled_from(sorted(INTEGERS)), st.integers(1, 9))
no_such_value = st.builds("{}={}".format, st.sampled_from(NAMES), words.map("zz".__add__))
no_such_entry = st.builds("{}=[{}]".format, st.sampled_from(LISTS), words.map("zz".__add__))
no_such_option = st.builds("{}={}".format, st.sampled_from(GROUPS), words.map("zz".__add__))
no_such_setting = st.builds("{}zz={}".format, st.sampled_from(KEYS), st.integers(0, 9))
no_such_addition = st.builds("+{}.{}=1".format, st.sampled_from(GROUPS[:-1]), words.map("zz".__add__))
misspelled = st.sampled_from(KEYS).flatmap(
    lambda key: st.integers(0, len(key) - 1).map(lambda place: f"{key[:place]}zz{key[place + 1 :]}=1")
)
unbalanced = st.builds("{}={}{}".format, st.sampled_from(KEYS[:-1]), st.sampled_from("[{("), words)  # but paths
no_grammar = st.builds("{}{}".format, st.sampled_from("=:[]{}'\"@"), words)
flags = words.map("--zz".__add__)

cases = st.one_of(
    too_small,
    no_number,
    fraction,
    no_such_value,
    no_such_entry,
    no_such_option,
    no_such_setting,
    no_such_addition,
    misspelled,
    unbalanced,
    no_grammar,
    flags,
)


@few_by_default(12, 60)
def test_bad_settings_are_one_line(examples: int, tmp_path: Path) -> None:
    seen: set[str] = set()

    @settings(max_examples=examples, derandomize=True, database=None, phases=[Phase.generate])
    @given(cases)
    def check(override: str) -> None:
        command = "run" if override.startswith("baselines") else "search"  # which does not read them
        outcome = run_in(tmp_path / "run", command, override, threads="threads" not in override)
        check_refusal(outcome.code, outcome.err)
        assert outcome.results == []
        seen.add(override)

    check()
    assert len(seen) >= 0.8 * examples


def test_commands_that_do_not_exist_are_one_line() -> None:
    seen: set[str] = set()

    @settings(max_examples=30, derandomize=True, database=None, phases=[Phase.generate])
    @given(st.text(min_size=1, max_size=20))
    def check(command: str) -> None:
        assume(command not in COMMANDS and command not in ("-h", "--help", "--version", "--debug"))
        code, out, err = call(command)
        assert out == ""
        assert "is named" in check_refusal(code, err, expected=2)
        seen.add(command)

    check()
    assert len(seen) >= 25


@few_by_default(4, 10)
def test_values_of_any_characters_are_one_line(examples: int, tmp_path: Path) -> None:
    seen: set[tuple[str, str]] = set()

    @settings(max_examples=examples, derandomize=True, database=None, phases=[Phase.generate])
    @given(st.sampled_from(("data.root", "model.checkpoint", "head.path", "run_dir")), st.text(max_size=30))
    def check(key: str, value: str) -> None:
        assume("\0" not in value)
        group = {"data.root": ["data=image_folder"], "head.path": ["head=file"]}.get(key, [])
        outcome = run_in(tmp_path / "run", "search", *group, f"{key}={tmp_path}/{value}zz")
        check_refusal(outcome.code, outcome.err)
        seen.add((key, value))

    check()
    assert len(seen) >= 0.8 * examples
