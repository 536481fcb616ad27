"""What people type in the place of Hydra's overrides: paths as they are, and settings with dashes as W&B's sweeps call.

Values of settings that are paths reach Hydra as quoted text, whatever its grammar makes of `=`, `~`, spaces, brackets
and commas; all other values are left to that grammar.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

PATHS = (
    "data.class_index",
    "data.labels",
    "data.root",
    "evaluate_on",
    "evaluation.reference",
    "head.path",
    "head.root",
    "hydra.run.dir",
    "hydra.sweep.dir",
    "model.checkpoint",
    "paths.output_dir",
    "resume",
    "run_dir",
)
"""Settings whose value is a path."""

_FLAGS = frozenset(["cfg", "config-dir", "config-name", "config-path", "experimental-rerun", "info", "package"])
_OVERRIDE = re.compile(r"(\+{0,2})([\w./]+)=(.*)", re.DOTALL)
_AS_IT_IS = re.compile(r"(?=.*[A-Za-z_/])[\w./*%?-]+", re.ASCII)  # which Hydra reads as that text, but for `_WORDS`
_WORDS = re.compile(r"null|true|false|nan|[-+]?inf|[-+]?\d[\d_]*(\.[\d_]*)?(e[-+]?\d+)?", re.IGNORECASE)
_OWN_GRAMMAR = re.compile(r"(?P<mark>['\"]).*(?P=mark)|null|.*\$\{.*", re.DOTALL)  # quoted, nothing, or a reference
_SWEEP = re.compile(r"(choice|glob|interval|range|shuffle|sort|tag)\(.*\)", re.DOTALL)


def as_overrides(arguments: Sequence[str]) -> list[str]:
    """The same arguments for Hydra.

    >>> as_overrides(["--scorer=random", "model.checkpoint=epoch=3-step=100.ckpt", "data.limit=10"])
    ['scorer=random', "model.checkpoint='epoch=3-step=100.ckpt'", 'data.limit=10']
    """
    is_sweep = any(argument in ("-m", "--multirun") for argument in arguments)
    return [_quoted_path(_without_dashes(argument), is_sweep) for argument in arguments]


def _without_dashes(argument: str) -> str:
    """An override for `--KEY=VALUE`, unless that is one of Hydra's own flags; W&B writes Python's None for nothing."""
    name, equals, value = argument.removeprefix("--").partition("=")
    if not argument.startswith("--") or not equals or name in _FLAGS:
        return argument
    return f"{name}={'null' if value == 'None' else value}"


def _quoted_path(argument: str, is_sweep: bool) -> str:
    match = _OVERRIDE.fullmatch(argument)
    if match is None or match[2] not in PATHS or not match[3] or _OWN_GRAMMAR.fullmatch(match[3]):
        return argument
    plus, key, value = match.groups()
    if is_sweep and not os.path.exists(os.path.expanduser(value)):
        if _SWEEP.fullmatch(value):
            return argument
        return f"{plus}{key}={','.join(_quoted(part) for part in value.split(','))}"
    return f"{plus}{key}={_quoted(value)}"


def _quoted(path: str) -> str:
    """A path as Hydra reads it back.

    >>> _quoted("a/b.png"), _quoted("a b"), _quoted("it's"), _quoted("007")
    ('a/b.png', "'a b'", "'it\\\\'s'", "'007'")
    """
    path = os.path.expanduser(path)
    if _AS_IT_IS.fullmatch(path) and not _WORDS.fullmatch(path):
        return path
    # A backslash is itself but before a quotation mark.
    marked = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), path)
    return f"'{marked}'"
