"""`neuron-path app`: the page in the browser."""

from __future__ import annotations

from collections.abc import Sequence

from neuron_path.cli.arguments import parse_arguments, whole_number
from neuron_path.errors import NeuronPathError

_NEEDED = ("python_multipart", "starlette", "uvicorn")
USAGE = """\
A page in the browser: drop a picture, see its path and what becomes of the prediction when neurons are edited.

usage: neuron-path app [KEY=VALUE …] [--port=N] [--host=ADDRESS] [--run=DIR]

  KEY=VALUE        settings as for neuron-path run: model, head, data, preprocessing, scorer, quadrature, …
  --port=N         where it is served; by default the first port from 7860 that is free
  --host=ADDRESS   127.0.0.1 by default: this machine only. Whoever reaches another address can use the page
  --run=DIR        a run made with evidence=true: what its neurons answer to

Needs Starlette and Uvicorn: pip install 'neuron-path[app]'. Nothing leaves the machine, and nothing is written: a
picture that was dropped is in a temporary folder while it is read.

  neuron-path app
  neuron-path app model=timm model.name=vit_base_patch16_224 model.pretrained=true data=image_folder data.root=DIR
"""


def show(arguments: Sequence[str]) -> None:
    """Serve the page until it is stopped."""
    try:  # before weights are loaded
        from neuron_path.app.page import serve
    except ImportError as error:
        if error.name not in _NEEDED:
            raise
        raise NeuronPathError(f"The page needs {error.name}: pip install 'neuron-path[app]'.") from error
    from neuron_path.app.workbench import Workbench
    from neuron_path.cli.hydra_app import compose_config

    settings, options = parse_arguments("app", arguments, ["--port", "--host", "--run"])
    port = whole_number("--port", options["--port"]) if "--port" in options else None
    bench = Workbench(compose_config(settings), settings, options.get("--run"))
    host = options.get("--host", "127.0.0.1")
    try:
        serve(bench, host, port, lambda address: print(f"NeuronPath is at {address}: stop it with Ctrl-C.", flush=True))
    except KeyboardInterrupt:  # which is how it ends
        return
