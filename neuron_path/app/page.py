"""The page itself, made with Gradio, which nothing else imports.

It holds no numbers and no figures of its own: each control asks the workbench and shows what comes back, or the one
line of what is wrong.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Final

import pandas as pd
from matplotlib.figure import Figure

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
    choice_of,
)
from neuron_path.attribution.target import TARGETS
from neuron_path.errors import NeuronPathError
from neuron_path.report.notebook import figure_as_html

_PREDICTED: Final = "the predicted class"
_WHOLE: Final = "the whole path"
_NO_EDIT: Final = "none"
_WAITING: Final = 16  # requests that may wait; one is computed at a time
_KEPT: Final = 3600  # seconds that an upload and what was found of it are kept
_CSS: Final = """
.gradio-container {max-width: 1280px !important}
.np-scroll {overflow-x: auto; contain: inline-size}
.np-scroll img {background: #fff; border-radius: 6px; max-width: max(100%, 640px) !important}
.np-table {border-collapse: collapse; font-variant-numeric: tabular-nums}
.np-table th {text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--border-color-primary)}
.np-table td {padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--border-color-primary)}
#top-k input::-webkit-slider-thumb {box-shadow: 0 0 0 1px var(--neutral-500)}
#error {color: #b3261e}
.dark #error {color: #ff8a80}
"""


Shown = dict[Any, Any]
"""What components show from now on."""
Call = tuple[Future[Shown], Callable[..., Shown], tuple[Any, ...]]
"""Where the answer goes, the function and what it is given."""


class _Page:
    """The components of the page and what they do; made within a `gradio.Blocks`."""

    def __init__(self, gr: Any, bench: Workbench) -> None:
        self._gr, self._bench = gr, bench
        self._calls: SimpleQueue[Call] = SimpleQueue()
        self.state = gr.State(None, time_to_live=_KEPT)
        self.error = gr.Markdown(elem_id="error")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                self.file, self.sample = self._pictures("Drop a picture", "")
                self._make_settings()
            with gr.Column(scale=3, min_width=640):  # beside the settings, or beneath
                self.path = gr.HTML(elem_id="path", apply_default_css=False)
                self.prediction = gr.HTML(elem_id="prediction", apply_default_css=False)
        with gr.Tab("Edit"):
            self.where = gr.Dropdown([_WHOLE], value=_WHOLE, label="Neurons", elem_id="where")
            self.operation = gr.Radio([_NO_EDIT, *OPERATIONS], value=_NO_EDIT, label="Operation", elem_id="operation")
            self.edited = gr.HTML(elem_id="edited", apply_default_css=False)
        with gr.Tab("Where in the picture"):
            self.looked = gr.Dropdown([_WHOLE], value=_WHOLE, label="Neurons", elem_id="looked")
            kinds = ["activation", "effect"]
            self.quantity = gr.Radio(kinds, value="activation", label="Heat map of", elem_id="quantity")
            self.draw = gr.Button("Draw", elem_id="draw")
            self.heat = gr.HTML(elem_id="heat", apply_default_css=False)
            self.evidence = gr.HTML(elem_id="evidence", apply_default_css=False)
        with gr.Tab("Alternatives"):
            self.alternatives = gr.HTML(elem_id="alternatives", apply_default_css=False)
        with gr.Tab("Compare"):
            self.other_file, self.other_sample = self._pictures("Drop another picture", "other-")
            self.other_class = self._classes("Its target class, or another one of the first picture", "other-class")
            self.compared = gr.HTML(elem_id="compared", apply_default_css=False)
        with gr.Tab("Reproduce"):
            self.command = gr.Code(language="shell", label="Command", elem_id="command", interactive=False)
            self.python = gr.Code(language="python", label="Python", elem_id="python", interactive=False)

    def connect(self) -> None:
        """Let each control do its work."""
        of_path = [
            self.state, self.path, self.prediction, self.where, self.looked, self.operation, self.edited, self.heat,
            self.evidence, self.compared, self.alternatives, self.command, self.python,
        ]  # fmt: skip
        chosen = [self.search, self.target, self.top_k, self.target_class]
        self._on(self.file.upload, self._from_file, [self.file, *chosen], [self.sample, *of_path])
        self._on(self.sample.input, self._from_data, [self.sample, self.state, *chosen], [self.file, *of_path])
        for changed in (self.search.input, self.target.input, self.top_k.release, self.target_class.input):
            self._on(changed, self._again, [self.state, *chosen], of_path)
        for control in (self.operation, self.where):
            self._on(control.input, self._edit, [self.state, self.where, self.operation], [self.edited])
        self._on(self.draw.click, self._draw, [self.state, self.looked, self.quantity], [self.heat, self.evidence])
        beside = [self.state, self.search, self.target, self.top_k, self.other_class]
        uploaded, picked = self.other_file.upload, self.other_sample.input
        self._on(uploaded, self._beside_file, [self.other_file, *beside], [self.other_sample, self.compared])
        self._on(picked, self._beside_data, [self.other_sample, *beside], [self.other_file, self.compared])
        both = [self.other_file, self.other_sample]
        self._on(self.other_class.input, self._beside_class, [*both, *beside], [self.compared])

    def _pictures(self, label: str, prefix: str) -> tuple[Any, Any]:
        """Where a picture is dropped or picked."""
        gr, names = self._gr, self._bench.sample_ids
        file = gr.File(label=label, elem_id=f"{prefix}file", height=120)
        return file, gr.Dropdown(names, value=None, label="or pick one of the data", elem_id=f"{prefix}sample")

    def _classes(self, label: str, name: str) -> Any:
        named = map(self._bench.class_name, range(self._bench.n_classes))
        return self._gr.Dropdown([_PREDICTED, *named], value=_PREDICTED, label=label, elem_id=name)

    def _make_settings(self) -> None:
        gr = self._gr
        self.search = gr.Radio(list(SEARCHES), value=Choice().search, label="Search", elem_id="search")
        self.target = gr.Dropdown(list(TARGETS), value=Choice().target, label="Target function", elem_id="target")
        self.target_class = self._classes("Target class", "class")
        self.top_k = gr.Slider(1, MOST_TOP_K, value=1, step=1, label="Neurons per block (k)", elem_id="top-k")

    def _on(self, event: Callable[..., Any], use: Callable[..., Shown], inputs: list[Any], outputs: list[Any]) -> None:
        """Let an event show what `use` gives, or the one line of what is wrong."""

        async def guarded(*given: Any) -> Shown:
            answer: Future[Shown] = Future()
            self._calls.put((answer, use, given))
            try:
                return {self.error: "", **await asyncio.wrap_future(answer)}
            except NeuronPathError as mistake:
                return {self.error: f"**{_as_text(str(mistake))}**"}

        event(
            guarded,
            inputs,
            [self.error, *outputs],
            api_visibility="private",
            show_progress="minimal",
            concurrency_limit=1,
            concurrency_id="model",  # one at a time of all, not of each
        )

    def answer(self) -> None:
        """Make the calls, in their order, until this thread is interrupted."""
        while True:
            answer, use, given = self._calls.get()
            if not answer.set_running_or_notify_cancel():
                continue  # who asked is gone
            try:
                answer.set_result(use(*given))
            except Exception as problem:  # raised where it was asked
                answer.set_exception(problem)

    def _show(self, picture: Picture, *chosen: Any) -> Shown:
        bench = self._bench
        found = bench.find(picture, choice_of(*chosen))
        neurons = self._gr.Dropdown([_WHOLE, *map(_named, bench.neurons(found))], value=_WHOLE)
        return {
            self.state: found,
            self.path: _drawn(bench.path_figure(found), f"Neuron path of {picture.name}"),
            self.prediction: _table(bench.prediction(found)),
            self.where: neurons,
            self.looked: neurons,
            self.operation: _NO_EDIT,
            self.alternatives: _table(bench.alternatives(found)),
            self.command: bench.command(found),
            self.python: bench.python(found),
            **dict.fromkeys((self.edited, self.heat, self.evidence, self.compared), ""),
        }

    def _from_file(self, name: str | None, *chosen: Any) -> Shown:
        return {} if name is None else {self.sample: None, **self._show(self._bench.dropped(name), *chosen)}

    def _from_data(self, name: str | None, shown: Found | None, *chosen: Any) -> Shown:
        # A list that is left says its choice again.
        is_shown = shown is not None and not shown.picture.is_dropped and shown.picture.name == name
        if name is None or is_shown:
            return {}
        return {self.file: None, **self._show(self._bench.picked(name), *chosen)}

    def _again(self, found: Found | None, *chosen: Any) -> Shown:
        return {} if found is None else self._show(found.picture, *chosen)

    def _edit(self, found: Found | None, neuron: str, operation: Any) -> Shown:
        if found is None or operation == _NO_EDIT:
            return {self.edited: ""}
        return {self.edited: _table(self._bench.edited(found, operation, _neuron(neuron)))}

    def _draw(self, found: Found | None, neuron: str, quantity: Any) -> Shown:
        if found is None:
            raise NeuronPathError("There is nothing to draw yet: drop a picture, or pick one of the data.")
        one = _neuron(neuron)
        seen = None if one is None else self._bench.evidence_figure(one)
        told = _no_evidence(one) if seen is None else _drawn(seen, f"What activates {neuron} most")
        figure = self._bench.heat_figure(found, one, quantity)
        return {self.heat: _drawn(figure, f"Heat map of {neuron}: {quantity}"), self.evidence: told}

    def _beside(self, picture: Picture | None, found: Found | None, *chosen: Any) -> Shown:
        if found is None:
            raise NeuronPathError("There is nothing to compare with yet: choose a first picture above.")
        other = self._bench.find(picture or found.picture, choice_of(*chosen))
        drawn = _drawn(self._bench.path_figure(other), f"Neuron path of {other.picture.name}")
        return {self.compared: drawn + _table(self._bench.compared(found, other))}

    def _beside_file(self, name: str | None, *given: Any) -> Shown:
        return {} if name is None else {self.other_sample: None, **self._beside(self._bench.dropped(name), *given)}

    def _beside_class(self, file: str | None, name: str | None, *given: Any) -> Shown:
        bench = self._bench
        return self._beside(bench.dropped(file) if file else bench.picked(name) if name else None, *given)

    def _beside_data(self, name: str | None, *given: Any) -> Shown:
        return {} if name is None else {self.other_file: None, **self._beside(self._bench.picked(name), *given)}


def serve(bench: Workbench, host: str, port: int | None, say: Callable[[str], object]) -> None:
    """Say the page's address and serve it until this thread is interrupted.

    Uploads go to a folder of its own, which is deleted in the end. Nothing is sent anywhere. The calling thread, which
    made the workbench, also answers the requests, one after another: each other thread that uses torch would have
    memory and a team of threads of its own, and two teams hinder each other.

    Raises:
        NeuronPathError: Gradio is not installed, or the port is taken.
    """
    gr = _gradio()
    with tempfile.TemporaryDirectory(prefix="neuron-path-app-") as folder:
        os.environ |= {
            "GRADIO_TEMP_DIR": folder,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        with gr.Blocks(title="NeuronPath", analytics_enabled=False, delete_cache=(600, _KEPT)) as blocks:
            gr.Markdown("# NeuronPath\nWhich neurons drive this prediction, one in each block from input to output?")
            page = _Page(gr, bench)
            page.connect()
        blocks.queue(max_size=_WAITING, default_concurrency_limit=1)
        try:
            _, address, _ = blocks.launch(
                server_name=host,
                server_port=port,
                share=False,
                inbrowser=False,
                quiet=True,
                prevent_thread_lock=True,
                max_file_size=MOST_BYTES,
                state_session_capacity=100,
                enable_monitoring=False,
                run_history=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                footer_links=[],
                theme=_theme(),
                css=_CSS,
            )
        except OSError as problem:
            raise NeuronPathError(
                f"The page cannot be served at {host}, port {port or 'any'}: {problem}. Choose another with --port=N."
            ) from problem
        say(address)
        try:
            page.answer()
        finally:
            blocks.close(verbose=False)


def check_gradio() -> None:
    """Raise a NeuronPathError where Gradio is not installed."""
    _gradio()


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise NeuronPathError("The page needs Gradio: pip install 'neuron-path[app]'.") from error
    return gradio


def _theme() -> Any:
    """Gradio's plain theme with the system's own fonts: its others fetch theirs."""
    base = _gradio().themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return base.set(body_text_color_subdued="*neutral_500")  # lighter is hard to read on white


def _drawn(figure: Figure, description: str) -> str:
    return f'<div class="np-scroll">{figure_as_html(figure, description)}</div>'


def _table(table: pd.DataFrame) -> str:
    signs = {"change": "{:+.4f}".format}
    words = {name: signs.get(str(name), "{:.4f}".format) for name, dtype in table.dtypes.items() if dtype.kind == "f"}
    made = table.to_html(index=False, border=0, classes="np-table", formatters=words)
    return f'<div class="np-scroll">{made}</div>'


def _no_evidence(neuron: Neuron | None) -> str:
    if neuron is None:
        return ""
    return (
        "<p>What else activates it: make a run with <code>evidence=true</code>, and start the page with "
        "<code>--run=DIR</code>.</p>"
    )


def _named(neuron: Neuron) -> str:
    """A neuron in the lists to choose from.

    >>> _named((3, 71)), _neuron("block 3, neuron 71"), _neuron(_WHOLE)
    ('block 3, neuron 71', (3, 71), None)
    """
    return f"block {neuron[0]}, neuron {neuron[1]}"


def _neuron(name: str) -> Neuron | None:
    if name == _WHOLE:
        return None
    block, neuron = (int(part.split(" ")[1]) for part in name.split(", "))
    return block, neuron


def _as_text(message: str) -> str:
    """A message that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>()#+-!|" else letter for letter in " ".join(message.split()))
