"""A stage's Job: what custody's pods are given, and what a Job's status is read as."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from palimpsest.api.budget import Custodian
from palimpsest.api.common import Compute, PrivateCompute, ResourceRequirements
from palimpsest.api.outcomes import Outcome
from palimpsest.api.task import (
    TRACE_VARIABLE,
    UID_VARIABLE,
    HistogramParameters,
    MountedKeys,
    Output,
    SampleParameters,
    StoreAccess,
    Subject,
    Task,
    WebIdentity,
)
from palimpsest.reconcile import jobs
from palimpsest.reconcile.observed import Meta, Settings
from palimpsest.telemetry.logs import LEVEL_VARIABLE

META = Meta("SyntheticDataset", "assistants", "questions", "uid-1", 1, deleting=False)
SETTINGS = Settings(stage_image="stage@sha256:" + "0" * 64, cluster="c1")
STORE = StoreAccess(
    endpoint="http://s3", region="r", path_style=True, credentials=MountedKeys(secret="keys")
)
HISTOGRAM = HistogramParameters(records=100, noise_multiplier="10", restarts=5)
SAMPLE = SampleParameters(
    count=10, shards=3, batch_size=2, temperature="1.0", top_p="0.9", max_length=8
)


def task(parameters: Any) -> Task:
    return Task(
        subject=Subject(namespace="assistants", kind="SyntheticDataset", name="questions"),
        parameters=parameters,
        stores={"one": STORE, "two": STORE},
        inputs={},
        output=Output(store="one", uri="s3://b/p/"),
    )


def job(parameters: Any, custodian: Custodian | None, compute: Compute | None = None) -> Any:
    return jobs.manifest(
        META, task(parameters), "sha256:" + "ab" * 32, compute or Compute(), SETTINGS, custodian, 2
    )


def test_private_job_is_in_custody_without_owner_reference_or_token() -> None:
    made = job(HISTOGRAM, Custodian(namespace="custody"))
    pod = made["spec"]["template"]["spec"]
    assert made["metadata"]["namespace"] == "custody"
    assert "ownerReferences" not in made["metadata"]
    assert made["spec"]["backoffLimit"] == 0
    assert [rule["action"] for rule in made["spec"]["podFailurePolicy"]["rules"]] == ["FailJob"] * 3
    assert pod["serviceAccountName"] == "private-data"
    assert pod["automountServiceAccountToken"] is False
    assert pod["containers"][0]["image"] == SETTINGS.stage_image


def test_public_job_is_owned_sharded_and_retried_by_index() -> None:
    made = job(SAMPLE, None)
    assert made["metadata"]["namespace"] == "assistants"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
    assert (made["spec"]["completions"], made["spec"]["backoffLimitPerIndex"]) == (3, 3)
    # backoffLimit would cancel the limit by index.
    assert "backoffLimit" not in made["spec"]


def test_logs_outside_custody_bear_uid_and_trace_and_another_trace_is_no_other_job() -> None:
    def made(trace: str, custodian: Custodian | None = None) -> Any:
        meta = replace(META, trace_id=trace)
        told = replace(SETTINGS, log_level="debug")
        one = HISTOGRAM if custodian else SAMPLE
        return jobs.manifest(meta, task(one), "sha256:" + "ab" * 32, Compute(), told, custodian, 1)

    def variables(one: Any) -> dict[str, Any]:
        (container,) = one["spec"]["template"]["spec"]["containers"]
        return {each["name"]: each.get("value") for each in container["env"]}

    first, later = made("0a"), made("0b")
    told = {UID_VARIABLE: "uid-1", TRACE_VARIABLE: "0a", LEVEL_VARIABLE: "debug"}
    assert told.items() <= variables(first).items()
    assert variables(later)[TRACE_VARIABLE] == "0b"
    assert jobs.asked(first) == jobs.asked(later)
    assert TRACE_VARIABLE not in variables(made(""))
    assert not told.keys() & variables(made("0a", Custodian(namespace="custody"))).keys()


def test_pods_pass_the_restricted_pod_security_profile() -> None:
    pod = job(SAMPLE, None)["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_keys_are_mounted_once_a_secret_and_never_in_the_environment() -> None:
    pod = job(SAMPLE, None)["spec"]["template"]["spec"]
    secrets = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
    assert secrets == ["keys"]
    assert all("secretKeyRef" not in str(item) for item in pod["containers"][0]["env"])


def test_compute_reaches_the_pod() -> None:
    compute = Compute(
        resources=ResourceRequirements(limits={"nvidia.com/gpu": "1"}),
        node_selector={"zone": "a"},
        priority_class_name="low",
    )
    custodian = Custodian.model_validate(
        {"namespace": "custody", "compute": {"nodeSelector": {"zone": "safe"}}}
    )
    pod = job(HISTOGRAM, custodian, compute)["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert pod["priorityClassName"] == "low"
    # The custodian's word on where private pods run is the last.
    assert pod["nodeSelector"] == {"zone": "safe"}


@pytest.mark.parametrize("name", ["a", "q" * 63, "ends-with-dash-" * 4])
def test_names_are_short_and_differ_by_attempt(name: str) -> None:
    first = jobs.job_name(name, "histogram", "sha256:" + "ab" * 32, 1)
    second = jobs.job_name(name, "histogram", "sha256:" + "ab" * 32, 2)
    assert len(first) <= 52
    assert first != second
    assert first[0].isalnum()
    assert first[-1].isalnum()


@pytest.mark.parametrize("name", ["a", "q" * 63, "a.b" * 21])
def test_every_attempt_is_found_by_what_all_attempts_share(name: str) -> None:
    digest = "sha256:" + "ab" * 32
    shared = jobs.job_name(name, "histogram", digest) + "-"
    names = [jobs.job_name(name, "histogram", digest, attempt) for attempt in range(1, 12)]
    assert len(set(names)) == 11
    assert all(one.startswith(shared) and len(one) <= 52 for one in names)
    assert not any(one.startswith(shared) for one in (jobs.job_name(name, "train", digest, 1),))


def observed(condition: dict[str, str] | None, **spec: Any) -> Any:
    return jobs.observe_job(
        {
            "metadata": {"namespace": "n", "name": "j", "labels": {jobs.LABEL_STAGE: "train"}},
            "spec": spec,
            "status": {"conditions": [condition] if condition else []},
        },
        (),
    )


@pytest.mark.parametrize(
    ("message", "failure"),
    [
        ("Pod default/x matching FailJob rule at index 0", "Disrupted"),
        ("Container stage for pod c/p failed with exit code 75 ... rule at index 1", "Retryable"),
        ("Container stage failed with exit code 70 matching FailJob rule at index 2", "Program"),
        ("Job has reached the specified backoff limit", "Program"),
        ("", "Program"),
    ],
)
def test_the_failure_is_read_from_the_rule_that_matched(message: str, failure: str) -> None:
    seen = observed({"type": "Failed", "status": "True", "message": message})
    assert (seen.state, seen.failure) == ("Failed", failure)


def test_outside_custody_the_rules_are_others() -> None:
    message = "failed with exit code 70 matching FailJob rule at index 1"
    failed = {"type": "Failed", "status": "True", "message": message}
    assert observed(failed, backoffLimitPerIndex=3).failure == "Program"


def test_a_condition_that_is_not_true_is_no_condition() -> None:
    assert observed({"type": "Failed", "status": "False"}).state == "Active"
    assert observed({"type": "Complete", "status": "True"}).state == "Succeeded"


@pytest.mark.parametrize(
    ("terminated", "outcome"),
    [
        ({"message": '{"outcome": "StoreUnavailable"}'}, Outcome.STORE_UNAVAILABLE),
        ({"message": "patient zero said Completed"}, None),
        ({"message": '{"outcome": "SomethingElse"}'}, None),
        ({"message": "[1]"}, None),
        ({"reason": "OOMKilled", "message": ""}, Outcome.OUT_OF_RESOURCES),
        # Its node came back from a reboot, without the container.
        ({"reason": "Unknown", "exitCode": 255}, Outcome.INTERRUPTED),
        ({"reason": "ContainerStatusUnknown", "exitCode": 137}, Outcome.INTERRUPTED),
        # What the program said before counts.
        (
            {"reason": "Unknown", "exitCode": 255, "message": '{"outcome": "Diverged"}'},
            Outcome.DIVERGED,
        ),
        # That is the program's own end.
        ({"reason": "Error", "exitCode": 255}, None),
        ({}, None),
    ],
)
def test_only_words_of_the_closed_set_are_read(terminated: Any, outcome: Outcome | None) -> None:
    assert jobs.parse_outcome(terminated) == outcome


def test_a_token_is_projected_once_an_audience_and_beside_secrets() -> None:
    role = WebIdentity(role_arn="arn:aws:iam::1:role/r", audience="sts.test", token_endpoint=None)
    other = role.model_copy(update={"role_arn": "arn:aws:iam::1:role/s"})
    stores = {
        "keys": STORE,
        "one": STORE.model_copy(update={"credentials": role}),
        "two": STORE.model_copy(update={"credentials": other}),
    }
    given = task(SAMPLE).model_copy(update={"stores": stores})
    made = jobs.manifest(META, given, "sha256:" + "0" * 64, Compute(), SETTINGS, None, 1)
    pod = made["spec"]["template"]["spec"]
    assert [volume for volume in pod["volumes"] if volume["name"].startswith("store-")] == [
        {
            "name": "store-0",
            "projected": {
                "defaultMode": 0o440,
                "sources": [
                    {
                        "serviceAccountToken": {
                            "audience": "sts.test",
                            "expirationSeconds": 3600,
                            "path": "token",
                        }
                    }
                ],
            },
        },
        {"name": "store-1", "secret": {"secretName": "keys", "defaultMode": 0o440}},
    ]
    mounts = [m for m in pod["containers"][0]["volumeMounts"] if m["name"].startswith("store-")]
    assert [mount["mountPath"].rpartition("/")[2] for mount in mounts] == [role.folder, "keys"]
    assert not pod["automountServiceAccountToken"]


PLACED = Compute.model_validate(
    {
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
                    ]
                },
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 10,
                        "preference": {"matchExpressions": [{"key": "ssd", "operator": "Exists"}]},
                    }
                ],
            }
        },
        "topologySpreadConstraints": [{"topologyKey": "kubernetes.io/hostname"}],
        "schedulerName": "packer",
    }
)


def test_outside_custody_pods_go_where_they_are_sent_and_lie_apart() -> None:
    made = job(SAMPLE, None, PLACED)
    pod = made["spec"]["template"]["spec"]
    nodes = pod["affinity"]["nodeAffinity"]
    required = nodes["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert required == [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]
    (preferred,) = nodes["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["weight"] == 10
    assert pod["schedulerName"] == "packer"
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    # From one another: not from whatever else a tenant runs there.
    marks = made["spec"]["template"]["metadata"]["labels"]
    assert spread["labelSelector"] == {"matchLabels": marks}


def test_in_custody_nothing_of_that_can_be_said() -> None:
    pod = job(HISTOGRAM, Custodian(namespace="custody"), PLACED)["spec"]["template"]["spec"]
    assert {"affinity", "topologySpreadConstraints", "schedulerName"} & set(pod) == set()
    private = set(PrivateCompute.model_fields)
    assert {"affinity", "topology_spread_constraints", "scheduler_name", "cache"} & private == set()


def test_a_change_of_place_is_worth_another_attempt() -> None:
    assert jobs.compute_digest(PLACED, None) != jobs.compute_digest(Compute(), None)


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ('Usage of EmptyDir volume "scratch" exceeds the limit "1Gi". ', Outcome.OUT_OF_RESOURCES),
        (
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
            Outcome.OUT_OF_RESOURCES,
        ),
        (
            'Container stage exceeded its local ephemeral storage limit "1Gi". ',
            Outcome.OUT_OF_RESOURCES,
        ),
        ("The node was low on resource: ephemeral-storage. ", Outcome.INTERRUPTED),
    ],
)
def test_a_pod_evicted_for_its_own_files_ran_out_of_room(message: str, outcome: Outcome) -> None:
    told = {"terminated": {"message": '{"outcome": "Interrupted"}', "exitCode": 75}}
    pod = {
        "metadata": {"name": "one"},
        "status": {
            "phase": "Failed",
            "reason": "Evicted",
            "message": message,
            "containerStatuses": [{"state": told}],
        },
    }
    assert jobs.observe_pod(pod).outcome == outcome
