"""Signs what a plan says and tells the world with which keys."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palimpsest import __version__
from palimpsest.ledger.state import LedgerState
from palimpsest.receipts import KeyUnusable
from palimpsest.receipts.build import Released, statement
from palimpsest.receipts.envelope import sign
from palimpsest.receipts.keys import PUBLIC_SUFFIX, load_signer, public_keys, public_pem
from palimpsest.receipts.place import receipt_uri
from palimpsest.receipts.spending import spent
from palimpsest.reconcile.adapter.cluster import Cluster
from palimpsest.reconcile.adapter.stores import Stores
from palimpsest.reconcile.observed import ReceiptKeys
from palimpsest.reconcile.plan import SignReceipt

log = logging.getLogger(__name__)

PUBLISHED = "palimpsest-receipt-keys"


class Receipts:
    """Receipts under the keys in one folder, read anew each time: a rotation needs no restart."""

    def __init__(self, folder: Path, stores: Stores) -> None:
        self._folder = folder
        self._stores = stores

    def keys(self) -> ReceiptKeys:
        """The keys whose receipts are accepted; the signing key is one of them."""
        try:
            load_signer(self._folder)
            return ReceiptKeys(public=tuple(public_keys(self._folder)))
        except KeyUnusable as error:
            return ReceiptKeys(trouble=f"{error}.")

    def issue(self, budget: str, ledger: LedgerState, action: SignReceipt) -> None:
        """Sign and write, unless there is one. Takes seconds: two accountants are asked.

        Raises ReceiptInvalid, KeyUnusable or StoreError; after the last the next pass looks whether
        the receipt is there.
        """
        signer = load_signer(self._folder)
        signed = sign(
            statement(
                ledger,
                [action.charge],
                Released(action.manifest_uri, action.manifest),
                budget,
                spent(ledger),
                datetime.now(UTC),
                __version__,
            ),
            signer,
        )
        store = self._stores.at(action.storage.endpoint)
        store.put_if_absent(receipt_uri(action.manifest_uri), signed)

    def publish(self, cluster: Cluster, namespace: str) -> None:
        """Put the public keys into a ConfigMap, for whoever verifies. Raises ApiException.

        Those that it holds stay: a key whose file was lost can be had back from there.
        """
        try:
            keys = public_keys(self._folder)
        except KeyUnusable as error:
            log.warning("receipt keys not published", extra={"error": str(error)})
            return
        data = {f"{key.keyid[:32]}{PUBLIC_SUFFIX}": public_pem(key) for key in keys}
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        found: dict[str, Any] | None = cluster.get(f"{path}/{PUBLISHED}")
        if found is None:
            metadata = {"name": PUBLISHED, "labels": {"app.kubernetes.io/name": "palimpsest"}}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            cluster.call("POST", path, body)
        elif not data.items() <= found.get("data", {}).items():
            body = {**found, "data": {**found.get("data", {}), **data}}
            cluster.call("PUT", f"{path}/{PUBLISHED}", body)
