"""Releases carry receipts: signed after the commit, believed only where the journal agrees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster import policies
from integration.reconcile.harness import Json, World, make_signing_key, task_of
from palimpsest.api.task import sha256_digest
from palimpsest.ledger.entries import digest
from palimpsest.receipts.envelope import verify
from palimpsest.receipts.keys import load_signer, public_keys, public_pem
from palimpsest.receipts.statement import Statement

ADAPTER = {"adapter_model.safetensors": b"adapter"}


def resource(world: World, kind: str) -> Json:
    return world.get(kind, "questions", world.tenant)


def receipt_of(world: World, kind: str) -> bytes:
    # What follows a receipt may be seen before the status that names it.
    uri: str = world.until(
        "the receipt is named", lambda: resource(world, kind)["status"]["receipt"]
    )
    assert uri.endswith("/receipt.json")
    return world.store("tenant").get(uri)


def checked(world: World, data: bytes, stage: str) -> Statement:
    """The receipt, its claims compared with the releases and the journal."""
    statement = verify(data, public_keys(world.receipt_keys))
    predicate, store = statement.predicate, world.store("tenant")
    for released in statement.subject:
        assert sha256_digest(store.get(released.name)) == f"sha256:{released.digest.sha256}"
    manifest = json.loads(store.get(predicate.release.manifest.uri))
    assert manifest["parameters"]["stage"] == stage
    state = world.journal().refresh()
    (paid,) = predicate.charges
    known = state.charges[paid.id]
    assert manifest["charge"] == paid.id
    assert (known.status, known.cost, known.settled) == (
        "committed",
        paid.cost,
        paid.commit_sequence,
    )
    entry = world.store("custodian").get(
        f"{world.journal().location}{predicate.journal_head.sequence:012d}.json"
    )
    assert digest(entry) == predicate.journal_head.digest
    assert predicate.budget.name == world.budget
    assert float(predicate.spent.epsilon_rdp) <= 3.4
    assert predicate.spent.epsilon_pld is not None
    assert float(predicate.spent.epsilon_pld) < float(predicate.spent.epsilon_rdp)
    return statement


@contextmanager
def receipts_refused(world: World) -> Iterator[None]:
    """The store takes no receipt while the block lasts."""
    keys = {name: pair.access_key for name, pair in world.object_store.credentials.items()}
    usual = policies.policy("releases", keys)
    less = json.loads(json.dumps(usual))
    less["Statement"] = [
        each for each in less["Statement"] if "receipt" not in str(each["Resource"])
    ]
    root = world.object_store.client("root")
    root.put_bucket_policy(Bucket="releases", Policy=json.dumps(less))
    try:
        yield
    finally:
        root.put_bucket_policy(Bucket="releases", Policy=json.dumps(usual))


def test_an_operator_killed_between_commit_and_receipt_signs_afterwards(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    with receipts_refused(world):
        world.succeed("train", ADAPTER, 3)
        world.until("committed", lambda: world.journal().refresh().committed)
        world.until("signing", lambda: world.summary("pgen", "questions") == "SigningReceipt")
        world.kill()
    assert not resource(world, "pgen")["status"]["receipt"]
    world.start()
    world.until("Ready", lambda: world.summary("pgen", "questions") == "Ready")
    data = receipt_of(world, "pgen")
    statement = checked(world, data, "train")
    assert len(world.jobs(world.custody)) == 1

    # Signed once: what comes later neither writes it again nor invalidates it.
    world.apply(world.synthetic_dataset())
    world.succeed("sample", {"instructions.jsonl": b"{}"})
    world.succeed("cluster", {"centroids.safetensors": b"c", "assignments.jsonl": b"{}"})
    world.kill()
    world.start()
    world.succeed("histogram", {"histogram.json": b"{}"}, 1)
    world.job(world.tenant, "select")
    histogram = checked(world, receipt_of(world, "synds"), "histogram")
    assert histogram.predicate.journal_head.sequence > statement.predicate.journal_head.sequence
    assert float(histogram.predicate.spent.epsilon_rdp) > float(
        statement.predicate.spent.epsilon_rdp
    )
    assert receipt_of(world, "pgen") == data
    assert world.summary("pgen", "questions") == "Ready"


def test_a_rotation_keeps_old_receipts_and_a_lost_key_is_a_finding(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    world.succeed("train", ADAPTER, 3)
    world.until("Ready", lambda: world.summary("pgen", "questions") == "Ready")
    data = receipt_of(world, "pgen")
    old = load_signer(world.receipt_keys).public_key
    world.until("the key is published", lambda: published(world) == {public_pem(old)})
    world.kill()
    make_signing_key(world.receipt_keys)
    world.start()
    world.until("a finding", lambda: world.summary("pgen", "questions") == "ReceiptInvalid")
    ready = next(
        each for each in resource(world, "pgen")["status"]["conditions"] if each["type"] == "Ready"
    )
    assert ready["status"] == "False"
    assert f"signed with key {old.keyid}" in ready["message"]
    world.kill()
    (world.receipt_keys / "retired.pub").write_text(public_pem(old))
    world.start()
    world.until("Ready again", lambda: world.summary("pgen", "questions") == "Ready")
    assert receipt_of(world, "pgen") == data
    new = load_signer(world.receipt_keys).public_key
    both = {public_pem(old), public_pem(new)}
    world.until("both keys are published", lambda: published(world) == both)


def published(world: World) -> set[str]:
    """The public keys in the operator's ConfigMap."""
    found = world.get("configmap", "palimpsest-receipt-keys", world.tenant)
    return set(found.get("data", {}).values())


