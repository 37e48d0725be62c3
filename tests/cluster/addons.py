"""What runs in the cluster before anything of ours: its DNS and the object store. Pure data."""

from __future__ import annotations

from typing import Any

from cluster.images import COREDNS, GATEWAY
from cluster.state import Cluster
from cluster.store import Credentials

Manifest = dict[str, Any]
STORE_PORT = 8080
RESTRICTED: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
COREFILE = """.:5353 {
    errors
    health :8081
    ready :8181
    kubernetes cluster.local in-addr.arpa {
        pods disabled
        ttl 5
    }
    cache 5
}
"""


def manifests(cluster: Cluster, root: Credentials) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [*_dns(cluster.dns_address), *_store(cluster, root)],
    }


def _dns(address: str) -> list[Manifest]:
    subject = {"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}
    probe = {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta("coredns", "kube-system")},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": [
                _rule("", "endpoints", "services", "pods", "namespaces"),
                _rule("discovery.k8s.io", "endpointslices"),
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:coredns",
            },
            "subjects": [subject],
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _meta("coredns", "kube-system"),
            "data": {"Corefile": COREFILE},
        },
        _deployment(
            "coredns",
            "kube-system",
            {
                "image": COREDNS,
                "args": ["-conf", "/etc/coredns/Corefile"],
                "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
                "readinessProbe": probe,
            },
            [{"name": "config", "configMap": {"name": "coredns"}}],
            serviceAccountName="coredns",
            dnsPolicy="Default",
        ),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _meta("kube-dns", "kube-system"),
            "spec": {
                "clusterIP": address,
                "selector": {"app": "coredns"},
                "ports": [
                    {"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53, "targetPort": 5353, "protocol": "TCP"},
                ],
            },
        },
    ]


def _store(cluster: Cluster, root: Credentials) -> list[Manifest]:
    data = {"name": "data", "hostPath": {"path": f"{cluster.folder}/store", "type": "Directory"}}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "store"}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": _meta("root", "store"),
            "stringData": {
                "ROOT_ACCESS_KEY": root.access_key,
                "ROOT_SECRET_KEY": root.secret_key,
            },
        },
        _deployment(
            "store",
            "store",
            {
                "image": GATEWAY,
                "args": [
                    *("--port", f":{STORE_PORT}", "--health", "/health", "--quiet"),
                    *("--iam-dir", "/store/accounts", "posix", "/store/data"),
                ],
                "envFrom": [{"secretRef": {"name": "root"}}],
                "volumeMounts": [{"name": "data", "mountPath": "/store"}],
                "readinessProbe": {
                    "httpGet": {"path": "/health", "port": STORE_PORT},
                    "periodSeconds": 1,
                },
            },
            [data],
            automountServiceAccountToken=False,
        ),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _meta("store", "store"),
            "spec": {
                "clusterIP": cluster.store_address,
                "selector": {"app": "store"},
                "ports": [{"name": "s3", "port": STORE_PORT}],
            },
        },
    ]


def _deployment(
    name: str,
    namespace: str,
    container: Manifest,
    volumes: list[Manifest],
    **pod: str | bool,
) -> Manifest:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(name, namespace),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    **pod,
                    "containers": [
                        {
                            "name": name,
                            "imagePullPolicy": "Never",
                            "securityContext": RESTRICTED,
                            **container,
                        }
                    ],
                    "volumes": volumes,
                },
            },
        },
    }


def _meta(name: str, namespace: str) -> Manifest:
    return {"name": name, "namespace": namespace}


def _rule(group: str, *resources: str) -> Manifest:
    return {"apiGroups": [group], "resources": list(resources), "verbs": ["list", "watch"]}
