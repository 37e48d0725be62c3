"""Configuration of the node's programs: pure functions from a cluster to documents."""

from __future__ import annotations

import json
from pathlib import Path

from cluster.images import PAUSE
from cluster.pki import Identity
from cluster.state import NODE, Cluster

SOCKET = "/run/containerd/containerd.sock"
KUBELET_ROOT = "/var/lib/kubelet"  # some of its sockets lie there whatever --root-dir says
CNI_BINARIES = "/usr/lib/cni"
CNI_RESULTS = "/var/lib/cni"


def containerd(cluster: Cluster) -> str:
    return f"""version = 2
root = "{cluster.runtime}/root"
state = "/run/containerd/state"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{cluster.runtime}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Where CAP_SYS_RESOURCE is missing a score below the parent's cannot be set.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_BINARIES}"
    conf_dir = "{cluster.folder}/cni"
"""


def cni(cluster: Cluster) -> str:
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": "/run/cni",
            "ranges": [[{"subnet": cluster.pod_cidr}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]})


def kubelet(cluster: Cluster, authority: Path, server: Identity) -> str:
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(server.certificate),
            "tlsPrivateKeyFile": str(server.key),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cluster.cgroup,
            "clusterDNS": [cluster.dns_address],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "resolvConf": str(cluster.folder / "resolv.conf"),
            "podLogsDir": str(cluster.logs / "pods"),
            "volumePluginDir": str(cluster.folder / "volume-plugins"),
            "failSwapOn": False,
            "seccompDefault": True,
            "healthzBindAddress": "127.0.0.1",
            # The images cannot be pulled again, so neither pressure nor age may remove them.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
            "logging": {"verbosity": 1},
        }
    )


def kubelet_command(binaries: Path, cluster: Cluster, kubeconfig: Path) -> list[str]:
    return [
        str(binaries / "kubelet"),
        f"--config={cluster.folder}/kubelet.json",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={KUBELET_ROOT}",
        f"--hostname-override={NODE}",
        f"--node-ip={cluster.node_address}",
    ]


def proxy_command(binaries: Path, cluster: Cluster, kubeconfig: Path) -> list[str]:
    return [
        str(binaries / "kube-proxy"),
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={NODE}",
        f"--cluster-cidr={cluster.pod_cidr}",
        "--proxy-mode=iptables",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
        "--healthz-bind-address=127.0.0.1",
        "--metrics-bind-address=127.0.0.1",
    ]
