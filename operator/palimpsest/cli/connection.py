"""The API server that the caller's kubeconfig names, with the caller's own rights."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from palimpsest.api import GROUP, VERSION
from palimpsest.api.crd import Resource

from .errors import (
    CouldNotCheckError,
    NotThereError,
    Request,
    missing,
    no_answer,
    refusal,
)

API_SECONDS = 15
# The server ends a watch after this long; a connection that died unnoticed lasts no longer either.
WATCH_SECONDS = 60
# The stage's, in its pods.
CONTAINER = "stage"
_FIELD_MANAGER = "kubectl-palimpsest"

Json = dict[str, Any]


class Connection:
    """Calls to one API server; every one raises CouldNotCheckError where it gets no answer."""

    def __init__(self, kubeconfig: Path | None, context: str | None, otherwise: str = "") -> None:
        """`otherwise` is what else helps where there is no cluster."""
        from kubernetes import client  # noqa: PLC0415 - slow, and not needed offline
        from kubernetes.config import ConfigException, load_config  # noqa: PLC0415

        try:
            load_config(config_file=str(kubeconfig) if kubeconfig else None, context=context)
        except (ConfigException, OSError, yaml.YAMLError, TypeError, ValueError) as error:
            raise CouldNotCheckError(
                f"no cluster: {' '.join(str(error).split())[:300]}; give --kubeconfig or --context"
                f"{otherwise and f', or {otherwise}'}"
            ) from error
        self.custom, self.core = client.CustomObjectsApi(), client.CoreV1Api()
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

    @staticmethod
    def ask(request: Request, call: Callable[[], Any]) -> Any:
        """What `call` returns. Raises CouldNotCheckError with what is missing and what helps."""
        from kubernetes.client import ApiException  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        try:
            return call()
        except ApiException as error:
            raise refusal(request, error.status or 0, str(error.reason)) from error
        except (HTTPError, OSError, ValueError) as error:
            raise no_answer(request, str(error)) from error

    def listed(self, kind: Resource, namespace: str) -> Json:
        """The list of a kind's resources in `namespace` (empty: in all)."""
        call, place = self._lister(kind, namespace)
        found: Json = self.ask(
            Request("list", _resource(kind), _namespace(kind, namespace)),
            lambda: call(**place, _request_timeout=API_SECONDS),
        )
        return found

    def read(self, kind: Resource, namespace: str, name: str) -> Json:
        """One resource; where there is none, NotThereError says which there are."""
        request = Request("get", _resource(kind), _namespace(kind, namespace), name)
        where = {"group": GROUP, "version": VERSION, "plural": kind.plural, "name": name}
        where |= {"namespace": request.namespace} if request.namespace else {}
        call = (
            self.custom.get_namespaced_custom_object
            if request.namespace
            else self.custom.get_cluster_custom_object
        )
        try:
            found: Json = self.ask(request, lambda: call(**where, _request_timeout=API_SECONDS))
            return found
        except NotThereError as error:
            raise self._missing(kind, namespace, name) from error

    def events(self, kind: Resource, namespace: str, version: str) -> Iterator[Json]:
        """Events of a watch from a resourceVersion on, bookmarks too, until the server ends it.

        Raises GoneError where the version is too old.
        """
        from kubernetes.watch import Watch  # noqa: PLC0415

        call, place = self._lister(kind, namespace)
        request = Request("watch", _resource(kind), _namespace(kind, namespace))
        stream = Watch().stream(
            call,
            **place,
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=WATCH_SECONDS,
            _request_timeout=(API_SECONDS, WATCH_SECONDS + API_SECONDS),
        )
        while (event := self.ask(request, lambda: next(stream, None))) is not None:
            yield event

    def patch(self, kind: Resource, namespace: str, name: str, body: Json) -> Json:
        """The resource as it is after a merge patch."""
        request = Request("patch", _resource(kind), namespace, name)
        found: Json = self.ask(
            request,
            lambda: self.custom.patch_namespaced_custom_object(
                *(GROUP, VERSION, namespace, kind.plural, name, body),
                field_manager=_FIELD_MANAGER,
                _content_type="application/merge-patch+json",
                _request_timeout=API_SECONDS,
            ),
        )
        return found

    def pods(self, namespace: str, labels: Mapping[str, str]) -> list[Any]:
        """The pods that carry these labels."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self.ask(
            Request("list", "pods", namespace),
            lambda: self.core.list_namespaced_pod(
                namespace, label_selector=selector, _request_timeout=API_SECONDS
            ),
        )
        return list(found.items)

    def pod(self, namespace: str, name: str) -> Any:
        """One pod."""
        return self.ask(
            Request("get", "pods", namespace, name),
            lambda: self.core.read_namespaced_pod(name, namespace, _request_timeout=API_SECONDS),
        )

    def log(self, namespace: str, pod: str, tail: int | None) -> str:
        """What a stage's container wrote so far, of its last lines `tail` (None: all)."""
        more = {} if tail is None else {"tail_lines": tail}
        found: str = self.ask(
            Request("get", "pods/log", namespace, pod),
            lambda: self.core.read_namespaced_pod_log(
                pod, namespace, container=CONTAINER, _request_timeout=API_SECONDS, **more
            ),
        )
        return found

    def log_lines(self, namespace: str, pod: str, tail: int | None) -> Iterator[str]:
        """The same line by line, and what comes, until the container ends."""
        from kubernetes.watch import Watch  # noqa: PLC0415

        more = {} if tail is None else {"tail_lines": tail}
        request = Request("get", "pods/log", namespace, pod)
        stream = Watch().stream(
            self.core.read_namespaced_pod_log, pod, namespace, container=CONTAINER, **more
        )
        while (line := self.ask(request, lambda: next(stream, None))) is not None:
            yield line

    def _lister(self, kind: Resource, namespace: str) -> tuple[Callable[..., Any], dict[str, str]]:
        where = {"group": GROUP, "version": VERSION, "plural": kind.plural}
        if _namespace(kind, namespace):
            return self.custom.list_namespaced_custom_object, {**where, "namespace": namespace}
        return self.custom.list_cluster_custom_object, where

    def _missing(self, kind: Resource, namespace: str, name: str) -> NotThereError:
        known = [each["metadata"]["name"] for each in self.listed(kind, namespace)["items"]]
        place = _namespace(kind, namespace)
        return NotThereError(
            missing(kind.kind, [name], known, f" in namespace {place}" if place else "")
        )


def _resource(kind: Resource) -> str:
    return f"{kind.plural}.{GROUP}"


def _namespace(kind: Resource, namespace: str) -> str:
    return namespace if kind.scope == "Namespaced" else ""
