"""The page's template filled in: what comes from data is escaped, and nothing but the page's own scripts may run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from neuron_path.store.jsonable import jsonable

_PACKAGE: Final = "neuron_path.report.run_page"
_PLOTTING: Final = "vendor/plotly-cartesian.min.js"
_INTERVAL: Final = re.compile(r"\[[−+]?[\d.]+, [−+]?[\d.]+\]")
_BIDI: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ESCAPED_BIDI: Final = re.compile(r"\\u(061c|200[ef]|202[a-e]|206[6-9])")
_POLICY: Final = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {scripts}; base-uri 'none'; "
    "form-action 'none'"
)


def render_page(content: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Fill in the template.

    Args:
        content: what the template shows, by name; text is escaped.
        data: what the script draws; anything that :func:`neuron_path.store.jsonable.jsonable` takes.

    Returns:
        The page. Its content security policy names its two scripts by their hash and allows no connection, so that a
        browser runs nothing else, whatever a name in the data says.
    """
    environment = Environment(
        loader=PackageLoader(_PACKAGE, ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: in_one_direction(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = {"plotting": resource(_PLOTTING), "report": resource("report.js")}
    environment.filters["tight"] = tight
    hashes = " ".join(f"'sha256-{_digest(text)}'" for text in scripts.values())
    return environment.get_template("report.html.jinja").render(
        **content,
        data=Markup(_ESCAPED_BIDI.sub(r"\\ufffd", htmlsafe_json_dumps(jsonable(data), dumps=_compact))),
        policy=_POLICY.format(scripts=hashes),
        style=Markup(resource("report.css")),
        **{name: Markup(text) for name, text in scripts.items()},
    )


def in_one_direction(text: str) -> str:
    r"""Keep a name from turning round the words after it: marks that set the direction of writing are replaced.

    >>> in_one_direction("a\u202eb")
    'a\ufffdb'
    """
    return _BIDI.sub("\N{REPLACEMENT CHARACTER}", text)


def tight(text: object) -> str:
    """Keep a number and its unit, and an interval, on one line.

    >>> tight("−1.8 % [−2.3, −1.4]")
    '−1.8\xa0% [−2.3,\xa0−1.4]'
    """
    whole = _INTERVAL.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), str(text))
    return whole.replace(" %", "\N{NO-BREAK SPACE}%")


def resource(name: str) -> str:
    """Return one of the page's own files."""
    return files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _compact(value: Any, **options: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False, **options)
