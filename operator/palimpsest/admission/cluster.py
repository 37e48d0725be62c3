"""What admission reads from the API server: fresh, by GET, nothing cached."""

from collections.abc import Callable
from typing import Any

from kubernetes.client import ApiClient, Configuration, CoreV1Api, CustomObjectsApi, VersionApi
from kubernetes.client.exceptions import ApiException

from palimpsest.api import GROUP, VERSION
from palimpsest.api.budget import PrivacyBudget
from palimpsest.api.dataset import SyntheticDataset, SyntheticDatasetSpec
from palimpsest.api.generator import PrivateGenerator, PrivateGeneratorSpec

from .fit import Budget

# An attempt and one more, for a kept connection that the server has closed, end before the
# webhook's own timeout of five seconds: who waits is told what failed.
TIMEOUT_SECONDS = 2
RETRIES = 1
# Budgets at a time: their statuses list charges.
PAGE = 100


class ApiCluster:
    """Look-ups by a client of its own; they raise ApiException or urllib3's errors."""

    def __init__(self, configuration: Configuration) -> None:
        configuration.retries = RETRIES
        client = ApiClient(configuration)
        self._objects = CustomObjectsApi(client)
        self._core = CoreV1Api(client)
        self._version = VersionApi(client)

    def budget(self, name: str) -> Budget | None:
        """The PrivacyBudget, or None if there is none. Raises ValueError if it is malformed."""
        found = _found(
            lambda: self._objects.get_cluster_custom_object(
                GROUP, VERSION, PrivacyBudget.plural, name, _request_timeout=TIMEOUT_SECONDS
            )
        )
        return None if found is None else Budget.of(found)

    def private(self) -> dict[str, str]:
        """URIs of private data by the names of their PrivacyBudgets."""
        found: dict[str, str] = {}
        following = ""
        while True:
            page = self._objects.list_cluster_custom_object(
                GROUP,
                VERSION,
                PrivacyBudget.plural,
                limit=PAGE,
                _continue=following,
                _request_timeout=TIMEOUT_SECONDS,
            )
            for each in page["items"]:
                found[each["metadata"]["name"]] = each["spec"]["dataset"]["uri"]
            following = page["metadata"].get("continue")
            if not following:
                return found

    def generator(self, namespace: str, name: str) -> PrivateGeneratorSpec | None:
        """The PrivateGenerator's spec, or None. Raises ValueError if it is malformed."""
        found = self._namespaced(PrivateGenerator.plural, namespace, name)
        return None if found is None else PrivateGeneratorSpec.model_validate(found["spec"])

    def dataset(self, namespace: str, name: str) -> SyntheticDatasetSpec | None:
        """The SyntheticDataset's spec, or None. Raises ValueError if it is malformed."""
        found = self._namespaced(SyntheticDataset.plural, namespace, name)
        return None if found is None else SyntheticDatasetSpec.model_validate(found["spec"])

    def _namespaced(self, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        return _found(
            lambda: self._objects.get_namespaced_custom_object(
                GROUP, VERSION, namespace, plural, name, _request_timeout=TIMEOUT_SECONDS
            )
        )

    def labels(self, namespace: str) -> dict[str, str]:
        """The namespace's labels."""
        found = self._core.read_namespace(namespace, _request_timeout=TIMEOUT_SECONDS)
        return dict(found.metadata.labels or {})

    def reachable(self) -> bool:
        """Whether the API server answers."""
        try:
            self._version.get_code(_request_timeout=TIMEOUT_SECONDS)
        except Exception:
            return False
        return True


def _found(get: Callable[[], Any]) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = get()
    except ApiException as error:
        if error.status == 404:
            return None
        raise
    return found
