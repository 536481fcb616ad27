"""Make the page docs/performance.md from its template and from the results there are; measures nothing.

    python -m benchmarks.performance

The template, `benchmarks/performance.md.j2`, names results by their benchmark: `{{ baselines.tables.captum }}` is a
table with its caption, `{{ scaling.values.nodes.exponent.median }}` a number, and `{{ machine }}` tells where they were
measured. A result that the template names must exist, unless it asks `{% if NAME is defined %}`. Results `NAME_real`
are those of a pretrained model, which need its weights and photographs.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined, UndefinedError
from jinja2.meta import find_undeclared_variables

from benchmarks import harness
from neuron_path.errors import NeuronPathError
from neuron_path.report.markdown import listed
from neuron_path.store.atomic import write_text

TEMPLATE = Path(__file__).with_name("performance.md.j2")
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


class Measured(NamedTuple):
    """What the template sees of one result."""

    tables: Mapping[str, str]
    values: Mapping[str, Any]


def needed(template: str) -> set[str]:
    """The benchmarks that a template names.

    >>> needed("{{ machine }} {{ scaling.tables.scaling }}")
    {'scaling'}
    """
    return find_undeclared_variables(_environment().parse(template)) - {"machine"}


def optional(template: str) -> set[str]:
    """The benchmarks that a template does without where they have not been measured.

    >>> optional("{% if memory is defined %}{{ memory.tables.memory }}{% endif %}")
    {'memory'}
    """
    return set(re.findall(r"(\w+) is defined", template))


def command(name: str) -> str:
    """What measures a result.

    >>> command("memory"), command("memory_real")
    ('python -m benchmarks.memory', 'python -m benchmarks.memory --checkpoint FILE --data FOLDER')
    """
    given = " --checkpoint FILE --data FOLDER" if name.endswith("_real") else ""
    return f"python -m benchmarks.{name.removesuffix('_real')}{given}"


def render(template: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page.

    Args:
        template: in Jinja.
        results: as `harness.results` gives them.

    Raises:
        NeuronPathError: the template names a result, a table or a value that does not exist.
    """
    names = sorted(needed(template))
    missing = [name for name in names if name not in results and name not in optional(template)]
    if missing:
        commands = listed([f"`{command(name)}`" for name in missing])
        raise NeuronPathError(f"There is no result of {listed(missing)} yet: run {commands} first.")
    used = {name: results[name] for name in names if name in results}
    measured = {name: Measured(harness.fragments(result), result["values"]) for name, result in used.items()}
    try:
        return _environment().from_string(template).render(measured, machine=machines(used))
    except UndefinedError as error:
        raise NeuronPathError(f"The template names what no result has: {error}.") from error


def machines(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The machine of the results as a table; where they are of several, a table for each."""
    names: dict[str, list[str]] = {}
    for name, result in results.items():
        names.setdefault(harness.machine_table(result), []).append(f"`{name}`")
    if len(names) == 1:
        return next(iter(names))
    return "\n\n".join(f"Of {listed(measured)}:\n\n{table}" for table, measured in names.items())


def _environment() -> Environment:
    return Environment(undefined=StrictUndefined, keep_trailing_newline=True)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    try:
        page = render(TEMPLATE.read_text(encoding="utf-8"), harness.results())
    except NeuronPathError as error:
        sys.exit(str(error))
    write_text(PAGE, page)
    print(f"Written: {PAGE}")


if __name__ == "__main__":
    main()
