"""A folder as a custodian may have saved it: journal, releases, keys, the budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from palimpsest.receipts.keys import public_pem
from unit.audit.ground import PREFIX, RELEASES, WEIGHTS, Paid, paid, resource
from unit.receipts.ground import signer


@dataclass(frozen=True)
class Saved:
    """Folders and files by what they are given to."""

    folder: Path
    made: Paid

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    @property
    def release(self) -> Path:
        return self.folder / "releases" / PREFIX.removeprefix(RELEASES)

    def options(self) -> Sequence[str]:
        """All of it, for verify."""
        return [
            f"--journal={self.journal}",
            f"--budget-file={self.folder / 'budget.yaml'}",
            f"--releases={self.folder / 'releases'}",
            f"--keys={self.folder / 'keys'}",
            "--files",
        ]

    def budget(self, raw: Mapping[str, object]) -> None:
        """Save another budget."""
        (self.folder / "budget.yaml").write_text(yaml.safe_dump(dict(raw)))


def save(folder: Path) -> Saved:
    """A sound one."""
    made = paid()
    saved = Saved(folder, made)
    saved.journal.mkdir()
    for name, data in made.objects.items():
        (saved.journal / name).write_bytes(data)
    key = signer(folder / "private")
    (folder / "keys").mkdir()
    (folder / "keys" / "one.pub").write_text(public_pem(key.public_key))
    release = made.release(key)
    (saved.release / "attempts/1-x").mkdir(parents=True)
    (saved.release / "attempts/1-x/adapter_model.safetensors").write_bytes(WEIGHTS)
    (saved.release / "manifest.json").write_bytes(made.manifest)
    (saved.release / "receipt.json").write_bytes(release.receipt or b"")
    saved.budget(resource(made.state))
    return saved
