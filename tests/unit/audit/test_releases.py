"""Releases, their receipts and what paid for them, all checks together."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from palimpsest.api.task import sha256_digest
from palimpsest.audit.check import Evidence, Report, check
from palimpsest.audit.findings import Code
from palimpsest.audit.reference import Answer, Epsilons, Question, ask
from palimpsest.audit.releases import Release
from palimpsest.privacy.accountant import AccountantError, epsilon_rdp
from palimpsest.privacy.gate import UNITS_PER_NAT, cost_of_steps
from palimpsest.receipts.keys import public_keys
from palimpsest.receipts.statement import Statement
from securesystemslib.signer import CryptoSigner
from unit.audit.ground import (
    PLACE,
    PREFIX,
    WEIGHTS,
    Paid,
    as_bytes,
    budget,
    manifest_of,
    name,
    paid,
)
from unit.receipts.ground import signer

MANIFEST = f"{PREFIX}manifest.json"


def quick(question: Question) -> Answer:
    """Our own figures, so that these tests need no second process."""
    nats = [cost_of_steps(each, 1, question.order) / UNITS_PER_NAT for each in question.steps]
    groups = [epsilon_rdp(group, question.delta)[0] for group in question.groups]
    return Answer(tuple(nats), tuple(Epsilons(each, each) for each in groups))


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> CryptoSigner:
    return signer(tmp_path_factory.mktemp("key") / "folder")


@pytest.fixture(scope="module")
def made() -> Paid:
    return paid()


def evidence(made: Paid, key: CryptoSigner, *releases: Release) -> Evidence:
    return Evidence(
        name="chat",
        place=PLACE,
        objects=made.objects,
        data_uri="s3://private/chat/",
        budget=budget(made.state),
        releases=releases or (made.release(key),),
        keys=[key.public_key],
        files={f"{PREFIX}attempts/1-x/adapter_model.safetensors": _file(WEIGHTS)},
    )


def _file(data: bytes) -> tuple[str, int]:
    return sha256_digest(data), len(data)


def codes(report: Report) -> list[str]:
    return [finding.code.name for finding in report.findings]


def test_a_sound_release_is_sound_by_two_accountants(made: Paid, key: CryptoSigner) -> None:
    report = check(evidence(made, key), ask)
    assert report.findings == ()
    assert report.verdict == "sound"
    assert (report.entries, report.releases, report.receipts) == (len(made.objects), 1, 1)
    assert report.spending is not None
    assert report.spending.reference.pld is not None


# -- receipts -------------------------------------------------------------------------------------


def changed(told: Statement, **fields: object) -> Statement:
    return told.model_copy(update={"predicate": told.predicate.model_copy(update=fields)})


def test_any_statement_that_the_journal_does_not_give_is_found(
    made: Paid, key: CryptoSigner
) -> None:
    told = made.statement()
    predicate = told.predicate
    charge = predicate.charges[0]
    for field, forged in {
        "guarantee": changed(told, guarantee="(0.1, 1e-9)"),
        "charges": changed(told, charges=[charge.model_copy(update={"cost": charge.cost - 1})]),
        "budget.limit.epsilon": changed(
            told,
            budget=predicate.budget.model_copy(
                update={"limit": predicate.budget.limit.model_copy(update={"epsilon": "1"})}
            ),
        ),
        "attestations": changed(told, attestations=["The data are public."]),
        "subject": told.model_copy(update={"subject": told.subject[:1]}),
        "release.name": changed(
            told, release=predicate.release.model_copy(update={"name": "other"})
        ),
    }.items():
        report = check(evidence(made, key, made.release(key, forged)), quick)
        assert set(codes(report)) == {"R002"}, field
        assert field in report.findings[0].what


def test_a_spent_epsilon_that_is_too_small_is_found(made: Paid, key: CryptoSigner) -> None:
    release = made.release(key, made.statement(epsilon="0.1"))
    report = check(evidence(made, key, release), quick)
    assert codes(report) == ["R002"]
    assert "epsilonRDP is 0.1" in report.findings[0].what


def test_any_bit_of_a_receipt(made: Paid, key: CryptoSigner) -> None:
    receipt = made.release(key).receipt
    assert receipt is not None
    for position in range(0, len(receipt), 11):
        forged = receipt[:position] + bytes([receipt[position] ^ 1]) + receipt[position + 1 :]
        report = check(evidence(made, key, Release(MANIFEST, made.manifest, forged)), quick)
        assert codes(report) == ["R001"], position


def test_a_foreign_key_is_found_and_a_retired_one_is_not(
    made: Paid, key: CryptoSigner, tmp_path: Path
) -> None:
    foreign = made.release(signer(tmp_path / "foreign"))
    assert codes(check(evidence(made, key, foreign), quick)) == ["R001"]
    keys = [key.public_key, *public_keys(tmp_path / "foreign")]
    assert check(replace(evidence(made, key, foreign), keys=keys), quick).findings == ()


def test_a_journal_behind_a_receipt_is_found(made: Paid, key: CryptoSigner) -> None:
    last = len(made.objects) - 1
    shorter = {file: data for file, data in made.objects.items() if file != name(last)}
    report = check(replace(evidence(made, key), objects=shorter, budget=None), quick)
    assert "J007" in codes(report)
    assert report.verdict == "unsound"


def test_a_fork_after_a_receipt_is_found(made: Paid, key: CryptoSigner) -> None:
    last = len(made.objects) - 1
    data = made.objects[name(last)]
    forked = made.objects | {name(last): _nonce(data)}
    report = check(replace(evidence(made, key), objects=forked, budget=None), quick)
    assert codes(report) == ["J008"]


def _nonce(data: bytes) -> bytes:
    start = data.index(b'"nonce":"') + len(b'"nonce":"')
    return data[:start] + b"0" * 32 + data[start + 32 :]


def test_what_is_not_there(made: Paid, key: CryptoSigner) -> None:
    sound = made.release(key)
    assert codes(check(evidence(made, key, replace(sound, receipt=None)), quick)) == ["R005"]
    assert codes(check(evidence(made, key, replace(sound, manifest=None)), quick)) == ["R003"]
    keyless = replace(evidence(made, key), keys=None)
    assert codes(check(keyless, quick)) == ["R004"]
    assert check(keyless, quick).verdict == "unchecked"


# -- manifests ------------------------------------------------------------------------------------


def manifest(made: Paid, **changes: object) -> bytes:
    return as_bytes(manifest_of().model_copy(update={"charge": made.charge, **changes}))


def unsigned(made: Paid, key: CryptoSigner, data: bytes) -> Sequence[str]:
    release = Release(MANIFEST, data, None)
    return [code for code in codes(check(evidence(made, key, release), quick)) if code != "R005"]


def test_manifests_that_the_journal_does_not_bear_out(made: Paid, key: CryptoSigner) -> None:
    other = manifest_of("2")
    assert unsigned(made, key, manifest(made)) == []
    assert unsigned(made, key, b"{}") == ["M001"]
    assert unsigned(made, key, b"[" * 50_000) == ["M001"]
    assert unsigned(made, key, manifest(made, task="sha256:" + "0" * 64)) == ["M001"]
    assert unsigned(made, key, manifest(made, parameters=other.parameters)) == ["M001"]
    assert unsigned(made, key, manifest(made, charge=None)) == ["M002"]
    assert unsigned(made, key, manifest(made, charge="sha256:" + "0" * 64)) == ["M002"]
    forged = manifest(made, parameters=other.parameters, task=other.task)
    assert set(unsigned(made, key, forged)) == {"M003"}


def test_a_charge_that_is_not_settled_yet(key: CryptoSigner) -> None:
    pending = paid(settled=False)
    assert unsigned(pending, key, pending.manifest) == ["M005"]


def test_anothers_release_is_not_ours_to_judge(made: Paid, key: CryptoSigner) -> None:
    inputs = {
        "private": manifest_of().inputs["private"].model_copy(update={"uri": "s3://private/b/"})
    }
    theirs = evidence(made, key, Release(MANIFEST, manifest(made, inputs=inputs), None))
    report = check(theirs, quick)
    assert (report.findings, report.releases) == ((), 0)
    # Nor while there is no journal of ours yet.
    report = check(replace(theirs, objects={}, budget=None), quick)
    assert (codes(report), report.releases) == (["J009"], 0)


@pytest.mark.parametrize("wrong", [None, ("sha256:" + "0" * 64, 7), _file(WEIGHTS + b"x")])
def test_files(made: Paid, key: CryptoSigner, wrong: tuple[str, int] | None) -> None:
    path = f"{PREFIX}attempts/1-x/adapter_model.safetensors"
    report = check(replace(evidence(made, key), files={path: wrong}), quick)
    assert codes(report) == ["M004"]
    assert report.findings[0].place == path


# -- verdicts -------------------------------------------------------------------------------------


def test_no_second_accountant_is_no_verdict(made: Paid, key: CryptoSigner) -> None:
    def missing(question: Question) -> Answer:
        raise AccountantError("dp-accounting is not installed")

    report = check(evidence(made, key), missing)
    assert codes(report) == ["A004"]
    assert report.verdict == "unchecked"
    forged = replace(evidence(made, key), objects=made.objects | {name(1): b"{}"})
    assert check(forged, missing).verdict == "unsound"


def test_codes_are_distinct_and_say_what_helps() -> None:
    assert len({code.name for code in Code}) == len(Code.__members__) == 30
    assert all(code.title and code.remedy for code in Code)


def test_the_handbook_lists_every_code_as_it_is() -> None:
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    for code in Code:
        assert f"| {code.name} | {code.verdict} | {code.title} | {code.remedy} |\n" in page
