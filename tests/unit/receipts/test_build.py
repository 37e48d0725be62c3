"""What a receipt says: what was released, what paid for it, what may be claimed; nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from palimpsest import __version__
from palimpsest.api.task import sha256_digest
from palimpsest.ledger import LedgerState
from palimpsest.receipts import ReceiptInvalid
from palimpsest.receipts.build import Released, charge, statement
from palimpsest.receipts.place import receipt_uri
from palimpsest.receipts.statement import SPENT_LABEL
from unit.ledger.folder_store import HISTOGRAM, URI, subject, task
from unit.receipts.ground import MANIFEST, NOW, PREFIX, SPENT, Paid, paid

# Every path of a statement's JSON. What is not here does not leave: no count of records seen, no
# realised batch, no loss, no digest of a private input.
PATHS = {
    "_type",
    "predicateType",
    "subject[].name",
    "subject[].digest.sha256",
    "predicate.attestations[]",
    "predicate.budget.gate.kind",
    "predicate.budget.gate.order",
    "predicate.budget.journal",
    "predicate.budget.limit.delta",
    "predicate.budget.limit.epsilon",
    "predicate.budget.name",
    "predicate.budget.privacyUnit",
    "predicate.budget.records",
    "predicate.budget.textField",
    "predicate.charges[].basis",
    "predicate.charges[].blockSteps",
    "predicate.charges[].commitSequence",
    "predicate.charges[].cost",
    "predicate.charges[].id",
    "predicate.charges[].mechanism.batch",
    "predicate.charges[].mechanism.kind",
    "predicate.charges[].mechanism.noiseMultiplier",
    "predicate.charges[].mechanism.records",
    "predicate.charges[].mechanism.steps",
    "predicate.charges[].restarts",
    "predicate.charges[].share",
    "predicate.charges[].startSequence",
    "predicate.guarantee",
    "predicate.journalHead.digest",
    "predicate.journalHead.sequence",
    "predicate.operator.version",
    "predicate.release.kind",
    "predicate.release.manifest.digest",
    "predicate.release.manifest.uri",
    "predicate.release.name",
    "predicate.release.namespace",
    "predicate.spent.delta",
    "predicate.spent.epsilonPLD",
    "predicate.spent.epsilonRDP",
    "predicate.spent.label",
    "predicate.spent.orderRDP",
    "predicate.time",
}


@pytest.fixture
def world(tmp_path: Path) -> Paid:
    return paid(tmp_path)


def paths(value: Any, at: str = "") -> set[str]:
    if isinstance(value, dict):
        return set().union(*(paths(item, f"{at}.{key}".lstrip(".")) for key, item in value.items()))
    if isinstance(value, list):
        return set().union(*(paths(item, f"{at}[]") for item in value))
    return {at}


def test_it_carries_the_allowed_fields_alone(world: Paid) -> None:
    assert paths(json.loads(world.statement().to_bytes())) == PATHS


def test_it_names_the_release_its_charge_and_what_may_be_claimed(world: Paid) -> None:
    made = world.statement()
    files = [each.name.removeprefix(PREFIX) for each in made.subject]
    assert files == ["manifest.json", "attempts/1-x/adapter_model.safetensors"]
    digests = ["sha256:" + each.digest.sha256 for each in made.subject]
    assert digests == [sha256_digest(world.released.manifest), sha256_digest(b"adapter")]
    predicate = made.predicate
    assert (predicate.release.kind, predicate.release.namespace, predicate.release.name) == (
        "PrivateGenerator",
        "team-a",
        "generator",
    )
    (one,) = predicate.charges
    known = world.ledger.charge(world.charge)
    assert (one.id, one.cost, one.basis) == (world.charge, known.cost, "completed")
    # open, reserve, start, three intents, commit.
    assert (one.start_sequence, one.commit_sequence) == (2, 6)
    assert world.ledger.head is not None
    assert predicate.journal_head.sequence == world.ledger.head.sequence == 6
    assert predicate.journal_head.digest == world.ledger.head.digest
    assert predicate.budget.journal == URI
    assert predicate.guarantee == (
        "Everything ever released from PrivacyBudget chat is (epsilon 8, delta 1e-5)-"
        "differentially private with respect to adding or removing one record."
    )
    assert predicate.spent.label == SPENT_LABEL
    assert SPENT_LABEL == "valid if charge parameters were chosen without seeing earlier releases"
    assert any("single source" in each for each in predicate.attestations)


def test_what_is_not_paid_for_gets_no_receipt(world: Paid, tmp_path: Path) -> None:
    unpaid = paid(tmp_path / "other", committed=False)
    with pytest.raises(ReceiptInvalid, match="not committed in the journal"):
        unpaid.statement()
    with pytest.raises(ReceiptInvalid, match="the journal is not open"):
        replace_ledger(world, LedgerState())
    given_back = world.journal.reserve(subject("second"), task(1), HISTOGRAM).id
    world.journal.release(given_back, "unneeded")
    with pytest.raises(ReceiptInvalid, match="not committed"):
        charge(world.ledger, given_back)


def replace_ledger(world: Paid, ledger: LedgerState) -> None:
    statement(ledger, [world.charge], world.released, "chat", SPENT, NOW, "0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"charge": "sha256:" + "0" * 64}, "paid for by another charge"),
        ({"charge": None}, "paid for by another charge"),
        ({"task": "sha256:" + "0" * 64}, "made by another task"),
        ({"subject": {"namespace": "a", "kind": "b", "name": "c"}}, "made for another resource"),
        (
            {"files": [{"path": "a b", "digest": "sha256:" + "0" * 64, "size": 1}]},
            r"name: .*pattern",
        ),
        ({"records": 15_000}, "not a manifest"),
    ],
)
def test_a_manifest_that_says_otherwise_gets_none(
    world: Paid, change: dict[str, Any], message: str
) -> None:
    altered = json.dumps({**json.loads(world.released.manifest), **change}).encode()
    with pytest.raises(ReceiptInvalid, match=message):
        statement(
            world.ledger,
            [world.charge],
            Released(MANIFEST, altered),
            "chat",
            SPENT,
            NOW,
            "0",
        )


def test_it_lies_beside_the_manifest() -> None:
    assert receipt_uri(MANIFEST) == f"{PREFIX}receipt.json"
    for wrong in ("s3://releases/x.json", "manifest.json", "s3://releases/my-manifest.json"):
        with pytest.raises(ValueError, match="not the URI of a manifest"):
            receipt_uri(wrong)


def test_the_version_signed_is_the_package_s() -> None:
    pyproject = Path(__file__).parents[3] / "pyproject.toml"
    assert f'\nversion = "{__version__}"\n' in pyproject.read_text()


def test_the_share_is_rounded_up(world: Paid) -> None:
    ledger = replace(world.ledger, limit_units=world.ledger.charge(world.charge).cost * 10**9)
    assert charge(ledger, world.charge).share == "0.0001"
