"""From the version before to this one while resources live: none is touched, all go on."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.fixtures import ControlPlane, ObjectStore, Site
from integration.admission.ground import Authority, eventually, running
from integration.reconcile.harness import CRDS, World
from integration.reconcile.test_pipeline import PIPELINE

ROOT = Path(__file__).parents[3]
# The version before: the last release's tag where there is one, else this commit, whose definitions
# are older than the chart's.
BEFORE = "39b4cec6d5639104631bfcc3182792a6a3c0282e"
SYSTEM, RELEASE = "palimpsest-system", "palimpsest"
AT = ("--namespace", SYSTEM)
KINDS = ("privacybudgets", "privategenerators", "syntheticdatasets", "alignmentruns")
Json = dict[str, Any]


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The source tree of the version before."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )

    if git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        fetched = git("fetch", "--quiet", "--unshallow", "--tags")
        if fetched.returncode:
            pytest.skip(f"no history to upgrade from, and none to be had: {fetched.stderr.strip()}")
    tag = git("describe", "--tags", "--abbrev=0", "--match=v*", "HEAD^").stdout.strip()
    packed = git("archive", f"--output={tmp_path / 'before.tar'}", tag or BEFORE)
    assert packed.returncode == 0, (
        f"no {tag or BEFORE} to upgrade from in this history: {packed.stderr}"
    )
    with tarfile.open(tmp_path / "before.tar") as files:
        files.extractall(tmp_path / "before", filter="data")
    return tmp_path / "before"


@pytest.fixture
def world(object_store: ObjectStore, tmp_path: Path) -> Iterator[World]:
    """A cluster of its own: the definitions are the chart's."""
    (tmp_path / "world").mkdir()
    with Site(tmp_path / "plane").running() as plane:
        made = World(plane, object_store, tmp_path / "world")
        try:
            yield made
        finally:
            made.kill()


def token_of(plane: ControlPlane, account: str, folder: Path) -> Path:
    """A kubeconfig with a service account's own token, and so its rights."""
    config = yaml.safe_load(plane.kubeconfig.read_text())
    token = plane.kubectl("create", "token", account, "-n", SYSTEM).strip()
    config["users"][0]["user"] = {"token": token}
    path = folder / f"{account}.conf"
    path.write_text(yaml.safe_dump(config))
    return path


def values(world: World) -> Json:
    """As a user keeps them from version to version."""
    image = yaml.safe_load((world.folder / "config.yaml").read_text())["stageImage"]
    return {
        "images": {"operator": image, "stage": image},
        "stores": [{"endpoint": world.object_store.endpoint, "secretName": "store"}],
        "custody": {"namespaces": [{"name": world.custody}]},
        # Nothing answers for the Service without a node.
        "admission": {"failurePolicy": "Ignore", "timeoutSeconds": 1},
    }


def schemas(world: World) -> dict[str, Json]:
    """The definitions' schemas that the API server holds."""
    text = world.plane.kubectl("get", "crds", "-o", "json")
    return {
        each["spec"]["names"]["plural"]: each["spec"]["versions"][0]["schema"]
        for each in json.loads(text)["items"]
    }


def resources(world: World) -> dict[str, Json]:
    """Every resource as it is, but for what each write changes."""
    found = json.loads(world.plane.kubectl("get", ",".join(KINDS), "-A", "-o", "json"))["items"]
    for each in found:
        each["metadata"].pop("resourceVersion")
        each["metadata"].pop("managedFields", None)
    return {each["kind"]: each for each in found}


@contextmanager
def admission(world: World) -> Iterator[None]:
    """The installed server with its account's rights, called where the Service would be."""
    authority = Authority()
    certificates = world.folder / "admission" / "certificates"
    authority.issue(certificates)
    with running(token_of(world.plane, "palimpsest-admission", world.folder), certificates) as at:
        eventually(lambda: at.probe("/readyz")[0] == 200, 20, "admission is ready")
        address = {"url": f"https://127.0.0.1:{at.port}/validate", "caBundle": authority.bundle}
        path = "/webhooks/0"
        patch = [
            {"op": "replace", "path": f"{path}/clientConfig", "value": address},
            {"op": "replace", "path": f"{path}/failurePolicy", "value": "Fail"},
        ]
        world.plane.kubectl(
            *("patch", "validatingwebhookconfiguration", "palimpsest-admission"),
            *("--type=json", "-p", json.dumps(patch)),
        )
        yield


