"""Stage prune: delete the intermediates of a published data set. Sees nothing private."""

from typing import Any

from palimpsest.api.manifest import MANIFEST
from palimpsest.api.task import PruneParameters

from palimpsest_stage.errors import InvalidTask
from palimpsest_stage.runtime import Context


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish a manifest without files: its inputs are what was deleted.

    All that any attempt at an input left goes, but its manifest and the files to keep.
    """
    keep = set(context.parameters(PruneParameters).keep)
    for done, name in enumerate(sorted(context.task.inputs), start=1):
        artifact, manifest = context.manifest(name)
        if artifact.store != context.task.output.store:
            raise InvalidTask(f"inputs: {name} lies in another store than the output")
        prefix = artifact.uri.removesuffix(MANIFEST)
        kept = {
            f"{prefix}{file.path}"
            for file in manifest.files
            if file.path.rsplit("/", 1)[-1] in keep
        }
        for uri in context.output.list(f"{prefix}attempts/"):
            if uri not in kept:
                context.output.delete(uri)
        context.progress(done, len(context.task.inputs), "artifacts")
    context.publish({})
