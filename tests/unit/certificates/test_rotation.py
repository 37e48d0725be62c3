"""Certificates are replaced so that what a server shows is trusted by whoever calls it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from palimpsest.certificates.rotation import (
    Authority,
    Issue,
    Leaf,
    MakeAuthority,
    Memory,
    Observed,
    Policy,
    Publish,
    Record,
    decide,
    watch,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86400.0
NAMES = frozenset({"palimpsest-admission.system.svc"})
POLICY = Policy(
    names=NAMES,
    authority_life=timedelta(days=3650),
    leaf_life=timedelta(days=90),
    renew_after=2 / 3,
    trust_wait=timedelta(seconds=60),
    retire_wait=timedelta(hours=1),
)
# How long an API server may go by an old caBundle, and a server by an old leaf.
TRUST_LAG, SERVE_LAG = 59.0, 3599.0


@dataclass
class World:
    """The three places, and who still goes by what they held a while ago."""

    time: float = 0.0
    authority: Authority | None = None
    leaf: Leaf | None = None
    recorded: tuple[Authority, ...] = ()
    published: tuple[Authority, ...] = ()
    memory: Memory = field(default_factory=Memory)
    made: int = 0
    bundles: list[tuple[float, tuple[Authority, ...]]] = field(default_factory=list)
    leaves: list[tuple[float, Leaf]] = field(default_factory=list)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.time)

    def step(self) -> bool:
        """One look and one write, checked against everybody's lag."""
        observed = Observed(self.authority, self.leaf, self.recorded, self.published)
        self.memory = watch(self.memory, observed, self.time)
        action = decide(observed, self.memory, POLICY, self.now(), self.time)
        match action:
            case MakeAuthority():
                self.made += 1
                end = self.now() + POLICY.authority_life
                self.authority = Authority(f"ca-{self.made}", self.now(), end)
            case Publish(bundle):
                self.published = bundle
                self.bundles.append((self.time, bundle))
            case Issue(bundle):
                end = self.now() + POLICY.leaf_life
                self.leaf = Leaf(self.authority, NAMES, self.now(), end)
                self.recorded = bundle
                self.leaves.append((self.time, self.leaf))
            case Record(bundle):
                self.recorded = bundle
        self.check()
        return action is not None

    def converge(self) -> None:
        for _ in range(12):
            if not self.step():
                return
        raise AssertionError("it never comes to rest")

    def check(self) -> None:
        for leaf in _in_use(self.leaves, SERVE_LAG, self.time):
            assert leaf.expires > self.now()
            for bundle in _in_use(self.bundles, TRUST_LAG, self.time):
                assert leaf.issuer in bundle


T = TypeVar("T")


def _in_use(history: list[tuple[float, T]], lag: float, time: float) -> list[T]:
    """What was current at some time within the lag."""
    ends = [start for start, _ in history[1:]]
    past = [each for (_, each), end in zip(history, ends, strict=False) if end > time - lag]
    return [*past, *(each for _, each in history[-1:])]


def settled() -> World:
    world = World()
    world.converge()
    return world


def test_a_first_installation_waits_for_nothing() -> None:
    world = settled()
    assert world.time == 0
    assert world.leaf is not None
    assert world.leaf.issuer == world.authority
    assert world.published == world.recorded == (world.authority,)


def test_a_new_ca_is_published_waited_for_used_waited_for_and_alone() -> None:
    world = settled()
    old = world.authority
    world.authority = None
    world.converge()
    new = world.authority
    assert set(world.published) == set(world.recorded) == {old, new}
    assert world.leaf is not None
    assert world.leaf.issuer == old
    world.time += 59
    world.converge()
    assert world.leaf.issuer == old
    world.time += 1
    world.converge()
    assert world.leaf.issuer == new
    assert set(world.published) == {old, new}
    world.time += 3599
    world.converge()
    assert set(world.published) == {old, new}
    world.time += 1
    world.converge()
    assert new is not None
    assert world.published == world.recorded == (new,)


def test_a_leaf_is_replaced_at_two_thirds_of_its_life_under_the_same_ca() -> None:
    world = settled()
    first, authority = world.leaf, world.authority
    world.time += 60 * DAY - 1
    world.converge()
    assert world.leaf == first
    world.time += 2
    world.converge()
    assert world.leaf != first
    assert world.authority == authority


def test_a_wiped_bundle_comes_back_whole() -> None:
    world = settled()
    old = world.authority
    world.authority = None
    world.converge()
    before = world.published
    world.published = ()
    world.converge()
    assert set(world.published) == set(before)
    assert old in world.published


def test_a_restart_begins_the_wait_anew() -> None:
    world = settled()
    old = world.authority
    world.authority = None
    world.converge()
    world.time += 59
    world.memory = Memory()
    world.converge()
    world.time += 59
    world.converge()
    assert world.leaf is not None
    assert world.leaf.issuer == old


EVENTS = st.lists(
    st.one_of(
        st.just("step"),
        st.just("crash"),
        st.just("lose authority"),
        st.just("lose leaf"),
        st.floats(0.5, 120),
        st.floats(1000, 5000),
        st.floats(DAY, 20 * DAY),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(EVENTS)
def test_in_every_order_of_crashes_and_losses_what_is_shown_is_trusted(
    events: list[str | float],
) -> None:
    world = settled()
    for event in events:
        match event:
            case "step":
                world.step()
            case "crash":
                world.memory = Memory()
            case "lose authority":
                world.authority = None
            case "lose leaf":
                # Its record goes with it: they are one Secret.
                world.leaf, world.recorded = None, ()
            case float() if event >= DAY:
                # Nobody leaves the operator down for weeks: it looks before and after.
                for _ in range(2):
                    world.converge()
                    world.time += 4000
                world.converge()
                world.time += event
                world.step()
            case float():
                world.time += event
    for _ in range(3):
        world.converge()
        world.time += 4000
    assert world.leaf is not None
    assert world.leaf.issuer == world.authority
    assert world.published == world.recorded == (world.authority,)
