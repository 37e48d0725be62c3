"""A store of files. Creation is exclusive in the file system, as a conditional write is in S3."""

import os
import uuid
from pathlib import Path

from palimpsest.ledger import DataIdentity, LimitBody, Subject
from palimpsest.privacy.mechanisms import DiscreteGaussian, PoissonSubsampledGaussian
from palimpsest.storage import NotFound, parse_uri

URI = "s3://private/chat/"
DATA = DataIdentity(
    uri=URI, format="JSONL", textField="instruction", records=15_000, privacyUnit="Record"
)
LIMIT = LimitBody(epsilon="8", delta="1e-5")
ORDER = 4
HISTOGRAM = DiscreteGaussian(noiseMultiplier="10")


def training(noise: str = "1", steps: int = 40) -> PoissonSubsampledGaussian:
    return PoissonSubsampledGaussian(batch=256, records=15_000, noiseMultiplier=noise, steps=steps)


def subject(name: str = "generator", cluster: str = "one") -> Subject:
    return Subject(namespace="team-a", kind="PrivateGenerator", name=name, cluster=cluster)


def task(number: int = 0) -> str:
    return f"sha256:{number:064x}"


class FolderStore:
    """Objects as files; an object appears whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, uri: str) -> Path:
        at = parse_uri(uri)
        return self.folder / at.bucket / at.key

    def get(self, uri: str) -> bytes:
        try:
            return self.path(uri).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(uri) from error

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        path = self.path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.parent / f".{uuid.uuid4().hex}"
        draft.write_bytes(data)
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True
