"""The operator's process: kopf wakes, the work queue reconciles, a Lease lets one replica act."""

import asyncio
import ctypes
import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import kopf
from aiohttp import web
from kubernetes.client import ApiClient
from kubernetes.config import load_config as load_kubeconfig

from palimpsest.api import GROUP, VERSION
from palimpsest.api.budget import PrivacyBudget
from palimpsest.api.config import CONFIG_VARIABLE, DEFAULT_CONFIG, OperatorConfig, load_config
from palimpsest.api.crd import RESOURCES
from palimpsest.receipts.keys import load_signer
from palimpsest.reconcile.adapter.certificates import CertificateKeeper
from palimpsest.reconcile.adapter.cluster import CLUSTER_SCOPED, Cluster
from palimpsest.reconcile.adapter.controller import Controller, Key
from palimpsest.reconcile.adapter.lease import Lease
from palimpsest.reconcile.adapter.ledgers import Ledgers
from palimpsest.reconcile.adapter.receipts import Receipts
from palimpsest.reconcile.adapter.stores import Stores
from palimpsest.reconcile.adapter.workqueue import WorkQueue
from palimpsest.reconcile.jobs import LABEL_KIND, LABEL_NAME, LABEL_NAMESPACE
from palimpsest.reconcile.observed import Settings
from palimpsest.telemetry import budgets, logs, resources, serving, traces, workers
from palimpsest.telemetry.resources import Object

log = logging.getLogger(__name__)

RELIST_SECONDS = 300.0
# What changes within it is looked at once.
ECHO_SECONDS = 0.05
# A pod that is told to go is killed after 30.
ENDING_SECONDS = 15.0
# kopf's worker of a resource holds its last body so long after it: of a thousand, many megabytes.
WORKER_SECONDS = 0.5
# M_ARENA_MAX of glibc's malloc.h, and how many.
_ARENA_MAX, _ARENAS = -8, 2
METRICS_PORT = int(os.environ.get("PALIMPSEST_METRICS_PORT", "8080"))
PROBES_PORT = int(os.environ.get("PALIMPSEST_PROBES_PORT", "8081"))


def run(receipt_keys: Path) -> None:
    """Run until SIGTERM, SIGINT or the loss of the Lease; `receipt_keys` is the keys' folder.

    Raises ValueError for a bad configuration or signing key.
    """
    _share_arenas()
    logs.configure()
    traces.configure("operator")
    config = load_config(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG))
    load_signer(receipt_keys)
    load_kubeconfig()
    cluster = Cluster(ApiClient())
    asyncio.run(_operate(config, receipt_keys, cluster))


