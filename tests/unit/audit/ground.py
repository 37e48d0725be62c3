"""Journals as bytes, with every kind of entry, and what else a verification reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from palimpsest.api.budget import PrivacyBudget
from palimpsest.api.generator import Lora
from palimpsest.api.manifest import File, Manifest
from palimpsest.api.task import (
    Input,
    PrivateInput,
    Subject,
    TrainParameters,
    canonical_json,
    sha256_digest,
    work_digest,
)
from palimpsest.audit.journal import Replay, replay
from palimpsest.audit.releases import Release
from palimpsest.ledger import Journal, LedgerState
from palimpsest.ledger.entries import HeadRef, Reserve, digest, parse
from palimpsest.ledger.nesting import location
from palimpsest.privacy.accountant import epsilon_rdp
from palimpsest.receipts.build import Released, statement
from palimpsest.receipts.envelope import sign
from palimpsest.receipts.spending import committed
from palimpsest.receipts.statement import Spent, Statement
from palimpsest.storage import NotFound
from securesystemslib.signer import CryptoSigner
from unit.ledger.folder_store import DATA, HISTOGRAM, LIMIT, ORDER, URI, subject, task, training

PLACE = location(URI)
RELEASES = "s3://releases/chat/"
NOWHERE = "http://127.0.0.1:9"
Objects = dict[str, bytes]


class MemoryStore:
    """Objects in a dictionary."""

    def __init__(self) -> None:
        self.objects: Objects = {}

    def get(self, uri: str) -> bytes:
        try:
            return self.objects[uri]
        except KeyError as error:
            raise NotFound(uri) from error

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        if uri in self.objects:
            return False
        self.objects[uri] = data
        return True


class Clock:
    """A minute an entry, so that two builds have the same times."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self._now += timedelta(minutes=1)
        return self._now


def opened(store: MemoryStore, uri: str = URI, epsilon: str = LIMIT.epsilon) -> Journal:
    """A new journal."""
    journal = Journal(store, uri, Clock())
    limit = LIMIT.model_copy(update={"epsilon": epsilon})
    journal.open(DATA.model_copy(update={"uri": uri}), limit, ORDER)
    return journal


@cache
def built(entries: int, uri: str = URI) -> Objects:
    """A journal's folder of that many entries: every kind but the tombstone, again and again."""
    store = MemoryStore()
    journal = opened(store, uri)
    number = 0
    while len(store.objects) < entries:
        number += 1
        whole = journal.reserve(subject(), task(number), training("6", 24), 1, 8)
        journal.start(whole.id, 1)
        for block in range(3):
            journal.intent(whole.id, 1, block, 8)
        journal.commit(whole.id, "completed")
        given = journal.reserve(subject("second"), task(number), training("5", 8), 0, 8)
        journal.release(given.id, "never-started")
        counts = journal.reserve(subject("counts"), task(number), HISTOGRAM.model_copy())
        journal.start(counts.id, 1)
        journal.intent(counts.id, 1, 0, 1)
        journal.commit(counts.id, "full")
        if number == 1:
            journal.open(DATA, LIMIT.model_copy(update={"epsilon": "7.5"}), ORDER)
    return folder(store, uri, entries)


def folder(store: MemoryStore, uri: str = URI, entries: int | None = None) -> Objects:
    """The objects of the journal's folder, by name."""
    place = location(uri)
    names = sorted(uri for uri in store.objects if uri.startswith(place))
    return {name.removeprefix(place): store.objects[name] for name in names[:entries]}


def replayed(objects: Mapping[str, bytes]) -> Replay:
    """The replay, as of the data's own journal."""
    return replay(objects, PLACE, URI)


def name(sequence: int) -> str:
    """An entry's name."""
    return f"{sequence:012d}.json"


def reforged(objects: Objects, first: int, **body: object) -> Objects:
    """The journal with the body of one entry changed, written anew and chained to the end.

    What whoever may write the store could do: only rules and anchors can find it.
    """
    forged = dict(sorted(objects.items()))
    previous = None
    for sequence, file in enumerate(forged):
        entry = parse(forged[file])
        changes: dict[str, object] = {}
        if sequence == first:
            changes["body"] = entry.body.model_copy(update=body)
        if sequence > first:
            changes["previous"] = previous
            if isinstance(entry.body, Reserve):
                head = HeadRef(sequence=sequence - 1, digest=previous or "")
                changes["body"] = entry.body.model_copy(update={"head": head})
        forged[file] = entry.model_copy(update=changes).to_bytes()
        previous = digest(forged[file])
    return forged


# -- a release that was paid for ------------------------------------------------------------------