def test_a_journal_cut_behind_a_receipt_pays_for_nothing_again(world: World) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    world.succeed("train", ADAPTER, 3)
    world.until("Ready", lambda: world.summary("pgen", "questions") == "Ready")
    world.kill()
    root = world.object_store.client("root")
    prefix = world.journal().location.removeprefix("s3://private/")
    listed = root.list_objects_v2(Bucket="private", Prefix=prefix)["Contents"]
    for key in (each["Key"] for each in listed):
        if Path(key).stem.isdigit() and int(Path(key).stem) > 0:
            root.delete_object(Bucket="private", Key=key)
    forget_status(world)
    left = world.journal().refresh()
    assert not left.charges

    world.start()
    world.until("a finding", lambda: world.summary("pgen", "questions") == "JournalBehindReceipt")
    # The budget is not believed either: nobody else is granted what was spent.
    world.until("the budget too", lambda: verified(world)["status"] == "False")
    assert verified(world)["reason"] == "JournalBehindReceipt"
    world.apply(world.private_generator("another"))
    world.until("refused", lambda: world.summary("pgen", "another") == "JournalBehindReceipt")
    assert len(world.jobs(world.custody)) == 1
    assert world.journal().refresh().head == left.head


def verified(world: World) -> Json:
    """The budget's word on its journal."""
    conditions = world.get("pb", world.budget).get("status", {}).get("conditions", [])
    found = [each for each in conditions if each["type"] == "LedgerVerified"]
    return dict(found[0]) if found else {"status": "Unknown"}


def forget_status(world: World) -> None:
    """As after a control plane restored from before: nothing remembers the journal."""
    for kind, name, where in (
        ("privacybudget", world.budget, []),
        ("privategenerator", "questions", ["-n", world.tenant]),
    ):
        patch = '{"status": null}'
        world.plane.kubectl(
            *("patch", kind, name, *where, "--subresource=status", "--type=merge", "-p", patch)
        )


@pytest.mark.parametrize("forged", [b"", b"{}", b"\xff" * 100])
def test_what_is_no_receipt_holds_the_release_back(world: World, forged: bytes) -> None:
    world.apply(world.privacy_budget())
    world.apply(world.private_generator())
    job = world.job(world.custody, "train")
    target = task_of(job).output.uri
    world.store("custodian").put(f"{target}receipt.json", forged)
    world.succeed("train", ADAPTER, 3)
    world.until("a finding", lambda: world.summary("pgen", "questions") == "ReceiptInvalid")
    assert world.store("tenant").get(f"{target}receipt.json") == forged
