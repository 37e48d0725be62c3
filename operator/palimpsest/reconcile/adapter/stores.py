"""The operator's own entry to object stores, by endpoint, and what it may do there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palimpsest.api.config import OperatorConfig, StoreIdentity
from palimpsest.api.task import sha256_digest
from palimpsest.reconcile.observed import Look, StoreTrouble
from palimpsest.reconcile.plan import Relay
from palimpsest.storage import (
    AccessDenied,
    AccessKeys,
    NotFound,
    S3Store,
    StoreConfig,
    StoreError,
    StoreUnavailable,
    WebIdentity,
    load_keys,
)
from palimpsest.telemetry import stores

LARGEST_OBJECT = 64 * 1024 * 1024


class UnknownStoreError(StoreError):
    """The chart's values name no identity of the operator's for this endpoint."""


class CountingStore(S3Store):
    """Counts what is asked and what fails; an object that is not there is an answer."""

    def get(self, uri: str) -> bytes:
        """The whole object."""
        with _counted("get"):
            return super().get(uri)

    def put(self, uri: str, data: bytes) -> None:
        """Write the object whole, over another if there is one."""
        with _counted("put"):
            super().put(uri, data)

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """Create the object; False when it exists."""
        with _counted("put_if_absent"):
            return super().put_if_absent(uri, data)

    def size(self, uri: str) -> int:
        """Length in bytes."""
        with _counted("size"):
            return super().size(uri)


@contextmanager
def _counted(operation: str) -> Iterator[None]:
    stores.asked(operation)
    try:
        yield
    except NotFound:
        raise
    except AccessDenied:
        stores.failed(operation, "AccessDenied")
        raise
    except StoreUnavailable:
        stores.failed(operation, "Unavailable")
        raise
    except StoreError:
        stores.failed(operation, "Refused")
        raise


def _credentials(identity: StoreIdentity) -> AccessKeys | WebIdentity:
    if identity.role_arn is not None and identity.token_file is not None:
        return WebIdentity(identity.role_arn, Path(identity.token_file), identity.token_endpoint)
    return load_keys(Path(identity.credentials or ""))


class Stores:
    """One client an endpoint, made when first needed."""

    def __init__(self, config: OperatorConfig) -> None:
        self._identities = {store.endpoint: store for store in config.stores}
        self._clients: dict[str, S3Store] = {}

    def at(self, endpoint: str) -> S3Store:
        """The client of a store. Raises UnknownStoreError."""
        if endpoint not in self._clients:
            identity = self._identities.get(endpoint)
            if identity is None:
                raise UnknownStoreError(
                    f"the operator has no identity for the store {endpoint}: add it to the "
                    "chart's value stores[]"
                )
            self._clients[endpoint] = CountingStore(
                StoreConfig(
                    endpoint=identity.endpoint,
                    region=identity.region,
                    path_style=identity.path_style,
                    ca_bundle=identity.ca_bundle,
                    credentials=_credentials(identity),
                    encryption=identity.sse,
                )
            )
        return self._clients[endpoint]

    def look(self, question: Look) -> bytes | StoreTrouble | None:
        """Answer one question; an object larger than any manifest is not read."""
        try:
            store = self.at(question.endpoint)
            if not question.whole:
                return b"" if store.exists(question.uri) else None
            return store.get(question.uri)
        except NotFound:
            return None
        except StoreError as error:
            if not isinstance(error, UnknownStoreError | AccessDenied):
                self._clients.pop(question.endpoint, None)
            return _trouble(error)

    def relay(self, relay: Relay) -> StoreTrouble | None:
        """Copy one file if its digest is the expected one; why it was not, otherwise."""
        try:
            return self._copied(relay)
        except NotFound:
            return StoreTrouble("ArtifactMissing", f"{relay.source_uri} is gone.")
        except StoreError as error:
            return _trouble(error)

    def _copied(self, relay: Relay) -> StoreTrouble | None:
        source, target = self.at(relay.source.endpoint), self.at(relay.target.endpoint)
        if source.size(relay.source_uri) > LARGEST_OBJECT:
            message = f"{relay.source_uri} is too large to be a table of centroids."
            return StoreTrouble("ManifestInvalid", message)
        data = source.get(relay.source_uri)
        if sha256_digest(data) != relay.digest:
            message = f"{relay.source_uri} is not what its manifest says; it is not carried over."
            return StoreTrouble("ManifestInvalid", message)
        target.put_if_absent(relay.target_uri, data)
        return None


def _trouble(error: StoreError) -> StoreTrouble:
    match error:
        case UnknownStoreError():
            reason = "StoreUnknown"
        case AccessDenied():
            reason = "StoreAccessDenied"
        case _:
            reason = "StoreUnavailable"
    return StoreTrouble(reason, str(error))
