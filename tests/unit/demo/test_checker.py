"""The checker finds what was tampered with, and shares no code with what it checks."""

from __future__ import annotations

import ast
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import demo.checker
import pytest
from demo.checker import accounting, journal
from demo.checker.artifacts import Artifact, verify
from demo.checker.bucket import CheckError, sha256
from demo.checker.text import share_yes_no, total_variation, yes_no_form
from palimpsest.ledger.entries import DataIdentity, LimitBody, Subject
from palimpsest.ledger.journal import Journal
from palimpsest.privacy.gate import rho
from palimpsest.privacy.mechanisms import DiscreteGaussian, PoissonSubsampledGaussian
from palimpsest.storage import NotFound

DATA = "s3://private/boolq/"
TRAINING = PoissonSubsampledGaussian(batch=256, records=15_000, noiseMultiplier="0.85", steps=32)


class Memory:
    """An object store in a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def get(self, uri: str) -> bytes:
        try:
            return self.objects[uri]
        except KeyError:
            raise NotFound(uri) from None

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        return self.objects.setdefault(uri, data) is data


@pytest.fixture
def entries() -> list[bytes]:
    """A journal as the product writes it: a training that ran three of four blocks, a histogram."""
    store = Memory()
    ledger = Journal(store, DATA)
    data = DataIdentity(
        uri=DATA, format="JSONL", textField="instruction", records=15_000, privacyUnit="Record"
    )
    ledger.open(data, LimitBody(epsilon="3.2", delta="1e-5"), 5)
    generator = Subject(namespace="a", kind="PrivateGenerator", name="g", cluster="c")
    charge = ledger.reserve(generator, sha256(b"t"), TRAINING, restarts=1, block_steps=8)
    ledger.start(charge.id, 1)
    for block in range(3):
        ledger.intent(charge.id, 1, block, 8)
    ledger.commit(charge.id, "completed")
    dataset = Subject(namespace="a", kind="SyntheticDataset", name="d", cluster="c")
    ledger.reserve(dataset, sha256(b"h"), DiscreteGaussian(noiseMultiplier="10"), restarts=5)
    return [store.objects[uri] for uri in sorted(store.objects)]


def rewritten(entries: list[bytes], index: int, change: dict[str, Any]) -> list[bytes]:
    """The journal with one entry's body changed and the chain after it made good again."""
    out = list(entries)
    for at in range(index, len(out)):
        entry = json.loads(out[at])
        if at == index:
            entry["body"].update(change)
        else:
            entry["previous"] = sha256(out[at - 1])
        out[at] = json.dumps(entry).encode()
    return out


def test_checker_imports_nothing_of_the_product() -> None:
    folder = Path(str(demo.checker.__file__)).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not [name for name in names if name.startswith("palimpsest")], path


def test_sound_journal_gives_the_products_shares(entries: list[bytes]) -> None:
    told = journal.figures(journal.replay_entries(entries))
    assert [charge["state"] for charge in told["charges"]] == ["committed", "reserved"]
    assert told["charges"][0]["steps"] == 24
    committed = json.loads(entries[-2])["body"]["cost"]
    allowed = rho(Decimal("3.2"), Decimal("1e-5"), 5)
    assert told["shareCommitted"] == pytest.approx(committed / allowed, rel=1e-9)
    assert 0 < told["epsilonSpentPld"] < told["epsilonSpentRenyi"]


@pytest.mark.parametrize("index", range(7))
def test_a_changed_entry_breaks_the_chain(entries: list[bytes], index: int) -> None:
    entries[index] = entries[index].replace(b"Z", b"0Z")
    with pytest.raises(CheckError, match="does not follow"):
        journal.replay_entries(entries)


def test_a_missing_entry_is_seen(entries: list[bytes]) -> None:
    del entries[3]
    with pytest.raises(CheckError):
        journal.replay_entries(entries)


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (1, {"cost": 10**12}, "dp-accounting has"),
        (3, {"cost": 1}, "dp-accounting has"),
        (3, {"steps": 80}, "more than was reserved"),
        (4, {"attempt": 2}, "did not start last"),
        (2, {"attempt": 2}, "out of turn"),
        (6, {"cost": 1}, "not what was intended"),
    ],
)
def test_false_spending_is_seen_though_the_chain_holds(
    entries: list[bytes], index: int, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckError, match=message):
        journal.replay_entries(rewritten(entries, index, change))


def test_an_overspent_gate_is_seen(entries: list[bytes]) -> None:
    opened = json.loads(entries[0])["body"]["limit"]
    lowered = rewritten(entries, 0, {"limit": {**opened, "epsilon": "2.3"}})
    with pytest.raises(CheckError, match="overspent"):
        journal.replay_entries(lowered)


def test_renyi_cost_is_read_back_from_dp_accounting() -> None:
    gaussian = {"kind": "discrete-gaussian", "noiseMultiplier": "10"}
    assert accounting.renyi([accounting.event(gaussian, 1)], 8) == pytest.approx(8 / 200)


class Objects(Memory):
    def add(self, uri: str, data: bytes) -> str:
        self.objects[uri] = data
        return sha256(data)


def artifact(store: Objects, **changes: Any) -> Artifact:
    model = store.add("s3://models/m/palimpsest-model.json", b"{}")
    digest = store.add("s3://out/a/attempts/1/x.json", b"[1]")
    manifest = {
        "parameters": {"stage": "sample"},
        "inputs": {"base": {"kind": "model", "uri": "s3://models/m/", "digest": model}},
        "files": [{"path": "attempts/1/x.json", "digest": digest, "size": 3}],
        **changes,
    }
    return Artifact("s3://out/a/", "sha256:0", manifest)


def test_whole_artifact_passes() -> None:
    store = Objects()
    assert verify(store, [artifact(store)]) == []  # type: ignore[arg-type]


def test_replaced_file_and_model_are_seen() -> None:
    store = Objects()
    given = artifact(store)
    store.add("s3://out/a/attempts/1/x.json", b"[2]")
    store.add("s3://models/m/palimpsest-model.json", b"[]")
    assert len(verify(store, [given])) == 2  # type: ignore[arg-type]


def test_a_manifest_that_tells_of_private_input_is_seen() -> None:
    store = Objects()
    private = {"kind": "private", "uri": DATA, "digest": "sha256:0"}
    assert verify(store, [artifact(store, inputs={"private": private})])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["is it so", "Can't we go?", "  \u201cDoes it?\u201d", "aren\u2019t"]
)
def test_yes_no_questions(text: str) -> None:
    assert yes_no_form(text)


@pytest.mark.parametrize("text", ["what is it", "island in the sea", "candy", "", "how do I"])
def test_other_questions(text: str) -> None:
    assert not yes_no_form(text)


def test_shares_and_distances() -> None:
    assert share_yes_no(["is it", "what"]) == 0.5
    assert total_variation([1, 1], [2, 0]) == 0.5
    with pytest.raises(ValueError, match="empty"):
        total_variation([0], [1])
