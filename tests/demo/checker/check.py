"""All checks together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.checker import artifacts, journal, quality, receipts
from demo.checker.bucket import Access, Bucket, CheckError


@dataclass(frozen=True)
class Question:
    """What is to be checked; `budget` is the PrivacyBudget as the API server shows it.

    `receipt_keys` are the PEM files of the keys that may sign receipts, by name.
    """

    access: Access
    tenant: Access
    budget: Mapping[str, Any]
    releases: str
    outputs: Sequence[str]
    generator: tuple[str, str]
    dataset: tuple[str, str]
    run: tuple[str, str]
    receipt_keys: Mapping[str, str]
    held_out: Sequence[str]
    private_record: str
    scratch: Path


def check(question: Question) -> dict[str, Any]:
    """The figures. Raises CheckError naming the first thing that does not hold."""
    bucket = Bucket(question.access)
    if Bucket(question.tenant).may_read(question.private_record):
        raise CheckError(f"the tenant's keys open {question.private_record}")
    found = artifacts.find(bucket, [question.releases, *question.outputs])
    wrong = artifacts.verify(bucket, found)
    if wrong:
        raise CheckError("; ".join(wrong))
    replay = journal.audit(bucket, question.budget)
    spent = journal.figures(replay)
    known = {charge["id"] for charge in spent["charges"]}
    unpaid = [a.prefix for a in found if a.manifest.get("charge") not in {None, *known}]
    if unpaid:
        raise CheckError(f"charges that the journal does not know paid for {', '.join(unpaid)}")
    signed = receipts.audit(
        bucket,
        [artifact for artifact in found if artifact.prefix.startswith(question.releases)],
        receipts.public_keys(question.receipt_keys),
        {name: {"state": c.state, "cost": c.cost} for name, c in replay.charges.items()},
        replay.digests,
    )
    chain = quality.chain(found, question.generator, question.dataset, question.run)
    return {
        "artifacts": {
            "count": len(found),
            "files": sum(len(artifact.manifest["files"]) for artifact in found),
            "wrong": wrong,
        },
        "journal": spent,
        "receipts": signed,
        "quality": quality.measure(bucket, chain, question.held_out, question.scratch),
    }
