"""`palimpsest verify`: journals, statuses and receipts held against each other."""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from securesystemslib.signer import SSlibKey

from palimpsest.api.common import Location
from palimpsest.api.manifest import Manifest
from palimpsest.audit.check import Evidence, Report, check
from palimpsest.audit.findings import EXIT_CODES, Code, Finding, worst
from palimpsest.audit.journal import Anchor
from palimpsest.audit.reference import ask
from palimpsest.audit.releases import Release, read_manifest
from palimpsest.ledger.errors import LedgerError
from palimpsest.ledger.nesting import location
from palimpsest.ledger.state import Head
from palimpsest.receipts.keys import public_keys
from palimpsest.receipts.statement import SPENT_LABEL
from palimpsest.storage import S3Store, StoreError, canonical_prefix

from . import completing
from .cluster import Cluster, Named, budget_file
from .errors import CouldNotCheckError
from .options import OFFLINE, access, stores, where
from .output import output_option, written
from .sources import (
    Access,
    Digest,
    hash_file,
    hash_objects,
    journal_uri,
    read_folder,
    read_journal,
    read_release_folder,
    read_releases,
)

_HEAD = re.compile(r"([0-9]{1,12}):(sha256:[0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True)
class Wishes:
    """What the caller wants checked beside journal and status."""

    keys: Path | None
    operator_namespace: str
    files: bool
    heads: tuple[str, ...]
    releases: str | None
    releases_uri: str | None


@click.command(epilog="Exit code: 0 sound, 1 unsound, 2 could not check (docs/cli.md, codes too).")
@click.argument("names", nargs=-1, metavar="[BUDGET]...", shell_complete=completing.budgets)
@where
@stores
@click.option(
    "--releases",
    metavar="URI|FOLDER",
    help="With --journal: the releases' prefix, or a folder with a copy of it.",
)
@click.option(
    "--releases-uri",
    metavar="URI",
    help="The prefix that the folder given by --releases is a copy of.",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Public keys of receipts (*.pub); default: the ConfigMap that the operator publishes.",
)
@click.option(
    "--operator-namespace", metavar="NAME", default="palimpsest-system", show_default=True
)
@click.option("--files", is_flag=True, help="Hash the released files, too.")
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="SEQUENCE:DIGEST",
    help="Of one journal: an entry that you noted, which it must still hold.",
)
@output_option
def verify(names: tuple[str, ...], output: str, **options: Any) -> None:
    """Check journals: the chain, every rule, every cost by a second accountant, status, receipts.

    Without BUDGETs all PrivacyBudgets of the cluster. Store keys are your own: a custodian's keys
    open journals and releases.
    """
    reach = access(options)
    journal, file = options.pop("journal"), options.pop("budget_file")
    kubeconfig, context = options.pop("kubeconfig"), options.pop("context")
    wishes = Wishes(**options)
    anchors = [_anchor(text) for text in wishes.heads]
    if journal is None:
        if file or wishes.releases or wishes.releases_uri:
            raise click.UsageError("--budget-file, --releases and --releases-uri go with --journal")
        if anchors and len(names) != 1:
            raise click.UsageError("--head is of one journal: give one BUDGET, or --journal")
        cluster = Cluster(kubeconfig, context, OFFLINE)
        evidence = _from_cluster(cluster, names, reach, wishes, anchors)
    elif names:
        raise click.UsageError("give BUDGETs or --journal, not both")
    else:
        evidence = iter([_offline(journal, file, reach, wishes, anchors)])
    reports = [check(each, ask) for each in evidence]
    if output == "text":
        click.echo("\n\n".join(map(_text, reports)) or "There is no PrivacyBudget.")
    else:
        click.echo(written(_plain(reports), output))
    sys.exit(EXIT_CODES[worst(report.verdict for report in reports)])


def _anchor(text: str) -> Anchor:
    match = _HEAD.fullmatch(text)
    if match is None:
        raise click.BadParameter("write it as 41:sha256:<64 digits>", param_hint="--head")
    return Anchor(Head(int(match[1]), match[2]), "--head")


