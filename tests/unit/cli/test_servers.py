"""`palimpsest operator` and `palimpsest admission`, when they cannot start."""

import os
import socket
import subprocess
import sys
from pathlib import Path

PALIMPSEST = str(Path(sys.executable).with_name("palimpsest"))


def start(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PALIMPSEST, *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_an_operator_without_its_configuration_says_so(tmp_path: Path) -> None:
    missing = str(tmp_path / "config.yaml")
    done = start("operator", PALIMPSEST_CONFIG=missing)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f"Error: {missing}: cannot be read")
    assert "Traceback" not in done.stderr


def test_a_wrong_configuration_names_every_field(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("{stageImage: x, stores: [{endpoint: s3}], lease: {namespace: a.b}, seed: 1}")
    done = start("operator", PALIMPSEST_CONFIG=str(path))
    assert done.returncode == 1
    for field in ("stores.0.endpoint", "lease.namespace", "seed"):
        assert field in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_cannot_be_entered_is_named_with_the_ways_in(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    store = "{endpoint: 'https://s3.example.com', roleArn: 'arn:aws:iam::123456789012:role/r'}"
    path.write_text(f"{{stageImage: x, stores: [{store}], lease: {{namespace: a}}}}")
    done = start("operator", PALIMPSEST_CONFIG=str(path))
    assert done.returncode == 1
    assert "stores.0: give credentials, or roleArn and tokenFile" in done.stderr


def test_admission_without_a_cluster_says_so(tmp_path: Path) -> None:
    done = start("admission", KUBECONFIG=str(tmp_path / "none"), HOME=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_an_unknown_log_level_is_refused(tmp_path: Path) -> None:
    done = start("admission", PALIMPSEST_LOG_LEVEL="loud", KUBECONFIG=str(tmp_path / "none"))
    assert done.returncode == 1
    assert "PALIMPSEST_LOG_LEVEL=loud: use debug, info, warning or error" in done.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "{apiVersion: v1, kind: Config, current-context: c, users: [{name: u, user: {}}],"
        " contexts: [{name: c, context: {cluster: k, user: u}}],"
        " clusters: [{name: k, cluster: {server: 'http://127.0.0.1:1'}}]}"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = start(
            *("admission", "--host=127.0.0.1", f"--port={port}", f"--certificates={tmp_path}"),
            KUBECONFIG=str(kubeconfig),
        )
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr
