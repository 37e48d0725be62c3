"""`get`, `watch`, `logs`, `suspend` and `resume` on a real API server."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from cluster.fixtures import ControlPlane, ObjectStore, Site
from integration.cli.kubelet import Kubelet, kubeconfig_of, kubelet
from integration.reconcile.harness import DIGEST, Json, World
from integration.reconcile.kube import ours, pods_in
from palimpsest.api.alignment import AlignmentRun
from palimpsest.cli.connection import Connection
from palimpsest.cli.errors import GoneError
from palimpsest.cli.main import commands

PROGRAM = Path(sys.executable).with_name("kubectl-palimpsest")
NODE = "node-of-logs"


@dataclass(frozen=True)
class Shell:
    """The program as a user of a cluster runs it."""

    kubeconfig: Path
    namespace: str
    path: str = os.environ["PATH"]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": self.path}

    def run(self, *arguments: str) -> Result:
        """In this process: a start of the program takes a second."""
        reached = f"--kubeconfig={self.kubeconfig}"
        done = CliRunner().invoke(commands, [*arguments, reached])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    def told(self, *arguments: str) -> str:
        """Its output where it ends well."""
        done = self.run(*arguments, "-n", self.namespace)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PROGRAM, *arguments, "-n", self.namespace],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def world(
    control_plane: ControlPlane,
    object_store: ObjectStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> World:
    """Resources whose operator's word a test says."""
    world = World(control_plane, object_store, tmp_path_factory.mktemp("world"))
    world.define()
    world.inhabit()
    for manifest in world.manifests():
        world.apply(manifest)
    return world


@pytest.fixture
def shell(world: World) -> Shell:
    return Shell(
        world.plane.kubeconfig, world.tenant, f"{world.plane.binaries}:{os.environ['PATH']}"
    )


@pytest.fixture(scope="module")
def logged(world: World) -> Iterator[Kubelet]:
    """The node that stage pods are on."""
    with kubelet(world.plane) as serving:
        world.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
        world.kube.patch(
            f"/api/v1/nodes/{NODE}/status",
            {
                "status": {
                    "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                    "daemonEndpoints": {"kubeletEndpoint": {"Port": serving.port}},
                }
            },
        )
        yield serving


def say(
    world: World, kind: str, name: str, state: str, reason: str, message: str, **more: Any
) -> None:
    """The operator's word on a resource."""
    path = ours(kind, "" if kind == "PrivacyBudget" else world.tenant, name)
    raw = world.kube.get(path)
    assert raw is not None
    conditions = [
        {
            "type": each,
            "status": str(each == state),
            "reason": reason,
            "message": message if each in ("Ready", state) else "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for each in ("Ready", "Reconciling", "Stalled")
    ]
    status = {"observedGeneration": raw["metadata"]["generation"], "conditions": conditions}
    assert world.kube.patch(f"{path}/status", {"status": {**status, "summary": reason, **more}})


def train(state: str = "Running", progress: str = "8/32") -> Json:
    """A generator's stage."""
    return {
        "name": "train",
        "state": state,
        "progress": progress,
        "job": f"questions-train-{'0' * 16}-2",
        "startTime": "2026-01-01T00:00:00Z",
        "completionTime": "2026-01-01T00:08:04Z",
        "charge": {"id": "c-1", "state": "Started", "share": "0.467", "noiseMultiplier": "1"},
    }


def row(text: str, kind: str, name: str = "") -> str:
    """Other tests' budgets may be there too."""
    return next(each for each in text.splitlines() if each.startswith(kind) and name in each)


def test_a_table_says_how_far_all_are_and_what_helps(world: World, shell: Shell) -> None:
    say(
        *(world, "PrivacyBudget", world.budget, "Ready", "Ready", "The journal is open."),
        shares={"committed": "0.467", "reserved": "0.064", "left": "0.469"},
    )
    say(
        *(world, "PrivateGenerator", "questions", "Stalled", "ModelUnsuitable", "Take another."),
        progress="8/32",
        share="0.467",
        stages=[train("Failed")],
    )
    with shell.start("get") as installed:
        told, trouble = installed.communicate(timeout=60)
    assert (installed.returncode, trouble) == (0, "")
    assert "\x1b" not in told
    budget = row(told, "PrivacyBudget", world.budget).split()
    assert budget[1:5] == [world.budget, "46.7%", "+", "6.4%"]
    generator = row(told, "PrivateGenerator").split()
    assert generator[1:6] == [world.tenant, "questions", "8/32", "46.7%", "ModelUnsuitable"]
    assert row(told, "PrivateGenerator").endswith("Take another.")
    assert "NotObserved" in row(told, "SyntheticDataset")
    assert row(told, "AlignmentRun").endswith("(kubectl get pods -n palimpsest-system).")
    everywhere = shell.run("get", "-A").stdout
    assert row(everywhere, "PrivateGenerator")


def test_a_named_resource_is_shown_with_its_stages(world: World, shell: Shell) -> None:
    artifact = {"uri": "s3://outputs/x/manifest.json", "digest": DIGEST}
    guarantee = "(epsilon 3.4, delta 1e-5)-differentially private."
    sample = {"name": "sample", "state": "Succeeded", "artifacts": [artifact]}
    say(
        *(world, "SyntheticDataset", "questions", "Ready", "Ready", "It is published."),
        progress="6/6 stages",
        guarantee=guarantee,
        stages=[sample],
    )
    say(
        *(world, "PrivateGenerator", "questions", "Reconciling", "Running", "It trains."),
        progress="8/32",
        stages=[train()],
    )
    told = shell.told("get", "privategenerator/questions")
    stage = next(each for each in told.splitlines() if each.startswith("train"))
    assert stage.split() == ["train", "Running", "2", "8/32", "8m04s", "46.7%", "Started"]
    told = shell.told("get", "SyntheticDataset", "questions")
    assert f"sample  {artifact['uri']}  {DIGEST}" in told
    assert told.splitlines()[-1] == guarantee

    as_json = json.loads(shell.told("get", "pgen", "questions", "-o", "json"))
    assert as_json == yaml.safe_load(shell.told("get", "pgen", "questions", "-o", "yaml"))
    assert (as_json["state"], as_json["message"], as_json["suspended"]) == (
        *("Reconciling", "It trains."),
        False,
    )
    assert as_json["stages"][0]["seconds"] == 484
    assert as_json["stages"][0]["attempts"] == 2
    many = json.loads(shell.told("get", "synds/questions", "pgen/questions", "-o", "json"))
    assert [each["kind"] for each in many] == ["SyntheticDataset", "PrivateGenerator"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("get", "pod"), 2, "no kind 'pod'; there is: privacybudget (pb), privategenerator"),
        (("get", "pgen/questions", "synds"), 2, "write every one as KIND/NAME"),
        (("get", "synds", "question"), 2, "no SyntheticDataset question in namespace tenant-"),
        (("get", "synds", "question"), 2, "there is: questions"),
        (("get", "pgen", "questions", "-A"), 2, "not --all-namespaces"),
        (("get", "--context", "elsewhere"), 2, "no cluster: Invalid kube-config file."),
        (("watch", "align", "assistent", "--until-ready"), 2, "there is: assistant"),
        (("suspend", "pb", "any"), 2, "runs nothing that could be suspended"),
        (("resume", "pgen"), 2, "say which PrivateGenerator"),
        (("logs", "pb/any"), 2, "a PrivacyBudget runs nothing: it has no logs"),
        (("logs", "synds/questions", "align/assistant"), 2, "give one NAME"),
        (("get", "pgen", "-n", "x", "-A"), 2, "not both"),
        (("logs", "nothing"), 2, "no resource nothing in namespace"),
        (("logs", "pgen/questions", "--stage", "sft"), 2, "has no stage 'sft'; there is: train"),
    ],
)
def test_what_cannot_be_is_told_with_what_can(
    shell: Shell, arguments: tuple[str, ...], code: int, told: str
) -> None:
    more = () if {"-A", "-n"} & set(arguments) else ("-n", shell.namespace)
    done = shell.run(*arguments, *more)
    assert (done.exit_code, done.stdout) == (code, "")
    assert told in done.stderr


