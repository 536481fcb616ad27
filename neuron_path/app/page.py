"""The page itself: small forms whose answers are put in their places by htmx. Starlette serves them.

It holds no numbers and no figures of its own: each form asks the workbench and shows what comes back, or the one line
of what is wrong.
"""

from __future__ import annotations

import asyncio
import errno
import html
import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final

import pandas as pd
import python_multipart  # noqa: F401  # pyright: ignore[reportUnusedImport] - Starlette asks for it at the first upload
import uvicorn
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartParser
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from neuron_path.app.workbench import (
    MOST_BYTES,
    MOST_TOP_K,
    OPERATIONS,
    SEARCHES,
    Choice,
    Found,
    Neuron,
    Picture,
    Workbench,
)
from neuron_path.attribution.target import TARGETS
from neuron_path.errors import NeuronPathError
from neuron_path.report import run_page
from neuron_path.report.notebook import figure_as_html
from neuron_path.report.run_page.render import in_one_direction

_KEPT: Final = 32  # paths that can still be edited, of all tabs; a path with its picture takes some 2 MB
_WAITING: Final = 16  # requests that may wait; one is computed at a time
_PORTS: Final = range(7860, 7960)
_FORM: Final = 100_000  # bytes of a request beside its picture
_STYLE: Final = Path(run_page.__file__).with_name("report.css")  # the report's look
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}

Form = Mapping[str, Any]
"""What a form says: text, or of a picture that was dropped (name, bytes)."""
Use = Callable[[Form], str | None]
"""What a form does: HTML to be shown in its place, None to leave what is shown."""
Call = tuple["Future[str | None]", Use, Form]
"""Where the answer goes, the function and what it is given."""


