"""Command lines of the control plane: pure functions of addresses and files.

The cluster with a node and the pytest control plane run the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cluster.pki import Authority, Identity

SERVICE_ISSUER = "https://kubernetes.default.svc"


@dataclass(frozen=True)
class Addresses:
    """Where the control plane listens; `service_cidr` must hold `first_service`."""

    address: str
    api_port: int
    etcd_client_port: int
    etcd_peer_port: int
    controller_port: int
    service_cidr: str
    first_service: str

    @property
    def server(self) -> str:
        return f"https://{self.address}:{self.api_port}"


@dataclass(frozen=True)
class Keys:
    """The identities that the control plane needs."""

    authority: Authority
    server: Identity
    kubelet_client: Identity
    tokens: Identity
    admin: Path
    controller: Path
    scheduler: Path


def make_keys(folder: Path, at: Addresses) -> Keys:
    authority = Authority(folder)
    names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
    server = authority.sign(
        "kube-apiserver", names=(*names, at.address, "127.0.0.1", at.first_service)
    )

    def client(user: str, groups: tuple[str, ...] = ()) -> Path:
        stem = user.rsplit(":", 1)[-1]
        return authority.kubeconfig(
            folder / f"{stem}.conf", at.server, authority.sign(user, groups)
        )

    return Keys(
        authority=authority,
        server=server,
        kubelet_client=authority.sign("kube-apiserver-kubelet-client", ("system:masters",)),
        tokens=authority.key_pair("service-account"),
        admin=client("kubernetes-admin", ("system:masters",)),
        controller=client("system:kube-controller-manager"),
        scheduler=client("system:kube-scheduler"),
    )


def etcd(binaries: Path, data: Path, at: Addresses) -> list[str]:
    client = f"http://127.0.0.1:{at.etcd_client_port}"
    peer = f"http://127.0.0.1:{at.etcd_peer_port}"
    return [
        str(binaries / "etcd"),
        "--name=only",
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=only={peer}",
        "--unsafe-no-fsync",  # the data lives as long as the machine
        "--log-level=warn",
    ]


def apiserver(binaries: Path, keys: Keys, at: Addresses, *extra: str) -> list[str]:
    ca = keys.authority.identity.certificate
    return [
        str(binaries / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{at.etcd_client_port}",
        f"--secure-port={at.api_port}",
        f"--advertise-address={at.address}",
        f"--tls-cert-file={keys.server.certificate}",
        f"--tls-private-key-file={keys.server.key}",
        f"--client-ca-file={ca}",
        f"--kubelet-client-certificate={keys.kubelet_client.certificate}",
        f"--kubelet-client-key={keys.kubelet_client.key}",
        f"--kubelet-certificate-authority={ca}",
        f"--service-account-issuer={SERVICE_ISSUER}",
        f"--service-account-key-file={keys.tokens.certificate}",
        f"--service-account-signing-key-file={keys.tokens.key}",
        f"--service-cluster-ip-range={at.service_cidr}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged",
        "--enable-admission-plugins=NodeRestriction",
        *extra,
    ]


def controller_manager(binaries: Path, keys: Keys, at: Addresses, *extra: str) -> list[str]:
    ca = keys.authority.identity
    return [
        str(binaries / "kube-controller-manager"),
        f"--kubeconfig={keys.controller}",
        f"--root-ca-file={ca.certificate}",
        f"--cluster-signing-cert-file={ca.certificate}",
        f"--cluster-signing-key-file={ca.key}",
        f"--service-account-private-key-file={keys.tokens.key}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={at.controller_port}",
        *extra,
    ]


def scheduler(binaries: Path, keys: Keys) -> list[str]:
    return [
        str(binaries / "kube-scheduler"),
        f"--kubeconfig={keys.scheduler}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]
