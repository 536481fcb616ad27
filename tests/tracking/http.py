"""A server that answers every request with an error, as W&B's does to a key it does not know."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


class _Refuse(http.server.BaseHTTPRequestHandler):
    def _refuse(self) -> None:
        self.send_response(401)
        self.end_headers()

    do_HEAD = do_GET = do_POST = _refuse

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serve() -> Iterator[str]:
    """The address of the server, while it runs."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
