"""Where a release's receipt lies: beside the manifest it speaks of."""

from palimpsest.api.manifest import MANIFEST

RECEIPT = "receipt.json"


def receipt_uri(manifest_uri: str) -> str:
    """The receipt's URI. Raises ValueError if the other is no manifest's."""
    prefix, slash, name = manifest_uri.rpartition("/")
    if not slash or name != MANIFEST:
        raise ValueError(f"uri {manifest_uri!r}: not the URI of a {MANIFEST}")
    return f"{prefix}/{RECEIPT}"
