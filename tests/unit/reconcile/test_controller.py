"""What a pass does to the API server, where others change the object meanwhile or it is away."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration
from palimpsest.reconcile.adapter import events
from palimpsest.reconcile.adapter.cluster import Cluster
from palimpsest.reconcile.adapter.controller import Controller, Observation
from palimpsest.reconcile.observed import Meta, Settings
from palimpsest.reconcile.plan import FINALIZER, Plan

GOING = Meta("PrivateGenerator", "n", "g", "u", 1, True, (FINALIZER,))


class Seen(Cluster):
    """Shows one object, and keeps what is written."""

    def __init__(self, uid: str) -> None:
        super().__init__(ApiClient(Configuration()))
        self.uid, self.written = uid, list[list[str]]()

    def resource(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        finalizers = [FINALIZER, "foregroundDeletion"]
        place = {"name": name, "namespace": namespace, "uid": self.uid}
        return {"kind": kind, "metadata": {**place, "finalizers": finalizers}}

    def write_finalizers(
        self,
        kind: str,  # noqa: ARG002
        current: Mapping[str, Any],
        finalizers: list[str],
    ) -> dict[str, Any]:
        self.written.append(finalizers)
        return dict(current)


@pytest.mark.parametrize(("uid", "written"), [("u", [["foregroundDeletion"]]), ("other", [])])
def test_a_finalizer_that_came_meanwhile_stays(uid: str, written: list[list[str]]) -> None:
    cluster = Seen(uid)
    settings = Settings(stage_image="stage", cluster="here")
    none: Any = None
    controller = Controller(cluster, none, none, none, settings, lambda *_, **__: None)
    plan = Plan(status=None, finalizer=False)
    controller._execute(GOING, {"metadata": {}}, plan, Observation(none), acted=False)
    assert cluster.written == written


def test_an_event_that_nobody_takes_fails_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    configuration = Configuration(host=f"http://127.0.0.1:{port}")
    configuration.retries = False
    cluster = Cluster(ApiClient(configuration))
    events.record(cluster, GOING, False, "Ready", "It is.")
