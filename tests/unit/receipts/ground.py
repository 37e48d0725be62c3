"""A journal with one paid training, its release, and keys to sign for it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from palimpsest.api.generator import Lora
from palimpsest.api.manifest import File, Manifest
from palimpsest.api.task import (
    Input,
    ModelInput,
    PrivateInput,
    Subject,
    TrainParameters,
    canonical_json,
    sha256_digest,
    work_digest,
)
from palimpsest.ledger import Journal, LedgerState
from palimpsest.receipts import keys
from palimpsest.receipts.build import Released, statement
from palimpsest.receipts.statement import Spent, Statement
from securesystemslib.signer import CryptoSigner
from unit.ledger.folder_store import DATA, LIMIT, ORDER, URI, FolderStore, subject, training

PREFIX = "s3://releases/chat/team-a/generator/train-0123456789abcdef/"
MANIFEST = f"{PREFIX}manifest.json"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SPENT = Spent(epsilon_rdp="3.1610", order_rdp="4.3", epsilon_pld="2.8600", delta="1e-5")


@dataclass(frozen=True)
class Paid:
    """A release, the charge that paid for it and the journal that says so."""

    journal: Journal
    charge: str
    released: Released

    @property
    def ledger(self) -> LedgerState:
        return self.journal.state

    def statement(self) -> Statement:
        return statement(self.ledger, [self.charge], self.released, "chat", SPENT, NOW, "0.1.0")


def paid(folder: Path, committed: bool = True) -> Paid:
    """A training of three blocks, published and, if wanted, committed."""
    parameters = TrainParameters(
        prompt="",
        lora=Lora(),
        records=15_000,
        expected_batch_size=256,
        micro_batch_size=32,
        steps=24,
        block_steps=8,
        restarts=1,
        learning_rate="0.003",
        clipping_norm="1",
        noise_multiplier="1",
        max_length=64,
        precision="float32",
    )
    owner = subject()
    named = Subject(namespace=owner.namespace, kind=owner.kind, name=owner.name)
    inputs: dict[str, Input] = {
        "base": ModelInput(store="releases", uri="s3://models/m/", digest="sha256:" + "a" * 64),
        "private": PrivateInput(store="private", uri=URI, format="JSONL", text_field="instruction"),
    }
    work = work_digest(named, parameters, inputs)
    journal = Journal(FolderStore(folder), URI)
    journal.open(DATA, LIMIT, ORDER)
    charge = journal.reserve(owner, work, training(steps=32), 1, 8)
    journal.start(charge.id, 1)
    for block in range(3):
        journal.intent(charge.id, 1, block, 8)
    if committed:
        journal.commit(charge.id, "completed")
    weights = b"adapter"
    manifest = Manifest(
        subject=named,
        task=work,
        parameters=parameters,
        inputs=inputs,
        files=[
            File(
                path="attempts/1-x/adapter_model.safetensors",
                digest=sha256_digest(weights),
                size=len(weights),
            )
        ],
        charge=charge.id,
        attempt="1-x",
    )
    data = canonical_json(manifest.model_dump(by_alias=True))
    return Paid(journal, charge.id, Released(MANIFEST, data))


def signer(folder: Path) -> CryptoSigner:
    """A new signing key in `folder`, over another if there is one."""
    folder.mkdir(exist_ok=True)
    made = CryptoSigner.generate_ed25519()
    (folder / keys.SIGNING).write_bytes(made.private_bytes)
    return keys.load_signer(folder)
