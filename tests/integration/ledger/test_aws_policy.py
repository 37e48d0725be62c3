"""The policies that the documentation gives for AWS are enough there.

A real store, and before it what sets AWS apart: it evaluates such a policy, and tells who may not
list a bucket that an object which is not there is denied.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest
from cluster.fixtures import ObjectStore
from faults.behaviour import refused
from faults.proxy import Call, Exchange, Fault, Rule, passed
from integration.ledger.ground import Lane, lane, opened
from palimpsest.ledger import Journal
from palimpsest.storage import AccessDenied, NotFound
from unit.docs.pages import DOCS, blocks
from unit.ledger.folder_store import subject, task, training

Json = dict[str, Any]
PAGE = DOCS / "how-to" / "workload-identity.md"
ACTIONS = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject"}
DENIED = refused(403, "AccessDenied")


def policies() -> Iterator[list[Json]]:
    """What each policy of the page allows: the custodian's, then the operator's."""
    for block in blocks(PAGE):
        statements = json.loads(block.text)["Statement"] if block.language == "json" else []
        if all("Resource" in each for each in statements) and statements:
            yield statements


CUSTODIAN, OPERATOR = policies()


def allows(policy: list[Json], action: str, resource: str) -> bool:
    """IAM's evaluation, as far as the page's policies need it."""

    def listed(named: str | list[str]) -> list[str]:
        return [named] if isinstance(named, str) else named

    return any(
        action in listed(statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
        for statement in policy
        if statement["Effect"] == "Allow"
    )


async def hidden(exchange: Exchange) -> None:
    """Nobody learns from AWS that an object is not there who may not list the bucket."""
    answer = await exchange.forward()
    await (DENIED(exchange) if answer.first[1] == "404" else exchange.answer(answer.bytes))


def on_aws(policy: list[Json]) -> Rule:
    """Calls as AWS takes them, of a role with this policy."""

    def rule(call: Call) -> Fault:
        bucket, _, key = call.path.lstrip("/").partition("/")
        # The page's buckets are named for their owner.
        at = f"arn:aws:s3:::acme-{bucket}"
        if not allows(policy, ACTIONS[call.method], f"{at}/{key}"):
            return DENIED
        return passed if allows(policy, "s3:ListBucket", at) else hidden

    return rule


@pytest.fixture
def ours(object_store: ObjectStore) -> Iterator[Lane]:
    """The operator's client, under the operator's policy."""
    with lane(object_store) as through:
        through.proxy.watch(on_aws(OPERATOR))
        yield through


def test_the_operator_keeps_a_journal(ours: Lane, object_store: ObjectStore) -> None:
    prefix = f"aws/{secrets.token_hex(4)}"
    charge = opened(ours.store, prefix).reserve(subject("g"), task(), training())
    uri = f"s3://private/{prefix}/"
    assert charge.id in Journal(ours.store, uri).refresh().charges
    with lane(object_store, "custodian") as theirs:
        theirs.proxy.watch(on_aws(CUSTODIAN))
        journal = Journal(theirs.store, uri)
        journal.refresh()
        journal.start(charge.id, 1)
    assert Journal(ours.store, uri).refresh().charges[charge.id].attempts == 1


def test_the_operator_reads_no_record_and_learns_which_release_is_not_there(ours: Lane) -> None:
    with pytest.raises(AccessDenied):
        ours.store.get("s3://private/support-chat/part-0000.jsonl")
    with pytest.raises(NotFound):
        ours.store.get(f"s3://releases/{secrets.token_hex(4)}/receipt.json")


def test_without_the_right_to_list_no_journal_is_read(ours: Lane) -> None:
    """Or AWS is not what stands before the store here."""
    blind = [each for each in OPERATOR if each["Action"] != "s3:ListBucket"]
    ours.proxy.watch(on_aws(blind))
    with pytest.raises(AccessDenied, match="may list it"):
        opened(ours.store, f"aws/{secrets.token_hex(4)}")
