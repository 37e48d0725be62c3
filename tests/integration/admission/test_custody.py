"""The chart on the real API server: what may run beside private data, and who may do what."""

from __future__ import annotations

import json
import shlex
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.fixtures import ControlPlane
from unit.docs.pages import DOCS, blocks, lines

CHART = Path(__file__).parents[3] / "charts" / "palimpsest"
STAGE = "registry.example/palimpsest-stage@sha256:" + "2" * 64
JOB_CONTROLLER = "system:serviceaccount:kube-system:job-controller"
Json = dict[str, Any]


@dataclass(frozen=True)
class Installed:
    """A release and the custodians' namespaces it made, one of them without a models' cache."""

    plane: ControlPlane
    system: str
    custody: str
    cacheless: str

    @property
    def operator(self) -> str:
        return f"system:serviceaccount:{self.system}:palimpsest-operator"

    @property
    def admission(self) -> str:
        return f"system:serviceaccount:{self.system}:palimpsest-admission"

    def apply(self, manifest: Json, *options: str, namespace: str = "") -> str:
        text = json.dumps(manifest)
        where = namespace or self.custody
        return self.plane.kubectl(
            "create", "-n", where, "-f", "-", *options, stdin=text, check=False
        )

    def may(self, user: str, verb: str, resource: str, namespace: str = "") -> bool:
        """Ask the authorizer; `resource` is `plural[.group][/subresource][:name]`."""
        rest, _, name = resource.partition(":")
        kind, _, subresource = rest.partition("/")
        plural, _, group = kind.partition(".")
        attributes = {
            "verb": verb,
            "group": group,
            "resource": plural,
            "subresource": subresource,
            "name": name,
            "namespace": namespace,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": attributes},
        }
        text = self.plane.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review))
        return bool(json.loads(text)["status"]["allowed"])


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane) -> Iterator[Installed]:
    mark = uuid.uuid4().hex[:6]
    system, custody, cacheless = (f"{name}-{mark}" for name in ("system", "custody", "cacheless"))
    at = Installed(control_plane, system, custody, cacheless)
    guarded = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": system, "labels": guarded},
    }
    control_plane.kubectl("create", "-f", "-", stdin=json.dumps(namespace))
    control_plane.helm(_values(at), "install", "palimpsest", CHART, "-n", system)
    try:
        _wait_for_policies(at, "palimpsest-custody-jobs")
        yield at
    finally:
        # No node runs the hook.
        control_plane.helm({}, "uninstall", "palimpsest", "-n", system, "--no-hooks")
        control_plane.kubectl("delete", "namespace", system, custody, cacheless, "--wait=false")


def _values(at: Installed, stage: str = STAGE) -> Json:
    return {
        "images": {"operator": STAGE, "stage": stage},
        "stores": [{"endpoint": "http://10.0.0.9:9000", "secretName": "store"}],
        "custody": {
            "namespaces": [{"name": at.custody, "cacheClaim": "models"}, {"name": at.cacheless}]
        },
        # The definitions are other tests' too, and nothing answers for the Service without a node.
        "crds": {"enabled": False},
        "admission": {"failurePolicy": "Ignore"},
    }


def _wait_for_policies(at: Installed, answer: str, *options: str) -> None:
    """Policies reach the API server's own cache a moment after they are written."""
    for _ in range(100):
        if answer in at.apply(job(), "--dry-run=server", *options):
            return
    raise AssertionError("the policies do not take effect")


def container(name: str = "stage", **changes: Any) -> Json:
    """A container in the operator's shape."""
    return {
        "name": name,
        "image": STAGE,
        "command": ["palimpsest-stage"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        **changes,
    }


def job(**pod: Any) -> Json:
    """A Job in the operator's shape, but for what is given of its pods' spec."""
    spec: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "serviceAccountName": "private-data",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container()],
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {"name": "store", "secret": {"secretName": "custodian-store"}},
        ],
        **pod,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"job-{uuid.uuid4().hex[:8]}"},
        "spec": {
            "backoffLimit": 0,
            "completionMode": "Indexed",
            "completions": 1,
            "template": {"spec": spec},
        },
    }


def pod(**changes: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{uuid.uuid4().hex[:8]}"},
        "spec": job(**changes)["spec"]["template"]["spec"],
    }


