"""The policies one by one: what may happen to a stage, and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from palimpsest.api.common import StageStatus
from palimpsest.api.outcomes import Outcome
from palimpsest.ledger.entries import Subject
from palimpsest.ledger.state import Charge
from palimpsest.privacy.mechanisms import DiscreteGaussian
from palimpsest.reconcile.observed import Job, Pod
from palimpsest.reconcile.policies import attempts, blockage, deadlines, queueing, ttl
from unit.reconcile.failed import NOW, failed

ENDED = NOW - timedelta(seconds=10)
FAILED = failed(ended_at=ENDED, compute="given")


def ended_as(outcome: Outcome | None, **changes: Any) -> Job:
    pod = Pod("p", "Failed", outcome, None)
    return replace(FAILED, pods=(pod,), **changes)


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - attempts.PAUSES.keys()))
def test_the_programs_own_failure_is_not_tried_again(outcome: Outcome) -> None:
    assert attempts.retry_at(ended_as(outcome), "given") is None


@pytest.mark.parametrize("outcome", attempts.PAUSES)
def test_a_cause_outside_the_program_is_tried_again_after_a_pause(outcome: Outcome) -> None:
    at = attempts.retry_at(ended_as(outcome), "given")
    assert at is not None
    assert at > ENDED


def test_a_disruption_is_tried_again_at_once_and_a_silent_failure_never() -> None:
    assert attempts.retry_at(ended_as(None, failure="Disrupted"), "given") == ENDED
    assert attempts.retry_at(ended_as(None), "given") is None


def test_what_failed_is_tried_again_once_its_pods_would_be_given_something_else() -> None:
    job = ended_as(Outcome.OUT_OF_RESOURCES)
    assert attempts.retry_at(job, "more memory") == ENDED
    # A Job of an older version of the operator says nothing about it.
    assert attempts.retry_at(replace(job, compute=""), "more memory") is None


def charge(status: Any) -> Charge:
    return Charge(
        id="c",
        status=status,
        cost=1,
        subject=Subject(cluster="c", namespace="n", kind="PrivateGenerator", name="g"),
        task_digest="",
        mechanism=DiscreteGaussian.model_validate({"noiseMultiplier": "10"}),
        restarts=0,
        block_steps=1,
        reserved=1,
        reserved_at="2026-01-01T10:00:00.000000Z",
    )


def test_a_reservation_expires_only_if_nothing_began() -> None:
    two = timedelta(hours=2)
    waiting = replace(FAILED, state="Active", pods=(Pod("p", "Pending", None, None),))
    running = replace(FAILED, state="Active", pods=(Pod("p", "Running", None, None),))
    assert deadlines.expired(charge("reserved"), None, two, NOW)
    assert deadlines.expired(charge("reserved"), waiting, two, NOW)
    assert not deadlines.expired(charge("reserved"), None, two, NOW - timedelta(seconds=1))
    assert not deadlines.expired(charge("reserved"), running, two, NOW)
    for status in ("started", "committed", "released"):
        assert not deadlines.expired(charge(status), waiting, two, NOW)


def test_only_succeeded_jobs_past_their_time_are_deleted() -> None:
    done = replace(FAILED, state="Succeeded")
    ends, due = ttl.finished((done, FAILED), 10, NOW)
    assert [end.name for end in ends] == ["j"]
    assert due is None
    assert ttl.finished((done,), 15, NOW) == ((), 5.0)
    assert ttl.finished((done,), None, NOW) == ((), None)
    assert ttl.finished((replace(done, deleting=True),), 0, NOW) == ((), None)


def test_a_stage_keeps_its_jobs_name_and_times_when_the_job_is_gone() -> None:
    before = StageStatus(name="card", state="Succeeded", job="card-1", start_time="a")
    now = StageStatus(name="card", state="Succeeded")
    assert ttl.remembered(now, [before]).job == "card-1"
    other = StageStatus(name="card", state="Running")
    assert ttl.remembered(other, [before]) == other
    assert ttl.remembered(now, []) == now


def test_a_queued_job_is_made_suspended_and_labelled() -> None:
    plain = {"metadata": {"labels": {"a": "b"}}, "spec": {"completions": 1}}
    assert queueing.queued(plain, None) == plain
    queued = queueing.queued(plain, "gpus")
    assert queued["metadata"]["labels"] == {"a": "b", "kueue.x-k8s.io/queue-name": "gpus"}
    assert queued["spec"] == {"completions": 1, "suspend": True}


def event(reason: str, message: str) -> dict[str, str]:
    return {"reason": reason, "message": message}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (blockage.container("ErrImagePull", "x"), "ImagePullBackOff"),
        (blockage.container("ErrImageNeverPull", "x"), "ImagePullBackOff"),
        (
            blockage.container("CreateContainerConfigError", 'secret "k" not found'),
            "SecretNotFound",
        ),
        (blockage.container("CreateContainerError", "x"), "ContainerNotCreated"),
        (blockage.unschedulable("0/1 nodes are available"), "Unschedulable"),
        (
            blockage.mounting([event("FailedMount", 'MountVolume: secret "k" not found')]),
            "SecretNotFound",
        ),
        (blockage.mounting([event("FailedMount", "timed out")]), "VolumeNotMounted"),
        (
            blockage.creating([event("FailedCreate", "forbidden: exceeded quota: q")]),
            "QuotaExceeded",
        ),
        (
            blockage.creating([event("FailedCreate", 'serviceaccount "x" not found')]),
            "ServiceAccountNotFound",
        ),
        (blockage.creating([event("FailedCreate", "violates PodSecurity")]), "PodsRefused"),
    ],
)
def test_each_cause_has_its_reason_and_a_remedy(said: tuple[str, str] | None, reason: str) -> None:
    assert said is not None
    assert said[0] == reason
    assert "Remedy: " in said[1]


def test_a_container_that_only_starts_is_no_trouble() -> None:
    assert blockage.container("ContainerCreating", "") is None
    assert blockage.mounting([event("Pulled", "x")]) is None
    assert blockage.creating([]) is None
