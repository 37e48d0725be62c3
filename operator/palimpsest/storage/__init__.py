"""Object storage: canonical addresses, a small S3 client, a probe for conditional writes."""

from palimpsest.storage.credentials import AccessKeys, WebIdentity, load_keys
from palimpsest.storage.errors import (
    AccessDenied,
    ConditionalWritesUnsupported,
    NotFound,
    StoreError,
    StoreUnavailable,
)
from palimpsest.storage.probe import probe_conditional_writes
from palimpsest.storage.s3 import S3Store, StoreConfig
from palimpsest.storage.uri import S3Uri, canonical_prefix, parse_uri

__all__ = [
    "AccessDenied",
    "AccessKeys",
    "ConditionalWritesUnsupported",
    "NotFound",
    "S3Store",
    "S3Uri",
    "StoreConfig",
    "StoreError",
    "StoreUnavailable",
    "WebIdentity",
    "canonical_prefix",
    "load_keys",
    "parse_uri",
    "probe_conditional_writes",
]
