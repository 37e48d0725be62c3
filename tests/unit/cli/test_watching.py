"""What a live view makes of the news, and when waiting is over."""

import threading
from collections.abc import Iterator
from typing import Any

import click
import pytest
from palimpsest.api.alignment import AlignmentRun
from palimpsest.api.crd import Resource
from palimpsest.api.dataset import SyntheticDataset
from palimpsest.cli.connection import Connection
from palimpsest.cli.errors import GoneError
from palimpsest.cli.kinds import Wanted, kind_of, wanted
from palimpsest.cli.reading import Scope
from palimpsest.cli.standing import standing
from palimpsest.cli.watching import Changed, Listed, View, ended, news
from unit.cli.test_standing import NOW, condition, manifest


def resource(name: str, kind: str = "SyntheticDataset") -> dict[str, Any]:
    raw = manifest(kind)
    raw["metadata"]["name"] = name
    return raw


def test_a_view_follows_lists_and_changes() -> None:
    view = View(wanted([]))
    view.take(Listed(SyntheticDataset, [resource("a"), resource("b")]))
    view.take(Changed("ADDED", resource("c", "AlignmentRun")))
    view.take(Changed("DELETED", resource("a")))
    assert [key[2] for key in view.resources] == ["b", "c"]
    # A new list forgets what went unseen meanwhile, of its own kind alone.
    view.take(Listed(SyntheticDataset, [resource("d")]))
    assert sorted(key[2] for key in view.resources) == ["c", "d"]


def test_a_view_is_complete_when_every_kind_was_listed_or_given_up() -> None:
    view = View((Wanted(SyntheticDataset), Wanted(AlignmentRun)))
    view.take(Listed(SyntheticDataset, []))
    assert not view.complete
    view.give_up(AlignmentRun)
    assert view.complete


def test_only_what_is_named_is_in_view_and_what_is_missing_is_known() -> None:
    view = View((Wanted(SyntheticDataset, ("a", "b")),))
    view.take(Listed(SyntheticDataset, [resource("a"), resource("c")]))
    view.take(Changed("MODIFIED", resource("c")))
    assert [key[2] for key in view.resources] == ["a"]
    assert view.absent() == ["SyntheticDataset/b"]


@pytest.mark.parametrize(
    ("states", "end"),
    [
        (["Ready", "Ready"], "Ready"),
        (["Ready", "Reconciling"], ""),
        (["Ready", "Stalled"], "Stalled"),
        (["Reconciling", "Stalled"], "Stalled"),
    ],
)
def test_waiting_ends_when_all_are_ready_or_one_is_stalled(states: list[str], end: str) -> None:
    found = [
        standing(
            manifest(
                conditions=[
                    condition("Ready", str(state == "Ready")),
                    condition("Stalled", str(state == "Stalled")),
                ]
            ),
            NOW,
        )
        for state in states
    ]
    assert ended(found) == end


class Forgetful(Connection):
    """An API server that has forgotten the version that it gave first."""

    def __init__(self) -> None:
        self.lists = 0

    def listed(self, kind: Resource, namespace: str) -> dict[str, Any]:  # noqa: ARG002
        self.lists += 1
        items = [resource(f"in-list-{self.lists}")]
        return {"metadata": {"resourceVersion": str(self.lists)}, "items": items}

    def events(
        self,
        kind: Resource,  # noqa: ARG002
        namespace: str,  # noqa: ARG002
        version: str,
    ) -> Iterator[dict[str, Any]]:
        if version == "1":
            raise GoneError("too old")
        changed = resource("changed")
        changed["metadata"]["resourceVersion"] = "3"
        yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "2"}}}
        yield {"type": "MODIFIED", "object": changed}
        threading.Event().wait()


def test_a_version_that_is_too_old_begins_a_new_list() -> None:
    view = View((Wanted(SyntheticDataset),))
    told = news(Scope(Forgetful(), "assistants"), view.wanted)
    while len(view.resources) < 2:
        one = next(told)
        if isinstance(one, Listed | Changed):
            view.take(one)
    assert sorted(key[2] for key in view.resources) == ["changed", "in-list-2"]


@pytest.mark.parametrize("text", ["synds", "SyntheticDataset", "syntheticdatasets.palimpsest.dev"])
def test_kinds_go_by_all_their_names(text: str) -> None:
    assert kind_of(text) is SyntheticDataset


def test_names_of_several_kinds_are_put_together() -> None:
    found = wanted(["synds/a", "align/b", "synds/c", "synds/a"])
    assert found == (Wanted(SyntheticDataset, ("a", "c")), Wanted(AlignmentRun, ("b",)))
    assert wanted(["synds", "a", "b"]) == (Wanted(SyntheticDataset, ("a", "b")),)
    assert len(wanted([])) == 4


@pytest.mark.parametrize("arguments", [["pods"], ["synds/"], ["synds/a", "align"], ["/a"]])
def test_what_names_nothing_is_refused(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError):
        wanted(arguments)
