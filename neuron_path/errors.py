"""The one exception of foreseeable mistakes, and how its messages are worded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NeuronPathError(Exception):
    """A mistake that the user can fix: one line that says what, found, expected and what to do.

    The command line prints it without a traceback and exits with a non-zero code.
    """


def nearest(found: str, known: Iterable[str]) -> str:
    """Say which known name is closest to a wrong one.

    >>> nearest("activaton", ["activation", "random"])
    " Did you mean 'activation'?"
    >>> nearest("xyz", ["activation"])
    ''
    """
    match = difflib.get_close_matches(found, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{match[0]}'?" if match else ""


def unknown_name(kind: str, found: str, known: Iterable[str]) -> NeuronPathError:
    """Make the error for a name that is not among the known ones.

    >>> unknown_name("scorer", "activaton", ["activation", "random"])
    NeuronPathError("No scorer is named 'activaton'. Did you mean 'activation'? Known: activation, random.")
    """
    names, found = sorted(known), str(found)  # in a notebook it may be anything
    return NeuronPathError(f"No {kind} is named '{found}'.{nearest(found, names)} Known: {', '.join(names)}.")
