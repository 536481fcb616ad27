"""Docstrings as the site takes them: Markdown, though they are written for who reads them in the code."""

from __future__ import annotations

import re

import griffe

_EXAMPLE = re.compile(r"^(>>> .*\n(?:.+\n|\n(?=>>> ))*)", re.MULTILINE)
_ROLE = re.compile(r":[a-z]+:`~?([\w.]+)`")


class AsMarkdown(griffe.Extension):
    """Fences examples, which stand without a heading, and writes names that Sphinx would link as plain code."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None:
            text = _ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = _EXAMPLE.sub(r"```pycon\n\1```\n", text + "\n").rstrip()