def test_the_operators_job_runs_and_ends(installed: Installed) -> None:
    """Its pods are made by the real Job controller, and a foreground deletion goes through."""
    manifest = job()
    name = manifest["metadata"]["name"]
    assert "created" in installed.apply(manifest, "--as", installed.operator)
    where = ("-n", installed.custody)
    installed.plane.kubectl(
        *("wait", f"job/{name}", "--for=jsonpath={.status.active}=1", "--timeout=20s", *where)
    )
    pods = installed.plane.kubectl("get", "pods", "-l", f"job-name={name}", "-o", "name", *where)
    assert pods.startswith("pod/")
    installed.plane.kubectl(
        *("delete", "job", name, "--cascade=foreground", "--timeout=30s", *where),
        *("--as", installed.operator),
    )
    assert not installed.plane.kubectl("get", "pods", "-o", "name", *where)


def test_what_ran_before_an_upgrade_ends_after_it(installed: Installed) -> None:
    """To end and to go, Jobs and pods are updated: they lose their finalizers."""
    manifest = job()
    name = manifest["metadata"]["name"]
    assert "created" in installed.apply(manifest, "--as", installed.operator)
    where = ("-n", installed.custody)
    active = (f"job/{name}", "--for=jsonpath={.status.active}=1", "--timeout=20s")
    installed.plane.kubectl("wait", *active, *where)
    upgrade = ("upgrade", "palimpsest", str(CHART), "-n", installed.system)
    as_operator = ("--as", installed.operator)
    installed.plane.helm(_values(installed, STAGE.replace("22", "33")), *upgrade)
    try:
        _wait_for_policies(installed, "run the image", *as_operator)
        installed.plane.kubectl(
            *("delete", "job", name, "--cascade=foreground", "--timeout=30s", *where, *as_operator)
        )
        assert not installed.plane.kubectl("get", "pods", "-o", "name", *where)
    finally:
        installed.plane.helm(_values(installed), *upgrade)
        _wait_for_policies(installed, "created", *as_operator)


def test_nobody_else_creates_jobs_not_even_an_administrator(installed: Installed) -> None:
    answer = installed.apply(job())
    assert f"only {installed.operator} creates and updates Jobs" in answer


def test_nobody_else_changes_a_job(installed: Installed) -> None:
    manifest = job()
    assert "created" in installed.apply(manifest, "--as", installed.operator)
    resource = ("job", manifest["metadata"]["name"], "-n", installed.custody)
    suspend = ("--type=merge", "-p", '{"spec":{"suspend":true}}')
    for user in ("kubernetes-admin", JOB_CONTROLLER):
        answer = installed.plane.kubectl(
            *("patch", *resource, *suspend, "--as", user, "--as-group", "system:masters"),
            check=False,
        )
        assert f"only {installed.operator} creates and updates Jobs" in answer
    installed.plane.kubectl("delete", *resource, "--as", installed.operator, "--wait=false")


def projected(*sources: Json) -> Json:
    return {"name": "store-0", "projected": {"sources": list(sources)}}


def token(audience: str) -> Json:
    return {"serviceAccountToken": {"path": "token", "audience": audience}}


def claim(name: str, of: str) -> Json:
    return {"name": name, "persistentVolumeClaim": {"claimName": of}}


IMAGE = {"image": "registry.example/other@sha256:" + "3" * 64}
NO_HOST = "restricted volume types"

# (change of the pod's spec, what a Job is told, what a pod is told: the Pod Security standard
# speaks first)
WRONG_SHAPES: list[tuple[Json, str, str]] = [
    ({"containers": [container(**IMAGE)]}, "run the image", ""),
    ({"containers": [container(command=["sh"])]}, "the command palimpsest-stage only", ""),
    ({"containers": [container(args=["-c", "id"])]}, "the command palimpsest-stage only", ""),
    ({"containers": [container(), container("sidecar")]}, "have one container", ""),
    ({"initContainers": [container("init")]}, "have no init containers", ""),
    ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "mount emptyDir", NO_HOST),
    ({"volumes": [claim("claim", "mine")]}, "mount emptyDir and Secret volumes", ""),
    ({"volumes": [claim("cache", "mine")]}, "that the chart names as their", ""),
    ({"volumes": [claim("store-0", "models")]}, "that the chart names as their", ""),
    ({"volumes": [claim("cache", "models"), claim("more", "other")]}, "their namespace's", ""),
    ({"volumes": [projected(token("https://kubernetes.default.svc"))]}, "tokens for sts", ""),
    ({"volumes": [projected({"serviceAccountToken": {"path": "t"}})]}, "tokens for sts", ""),
    ({"volumes": [projected({"configMap": {"name": "mine"}})]}, "tokens for sts", ""),
    (
        {"volumes": [projected(token("sts.amazonaws.com"), {"secret": {"name": "a"}})]},
        "tokens for sts",
        "",
    ),
    ({"automountServiceAccountToken": True}, "carry no API token", ""),
]