def _share_arenas() -> None:
    """Two arenas of the C library's for all threads: of one for each, little is ever given back.

    Only a saving: a C library that has no such setting does without.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, _ARENAS)


async def _operate(config: OperatorConfig, receipt_keys: Path, cluster: Cluster) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    serving.serve(METRICS_PORT, "operator")
    probes = await _serve_probes()
    identity = os.environ.get("POD_NAME") or os.uname().nodename
    lease = Lease(cluster.coordination(), config.lease.namespace, identity)
    acquiring = asyncio.ensure_future(asyncio.to_thread(lease.acquire))
    stopped = asyncio.ensure_future(_until(stopping))
    await asyncio.wait({acquiring, stopped}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if not stopping.is_set():
            await acquiring
            lease.keep(partial(_stop_from_thread, loop, stopping))
            await _reconcile(config, receipt_keys, cluster, stopping)
    finally:
        await loop.run_in_executor(None, lease.release)
        await loop.run_in_executor(None, traces.close)
        await probes.cleanup()


async def _until(event: asyncio.Event) -> None:
    await event.wait()


def _stop_from_thread(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    loop.call_soon_threadsafe(stopping.set)


async def _reconcile(
    config: OperatorConfig, receipt_keys: Path, cluster: Cluster, stopping: asyncio.Event
) -> None:
    loop = asyncio.get_running_loop()
    name = config.cluster or await loop.run_in_executor(None, _cluster_id, cluster)
    settings = Settings(
        stage_image=config.stage_image,
        cluster=name,
        image_pull_policy=config.image_pull_policy,
        hub_endpoint=config.hub_endpoint,
        log_level=logs.level(),
    )
    stores = Stores(config)
    queue: WorkQueue[Key] = WorkQueue()
    receipts = Receipts(receipt_keys, stores)
    controller = Controller(
        cluster, stores, Ledgers(stores, name), receipts, settings, wake=queue.add
    )
    workers.observe_queue(queue.threads, queue.__len__, queue.running)
    queue.start(controller.reconcile)
    relister = threading.Thread(
        target=_relist,
        args=(cluster, queue, partial(receipts.publish, cluster, config.lease.namespace), stopping),
        name="relist",
        daemon=True,
    )
    relister.start()
    if config.admission_certificates is not None:
        keeper = CertificateKeeper(cluster, config.lease.namespace, config.admission_certificates)
        threading.Thread(
            target=keeper.keep, args=(stopping.is_set,), name="certificates", daemon=True
        ).start()
    log.info("reconciling", extra={"cluster": name, "stage_image": settings.stage_image})
    try:
        await _watch(_wakes(queue), stopping)
    finally:
        stopping.set()
        await loop.run_in_executor(None, queue.stop)


async def _watch(registry: kopf.OperatorRegistry, stopping: asyncio.Event) -> None:
    """Run kopf until it is told to stop or one of its watches fails for good.

    It then ends its tasks and waits for them, at times for ever: a request that is being
    authenticated anew does not end. An operator without watches must not go on, so the process
    ends before long, come what may; what it did not finish is what a killed one does not.
    """
    ignored = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry,
        standalone=True,
        clusterwide=True,
        settings=_kopf_settings(),
        stop_flag=stopping,
    )
    last = threading.Timer(ENDING_SECONDS, _end)
    last.daemon = True

    def ending(_: asyncio.Task[None]) -> None:
        if not last.is_alive():
            last.start()

    for task in tasks:
        task.add_done_callback(ending)
    await kopf.run_tasks(tasks, ignored=ignored)


def _end() -> None:
    log.error("the watches did not end", extra={"seconds": ENDING_SECONDS})
    os._exit(1)


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.queueing.idle_timeout = WORKER_SECONDS
    return settings


def _wakes(queue: WorkQueue[Key]) -> kopf.OperatorRegistry:
    """kopf only says that something changed; what to do is read from the API server anew."""
    registry, kinds = kopf.OperatorRegistry(), {resource.kind for resource in RESOURCES}

    def ours(body: kopf.Body, type: str | None, **_: Any) -> None:  # noqa: A002 - as kopf has it
        metadata = body["metadata"]
        # Most changes are our own status, seen again.
        queue.add(
            Key(body["kind"], metadata.get("namespace", ""), metadata["name"]),
            delay=ECHO_SECONDS if type == "MODIFIED" else 0.0,
        )

    def child(body: kopf.Body, **_: Any) -> None:
        marks = body["metadata"].get("labels", {})
        # Whoever makes pods may label them; a kind becomes a label of metrics.
        if marks[LABEL_KIND] not in kinds:
            return
        queue.add(
            Key(marks[LABEL_KIND], marks.get(LABEL_NAMESPACE, ""), marks[LABEL_NAME]),
            delay=ECHO_SECONDS,
        )

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    for resource in RESOURCES:
        kopf.on.event(GROUP, VERSION, resource.plural, registry=registry, id=resource.plural)(ours)
    labels = {LABEL_KIND: kopf.PRESENT, LABEL_NAME: kopf.PRESENT}
    kopf.on.event("batch", "v1", "jobs", registry=registry, labels=labels, id="jobs")(child)
    kopf.on.event("", "v1", "pods", registry=registry, labels=labels, id="pods")(child)
    return registry


def _relist(
    cluster: Cluster,
    queue: WorkQueue[Key],
    publish: Callable[[], None],
    stopping: asyncio.Event,
) -> None:
    """Enqueue everything now and then: a lost watch or a swallowed error then costs minutes.

    The receipts' public keys are published as often.
    """
    pause = threading.Event()
    while not stopping.is_set():
        try:
            publish()
        except Exception as error:
            log.warning("receipt keys not published", extra={"error": type(error).__name__})
        for resource in RESOURCES:
            try:
                # What is gone is looked at once more: its series end then.
                known = {each for each in _known() if each.kind == resource.kind}
                for item in cluster.resources(resource.kind):
                    namespace = (
                        "" if resource.kind in CLUSTER_SCOPED else item["metadata"]["namespace"]
                    )
                    queue.add(Key(resource.kind, namespace, item["metadata"]["name"]))
                    known.discard(Object(resource.kind, namespace, item["metadata"]["name"]))
                for each in known:
                    queue.add(Key(*each))
            except Exception as error:
                log.warning("relist failed", extra={"error": type(error).__name__})
        pause.wait(RELIST_SECONDS)


def _known() -> list[Object]:
    """What has series."""
    paying = (Object(PrivacyBudget.kind, "", name) for name in budgets.known())
    return [*resources.known(), *paying]


def _cluster_id(cluster: Cluster) -> str:
    namespace = cluster.get("/api/v1/namespaces/kube-system")
    if namespace is None:
        raise RuntimeError("the cluster has no namespace kube-system")
    return str(namespace["metadata"]["uid"])


async def _serve_probes() -> web.AppRunner:
    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    application = web.Application()
    application.add_routes([web.get("/healthz", healthy), web.get("/readyz", healthy)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=PROBES_PORT).start()
    return runner
