"""Places in the custodian's own bucket, beside the journal and outside any data listing."""

import json
from typing import Any

from palimpsest.api.base import JOURNAL_ROOT
from palimpsest.api.task import ChargeRef
from palimpsest.storage import S3Store, canonical_prefix, parse_uri


def work_prefix(charge: ChargeRef) -> str:
    """Where a charge's stages keep what never leaves custody; ends with a slash."""
    return f"{_root(charge)}work/{charge.id}/"


def write_report(store: S3Store, charge: ChargeRef, attempt: str, report: dict[str, Any]) -> None:
    """Tell the custodian, and only the custodian, what happened in an attempt."""
    data = json.dumps(report, indent=2, sort_keys=True, default=str).encode()
    store.put(f"{_root(charge)}reports/{charge.id}/{attempt}.json", data)


def _root(charge: ChargeRef) -> str:
    at = parse_uri(canonical_prefix(charge.journal))
    return f"s3://{at.bucket}/{JOURNAL_ROOT}/{at.key}"