@pytest.mark.parametrize(("change", "job_told", "pod_told"), WRONG_SHAPES)
def test_only_the_operators_shape_runs(
    installed: Installed, change: Json, job_told: str, pod_told: str
) -> None:
    """For the operator's Jobs and the Job controller's pods alike: defence in depth."""
    dry = "--dry-run=server"
    assert job_told in installed.apply(job(**change), "--as", installed.operator, dry)
    controller = ("--as", JOB_CONTROLLER, "--as-group", "system:masters")
    assert (pod_told or job_told) in installed.apply(pod(**change), *controller, dry)


def test_a_token_for_the_store_is_of_the_operators_shape(installed: Installed) -> None:
    """Where workload identity enters the store; the audiences are the chart's."""
    made = job(volumes=[projected(token("sts.amazonaws.com"))])
    assert "created" in installed.apply(made, "--as", installed.operator, "--dry-run=server")


def test_of_claims_pods_mount_their_namespaces_cache_alone(installed: Installed) -> None:
    made = job(volumes=[claim("cache", "models")])
    dry = ("--as", installed.operator, "--dry-run=server")
    assert "created" in installed.apply(made, *dry)
    refused = installed.apply(made, *dry, namespace=installed.cacheless)
    assert "and the claim that the chart names as their namespace's cacheClaim, only" in refused
    # Where none is named, none is named "" either.
    unnamed = job(volumes=[claim("cache", "")])
    assert "created" not in installed.apply(unnamed, *dry, namespace=installed.cacheless)


def test_only_the_job_controller_creates_pods(installed: Installed) -> None:
    assert "only the Job controller creates pods" in installed.apply(pod(), "--dry-run=server")
    controller = ("--as", JOB_CONTROLLER, "--as-group", "system:masters")
    assert "created" in installed.apply(pod(), *controller, "--dry-run=server")