def settle(world: World, before: Path, environment: pytest.MonkeyPatch) -> None:
    """The version before, chart and operator: a training is done, a data set being sampled."""
    world.configure()
    path = world.folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**config, "lease": {"namespace": SYSTEM}}))
    world.plane.kubectl("create", "namespace", world.tenant)
    chart = before / "charts" / "palimpsest"
    world.plane.helm(values(world), "install", RELEASE, chart, *AT, "--create-namespace")
    world.plane.kubectl("wait", "--for=condition=Established", "crd", "--all")
    world.kubeconfig = token_of(world.plane, "palimpsest-operator", world.folder)
    with environment.context() as patched:
        patched.setenv("PYTHONPATH", str(before / "operator"))
        world.start()
    for manifest in world.manifests():
        world.apply(manifest)
    world.succeed(*PIPELINE[0])
    world.job(world.tenant, "sample")
    waits, ready = "DatasetNotReady", "Ready"
    world.until("the run waits", lambda: world.summary("align", "assistant") == waits)
    world.until("the generator is Ready", lambda: world.summary("pgen", "questions") == ready)
    world.kill()


def check_guards(world: World) -> None:
    """A stranger's Job stays out of custody, and what does not fit is refused."""
    pod = {
        "restartPolicy": "Never",
        "containers": [{"name": "stage", "image": "registry.example/other"}],
    }
    intruder = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "intruder", "namespace": world.custody},
        "spec": {"template": {"spec": pod}},
    }
    said = world.plane.kubectl("create", "-f", "-", stdin=json.dumps(intruder), check=False)
    assert f"only system:serviceaccount:{SYSTEM}:palimpsest-operator creates" in said
    with admission(world):
        greedy = json.dumps(world.private_generator("greedy"))
        said = world.plane.kubectl("create", "-f", "-", stdin=greedy, check=False)
        assert "spec.privacy.epsilon: 3 does not fit" in said


@pytest.mark.e2e
def test_resources_live_through_an_upgrade(
    world: World, before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(world, before, monkeypatch)
    old, lived = schemas(world), resources(world)
    spent = dict(world.journal().refresh().charges)
    assert {*lived} == {"PrivacyBudget", "PrivateGenerator", "SyntheticDataset", "AlignmentRun"}
    assert all(each["status"]["conditions"] for each in lived.values())

    upgrade = ("upgrade", RELEASE, ROOT / "charts" / "palimpsest", *AT)
    with pytest.raises(AssertionError, match=r"missing propert.*stageStuckAfter"):
        world.plane.helm({}, *upgrade, "--reuse-values")
    assert schemas(world) == old
    world.plane.helm({}, *upgrade, "--reset-then-reuse-values")
    definitions = {path.stem: yaml.safe_load(path.read_text()) for path in CRDS.glob("*.yaml")}
    wanted = {name: each["spec"]["versions"][0]["schema"] for name, each in definitions.items()}
    assert old != wanted, "the version before has the same definitions: name an earlier one"
    assert schemas(world) == wanted
    assert resources(world) == lived
    for each in lived.values():
        # Still valid: written again as it is.
        same = json.dumps({**each, "status": {}})
        world.plane.kubectl("replace", "--dry-run=server", "-f", "-", stdin=same)

    world.start()
    for part in PIPELINE[1:]:
        world.succeed(*part)
    world.until("the run is Ready", lambda: world.summary("align", "assistant") == "Ready")
    paid = dict(world.journal().refresh().charges)
    assert {charge: paid.get(charge) for charge in spent} == spent, "paid before, paid once"
    assert len(paid) == len(spent) + 1
    world.kill()
    check_guards(world)

    lived = resources(world)
    # No node runs the hook.
    world.plane.helm({}, "uninstall", RELEASE, *AT, "--no-hooks")
    assert schemas(world) == wanted
    assert resources(world) == lived
    assert dict(world.journal().refresh().charges) == paid
    policies = world.plane.kubectl("get", "validatingadmissionpolicies", "-o", "name")
    assert "palimpsest" not in policies
