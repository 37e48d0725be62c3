"""A charge's name: the same resource asking for the same work finds the same charge again."""

import hashlib
import json

from palimpsest.storage import canonical_prefix


def charge_id(journal_uri: str, namespace: str, kind: str, name: str, task_digest: str) -> str:
    """Hash of journal, resource and task; never a UID, which a re-created object loses."""
    parts = [canonical_prefix(journal_uri), namespace, kind, name, task_digest]
    data = json.dumps(parts, separators=(",", ":"), ensure_ascii=False).encode()
    return "sha256:" + hashlib.sha256(data).hexdigest()