def service(**changes: Any) -> Json:
    """A Service in the operator's shape, but for what is given of its spec."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"peers-{uuid.uuid4().hex[:8]}"},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"palimpsest.dev/peers": "job"},
            **changes,
        },
    }


def test_the_operators_service_goes_with_its_job(installed: Installed) -> None:
    where = ("-n", installed.custody)
    manifest = job()
    name = manifest["metadata"]["name"]
    installed.apply(manifest, "--as", installed.operator)
    made = service(selector={"palimpsest.dev/peers": name})
    uid = installed.plane.kubectl("get", "job", name, "-o", "jsonpath={.metadata.uid}", *where)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid}
    made["metadata"]["ownerReferences"] = [owner]
    assert "created" in installed.apply(made, "--as", installed.operator)
    options = ("--cascade=foreground", "--timeout=30s", "--as", installed.operator)
    installed.plane.kubectl("delete", "job", name, *options, *where)
    resource = f"service/{made['metadata']['name']}"
    installed.plane.kubectl("wait", "--for=delete", resource, "--timeout=30s", *where, check=False)
    assert not installed.plane.kubectl("get", "services", "-o", "name", *where)


def test_nobody_else_makes_services(installed: Installed) -> None:
    assert "makes Services in a custodian's" in installed.apply(service(), "--dry-run=server")


@pytest.mark.parametrize(
    "change",
    [
        {"clusterIP": None, "ports": [{"port": 80}]},
        {"clusterIP": None, "type": "LoadBalancer", "ports": [{"port": 80}]},
        {"externalIPs": ["10.0.0.1"]},
        {"selector": {"job-name": "job"}},
        {"selector": None},
    ],
)
def test_a_service_opens_no_pod_to_others(installed: Installed, change: Json) -> None:
    answer = installed.apply(service(**change), "--as", installed.operator, "--dry-run=server")
    assert "are headless and select the pods of one training" in answer


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"])
def test_no_other_workload_runs(installed: Installed, kind: str) -> None:
    labels = {"app": "x"}
    spec: Json = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {**pod()["spec"]}},
    }
    spec["template"]["spec"]["restartPolicy"] = "Always"
    if kind == "StatefulSet":
        spec["serviceName"] = "x"
    manifest = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    assert "runs the operator's Jobs only" in installed.apply(manifest, "--dry-run=server")


def test_no_cron_job_runs(installed: Installed) -> None:
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "x"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job()["spec"]}},
    }
    assert "runs the operator's Jobs only" in installed.apply(manifest, "--dry-run=server")


def test_nobody_enters_a_pod(installed: Installed) -> None:
    manifest = job()
    name = manifest["metadata"]["name"]
    installed.apply(manifest, "--as", installed.operator)
    where = ("-n", installed.custody)
    installed.plane.kubectl(
        *("wait", f"job/{name}", "--for=jsonpath={.status.active}=1", "--timeout=20s", *where)
    )
    found = installed.plane.kubectl("get", "pods", "-l", f"job-name={name}", "-o", "name", *where)
    target = found.strip()
    refused = "nobody enters their pods"
    assert refused in installed.plane.kubectl("exec", target, *where, "--", "id", check=False)
    assert refused in installed.plane.kubectl("attach", target, *where, check=False)
    debugged = ("debug", target, "--image", STAGE, "--profile=restricted", *where)
    assert refused in installed.plane.kubectl(*debugged, check=False)
    installed.plane.kubectl("delete", "job", name, "--wait=false", *where)


def test_a_namespace_without_the_label_is_left_alone(installed: Installed) -> None:
    text = json.dumps(job())
    answer = installed.plane.kubectl("create", "-f", "-", "--dry-run=server", stdin=text)
    assert "created" in answer


@pytest.mark.parametrize(
    ("verbs", "resource"),
    [
        ("get list watch", "privacybudgets.palimpsest.dev"),
        ("get list watch patch", "privategenerators.palimpsest.dev"),
        ("get list watch patch", "syntheticdatasets.palimpsest.dev"),
        ("get list watch patch", "alignmentruns.palimpsest.dev"),
        ("update", "privacybudgets.palimpsest.dev/status"),
        ("update", "syntheticdatasets.palimpsest.dev/status"),
        ("update", "alignmentruns.palimpsest.dev/finalizers"),
        ("create get list watch delete", "jobs.batch"),
        ("get list watch", "pods"),
        ("create patch get list", "events"),
        ("get", "namespaces"),
    ],
)
def test_the_operator_may_do_its_work(installed: Installed, verbs: str, resource: str) -> None:
    """In every namespace. kopf ends the operator on a 403, so each verb counts."""
    for verb in verbs.split():
        assert installed.may(installed.operator, verb, resource), verb


@pytest.mark.parametrize(
    ("verbs", "resource"),
    [
        # With it a stolen token could let its own namespace spend.
        ("create update patch delete", "privacybudgets.palimpsest.dev"),
        ("create update delete", "privategenerators.palimpsest.dev"),
        ("get patch", "privacybudgets.palimpsest.dev/status"),
        ("get patch", "syntheticdatasets.palimpsest.dev/status"),
        ("update", "privacybudgets.palimpsest.dev/finalizers"),
        ("list watch update patch", "namespaces"),
        ("update delete watch", "events"),
        ("update patch", "jobs.batch"),
        ("create update patch delete", "pods"),
    ],
)
def test_the_operator_may_do_no_more(installed: Installed, verbs: str, resource: str) -> None:
    for verb in verbs.split():
        for namespace in ("", installed.system, installed.custody):
            assert not installed.may(installed.operator, verb, resource, namespace), verb


def test_admission_may_read_what_it_decides_by_and_nothing_else(installed: Installed) -> None:
    kinds = ("privacybudgets", "privategenerators", "syntheticdatasets")
    reads = {("get", f"{kind}.palimpsest.dev") for kind in kinds}
    reads |= {("list", "privacybudgets.palimpsest.dev"), ("get", "namespaces")}
    others = ("alignmentruns.palimpsest.dev", "secrets", "configmaps", "pods", "jobs.batch")
    verbs = ("get", "list", "watch", "create", "update", "patch", "delete")
    resources = {resource for _, resource in reads} | set(others)
    may = {
        (verb, resource)
        for verb in verbs
        for resource in resources
        if installed.may(installed.admission, verb, resource)
    }
    assert may == reads


def rights_asked_about() -> list[tuple[str, list[str]]]:
    """`kubectl auth can-i` in runbooks, with its arguments."""
    return [
        (page.stem, shlex.split(line)[1:])
        for page in sorted((DOCS / "runbooks").glob("*.md"))
        for block in blocks(page)
        for line in lines(block)
        if line.startswith("kubectl auth can-i")
    ]


@pytest.mark.parametrize(("page", "arguments"), rights_asked_about())
def test_rights_that_runbooks_ask_about_are_there(
    installed: Installed, page: str, arguments: list[str]
) -> None:
    """Else a healthy installation looks as if it lacked them."""
    # kubectl asks about what the API server knows.
    installed.plane.kubectl("apply", "--server-side", "-f", str(CHART.parents[1] / "crds"))
    known = ("--for=condition=Established", "crd/privacybudgets.palimpsest.dev")
    installed.plane.kubectl("wait", *known, "--timeout=20s")
    asked = [each.replace("palimpsest-system", installed.system) for each in arguments]
    answer, *_ = installed.plane.kubectl(*asked, check=False).split()
    assert answer == "yes"


def test_the_operator_holds_its_lease_and_no_other(installed: Installed) -> None:
    leases = "leases.coordination.k8s.io"
    assert installed.may(installed.operator, "create", leases, installed.system)
    own = f"{leases}:palimpsest-operator"
    for verb in ("list", "watch", "patch", "delete"):
        assert not installed.may(installed.operator, verb, own, installed.system)
    for verb in ("get", "update"):
        assert installed.may(installed.operator, verb, own, installed.system)
        assert not installed.may(installed.operator, verb, f"{leases}:other", installed.system)
        assert not installed.may(installed.operator, verb, own, "kube-system")


def test_the_operator_makes_services_in_custody_alone(installed: Installed) -> None:
    for verb in ("get", "create"):
        assert installed.may(installed.operator, verb, "services", installed.custody)
        assert not installed.may(installed.operator, verb, "services", "default")
    for verb in ("list", "watch", "update", "patch", "delete"):
        assert not installed.may(installed.operator, verb, "services", installed.custody)


@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "update", "patch", "delete"])
def test_the_operator_has_no_verb_on_secrets(installed: Installed, verb: str) -> None:
    """Save to make one beside itself, and to keep the webhook's two by name (below)."""
    for namespace in (installed.custody, "default", "kube-system"):
        assert not installed.may(installed.operator, verb, "secrets", namespace)
    if verb != "create":
        assert not installed.may(installed.operator, verb, "secrets", installed.system)