def test_missing_rights_are_named(world: World, shell: Shell, tmp_path: Path) -> None:
    stranger = replace(shell, kubeconfig=kubeconfig_of(world.plane, "stranger", tmp_path))
    done = stranger.run("get", "synds", "-n", world.tenant)
    assert done.exit_code == 2
    lacking = f"you may not list syntheticdatasets.palimpsest.dev in namespace {world.tenant}"
    assert lacking in done.stderr
    assert stranger.run("get", "-A").exit_code == 2

    rules = [{"apiGroups": ["palimpsest.dev"], "resources": ["*"], "verbs": ["get", "list"]}]
    about = {"name": "reader", "namespace": world.tenant}
    group = "rbac.authorization.k8s.io"
    world.apply({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": about, "rules": rules})
    world.apply(
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": about,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "User", "name": "stranger", "apiGroup": group}],
        }
    )
    # A tenant sees its own; that budgets are left out is said.
    done = stranger.run("get", "-n", world.tenant)
    assert done.exit_code == 0
    assert "Left out: you may not list privacybudgets.palimpsest.dev" in done.stderr
    assert "PrivacyBudget" not in done.stdout
    assert row(done.stdout, "AlignmentRun")
    done = stranger.run("suspend", "pgen/questions", "-n", world.tenant)
    assert done.exit_code == 2
    assert "you may not patch privategenerators.palimpsest.dev" in done.stderr


def test_an_api_server_that_is_away_is_named(shell: Shell, tmp_path: Path) -> None:
    away = json.loads(shell.kubeconfig.read_text())
    away["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    path = tmp_path / "away.conf"
    path.write_text(json.dumps(away))
    done = replace(shell, kubeconfig=path).run("get")
    assert done.exit_code == 2
    assert "no answer from the API" in done.stderr
    assert "kubectl cluster-info" in done.stderr


def reading(watching: subprocess.Popen[str], holds: Callable[[str], bool]) -> str:
    """The first line that does."""
    assert watching.stdout is not None
    for line in watching.stdout:
        if holds(line):
            return line
    raise AssertionError(f"it ended: {watching.stderr.read() if watching.stderr else ''}")


def test_a_pipeline_waits_for_what_it_names(world: World, shell: Shell) -> None:
    say(world, "AlignmentRun", "assistant", "Reconciling", "Running", "It runs.", progress="1/9")
    watching = shell.start("watch", "align/assistant", "synds/questions", "--until-ready")
    try:
        line = reading(watching, lambda line: "AlignmentRun" in line)
        assert line.split("  ")[1:] == [
            *(f"AlignmentRun/{world.tenant}/assistant", "Running", "1/9", "It runs.\n")
        ]
        say(world, "AlignmentRun", "assistant", "Reconciling", "Running", "", progress="2/9")
        reading(watching, lambda line: "2/9" in line)
        say(world, "AlignmentRun", "assistant", "Ready", "Ready", "Published.")
        assert watching.wait(timeout=20) == 0
    finally:
        watching.kill()
    assert watching.stderr is not None
    assert watching.stderr.read() == "All are Ready.\n"


def test_a_stalled_one_ends_the_waiting(world: World, shell: Shell) -> None:
    say(world, "AlignmentRun", "assistant", "Stalled", "Diverged", "Lower the rate.")
    done = shell.run("watch", "align", "-n", world.tenant, "--until-ready", "-o", "json")
    assert done.exit_code == 1
    assert f"AlignmentRun/{world.tenant}/assistant is stalled: Lower the rate." in done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["reason"] == "Diverged"


def test_a_deleted_one_ends_the_waiting(world: World, shell: Shell) -> None:
    world.apply(world.alignment_run("short-lived"))
    watching = shell.start("watch", "align", "short-lived", "--until-ready")
    try:
        reading(watching, lambda line: "short-lived" in line)
        world.kube.delete(ours("AlignmentRun", world.tenant, "short-lived"))
        reading(watching, lambda line: "Deleted" in line)
        assert watching.wait(timeout=20) == 1
    finally:
        watching.kill()


@pytest.mark.full
def test_a_watch_outlives_the_api_server(object_store: ObjectStore, tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    with site.running() as plane:
        world = World(plane, object_store, tmp_path)
        world.define()
        world.inhabit()
        world.apply(world.alignment_run())
        shell = Shell(plane.kubeconfig, world.tenant)
        watching = shell.start("watch", "align", "assistant", "--until-ready")
        reading(watching, lambda line: "NotObserved" in line)
    try:
        with site.running():
            say(world, "AlignmentRun", "assistant", "Ready", "Ready", "Published.")
            reading(watching, lambda line: "Ready" in line)
            assert watching.wait(timeout=40) == 0
        assert watching.stderr is not None
        assert "no answer from the API" in watching.stderr.read()
    finally:
        watching.kill()


def test_a_version_that_is_too_old_is_listed_again(world: World, shell: Shell) -> None:
    """The API server's own 410: a watch from the first version there ever was."""
    connection = Connection(shell.kubeconfig, None)
    with pytest.raises(GoneError):
        list(connection.events(AlignmentRun, world.tenant, "1"))


@pytest.mark.parametrize("colours", [True, False])
def test_a_terminal_shows_one_table_that_lives(world: World, shell: Shell, colours: bool) -> None:
    say(world, "AlignmentRun", "assistant", "Reconciling", "Running", "It runs.", progress="3/9")
    ours_end, theirs = pty.openpty()
    environment = {**shell.environment(), "TERM": "xterm-256color", "COLUMNS": "160", "LINES": "30"}
    environment |= {} if colours else {"NO_COLOR": "1"}
    watching = subprocess.Popen(
        [PROGRAM, "watch", "align", "assistant", "--until-ready", "-n", world.tenant],
        env=environment,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    shown = b""
    try:
        while b"3/9" not in shown:
            shown += os.read(ours_end, 4096)
        say(world, "AlignmentRun", "assistant", "Ready", "Ready", "Published.", progress="9/9")
        with suppress(OSError):  # the terminal's other end is closed
            while more := os.read(ours_end, 4096):
                shown += more
        assert watching.wait(timeout=20) == 0
    finally:
        watching.kill()
        os.close(ours_end)
    assert b"9/9" in shown
    assert b"All are Ready." in shown
    assert (b"\x1b[32m" in shown) == colours


def test_suspend_and_resume_say_what_they_do(world: World, shell: Shell) -> None:
    say(
        *(world, "PrivateGenerator", "questions", "Reconciling", "Running", "It trains."),
        stages=[train()],
    )
    label = f"PrivateGenerator {world.tenant}/questions"
    told = shell.told("suspend", "pgen", "questions")
    assert told.startswith(f"{label} is suspended: the pod of stage train ends first")
    spec = world.get("pgen", "questions", world.tenant)["spec"]
    assert spec["suspend"] is True
    assert shell.told("suspend", "pgen/questions") == f"{label} is suspended already.\n"
    assert "suspended" in row(shell.told("get", "pgen"), "PrivateGenerator")
    assert shell.told("resume", "pgen", "questions") == f"{label} goes on where it stopped.\n"
    after = world.get("pgen", "questions", world.tenant)["spec"]
    assert after == {**spec, "suspend": False}


def test_programs_are_told_what_was_suspended_and_resumed(world: World, shell: Shell) -> None:
    say(
        *(world, "PrivateGenerator", "questions", "Reconciling", "Running", "It trains."),
        stages=[train()],
    )
    shell.told("suspend", "pgen", "questions")
    generator = {"kind": "PrivateGenerator", "namespace": world.tenant, "name": "questions"}
    run = {"kind": "AlignmentRun", "namespace": world.tenant, "name": "assistant"}
    both = ("pgen/questions", "align/assistant")
    assert json.loads(shell.told("suspend", *both, "-o", "json")) == [
        {**generator, "suspended": True, "changed": False, "running": "train"},
        {**run, "suspended": True, "changed": True},
    ]
    assert world.get("align", "assistant", world.tenant)["spec"]["suspend"] is True
    told = shell.told("resume", "pgen", "questions", "-o", "yaml")
    resumed = {**generator, "suspended": False, "changed": True, "running": "train"}
    assert yaml.safe_load(told) == resumed

    # One that is not there takes nothing from what is told of the others.
    done = shell.run("resume", "align/assistant", "align/none", "-o", "json", "-n", world.tenant)
    assert done.exit_code == 2
    assert json.loads(done.stdout) == [{**run, "suspended": False, "changed": True}]
    assert "no AlignmentRun none in namespace" in done.stderr
    assert "the next sync would undo it" in done.stderr


def pod(world: World, stage: str, attempt: str, index: str, phase: str = "Running") -> str:
    """A stage's pod on the node, as the operator labels it."""
    name = f"questions-{stage}-{attempt}-{index}"
    marks = {
        "palimpsest.dev/kind": "SyntheticDataset",
        "palimpsest.dev/namespace": world.tenant,
        "palimpsest.dev/name": "questions",
        "palimpsest.dev/stage": stage,
        "palimpsest.dev/attempt": attempt,
        "batch.kubernetes.io/job-completion-index": index,
    }
    world.until(
        "the namespace's service account",
        lambda: world.kube.get(f"/api/v1/namespaces/{world.tenant}/serviceaccounts/default"),
    )
    world.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": world.tenant, "labels": marks},
            "spec": {
                "nodeName": NODE,
                "containers": [{"name": "stage", "image": "stage"}],
                "tolerations": [{"operator": "Exists"}],
            },
        }
    )
    world.kube.patch(f"{pods_in(world.tenant, name)}/status", {"status": {"phase": phase}})
    return name


def test_logs_are_found_by_the_operators_labels(
    world: World, shell: Shell, logged: Kubelet
) -> None:
    stages = [{"name": each, "state": "Running"} for each in ("sample", "histogram", "annotate")]
    say(
        *(world, "SyntheticDataset", "questions", "Reconciling", "Running", "It runs."),
        stages=stages,
        budget=world.budget,
    )
    first = pod(world, "sample", "1", "0", "Failed")
    logged.write(first, "an older line")
    logged.write(first, "sampled")
    time.sleep(1.1)  # creation times are whole seconds
    second = pod(world, "sample", "1", "0-again", "Running")
    logged.write(second, "sampled again")
    done = shell.run("logs", "questions", "--stage", "sample", "-n", world.tenant)
    assert (done.exit_code, done.stdout) == (0, "sampled again\nan older line\nsampled\n")
    assert f"==> sample, attempt 1, pod {second} (Running) <==" in done.stderr
    assert shell.told("logs", "synds", "questions", "--tail", "1") == "sampled again\nsampled\n"

    done = shell.run("logs", "synds/questions", "--stage", "histogram", "-n", world.tenant)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "silent by design" in done.stderr
    place = f"s3://private/.palimpsest/{world.mark}/reports/<charge>/<attempt>.json"
    assert place in done.stderr


def test_a_name_that_several_have_is_asked_about(world: World, shell: Shell) -> None:
    stages = {"SyntheticDataset": "sample", "PrivateGenerator": "train", "AlignmentRun": "sft"}
    world.apply(world.alignment_run("questions"))
    for kind, stage in stages.items():
        charged = train() if stage == "train" else {"name": stage, "state": "Running"}
        say(world, kind, "questions", "Reconciling", "Running", "It runs.", stages=[charged])
    done = shell.run("logs", "questions", "-n", world.tenant)
    assert done.exit_code == 2
    assert "say which of syntheticdataset/questions, alignmentrun/questions" in done.stderr
    # Only one of them trains, and its report is told by its charge.
    done = shell.run("logs", "questions", "--stage", "train", "-n", world.tenant)
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"s3://private/.palimpsest/{world.mark}/reports/c-1/<attempt>.json" in done.stderr
    world.kube.delete(ours("AlignmentRun", world.tenant, "questions"))


def test_logs_are_followed_to_their_end(world: World, shell: Shell, logged: Kubelet) -> None:
    stages = [{"name": "annotate", "state": "Running"}]
    say(
        *(world, "SyntheticDataset", "questions", "Reconciling", "Running", "It runs."),
        stages=stages,
    )
    name = pod(world, "annotate", "1", "0", "Pending")
    following = shell.start("logs", "synds/questions", "--stage", "annotate", "-f")
    try:
        assert following.stderr is not None
        assert "has not started yet" in following.stderr.readline()
        logged.write(name, "1 of 9\x1b[2J")
        path = f"{pods_in(world.tenant, name)}/status"
        world.kube.patch(path, {"status": {"phase": "Running"}})
        # What a pod writes does not steer the terminal.
        reading(following, lambda line: line == "1 of 9 [2J\n")
        logged.write(name, "9 of 9")
        reading(following, lambda line: line == "9 of 9\n")
        logged.end()
        assert following.wait(timeout=20) == 0
    finally:
        following.kill()


def test_kubectl_completes_the_plugin(world: World, shell: Shell) -> None:
    """By kubectl itself, which asks kubectl_complete-palimpsest on the PATH."""

    def completed(*words: str) -> list[str]:
        environment = {**shell.environment(), "PATH": f"{PROGRAM.parent}:{shell.path}"}
        done = subprocess.run(
            ["kubectl", "__complete", "palimpsest", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout.splitlines()

    assert completed("get", "-n", world.tenant, "synds", "quest") == ["questions", ":4"]
    assert completed("watch", f"--namespace={world.tenant}", "pgen/") == ["pgen/questions", ":4"]
    assert world.tenant in completed("get", "-n", "tenant-")
    assert completed("budget", world.budget[:-1]) == [world.budget, ":4"]
    assert completed("get", "--context", "pal") == ["palimpsest", ":4"]
