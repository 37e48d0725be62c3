"""The bucket policies name exactly the accounts and paths that they mean."""

from __future__ import annotations

import json

import pytest
from cluster import policies

KEYS = {name: f"{name}-key" for name in ("root", *policies.ACCOUNTS)}


@pytest.mark.parametrize("bucket", policies.BUCKETS)
def test_no_policy_speaks_to_everyone_or_of_another_bucket(bucket: str) -> None:
    document = json.loads(json.dumps(policies.policy(bucket, KEYS)))
    for statement in document["Statement"]:
        assert set(statement["Principal"]["AWS"]) < set(KEYS.values())
        assert all(
            resource.startswith(f"arn:aws:s3:::{bucket}") for resource in statement["Resource"]
        )
        assert not any("*" in action for action in statement["Action"])


def test_the_tenant_is_not_mentioned_in_the_private_bucket() -> None:
    assert "tenant" not in json.dumps(policies.policy("private", KEYS))


def test_the_operator_sees_only_the_journal_of_the_private_bucket() -> None:
    document = json.loads(json.dumps(policies.policy("private", KEYS)))
    mine = [s for s in document["Statement"] if s["Principal"]["AWS"] == ["operator-key"]]
    assert [s["Resource"] for s in mine] == [["arn:aws:s3:::private/.palimpsest/*/ledger/*"]]
