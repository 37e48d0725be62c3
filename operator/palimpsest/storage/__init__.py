"""Object storage: canonical addresses, a small S3 client, a probe for conditional writes."""

from palimpsest.storage.errors import (
    AccessDenied,
    ConditionalWritesUnsupported,
    NotFound,
    StoreError,
    StoreUnavailable,
)
from palimpsest.storage.probe import probe_conditional_writes
from palimpsest.storage.s3 import S3Store, StoreConfig, load_credentials
from palimpsest.storage.uri import S3Uri, canonical_prefix, parse_uri

__all__ = [
    "AccessDenied",
    "ConditionalWritesUnsupported",
    "NotFound",
    "S3Store",
    "S3Uri",
    "StoreConfig",
    "StoreError",
    "StoreUnavailable",
    "canonical_prefix",
    "load_credentials",
    "parse_uri",
    "probe_conditional_writes",
]