def _from_cluster(
    cluster: Cluster,
    names: Iterable[str],
    reach: Access,
    wishes: Wishes,
    anchors: list[Anchor],
) -> Iterable[Evidence]:
    budgets = cluster.budgets(names)
    keys, troubles = _keys(cluster, wishes)
    for named in budgets:
        evidence = Evidence(
            named.name, named.name, None, keys=keys, troubles=troubles, anchors=anchors
        )
        yield _of_budget(evidence, named, reach, wishes)


def _of_budget(evidence: Evidence, named: Named, reach: Access, wishes: Wishes) -> Evidence:
    where = f"PrivacyBudget {named.name}"
    if named.trouble:
        evidence = _troubled(evidence, Code.S004, where, named.trouble)
    if named.budget is None:
        return evidence
    dataset = named.budget.spec.dataset
    try:
        uri = canonical_prefix(dataset.uri)
    except ValueError as error:
        return _troubled(evidence, Code.J010, where, str(error))
    evidence = replace(evidence, budget=named.budget, data_uri=uri, place=location(uri))
    # The status was read first, then the releases, the journal last: each later than what it must
    # hold, so that work going on in the meantime is no finding.
    evidence = _with_releases(evidence, named.budget.spec.releases, reach, wishes)
    try:
        return replace(evidence, objects=read_journal(reach.store(dataset.storage), uri))
    except (StoreError, LedgerError) as error:
        return _troubled(evidence, Code.J010, evidence.place, str(error))


def _with_releases(
    evidence: Evidence, releases: Location, reach: Access, wishes: Wishes
) -> Evidence:
    try:
        store = reach.store(releases.storage)
        return _released(evidence, read_releases(store, releases.uri), store, wishes)
    except StoreError as error:
        return _troubled(evidence, Code.R006, releases.uri, str(error))


def _released(evidence: Evidence, found: list[Release], store: S3Store, wishes: Wishes) -> Evidence:
    files = hash_objects(store, _listed(found)) if wishes.files else None
    return replace(evidence, releases=found, files=files)


def _listed(found: Iterable[Release]) -> Iterable[str]:
    """The URIs of all files that manifests list."""
    for release in found:
        manifest = read_manifest(release)
        if isinstance(manifest, Manifest):
            yield from (release.prefix + file.path for file in manifest.files)


def _offline(
    journal: str, file: Path | None, reach: Access, wishes: Wishes, anchors: list[Anchor]
) -> Evidence:
    named = budget_file(file) if file else None
    evidence = Evidence(named.name if named else journal, journal, None, anchors=anchors)
    if named and named.trouble:
        evidence = _troubled(evidence, Code.S004, str(file), named.trouble)
    if named and named.budget:
        evidence = replace(evidence, budget=named.budget)
    if wishes.keys is not None:
        evidence = replace(evidence, keys=_folder_keys(wishes.keys))
    evidence = _offline_releases(evidence, reach, wishes)
    return _offline_journal(evidence, journal, reach)


def _offline_journal(evidence: Evidence, journal: str, reach: Access) -> Evidence:
    budget = evidence.budget
    try:
        expected = canonical_prefix(budget.spec.dataset.uri) if budget else None
        if "://" in journal:
            uri = journal_uri(journal)
            evidence = replace(evidence, data_uri=uri, place=location(uri))
            storage = budget.spec.dataset.storage if budget else None
            evidence = replace(evidence, objects=read_journal(reach.store(storage), uri))
        else:
            place = journal.rstrip("/") + "/"
            evidence = replace(evidence, place=place, objects=read_folder(Path(journal)))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--journal") from error
    except OSError as error:
        what = f"{journal}: cannot be read ({error.strerror or type(error).__name__})"
        return _troubled(evidence, Code.J010, journal, what)
    except (StoreError, LedgerError) as error:
        return _troubled(evidence, Code.J010, evidence.place, str(error))
    return replace(evidence, data_uri=expected or evidence.data_uri)


