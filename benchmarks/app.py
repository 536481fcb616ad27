"""From a dropped picture to its path on the page of `neuron-path app`: seconds in a browser, and where they go.

    python -m benchmarks.app                                      # the embedded digits
    python -m benchmarks.app --checkpoint FILE --data FOLDER      # a pretrained model on photographs

Chromium drops one picture after another on the page, each in a tab of its own that is closed again, and waits for the
drawing of its path. The stages are timed on the same pictures without a browser. The page keeps what it found, so its
peak memory is read, too, after the first picture and after the last.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

import neuron_path
from benchmarks import real
from benchmarks.harness import Spread, Table, console, positive, record, show, spread
from neuron_path.app.workbench import Choice, Workbench
from neuron_path.cli.hydra_app import compose_config
from tests.browser.app import app
from tests.browser.chromium import QUIET, find_chromium

STAGES = ("prepare", "search")
# Resolved by the page itself, with the first frame that shows a path: asking again and again would load its processor.
DRAWN = """() => {
  window.drawn = new Promise((resolve) => new MutationObserver((_, observer) => {
    if (document.querySelector("#path svg") === null) return;
    observer.disconnect();
    requestAnimationFrame(resolve);
  }).observe(document.body, { childList: true, subtree: true }));
}"""


def stages(bench: Workbench, files: Sequence[Path]) -> dict[str, list[float]]:
    """Seconds of each stage for each picture, without a browser; the first picture warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in STAGES}
    for file in files:
        marks = [time.perf_counter()]
        picture = bench.dropped(file.name, file.read_bytes())
        marks.append(time.perf_counter())
        bench.find(picture, Choice())
        marks.append(time.perf_counter())
        for name, taken in zip(STAGES, np.diff(marks).tolist(), strict=True):
            seconds[name].append(taken)
    return {name: values[1:] for name, values in seconds.items()}


def drops(settings: Sequence[str], files: Sequence[Path]) -> tuple[list[float], list[float]]:
    """Seconds from the drop to the drawing, and the server's peak memory until then in MiB; the first one warms up."""
    seconds, peaks = [], []
    with app(settings, Path.cwd()) as (address, server), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(QUIET))
        for file in files:
            page = browser.new_page()
            page.set_default_timeout(120_000)
            page.goto(address, wait_until="networkidle")  # a tab that was just opened still works on both cores
            target = page.locator("#choose input[type=file]")
            target.wait_for(state="attached")
            page.evaluate(DRAWN)
            start = time.perf_counter()
            target.set_input_files(file)
            page.evaluate("() => window.drawn.then(() => true)")
            seconds.append(time.perf_counter() - start)
            page.close()
            status = Path(f"/proc/{server}/status").read_text(encoding="ascii")
            peaks += [int(kib) / 2**10 for kib in re.findall(r"VmHWM:\s+(\d+) kB", status)]
        browser.close()
    return seconds[1:], peaks[1:]


def measure(settings: Sequence[str], files: Sequence[Path]) -> dict[str, Any]:
    """Raw seconds and peak memory of a model's page."""
    seconds, peaks = drops(settings, files)
    parts = stages(Workbench(compose_config(settings), settings), files)
    return {"browser": seconds, "stages": parts, "peak_mib": peaks}


def digits(folder: Path, n: int) -> list[Path]:
    """So many test digits as pictures."""
    images, _ = neuron_path.load_digits("test")
    files = [folder / f"{number}.png" for number in range(n)]
    for file, image in zip(files, images, strict=False):
        Image.fromarray(((image[0].numpy() / 2 + 0.5) * 255).round().astype(np.uint8)).save(file)
    return files


def photographs(root: Path, n: int) -> list[Path]:
    """So many pictures of a folder, spread over its classes."""
    found = [file for file in sorted(root.rglob("*")) if file.is_file()]
    return [found[number * len(found) // n] for number in range(n)]


def settings_of(source: real.Source) -> list[str]:
    """Settings of `neuron-path app` for a pretrained model with a linear probe."""
    return [
        "model=timm",
        f"model.name={source.model}",
        f"model.checkpoint={source.checkpoint}",
        f"+model.kwargs.img_size={source.image_size}",
        "head=linear_probe",
        f"head.root={source.data}/train",
        "data=image_folder",
        f"data.root={source.data}/test",
    ]


def app_table(name: str, values: dict[str, Any]) -> Table:
    """One row.

    >>> app_table("m", {"browser": [0.2], "stages": {"prepare": [0.01]}, "peak_mib": [900, 910]}).rows
    [['m', '0.200 s', '0.010 s', '900 → 910 MiB']]
    """
    told = [spread(values["browser"]), *map(spread, values["stages"].values())]
    first, last = values["peak_mib"][0], values["peak_mib"][-1]
    cells = [name, *(Spread.text(one, 3, " s") for one in told), f"{first:.0f} → {last:.0f} MiB"]
    columns = ("model", "drop to path", *values["stages"], "peak memory, first → last picture")
    note = f"Median of {len(values['browser'])} pictures, with the range."
    return Table(columns, [cells], note)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=positive, default=20, help="that are dropped (%(default)s), after one more")
    real.add_arguments(parser)
    arguments = parser.parse_args()
    source, n = real.source_of(parser, arguments), arguments.pictures + 1
    if source is not None:
        console.print(f"[bold]{source.model}[/bold]")
        values = measure(settings_of(source), photographs(Path(source.data) / "test", n))
        real.finish("app", values, app_table(source.model, values), trial=arguments.trial)
        return
    with tempfile.TemporaryDirectory() as folder:
        values = measure([], digits(Path(folder), n))
    table = app_table("digits", values)
    if arguments.trial:
        show({"app": table})
    else:
        record("app", values, {"app": table})


if __name__ == "__main__":
    main()