INNER = "team-a/generator/train-0123456789abcdef/"
PREFIX = f"{RELEASES}{INNER}"
WEIGHTS = b"adapter"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Paid:
    """A journal in which a training paid for a release, and the release."""

    objects: Objects
    state: LedgerState
    charge: str
    manifest: bytes
    prefix: str = PREFIX

    def statement(self, epsilon: str | None = None) -> Statement:
        """What the operator would sign."""
        own, order = epsilon_rdp(committed(self.state), float(self.state.delta))
        spent = Spent(
            epsilon_rdp=epsilon or f"{own + 0.00005:.4f}",
            order_rdp=f"{order:g}",
            epsilon_pld=None,
            delta=self.state.delta,
        )
        released = Released(f"{self.prefix}manifest.json", self.manifest)
        return statement(self.state, [self.charge], released, "chat", spent, NOW, "0.1.0")

    def release(self, signer: CryptoSigner, told: Statement | None = None) -> Release:
        """The release with its receipt."""
        receipt = sign(told or self.statement(), signer)
        return Release(f"{self.prefix}manifest.json", self.manifest, receipt)


def manifest_of(noise: str = "1", uri: str = URI) -> Manifest:
    """A training's manifest, not yet paid for."""
    owner = subject()
    named = Subject(namespace=owner.namespace, kind=owner.kind, name=owner.name)
    parameters = TrainParameters(
        prompt="",
        lora=Lora(),
        records=DATA.records,
        expected_batch_size=256,
        micro_batch_size=32,
        steps=24,
        block_steps=8,
        restarts=1,
        learning_rate="0.003",
        clipping_norm="1",
        noise_multiplier=noise,
        max_length=64,
        precision="float32",
    )
    inputs: dict[str, Input] = {
        "private": PrivateInput(store="private", uri=uri, format="JSONL", text_field="instruction")
    }
    file = File(
        path="attempts/1-x/adapter_model.safetensors",
        digest=sha256_digest(WEIGHTS),
        size=len(WEIGHTS),
    )
    return Manifest(
        subject=named,
        task=work_digest(named, parameters, inputs),
        parameters=parameters,
        inputs=inputs,
        files=[file],
        charge=None,
        attempt="1-x",
    )


def paid(settled: bool = True, mark: str = "chat") -> Paid:
    """A training of three blocks, published and, if wanted, committed; `mark` names all places."""
    store = MemoryStore()
    uri = f"s3://private/{mark}/"
    journal = opened(store, uri)
    manifest = manifest_of(uri=uri)
    charge = journal.reserve(subject(), manifest.task, training("1", 32), 1, 8)
    journal.start(charge.id, 1)
    for block in range(3):
        journal.intent(charge.id, 1, block, 8)
    if settled:
        journal.commit(charge.id, "completed")
    manifest = manifest.model_copy(update={"charge": charge.id})
    prefix = f"s3://releases/{mark}/{INNER}"
    return Paid(folder(store, uri), journal.state, charge.id, as_bytes(manifest), prefix)


def as_bytes(manifest: Manifest) -> bytes:
    """As stages write it."""
    return canonical_json(manifest.model_dump(by_alias=True))


# -- a PrivacyBudget of that journal --------------------------------------------------------------


def resource(state: LedgerState, **status: object) -> dict[str, object]:
    """The PrivacyBudget as the API server shows it, its status the journal's but for `status`."""
    assert state.head is not None
    assert state.data is not None
    mark = state.data.uri.removeprefix("s3://private/").strip("/")
    storage = {"endpoint": NOWHERE, "auth": {"secretName": "store"}}
    shares = {
        field: f"{units / state.limit_units:.4f}"
        for field, units in (
            ("committed", state.committed),
            ("reserved", state.reserved),
            ("left", state.left),
        )
    }
    charges = [
        {
            "id": charge.id,
            "subject": f"{charge.subject.kind}/{charge.subject.namespace}/{charge.subject.name}",
            "mechanism": "as it is",
            "state": charge.status.capitalize(),
            "share": f"{charge.cost / state.limit_units:.4f}",
        }
        for charge in state.latest(20)
    ]
    return {
        "apiVersion": "palimpsest.dev/v1alpha1",
        "kind": "PrivacyBudget",
        "metadata": {"name": mark},
        "spec": {
            "dataset": {"uri": state.data.uri, "records": DATA.records, "storage": storage},
            "limit": {"epsilon": state.epsilon, "delta": state.delta},
            "custodian": {"namespace": "custody"},
            "releases": {"uri": f"s3://releases/{mark}/", "storage": storage},
            "allowedModels": [{"uri": "s3://models/m/", "digest": "sha256:" + "a" * 64}],
        },
        "status": {
            "head": {"sequence": state.head.sequence, "digest": state.head.digest},
            "gateOrder": state.order,
            "shares": shares,
            "charges": charges,
            **status,
        },
    }


def budget(state: LedgerState, **status: object) -> PrivacyBudget:
    """The same, parsed."""
    raw = resource(state, **status)
    return PrivacyBudget.model_validate({"spec": raw["spec"], "status": raw["status"]})
