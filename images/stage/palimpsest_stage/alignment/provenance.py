"""Where a data set came from: the signed receipts of the releases that it was made of."""

from palimpsest.api.manifest import Manifest
from palimpsest.api.task import ArtifactInput
from palimpsest.receipts.place import receipt_uri
from pydantic import ValidationError

from palimpsest_stage.errors import InputMismatch
from palimpsest_stage.inputs import verified
from palimpsest_stage.runtime import Context

# As a SyntheticDataset's stages name the custodian's store; their own artifacts lie together.
_RELEASES = "releases"


def receipts(context: Context, name: str) -> list[str]:
    """URIs of the receipts behind the data set called so, sorted.

    A receipt lies beside the release's manifest, which the data set's own names, directly or
    through the stages between. Raises InputMismatch.
    """
    artifact, manifest = context.manifest(name)
    store = context.stores[artifact.store]
    found, seen, left = set(), {artifact.uri}, [manifest]
    while left:
        for one in left.pop().inputs.values():
            if not isinstance(one, ArtifactInput) or one.uri in seen:
                continue
            seen.add(one.uri)
            if one.store == _RELEASES:
                found.add(receipt_uri(one.uri))
                continue
            try:
                data = verified(store, one.uri, one.digest)
                left.append(Manifest.model_validate_json(data))
            except ValidationError as error:
                raise InputMismatch(f"{one.uri}: the manifest cannot be read") from error
    return sorted(found)
