"""What an artifact was made by: the stages before it, as manifests tell, back to the releases.

Manifests outlive the files of intermediates, and each is read by the digest that the one after it
names.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from palimpsest.api.manifest import Manifest
from palimpsest.api.task import ArtifactInput, Input, Parameters
from palimpsest.receipts.place import receipt_uri

from palimpsest_stage.runtime import Context

# As a SyntheticDataset's stages name the custodian's store.
RELEASES = "releases"


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
    for depth, artifact, manifest in _walk(context.task.inputs.values(), context.read_manifest):
        if manifest is None:
            continue
        made = found.setdefault(manifest.task, Made(manifest.parameters))
        # Further back by another way: before all that it was made for.
        depths[manifest.task] = depth
        if artifact not in made.artifacts:
            made.artifacts.append(artifact)
            if manifest.charge is not None:
                made.receipts.append(receipt_uri(artifact.uri))
    return [found[task] for task in sorted(found, key=lambda task: -depths[task])]


def generator_of(made: list[Made]) -> str | None:
    """The digest of the generator's manifest."""
    found = [one.artifacts for one in made if one.parameters.stage == "train"]
    return found[0][0].digest if found else None


def receipts(context: Context, name: str) -> list[str]:
    """URIs of the receipts behind the data set called so, sorted. Raises InputMismatch.

    An alignment's keys need not open the releases: their manifests are not read. The data set's own
    lie with it, in whatever store of the task that is.
    """
    start = context.input(name, ArtifactInput)

    def read(artifact: ArtifactInput) -> Manifest | None:
        if artifact.store == RELEASES:
            return None
        return context.read_manifest(artifact.model_copy(update={"store": start.store}))

    walked = _walk([start], read)
    return sorted({receipt_uri(each.uri) for _, each, _ in walked if each.store == RELEASES})


def _walk(
    inputs: Iterable[Input], read: Callable[[ArtifactInput], Manifest | None]
) -> Iterator[tuple[int, ArtifactInput, Manifest | None]]:
    """(steps back, an artifact, its manifest) of all behind the inputs, each time it is met."""
    layer, depth = _artifacts(inputs), 0
    while layer:
        depth += 1
        following: list[ArtifactInput] = []
        for artifact in layer:
            manifest = read(artifact)
            yield depth, artifact, manifest
            if manifest is not None:
                following += _artifacts(manifest.inputs.values())
        layer = list({each.uri: each for each in following}.values())


def _artifacts(inputs: Iterable[Input]) -> list[ArtifactInput]:
    return [each for each in inputs if isinstance(each, ArtifactInput)]
