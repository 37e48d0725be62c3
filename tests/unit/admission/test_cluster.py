"""Admission's look-ups, where the API server does not answer."""

import socket
import threading

import pytest
from kubernetes.client import Configuration
from palimpsest.admission.cluster import ApiCluster
from urllib3.exceptions import HTTPError


def test_a_look_up_that_hangs_is_tried_once_more_and_no_longer_than_the_webhook_waits() -> None:
    tried: list[socket.socket] = []

    def hang() -> None:
        while True:
            try:
                tried.append(server.accept()[0])
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=hang, daemon=True).start()
        host = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(HTTPError):
            ApiCluster(Configuration(host=host)).labels("team")
        assert len(tried) == 2
        server.shutdown(socket.SHUT_RDWR)
    for each in tried:
        each.close()