class _Page:
    """What the page's forms do. Whoever waits for an answer waits in the server's thread; `answer` gives them all."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._calls: SimpleQueue[Call] = SimpleQueue()
        self._found: OrderedDict[str, Found] = OrderedDict()  # by a name that only its page knows, the latest last
        self._templates = Environment(
            loader=PackageLoader("neuron_path.app"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=lambda value: in_one_direction(value) if type(value) is str else value,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["table"] = lambda table: Markup(_table(table))

    def app(self, hosts: list[str]) -> Starlette:
        """What is served, to those who ask for one of these hosts: no other site can name one of its own for it."""
        uses = {"find": self._find, "edit": self._edit, "look": self._look, "compare": self._compare}
        return Starlette(
            routes=[
                Route("/", self._start),
                Route("/report.css", lambda _: FileResponse(_STYLE)),
                Mount("/static", StaticFiles(packages=[("neuron_path.app", "static")])),
                *(Route(f"/{name}", self._answered(use), methods=["POST"]) for name, use in uses.items()),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        )

    def answer(self) -> None:
        """Make the calls, in their order, until this thread is interrupted."""
        while True:
            answer, use, form = self._calls.get()
            if not answer.set_running_or_notify_cancel():
                continue  # who asked is gone
            try:
                answer.set_result(use(form))
            except Exception as problem:  # raised where it was asked
                answer.set_exception(problem)

    async def _start(self, _: Request) -> Response:
        bench = self._bench
        text = self._render(
            "index",
            samples=bench.sample_ids,
            classes=[bench.class_name(index) for index in range(bench.n_classes)],
            searches=list(SEARCHES),
            targets=list(TARGETS),
            choice=Choice(),
            most_top_k=MOST_TOP_K,
        )
        return HTMLResponse(text, headers=_HEADERS)

    def _answered(self, use: Use) -> Callable[[Request], Any]:
        """Let a request show what `use` gives, or the one line of what is wrong."""

        async def guarded(request: Request) -> Response:
            try:
                shown = await self._ask(request, use)
            except NeuronPathError as mistake:  # what is shown stays
                return HTMLResponse(_error(str(mistake)), headers=_HEADERS | {"HX-Reswap": "none"})
            return Response(status_code=204) if shown is None else HTMLResponse(_error("") + shown, headers=_HEADERS)

        return guarded

    async def _ask(self, request: Request, use: Use) -> str | None:
        form = await _form_of(request)
        if self._calls.qsize() >= _WAITING:
            raise NeuronPathError(f"{_WAITING} requests wait already: try again when some of them are answered.")
        answer: Future[str | None] = Future()
        self._calls.put((answer, use, form))
        told = asyncio.wrap_future(answer)
        left = asyncio.ensure_future(request.receive())  # comes after the body when who asked is gone
        try:
            await asyncio.wait({told, left}, return_when=asyncio.FIRST_COMPLETED)
            return await told if told.done() else None
        finally:
            told.cancel()
            left.cancel()

    def _render(self, template: str, **content: Any) -> str:
        return self._templates.get_template(f"{template}.html.jinja").render(**content)

    def _find(self, form: Form) -> str | None:
        bench, picture = self._bench, self._picture(form)
        if picture is None and "found" not in form:
            return None  # a setting, before there is a picture
        picture = picture or self._kept(form).picture
        return self._shown("found", bench.find(picture, _choice(form)), operations=OPERATIONS)

    def _edit(self, form: Form) -> str:
        found, operation = self._kept(form), form.get("operation")
        return "" if not operation else _table(self._bench.edited(found, operation, _neuron(form)))

    def _look(self, form: Form) -> str:
        found, neuron, quantity = self._kept(form), _neuron(form), form.get("quantity")
        named = "the whole path" if neuron is None else f"block {neuron[0]}, neuron {neuron[1]}"
        shown = ""
        if quantity:
            shown = _drawn(self._bench.heat_figure(found, neuron, quantity), f"Heat map of {named}: {quantity}")
        if neuron is not None:
            seen = self._bench.evidence_figure(neuron)
            shown += _NO_EVIDENCE if seen is None else _drawn(seen, f"What activates {named} most")
        return shown

    def _compare(self, form: Form) -> str:
        found, picture, target_class = self._kept(form), self._picture(form), _target_class(form)
        if picture is None and target_class is None:
            return ""  # taken back
        other = self._bench.find(picture or found.picture, replace(found.choice, target_class=target_class))
        return self._shown("compared", other, table=self._bench.compared(found, other))

    def _shown(self, template: str, found: Found, **content: Any) -> str:
        """A path, kept for what is asked about it later."""
        name = secrets.token_urlsafe(9)
        self._found[name] = found
        if len(self._found) > _KEPT:
            self._found.popitem(last=False)
        return self._render(template, name=name, found=found, bench=self._bench, **content)

    def _kept(self, form: Form) -> Found:
        name = form.get("found")
        if name is None:
            raise NeuronPathError("There is no path yet: drop a picture, or pick one of the data.")
        if name not in self._found:
            raise NeuronPathError("This path is no longer kept: drop its picture again, or pick it again.")
        self._found.move_to_end(name)
        return self._found[name]

    def _picture(self, form: Form) -> Picture | None:
        if form.get("file"):
            return self._bench.dropped(*form["file"])
        return self._bench.picked(form["sample"]) if form.get("sample") else None


async def _form_of(request: Request) -> Form:
    """What a form says, kept in memory; a body of more bytes than a picture may have is not read.

    Raises:
        NeuronPathError: a body that is too large or does not say how large it is.
    """
    size = request.headers.get("content-length", "")
    if not size.isdecimal() or int(size) > MOST_BYTES + _FORM:
        told = f"has {int(size) / 1e6:.1f} MB" if size.isdecimal() else "does not say its size"
        raise NeuronPathError(f"The picture {told}; expected {MOST_BYTES / 1e6:.0f} MB at most.")
    form: dict[str, Any] = {}
    async with request.form(max_files=1, max_fields=20, max_part_size=_FORM) as sent:
        for name, value in sent.items():
            if not isinstance(value, UploadFile):
                form[name] = value
            elif value.filename:  # no file was chosen where it has no name
                form[name] = (value.filename, await value.read())
    return form


def serve(bench: Workbench, host: str, port: int | None, say: Callable[[str], object]) -> None:
    """Say the page's address and serve it until this thread is interrupted.

    Nothing is sent anywhere. The calling thread, which made the workbench, also answers the requests, one after
    another: each other thread that uses torch would have memory and a team of threads of its own, and two teams hinder
    each other.

    Raises:
        NeuronPathError: the port is taken, or the host is none of this machine.
    """
    MultiPartParser.spool_max_size = MOST_BYTES + _FORM  # uploads stay in memory
    page = _Page(bench)
    with _listening(host, port) as listening:
        named = f"[{host}]" if ":" in host else host
        hosts = ["localhost", host] if host in ("127.0.0.1", "localhost") else ["*"]
        config = uvicorn.Config(
            page.app(hosts),
            lifespan="off",
            log_level="error",
            access_log=False,
            ws="none",
            timeout_graceful_shutdown=1,  # pyright: ignore[reportArgumentType]
        )
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        say(f"http://{named}:{listening.getsockname()[1]}/")
        try:
            page.answer()
        finally:
            server.should_exit = True
            thread.join()


def _listening(host: str, port: int | None) -> socket.socket:
    """A socket at the port, or at the first one that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports = list(_PORTS) if port is None else [port]
    for number in ports:
        try:
            return socket.create_server((host, number), family=family)
        except (OSError, OverflowError) as problem:
            if number == ports[-1] or getattr(problem, "errno", None) != errno.EADDRINUSE:
                raise NeuronPathError(
                    f"The page cannot be served at {host}, port {number} ({problem}). Choose another with --port=N."
                ) from problem
    raise AssertionError  # unreachable: the last port is taken or not


