"""From apply to the stage's container on the real node, beside a bare Job of the same pod."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from statistics import median
from typing import Any

from cluster import lifecycle, state
from demo import install, own_cluster
from demo.ground import Ground
from demo.kubectl import Tools
from e2e.conftest import fresh_specs
from kubernetes.client import BatchV1Api, CustomObjectsApi
from kubernetes.config import new_client_from_config

from bench.harness import Benchmark, Pair, Reading
from bench.sightings import Sightings

# Of a bare Job's time, at most: a ratio of 1/1.3 at least.
MOST_TIMES = 1.3
READY_SECONDS = 120
# What a pod leaves behind on the node is cleared away within it.
REST_SECONDS = 3
# Ends when it is told to, as the stage does.
IDLE = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); signal.pause()"
Json = dict[str, Any]


class Contest:
    """A budget, and generators and Jobs made one at a time; each is gone before the next."""

    def __init__(self, held: ExitStack, ground: Ground) -> None:
        self._tools = ground.tools
        specs = fresh_specs(ground, "start")
        self._name = specs.name
        self._fresh = count(1)
        client = new_client_from_config(str(ground.tools.kubeconfig))
        self._objects, self._batch = CustomObjectsApi(client), BatchV1Api(client)
        self._sightings = Sightings(held, client)
        self._pod: Json = {}
        self._made: dict[str, list[float]] = {"generator": [], "job": []}
        self._generator: Json = json.loads(specs.yaml("generator"))
        self._generator["spec"]["privacy"]["epsilon"] = "1"
        budget: Json = json.loads(specs.yaml("budget"))
        # Room for every generator.
        budget["spec"]["limit"]["epsilon"] = "8"
        del budget["spec"]["plan"]
        held.callback(_forget, self._tools, self._name)
        self._tools.apply(json.dumps(budget), "the budget")
        ready = ("--for=condition=Ready", f"--timeout={READY_SECONDS}s")
        self._done("wait", *ready, f"privacybudget/{self._name}")

    def generator(self) -> float:
        """Seconds from the creation of a PrivateGenerator to its stage's container."""
        name = f"{self._name}-{next(self._fresh)}"
        manifest = {**self._generator, "metadata": {"name": name, "namespace": install.TENANT}}
        group, version = manifest["apiVersion"].split("/")
        began = time.monotonic()
        self._objects.create_namespaced_custom_object(
            group, version, install.TENANT, "privategenerators", manifest
        )
        taken = self._seen("generator", began, install.CUSTODY, f"{name}-train-")
        if not self._pod:
            jobs = self._tools.get(
                "jobs", "-n", install.CUSTODY, "-l", f"palimpsest.dev/name={name}"
            )
            self._prepare(jobs["items"][0]["spec"]["template"]["spec"])
        gone = ("privategenerator", name, "-n", install.TENANT, "--timeout=120s")
        self._done("delete", *gone)
        time.sleep(REST_SECONDS)
        return taken

    def job(self) -> float:
        """Seconds from the creation of a bare Job to its container."""
        name = f"bare-{next(self._fresh)}"
        manifest = {
            "metadata": {"name": name},
            "spec": {"backoffLimit": 0, "template": {"spec": self._pod}},
        }
        began = time.monotonic()
        self._batch.create_namespaced_job(self._name, manifest)
        taken = self._seen("job", began, self._name, f"{name}-")
        gone = ("job", name, "-n", self._name, "--cascade=foreground", "--timeout=120s")
        self._done("delete", *gone)
        time.sleep(REST_SECONDS)
        return taken

    def readings(self) -> Sequence[Reading]:
        """How much of it went by before there was a pod at all."""
        # The first of each was not compared.
        generator, job = (median(self._made[which][1:]) for which in ("generator", "job"))
        return [
            Reading(
                "pod-latency",
                generator,
                "s",
                None,
                "of start-latency, the median until the stage's pod was made (admission, "
                f"reservation, the operator); {job:.3g} s for the bare Job",
            )
        ]

    def _seen(self, which: str, began: float, namespace: str, prefix: str) -> float:
        started = self._sightings.started(namespace, prefix)
        self._made[which].append(self._sightings.made(namespace, prefix) - began)
        return started - began

    def _prepare(self, pod: Json) -> None:
        """The stage's pod without what the stage would do, and what it names, elsewhere."""
        container = {**pod["containers"][0], "command": ["python", "-c", IDLE]}
        self._pod = {**pod, "containers": [container]}
        secrets = [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each]
        where = {"namespace": self._name}
        made: list[Json] = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._name}},
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": pod["serviceAccountName"], **where},
            },
            *(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": name, **where},
                    "stringData": {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"},
                }
                for name in secrets
            ),
        ]
        self._tools.apply("\n".join(json.dumps(each) for each in made), "what the bare Jobs mount")

    def _done(self, *arguments: str) -> None:
        answer = self._tools.kubectl(*arguments, timeout=180)
        assert answer.code == 0, f"kubectl {' '.join(arguments)}: {answer.err}"


def _forget(tools: Tools, name: str) -> None:
    tools.kubectl("annotate", "privacybudget", name, "palimpsest.dev/confirm-delete=true")
    tools.kubectl("delete", "privacybudget", name, "--ignore-not-found", "--timeout=60s")
    tools.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=60s")


def _prepare(held: ExitStack) -> Pair:
    # As it was found: a node that stays up would take its share of what is measured next.
    if lifecycle.running(state.load()) is None:
        held.callback(_down)
    ground = own_cluster.start()
    install.install(ground)
    contest = Contest(held, ground)
    return Pair(contest.generator, contest.job, contest.readings)


def _down() -> None:
    with state.command_lock():
        lifecycle.down()


BENCHMARK = Benchmark(
    "start-latency",
    "s",
    "lower",
    "from the creation of a PrivateGenerator to its stage's container on the real node, "
    "reservation included, by the kubelet's own Event",
    f"a bare Job of the same pod (goal: at most {MOST_TIMES:g} times as long)",
    1 / MOST_TIMES,
    _prepare,
)
