"""What the commands read of a cluster, with the caller's own rights."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import yaml
from pydantic import ValidationError
from securesystemslib.signer import SSlibKey

from palimpsest.api import GROUP, VERSION
from palimpsest.api.alignment import AlignmentRun
from palimpsest.api.budget import PrivacyBudget
from palimpsest.api.dataset import SyntheticDataset
from palimpsest.api.generator import PrivateGenerator
from palimpsest.receipts.keys import public_key

KEYS_CONFIG_MAP = "palimpsest-receipt-keys"
_API_SECONDS = 15

R = TypeVar("R", bound=PrivateGenerator | SyntheticDataset | AlignmentRun)


class CouldNotCheckError(click.ClickException):
    """Nothing can be said; exit code 2."""

    exit_code = 2


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

    def __init__(self, kubeconfig: Path | None, context: str | None) -> None:
        """Raises CouldNotCheckError."""
        from kubernetes import client  # noqa: PLC0415 - slow, and not needed offline
        from kubernetes.config import ConfigException, load_config  # noqa: PLC0415

        try:
            load_config(config_file=str(kubeconfig) if kubeconfig else None, context=context)
        except (ConfigException, OSError, yaml.YAMLError, TypeError, ValueError) as error:
            raise CouldNotCheckError(
                f"no cluster: {' '.join(str(error).split())[:300]}; give --kubeconfig, or "
                "--journal to work without a cluster"
            ) from error
        self._custom, self._core = client.CustomObjectsApi(), client.CoreV1Api()
        self._kubeconfig, self._context = kubeconfig, context

    @property
    def namespace(self) -> str:
        """The one that the context names."""
        from kubernetes.config import ConfigException, list_kube_config_contexts  # noqa: PLC0415

        try:
            every, active = list_kube_config_contexts(
                str(self._kubeconfig) if self._kubeconfig else None
            )
        except ConfigException:
            # In a pod there is no file.
            return "default"
        chosen = [each for each in every if each["name"] == self._context] or [active]
        return str(chosen[0]["context"].get("namespace") or "default")

    def resource(self, kind: type[R], namespace: str, name: str) -> R:
        """A namespaced resource. Raises CouldNotCheckError."""
        raw = self._ask(
            f"read {kind.kind} {namespace}/{name}",
            lambda: self._custom.get_namespaced_custom_object(
                GROUP, VERSION, namespace, kind.plural, name, _request_timeout=_API_SECONDS
            ),
        )
        try:
            made = kind.model_validate({"spec": raw.get("spec"), "status": raw.get("status")})
            return cast(R, made)
        except ValidationError as error:
            raise CouldNotCheckError(f"{kind.kind} {namespace}/{name}: {_fields(error)}") from error

    def budgets(self, names: Iterable[str]) -> list[Named]:
        """The PrivacyBudgets of these names, or all. Raises CouldNotCheckError."""
        found = self._ask(
            "list PrivacyBudgets",
            lambda: self._custom.list_cluster_custom_object(
                GROUP, VERSION, PrivacyBudget.plural, _request_timeout=_API_SECONDS
            ),
        )
        known = {each["metadata"]["name"]: each for each in found["items"]}
        wanted = list(dict.fromkeys(names)) or sorted(known)
        missing = [name for name in wanted if name not in known]
        if missing:
            there = ", ".join(sorted(known)[:20]) or "none"
            raise CouldNotCheckError(f"no PrivacyBudget {', '.join(missing)}; there is: {there}")
        return [read_budget(known[name]) for name in wanted]

    def keys(self, namespace: str) -> list[SSlibKey]:
        """The receipts' public keys, as the operator publishes them. Raises CouldNotCheckError."""
        found = self._ask(
            f"read ConfigMap {namespace}/{KEYS_CONFIG_MAP}",
            lambda: self._core.read_namespaced_config_map(
                KEYS_CONFIG_MAP, namespace, _request_timeout=_API_SECONDS
            ),
        )
        try:
            return [
                public_key(pem.encode(), f"ConfigMap {namespace}/{KEYS_CONFIG_MAP}: {name}")
                for name, pem in sorted((found.data or {}).items())
            ]
        except ValueError as error:
            raise CouldNotCheckError(str(error)) from error

    @staticmethod
    def _ask(what: str, call: Callable[[], Any]) -> Any:
        from kubernetes.client import ApiException  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        try:
            return call()
        except ApiException as error:
            raise CouldNotCheckError(f"cannot {what}: {error.status} {error.reason}") from error
        except (HTTPError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CouldNotCheckError(f"cannot {what}: no answer from the API: {reason}") from error


def _fields(error: ValidationError) -> str:
    wrong = error.errors(include_url=False, include_input=False)
    return "; ".join(
        f"{'.'.join(map(str, each['loc']))[:120]}: {each['msg'][:120]}" for each in wrong[:5]
    )
