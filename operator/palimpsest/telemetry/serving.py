"""The address at which Prometheus reads."""

from prometheus_client import disable_created_metrics, start_http_server

from . import build
from .catalogue import Process


def serve(port: int, process: Process) -> None:
    """Answer /metrics on `port` from a thread of its own."""
    # When a series began is a series of its own otherwise, and twice the text.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    build.observe(process)
    start_http_server(port)
