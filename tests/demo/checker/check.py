"""All checks together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.checker import artifacts, journal, quality
from demo.checker.bucket import Access, Bucket, CheckError


@dataclass(frozen=True)
class Question:
    """What is to be checked; `budget` is the PrivacyBudget as the API server shows it."""

    access: Access
    tenant: Access
    budget: Mapping[str, Any]
    releases: str
    outputs: Sequence[str]
    generator: tuple[str, str]
    dataset: tuple[str, str]
    run: tuple[str, str]
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
    spent = journal.audit(bucket, question.budget)
    known = {charge["id"] for charge in spent["charges"]}
    unpaid = [a.prefix for a in found if a.manifest.get("charge") not in {None, *known}]
    if unpaid:
        raise CheckError(f"charges that the journal does not know paid for {', '.join(unpaid)}")
    chain = quality.chain(found, question.generator, question.dataset, question.run)
    return {
        "artifacts": {
            "count": len(found),
            "files": sum(len(artifact.manifest["files"]) for artifact in found),
            "wrong": wrong,
        },
        "journal": spent,
        "quality": quality.measure(bucket, chain, question.held_out, question.scratch),
    }