def _error(message: str) -> str:
    """What takes the place of the page's line of what is wrong."""
    return f'<p id="error" role="alert" hx-swap-oob="true">{html.escape(" ".join(message.split()))}</p>'


def _drawn(figure: Any, description: str) -> str:
    return f'<div class="sheet">{figure_as_html(figure, description)}</div>'


def _table(table: pd.DataFrame) -> str:
    signs = {"change": "{:+.4f}".format}
    words = {name: signs.get(str(name), "{:.4f}".format) for name, dtype in table.dtypes.items() if dtype.kind == "f"}
    return f'<div class="scroll">{table.to_html(index=False, border=0, formatters=words)}</div>'


_NO_EVIDENCE: Final = (
    "<p>What else activates it: make a run with <code>evidence=true</code>, and start the page with "
    "<code>--run=DIR</code>.</p>"
)


def _choice(form: Form) -> Choice:
    """What the settings say.

    >>> _choice({"search": "greedy", "target": "margin", "top_k": "2", "target_class": "3"})
    Choice(search='greedy', target='margin', top_k=2, target_class=3)
    """
    top_k = form.get("top_k", "")
    if not (top_k.isdecimal() and 1 <= int(top_k) <= MOST_TOP_K):
        raise NeuronPathError(f"k is '{top_k}'; expected a whole number of neurons a block, 1 … {MOST_TOP_K}.")
    return Choice(form.get("search", ""), form.get("target", ""), int(top_k), _target_class(form))  # pyright: ignore[reportArgumentType]


def _target_class(form: Form) -> int | None:
    """The class that a path is to drive; None for the predicted one."""
    chosen = form.get("target_class", "")
    if chosen and not chosen.isdecimal():
        raise NeuronPathError(f"The target class is '{chosen}'; expected its number.")
    return int(chosen) if chosen else None


def _neuron(form: Form) -> Neuron | None:
    """The neuron that is chosen; None for the whole path.

    >>> _neuron({"neuron": "3/71"}), _neuron({"neuron": ""})
    ((3, 71), None)
    """
    block, _, neuron = form.get("neuron", "").partition("/")
    if not neuron:
        return None
    if not (block.isdecimal() and neuron.isdecimal()):
        raise NeuronPathError(f"'{block}/{neuron}' is no neuron; expected BLOCK/NEURON.")
    return int(block), int(neuron)