def _offline_releases(evidence: Evidence, reach: Access, wishes: Wishes) -> Evidence:
    where = wishes.releases
    if where is None:
        return evidence
    try:
        if "://" in where:
            store = reach.store(evidence.budget.spec.releases.storage if evidence.budget else None)
            return _released(evidence, read_releases(store, where), store, wishes)
        root = wishes.releases_uri or (
            evidence.budget.spec.releases.uri if evidence.budget else None
        )
        if root is None:
            raise click.UsageError("a folder of releases needs --releases-uri or --budget-file")
        root = root.rstrip("/") + "/"
        folder = Path(where)
        if not folder.is_dir():
            raise click.BadParameter(f"{where}: no folder", param_hint="--releases")
        found = read_release_folder(folder, root)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--releases") from error
    except (StoreError, OSError) as error:
        return _troubled(evidence, Code.R006, where, str(error))
    files: dict[str, Digest | None] | None = None
    if wishes.files:
        files = {uri: hash_file(folder / uri.removeprefix(root)) for uri in _listed(found)}
    return replace(evidence, releases=found, files=files)


def _keys(cluster: Cluster, wishes: Wishes) -> tuple[list[SSlibKey] | None, tuple[Finding, ...]]:
    if wishes.keys is not None:
        return _folder_keys(wishes.keys), ()
    try:
        return cluster.keys(wishes.operator_namespace), ()
    except CouldNotCheckError as error:
        return None, (Finding(Code.R004, wishes.operator_namespace, str(error.message)),)


def _folder_keys(folder: Path) -> list[SSlibKey]:
    try:
        return public_keys(folder)
    except ValueError as error:
        raise CouldNotCheckError(str(error)) from error


def _troubled(evidence: Evidence, code: Code, place: str, what: str) -> Evidence:
    return replace(evidence, troubles=(*evidence.troubles, Finding(code, place, what)))


def _plain(reports: list[Report]) -> dict[str, Any]:
    return {
        "verdict": worst(report.verdict for report in reports),
        "budgets": [_figures(report) for report in reports],
    }


def _figures(report: Report) -> dict[str, Any]:
    state = report.state
    figures: dict[str, Any] = {
        "name": report.name,
        "verdict": report.verdict,
        "journal": report.place,
        "entries": report.entries,
        "releases": report.releases,
        "receipts": report.receipts,
        "findings": [finding.as_json() for finding in report.findings],
    }
    if state.head is not None:
        figures |= {
            "head": {"sequence": state.head.sequence, "digest": state.head.digest},
            "limit": {"epsilon": state.epsilon, "delta": state.delta},
            "gateOrder": state.order,
            "shares": {
                "committed": state.committed / state.limit_units,
                "reserved": state.reserved / state.limit_units,
                "left": state.left / state.limit_units,
            },
        }
    if report.spending is not None:
        figures["spent"] = {
            "epsilonRDP": report.spending.own,
            "referenceRDP": report.spending.reference.rdp,
            "referencePLD": report.spending.reference.pld,
            "label": SPENT_LABEL,
        }
    return figures


def _text(report: Report) -> str:
    state = report.state
    lines = [f"{report.name}: {report.verdict}"]
    if state.head is not None:
        units = state.limit_units
        lines += [
            f"  journal   {report.place}",
            f"  entries   {report.entries}, head {state.head.sequence}:{state.head.digest}",
            f"  limit     (epsilon {state.epsilon}, delta {state.delta}), Rényi filter at order "
            f"{state.order}",
            f"  shares    {state.committed / units:.2%} committed, "
            f"{state.reserved / units:.2%} reserved, {state.left / units:.2%} left",
            f"  releases  {report.releases}, {report.receipts} signed receipts",
        ]
    if report.spending is not None:
        pld = report.spending.reference.pld
        lines += [
            f"  spent     epsilon {report.spending.own:.4f} (Rényi), dp-accounting "
            f"{report.spending.reference.rdp:.4f} (Rényi)"
            + (f", {pld:.4f} (PLD)" if pld is not None else ""),
            f"            {SPENT_LABEL}",
        ]
    return "\n".join([*lines, *(finding.line() for finding in report.findings)])
