"""What the commands read of a cluster, with the caller's own rights."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import ValidationError
from securesystemslib.signer import SSlibKey

from palimpsest.api.alignment import AlignmentRun
from palimpsest.api.budget import PrivacyBudget
from palimpsest.api.crd import Resource
from palimpsest.api.dataset import SyntheticDataset
from palimpsest.api.generator import PrivateGenerator
from palimpsest.receipts.keys import public_key

from .connection import API_SECONDS, Connection
from .errors import CouldNotCheckError, NotThereError, Request, missing

KEYS_CONFIG_MAP = "palimpsest-receipt-keys"

R = TypeVar("R", bound=PrivateGenerator | SyntheticDataset | AlignmentRun)


@dataclass(frozen=True)
class Named:
    """A PrivacyBudget by name; `trouble` says what of it this program does not understand."""

    name: str
    budget: PrivacyBudget | None
    trouble: str = ""


def read_budget(raw: Mapping[str, Any]) -> Named:
    """The resource; without its status where that cannot be read."""
    metadata = raw.get("metadata")
    name = str(metadata.get("name", "")) if isinstance(metadata, Mapping) else ""
    spec, status = raw.get("spec"), raw.get("status")
    try:
        return Named(name, PrivacyBudget.model_validate({"spec": spec, "status": status}))
    except ValidationError as error:
        trouble = _fields(error)
    try:
        return Named(name, PrivacyBudget.model_validate({"spec": spec}), trouble)
    except ValidationError as error:
        return Named(name, None, _fields(error))


def budget_file(path: Path) -> Named:
    """A PrivacyBudget in a file (YAML or JSON). Raises CouldNotCheckError."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise CouldNotCheckError(f"{path}: no YAML ({type(error).__name__})") from error
    if not isinstance(raw, Mapping) or raw.get("kind") != PrivacyBudget.kind:
        raise CouldNotCheckError(f"{path}: no PrivacyBudget; save one: kubectl get pb NAME -o yaml")
    return read_budget(raw)


class Cluster:
    """What the caller may read of a cluster."""

    def __init__(self, kubeconfig: Path | None, context: str | None, otherwise: str = "") -> None:
        """`otherwise` is what helps where there is no cluster. Raises CouldNotCheckError."""
        self._connection = Connection(kubeconfig, context, otherwise)

    @property
    def namespace(self) -> str:
        """The one that the context names."""
        return self._connection.namespace

    def resource(self, kind: type[R], namespace: str, name: str) -> R:
        """A namespaced resource. Raises CouldNotCheckError."""
        raw = self._connection.read(cast(Resource, kind), namespace, name)
        try:
            made = kind.model_validate({"spec": raw.get("spec"), "status": raw.get("status")})
            return cast(R, made)
        except ValidationError as error:
            raise CouldNotCheckError(f"{kind.kind} {namespace}/{name}: {_fields(error)}") from error

    def budgets(self, names: Iterable[str]) -> list[Named]:
        """The PrivacyBudgets of these names, or all. Raises CouldNotCheckError."""
        found = self._connection.listed(PrivacyBudget, "")
        known = {each["metadata"]["name"]: each for each in found["items"]}
        wanted = list(dict.fromkeys(names)) or sorted(known)
        absent = [name for name in wanted if name not in known]
        if absent:
            raise NotThereError(missing(PrivacyBudget.kind, absent, known))
        return [read_budget(known[name]) for name in wanted]

    def keys(self, namespace: str) -> list[SSlibKey]:
        """The receipts' public keys, as the operator publishes them. Raises CouldNotCheckError."""
        found = self._connection.ask(
            Request("get", "configmaps", namespace, KEYS_CONFIG_MAP),
            lambda: self._connection.core.read_namespaced_config_map(
                KEYS_CONFIG_MAP, namespace, _request_timeout=API_SECONDS
            ),
        )
        try:
            return [
                public_key(pem.encode(), f"ConfigMap {namespace}/{KEYS_CONFIG_MAP}: {name}")
                for name, pem in sorted((found.data or {}).items())
            ]
        except ValueError as error:
            raise CouldNotCheckError(str(error)) from error


def _fields(error: ValidationError) -> str:
    wrong = error.errors(include_url=False, include_input=False)
    return "; ".join(
        f"{'.'.join(map(str, each['loc']))[:120]}: {each['msg'][:120]}" for each in wrong[:5]
    )