@pytest.mark.parametrize("name", ["palimpsest-store", "palimpsest-receipt-key", "other"])
def test_the_operator_reads_and_changes_the_webhooks_secrets_only(
    installed: Installed, name: str
) -> None:
    for verb in ("get", "update", "patch", "delete"):
        assert not installed.may(installed.operator, verb, f"secrets:{name}", installed.system)
    for own in ("palimpsest-admission-tls", "palimpsest-admission-ca"):
        assert not installed.may(installed.operator, "get", f"secrets:{own}", installed.custody)


def test_the_custody_account_has_no_rights(installed: Installed) -> None:
    account = f"system:serviceaccount:{installed.custody}:private-data"
    for verb, resource in (("get", "secrets"), ("list", "pods"), ("get", "jobs.batch")):
        assert not installed.may(account, verb, resource, installed.custody)


def test_the_charts_pods_enter_a_namespace_that_enforces_the_restricted_standard(
    installed: Installed,
) -> None:
    def components() -> set[str]:
        text = installed.plane.kubectl("get", "pods", "-n", installed.system, "-o", "json")
        labels = [each["metadata"]["labels"] for each in json.loads(text)["items"]]
        return {each["app.kubernetes.io/component"] for each in labels}

    deadline = time.monotonic() + 30
    while len(components()) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert components() == {"admission", "operator"}
    # The last act of an uninstall, too; and the standard is enforced.
    hooks = yaml.safe_load_all(
        installed.plane.helm({}, "get", "hooks", "palimpsest", "-n", installed.system)
    )
    (last,) = (each for each in hooks if each["kind"] == "Job")
    pod = last["spec"]["template"]
    pod["spec"]["serviceAccountName"] = "default"  # the hook makes its own
    pod |= {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"]["name"] = "last"
    assert "created" in installed.apply(pod, "--dry-run=server", namespace=installed.system)
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    refused = installed.apply(pod, "--dry-run=server", namespace=installed.system)
    assert 'violates PodSecurity "restricted' in refused
