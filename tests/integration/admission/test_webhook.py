"""The installed admission server as a process of its own, called by the real API server."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import samples
import yaml
from cluster.fixtures import ControlPlane, free_ports
from integration.admission.ground import (
    Authority,
    World,
    eventually,
    fetch,
    running,
)


def test_overspending_is_denied_where_the_user_sees_it(world: World) -> None:
    budget = world.budget(left="0.1000")
    answer = world.create(samples.generator("greedy", world.mark, budget))
    assert 'admission webhook "validate.palimpsest.dev" denied the request: ' in answer
    assert "spec.privacy.epsilon: 4 does not fit: at most " in answer
    assert f'needs 23% of the gate of PrivacyBudget "{budget}", 10% is left' in answer
    found = world.plane.kubectl("get", "pgen", "greedy", "-n", world.mark, check=False)
    assert "NotFound" in found


def test_what_fits_is_created_and_its_warnings_are_shown(world: World) -> None:
    budget = world.budget(left="1.0000")
    assert world.create(samples.generator("modest", world.mark, budget)).strip().endswith("created")
    crowded = samples.changed(
        samples.dataset("crowded", world.mark, "modest"), "spec.resampling.clusters", 2999
    )
    wide = samples.changed(crowded, "spec.resampling.noiseMultiplier", "20")
    done = subprocess.run(
        [
            *(str(world.plane.binaries / "kubectl"), f"--kubeconfig={world.plane.kubeconfig}"),
            *("create", "-f", "-"),
        ],
        input=json.dumps(wide),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning: spec.resampling.clusters: noise alone moves the histogram" in done.stderr


def test_a_namespace_that_is_not_allowed_is_denied(world: World) -> None:
    budget = world.budget(left="1.0000")
    answer = world.create(samples.generator("stranger", "default", budget))
    assert f'PrivacyBudget "{budget}" does not allow namespace default' in answer


def test_people_s_answers_that_come_later_are_no_private_records(world: World) -> None:
    budget = world.budget(left="1.0000")
    source, name = world.name("source"), world.name("asked")
    assert "created" in world.create(samples.generator(source, world.mark, budget))
    waiting = samples.dataset(name, world.mark, source, annotation={"human": {}})
    assert "created" in world.create(waiting)

    def answer(uri: str) -> str:
        answers = {"uri": uri, "digest": samples.DIGEST}
        spec = {"spec": {"annotation": {"human": {"answers": answers}}}}
        resource = ("synds", name, "-n", world.mark)
        options = ("--type=merge", "-p", json.dumps(spec))
        return world.plane.kubectl("patch", *resource, *options, check=False)

    private = f"s3://private/{budget}/part-0000.jsonl"
    field = "spec.annotation.human.answers.uri"
    assert f"denied the request: {field}: {private} lies among the private data" in answer(private)
    assert "patched" in answer("s3://outputs/answers.jsonl")


def test_a_generator_may_come_before_its_budget(world: World) -> None:
    early = samples.generator("early", world.mark, world.name("later"))
    assert world.create(early).strip().endswith("created")


def test_the_four_manifests_are_taken_in_every_order(world: World) -> None:
    for order in itertools.permutations(range(4)):
        name = world.name("any")
        four = (
            samples.budget(name, world.mark),
            samples.generator(name, world.mark, name),
            samples.dataset(name, world.mark, name),
            samples.changed(samples.alignment(name, world.mark), "spec.datasetRef.name", name),
        )
        for turn in order:
            assert world.create(four[turn]).strip().endswith("created"), order


def test_a_budget_outlives_a_careless_delete(world: World) -> None:
    budget = world.budget(left="1.0000")
    answer = world.plane.kubectl("delete", "privacybudget", budget, check=False)
    assert "is not deleted without its custodian's word" in answer
    word = "palimpsest.dev/confirm-delete=true"
    world.plane.kubectl("annotate", "privacybudget", budget, word)
    world.plane.kubectl("delete", "privacybudget", budget)


def test_a_namespace_with_resources_in_it_can_be_deleted(world: World) -> None:
    namespace = world.name("gone")
    budget = world.budget(left="1.0000")
    allowed = ["get", "privacybudget", budget, "-o", "json"]
    manifest = json.loads(world.plane.kubectl(*allowed))
    manifest["spec"]["allowedNamespaces"]["names"].append(namespace)
    world.plane.kubectl("replace", "-f", "-", stdin=json.dumps(manifest))
    world.plane.kubectl("create", "namespace", namespace)
    world.plane.kubectl(
        "create", "-f", "-", stdin=json.dumps(samples.generator("x", namespace, budget))
    )
    world.plane.kubectl("delete", "namespace", namespace, "--timeout=60s")


def test_decisions_are_counted_without_names(world: World) -> None:
    world.create(samples.budget(world.name("counted")), "--dry-run=server")
    _, text = fetch(f"http://127.0.0.1:{world.server.metrics}/metrics")
    line = 'palimpsest_admission_decisions_total{kind="PrivacyBudget",operation="CREATE",outcome='
    assert line + '"allowed",reason="Allowed"}' in text
    assert world.mark not in text


def test_a_new_certificate_is_served_without_a_failed_call(world: World) -> None:
    before = world.server.serial()
    issued = world.authority.issue(world.server.certificates)
    assert issued != before
    probe = samples.budget(world.name("rotation"))

    def renewed() -> bool:
        assert "created" in world.create(probe, "--dry-run=server")
        return world.server.serial() == issued

    eventually(renewed, 15, "the new certificate is served")


def test_half_a_pair_leaves_the_old_certificate(world: World) -> None:
    before = world.server.serial()
    good = (world.server.certificates / "..data").resolve()
    broken = world.server.certificates / "..broken"
    broken.mkdir()
    (broken / "tls.crt").write_bytes((good / "tls.crt").read_bytes())
    (broken / "tls.key").write_text("no key")
    link = world.server.certificates / "..link"
    link.symlink_to(broken.name)
    link.rename(world.server.certificates / "..data")
    eventually(
        lambda: "certificate not loaded" in world.server.log.read_text(), 15, "the file was tried"
    )
    assert world.server.serial() == before
    answer = world.create(samples.budget(world.name("still")), "--dry-run=server")
    assert "created" in answer


def test_without_a_certificate_it_is_alive_but_not_ready(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    empty = tmp_path / "certificates"
    empty.mkdir()
    with running(control_plane.kubeconfig, empty) as server:
        assert server.probe("/readyz") == (503, "no certificate loaded")
        Authority().issue(empty)
        eventually(lambda: server.probe("/readyz")[0] == 200, 15, "the certificate is taken up")


def test_without_the_api_server_it_is_not_ready(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    kubeconfig = yaml.safe_load(control_plane.kubeconfig.read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    Authority().issue(tmp_path / "certificates")
    with running(tmp_path / "kubeconfig", tmp_path / "certificates") as server:
        assert server.probe("/readyz") == (503, "the API server does not answer")


def test_when_the_webhook_is_gone_specs_wait_and_the_rest_goes_on(world: World) -> None:
    """failurePolicy Fail closes the door; annotations, finalizers and deletions do not need it."""
    name = world.name("orphan")
    finalized = samples.changed(
        samples.generator(name, world.mark, world.budget(left="1.0000")),
        "metadata.finalizers",
        ["palimpsest.dev/test"],
    )
    assert "created" in world.create(finalized)
    leaving = _leaving_budget(world)
    world.server.process.terminate()
    world.server.process.wait(timeout=10)
    assert "failed calling webhook" in world.create(samples.generator("late", world.mark))
    resource = ("pgen", name, "-n", world.mark)
    world.plane.kubectl("annotate", *resource, "note=kept")
    world.plane.kubectl("delete", *resource, "--wait=false")
    world.plane.kubectl(
        "patch", *resource, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
    )
    assert "NotFound" in world.plane.kubectl("get", *resource, check=False)
    # What is on its way out is not asked about again.
    world.plane.kubectl("delete", *leaving, "--wait=false")
    world.plane.kubectl("patch", *leaving, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert "NotFound" in world.plane.kubectl("get", *leaving, check=False)


def _leaving_budget(world: World) -> tuple[str, str]:
    """A budget whose deletion is confirmed and waits for a finalizer."""
    budget = ("privacybudget", world.budget(left="1.0000"))
    metadata = {
        "finalizers": ["palimpsest.dev/test"],
        "annotations": {"palimpsest.dev/confirm-delete": "true"},
    }
    patch = json.dumps({"metadata": metadata})
    world.plane.kubectl("patch", *budget, "--type=merge", "-p", patch)
    world.plane.kubectl("delete", *budget, "--wait=false")
    return budget
