"""The HTTP side: AdmissionReviews over TLS, probes in the clear."""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from palimpsest.telemetry import admission, logs, serving, traces
from palimpsest.telemetry.catalogue import KINDS
from palimpsest.telemetry.traces import Trace

from .certificates import Certificates
from .cluster import ApiCluster
from .review import Decision, review

log = logging.getLogger(__name__)

RELOAD_SECONDS = 2.0
# An AdmissionReview carries the object twice; etcd holds 1.5 MiB of it at most.
MAX_BODY = 4 * 1024 * 1024
FAILED = Decision(
    False,
    "Palimpsest could not check this request; see the admission pods' logs and try again.",
)


@dataclass(frozen=True)
class Options:
    """Where to listen and where the certificate lies."""

    certificates: Path
    port: int
    probes_port: int
    metrics_port: int
    host: str = ""


def decide(body: Any, cluster: ApiCluster) -> dict[str, Any]:
    """The AdmissionReview that answers `body`; whatever goes wrong is a denial."""
    request = body.get("request") if isinstance(body, dict) else None
    request = request if isinstance(request, dict) else {}
    with logs.scope():
        decision = _decide(request, cluster)
    response: dict[str, Any] = {
        "uid": str(request.get("uid") or ""),
        "allowed": decision.allowed,
    }
    if decision.message:
        response["status"] = {"code": 403, "reason": "Forbidden", "message": decision.message}
    if decision.warnings:
        response["warnings"] = list(decision.warnings)
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


def _decide(request: dict[str, Any], cluster: ApiCluster) -> Decision:
    kind, operation = _labels(request)
    begun, trace = time.time_ns(), _trace(request, kind)
    logs.bind(kind=kind, namespace=trace.namespace, name=trace.name, uid=trace.uid)
    # What is only tried out is nobody's beginning.
    traced = bool(trace.uid) and request.get("dryRun") is not True
    logs.bind(trace_id=trace.hex if traced and traces.enabled() else "")
    with admission.decision(kind, operation) as count:
        try:
            decision = review(request, cluster)
            outcome: admission.Outcome = "allowed" if decision.allowed else "denied"
        except Exception as error:
            # Its text may repeat the object; the type is enough to find the cause.
            log.error("review failed", extra={"error": type(error).__name__})
            log.debug("review failed", exc_info=error)
            decision, outcome = FAILED, "failed"
        count(outcome, decision.reason)
    reason = decision.reason.value if decision.reason else ""
    logs.bind(operation=operation, outcome=outcome, reason=reason)
    log.info("reviewed")
    if traced:
        traces.review(trace, begun, outcome, {"operation": operation, "reason": reason})
    return decision


def _trace(request: dict[str, Any], kind: str) -> Trace:
    """What is asked about, as far as the request says; the UID is there even on creation."""
    told = request.get("object") or request.get("oldObject")
    metadata = told.get("metadata") if isinstance(told, dict) else None
    metadata = metadata if isinstance(metadata, dict) else {}
    generation = metadata.get("generation")
    # Whoever reaches the port may call: what a request claims is cut to what a name may have.
    namespace, name, uid = (
        str(metadata.get(each) or "")[:253] for each in ("namespace", "name", "uid")
    )
    return Trace(kind, namespace, name, uid, generation if isinstance(generation, int) else 1)


def _labels(request: dict[str, Any]) -> tuple[str, str]:
    """Kind and operation, as far as they are ours: callers must not invent metric labels."""
    kind, operation = request.get("kind"), request.get("operation")
    name = kind.get("kind") if isinstance(kind, dict) else None
    return (
        name if name in KINDS else admission.OTHER_KIND,
        operation if operation in admission.OPERATIONS else admission.OTHER_OPERATION,
    )


def validator(cluster: ApiCluster) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The handler of POST /validate."""

    async def validate(request: web.Request) -> web.Response:
        try:
            body = await request.json()
        except (ValueError, web.HTTPRequestEntityTooLarge):
            body = None
        # Calibration takes milliseconds of CPU and the look-ups block: both go to a thread.
        return web.json_response(await asyncio.to_thread(decide, body, cluster))

    return validate


async def serve(options: Options, cluster: ApiCluster) -> None:
    """Answer until SIGTERM or SIGINT. Raises OSError if a port is taken."""
    certificates = Certificates(options.certificates)
    certificates.refresh()
    runners = [
        await _listen(
            [web.post("/validate", validator(cluster))], options.host, options.port, certificates
        ),
        await _listen(_probes(certificates, cluster), options.host, options.probes_port, None),
    ]
    serving.serve(options.metrics_port, "admission")
    log.info("admission serves", extra={"port": options.port})
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    while not stopping.is_set():
        try:
            await asyncio.wait_for(stopping.wait(), RELOAD_SECONDS)
        except TimeoutError:
            certificates.refresh()
    for runner in runners:
        await runner.cleanup()
    await asyncio.to_thread(traces.close)


def _probes(certificates: Certificates, cluster: ApiCluster) -> list[web.RouteDef]:
    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def ready(_: web.Request) -> web.Response:
        if not certificates.loaded:
            return web.Response(status=503, text="no certificate loaded")
        if not await asyncio.to_thread(cluster.reachable):
            return web.Response(status=503, text="the API server does not answer")
        return web.Response(text="ok")

    return [web.get("/healthz", healthy), web.get("/readyz", ready)]


async def _listen(
    routes: list[web.RouteDef], host: str, port: int, certificates: Certificates | None
) -> web.AppRunner:
    application = web.Application(client_max_size=MAX_BODY)
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    context = certificates.context if certificates else None
    await web.TCPSite(runner, host or None, port, ssl_context=context).start()
    return runner
