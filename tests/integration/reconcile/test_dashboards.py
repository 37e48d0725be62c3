"""Every query of every dashboard has figures while resources go through a pipeline.

A real Prometheus scrapes the operator and an admission server, and evaluates the chart's rules.
"""

from __future__ import annotations

import json
import ssl
import time
from pathlib import Path
from urllib.request import Request, urlopen

import samples
from chart.dashboards import BOARDS, filled, queries
from integration.admission.ground import Authority, Server, running
from integration.reconcile.harness import World
from integration.reconcile.test_metrics import align, fail_before_the_start, finish, train
from integration.reconcile.test_pipeline import PIPELINE
from prometheus import at_ports, scraping


def review(server: Server, manifest: samples.Json) -> bool:
    """Whether the webhook would let it be created."""
    kind = {"group": "palimpsest.dev", "version": "v1alpha1", "kind": manifest["kind"]}
    request = {
        "uid": "1",
        "kind": kind,
        "operation": "CREATE",
        "namespace": manifest["metadata"].get("namespace", ""),
        "name": manifest["metadata"]["name"],
        "object": manifest,
    }
    body = json.dumps({"apiVersion": "admission.k8s.io/v1", "request": request}).encode()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    call = Request(
        f"https://127.0.0.1:{server.port}/validate",
        data=body,
        headers={"Content-Type": "application/json"},
    )
    with urlopen(call, context=context, timeout=10) as answer:
        return bool(json.load(answer)["response"]["allowed"])


def test_every_query_has_figures(world: World, tmp_path: Path) -> None:
    Authority().issue(tmp_path / "certificates")
    with running(world.plane.kubeconfig, tmp_path / "certificates") as admission:
        ports = {"palimpsest-operator": world.metrics, "palimpsest-admission": admission.metrics}
        with scraping(tmp_path / "prometheus", at_ports(ports)) as prometheus:
            world.until("both are scraped", prometheus.up)
            began = time.monotonic()
            assert review(admission, world.privacy_budget())
            overlapping = samples.changed(
                world.privacy_budget(), "spec.releases.uri", world.private
            )
            assert not review(admission, overlapping)
            world.apply(world.privacy_budget())
            fail_before_the_start(world)
            job = train(world)
            pace = "deriv(palimpsest_stage_progress_ratio[30m]) > 0"
            world.until("its pace is known", lambda: prometheus.figures(pace, 10))
            finish(world, job)
            world.apply(world.synthetic_dataset())
            for stage, files, blocks in PIPELINE[1:-1]:
                world.succeed(stage, files, blocks)
            align(world)
            assert review(admission, world.privacy_budget())
            asked = {query for board in BOARDS.values() for query in queries(board)}

            def silent() -> list[str]:
                seconds = time.monotonic() - began
                return [q for q in asked if not prometheus.figures(filled(q), seconds)]

            waiting = time.monotonic() + 30
            while (without := silent()) and time.monotonic() < waiting:
                time.sleep(1)
            assert not without, "\n".join(without)
