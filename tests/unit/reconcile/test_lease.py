"""Whose the Lease is, whatever the clocks of the nodes say."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes.client import V1Lease, V1LeaseSpec, V1ObjectMeta
from palimpsest.reconcile.adapter.lease import Lease

HOUR = timedelta(hours=1)


class Api:
    """One Lease that `other` holds."""

    def __init__(self, renewed: datetime) -> None:
        spec = V1LeaseSpec(holder_identity="other", renew_time=renewed)
        self.lease = V1Lease(metadata=V1ObjectMeta(name="palimpsest-operator"), spec=spec)

    def read_namespaced_lease(self, *_: Any, **__: Any) -> V1Lease:
        return copy.deepcopy(self.lease)

    def replace_namespaced_lease(self, _name: str, _in: str, to: V1Lease, **_: Any) -> None:
        self.lease = to


class Clock:
    """Our own clock, and what our node takes for the time of day."""

    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("palimpsest.reconcile.adapter.lease.time.monotonic", lambda: made.now)
    return made


@pytest.mark.parametrize("skew", [HOUR, -HOUR, timedelta()])
def test_a_holder_that_is_gone_loses_it_after_its_duration(skew: timedelta, clock: Clock) -> None:
    api = Api(datetime.now(UTC) + skew)
    ours = Lease(api, "palimpsest", "ours")
    for after in (0.0, 5.0, 14.0):
        clock.now = 1000.0 + after
        assert not ours._try()
    clock.now = 1015.0
    assert ours._try()
    assert api.lease.spec.holder_identity == "ours"


@pytest.mark.parametrize("skew", [HOUR, -HOUR])
def test_a_holder_that_renews_keeps_it(skew: timedelta, clock: Clock) -> None:
    api = Api(datetime.now(UTC) + skew)
    ours = Lease(api, "palimpsest", "ours")
    for _ in range(20):
        assert not ours._try()
        clock.now += 10.0
        api.lease.spec.renew_time += timedelta(seconds=10)
    # Another that takes it over has it for as long.
    api.lease.spec.holder_identity = "third"
    assert not ours._try()


def test_one_that_was_given_back_is_taken_at_once(clock: Clock) -> None:
    api = Api(datetime.now(UTC) + HOUR)
    api.lease.spec.holder_identity = None
    assert Lease(api, "palimpsest", "ours")._try()
