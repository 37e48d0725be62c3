"""What a data set was made by: the stages before it, as their manifests tell, back to the release.

Manifests outlive the files of intermediates, and each is read by the digest that the one after it
names.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from palimpsest.api.manifest import Manifest
from palimpsest.api.task import ArtifactInput, Input, Parameters
from palimpsest.receipts.place import receipt_uri

from palimpsest_stage.runtime import Context


@dataclass(frozen=True)
class Made:
    """A stage's result, of all its shards; `receipts` where it was charged to a budget."""

    parameters: Parameters
    artifacts: list[ArtifactInput] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)


def lineage(context: Context) -> list[Made]:
    """Every stage before this one, the first first. Raises InputMismatch."""
    found: dict[str, Made] = {}
    depths: dict[str, int] = {}
    seen: set[str] = set()
    layer, depth = _artifacts(context.task.inputs.values()), 0
    while layer:
        depth += 1
        following: list[ArtifactInput] = []
        for artifact in layer:
            manifest = context.read_manifest(artifact)
            # Further back by another way: after all that it was made for.
            depths[manifest.task] = depth
            following += _artifacts(manifest.inputs.values())
            if artifact.uri not in seen:
                seen.add(artifact.uri)
                _add(found.setdefault(manifest.task, Made(manifest.parameters)), artifact, manifest)
        layer = list({each.uri: each for each in following}.values())
    return [found[task] for task in sorted(found, key=lambda task: -depths[task])]


def generator_of(made: list[Made]) -> str | None:
    """The digest of the generator's manifest."""
    found = [one.artifacts for one in made if one.parameters.stage == "train"]
    return found[0][0].digest if found else None


def _add(made: Made, artifact: ArtifactInput, manifest: Manifest) -> None:
    made.artifacts.append(artifact)
    if manifest.charge is not None:
        made.receipts.append(receipt_uri(artifact.uri))


def _artifacts(inputs: Iterable[Input]) -> list[ArtifactInput]:
    return [each for each in inputs if isinstance(each, ArtifactInput)]
