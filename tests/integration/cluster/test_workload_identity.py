"""A store entered with a service account's token: a real API server signs, a real STS believes it.

MinIO is the store and the token service; it fetches the API server's keys itself. It serves TLS
under a private authority and has a key for server-side encryption.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster import store as accounts
from cluster import toolchain
from cluster.fixtures import ControlPlane, free_ports, process
from cluster.pki import Authority
from palimpsest.api.common import Encryption
from palimpsest.api.task import (
    TOKEN_FILE,
    ClusterParameters,
    Output,
    StoreAccess,
    Subject,
    Task,
)
from palimpsest.api.task import WebIdentity as RoleIdentity
from palimpsest.storage import AccessDenied, S3Store, StoreConfig, StoreUnavailable, WebIdentity
from palimpsest_stage.runtime import Stores

AUDIENCE = "sts.palimpsest.test"
NAMESPACE, ACCOUNT = "identity", "private-data"
OBJECT = "s3://data/one"

DISCOVERY = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "issuer-discovery-by-all"},
    "roleRef": {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "system:service-account-issuer-discovery",
    },
    "subjects": [
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}
    ],
}


@dataclass(frozen=True)
class Trusting:
    """A store that gives `role` to whoever has a token of the cluster for AUDIENCE."""

    plane: ControlPlane
    endpoint: str
    authority: Path
    role: str
    folder: Path

    def token(self, audience: str = AUDIENCE) -> Path:
        """A fresh token of the service account, in a file."""
        file = self.folder / f"token-{secrets.token_hex(4)}"
        file.write_text(
            self.plane.kubectl(
                *("create", "token", ACCOUNT, "-n", NAMESPACE),
                *(f"--audience={audience}", "--duration=1h"),
            ).strip()
        )
        return file

    def store(self, token: Path, encryption: Encryption | None = None) -> S3Store:
        """The store, entered with a token."""
        return S3Store(
            StoreConfig(
                self.endpoint,
                "us-east-1",
                True,
                str(self.authority),
                WebIdentity(self.role, token, self.endpoint),
                encryption,
            )
        )


@pytest.fixture(scope="module")
def trusting(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trusting]:
    plane, folder = control_plane, tmp_path_factory.mktemp("identity")
    plane.kubectl("create", "namespace", NAMESPACE)
    plane.kubectl("create", "serviceaccount", ACCOUNT, "-n", NAMESPACE)
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(DISCOVERY))
    certificates = folder / "certificates"
    (certificates / "CAs").mkdir(parents=True)
    served = Authority(folder / "pki").sign("minio", names=("127.0.0.1",))
    (certificates / "public.crt").write_bytes(served.certificate.read_bytes())
    (certificates / "private.key").write_bytes(served.key.read_bytes())
    cluster_ca = (plane.folder / "pki" / "ca.crt").read_bytes()
    (certificates / "CAs" / "cluster.crt").write_bytes(cluster_ca)
    port, console = free_ports(2)
    root = accounts.Credentials("root", secrets.token_urlsafe(30))
    settings = {
        "MINIO_ROOT_USER": root.access_key,
        "MINIO_ROOT_PASSWORD": root.secret_key,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "MINIO_CI_CD": "on",  # the data may lie on the root file system
        "MINIO_KMS_SECRET_KEY": "test:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "MINIO_IDENTITY_OPENID_CONFIG_URL": f"{plane.server}/.well-known/openid-configuration",
        "MINIO_IDENTITY_OPENID_CLIENT_ID": AUDIENCE,
        "MINIO_IDENTITY_OPENID_ROLE_POLICY": "readwrite",
    }
    command = [str(toolchain.minio() / "minio"), "server", f"--address=127.0.0.1:{port}"]
    command += [f"--console-address=127.0.0.1:{console}", f"--certs-dir={certificates}"]
    endpoint, authority = f"https://127.0.0.1:{port}", folder / "pki" / "ca.crt"
    with process(folder, "minio", [*command, str(folder / "data")], settings):
        _await(f"{endpoint}/minio/health/ready", authority)
        role = _role(folder / "minio.log")
        made = Trusting(plane, endpoint, authority, role, folder)
        (folder / "data" / "data").mkdir()  # a bucket
        yield made


def _await(url: str, authority: Path) -> None:
    context, deadline = ssl.create_default_context(cafile=authority), time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, context=context, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _role(log: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = re.search(r"arn:minio:iam:::role/\S+", log.read_text())
        if found:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def test_a_token_of_the_cluster_enters(trusting: Trusting) -> None:
    store = trusting.store(trusting.token())
    assert store.put_if_absent(OBJECT, b"first")
    assert not store.put_if_absent(OBJECT, b"second")
    assert store.get(OBJECT) == b"first"
    assert list(store.list("s3://data/")) == [OBJECT]


def test_a_token_for_somebody_else_does_not(trusting: Trusting) -> None:
    with pytest.raises(AccessDenied, match="the token service refused the role"):
        trusting.store(trusting.token("other.test")).get(OBJECT)


def test_without_a_token_it_is_said_where_one_was_looked_for(trusting: Trusting) -> None:
    nowhere, said = trusting.folder / "nowhere", "no token to assume the role with"
    with pytest.raises(AccessDenied, match=said):
        trusting.store(nowhere).get(OBJECT)
    with pytest.raises(AccessDenied, match=said):
        trusting.store(nowhere).put_if_absent(OBJECT, b"")
    with pytest.raises(AccessDenied, match=said):
        trusting.store(nowhere).upload_file(trusting.authority, OBJECT)


def test_keys_of_the_environment_are_not_used(
    trusting: Trusting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/wrong")
    store = trusting.store(trusting.token())
    store.put("s3://data/two", b"mine")
    assert store.get("s3://data/two") == b"mine"


def test_what_is_written_is_encrypted_as_asked(trusting: Trusting, tmp_path: Path) -> None:
    store = trusting.store(trusting.token(), Encryption(type="AES256"))
    (tmp_path / "file").write_bytes(b"large")
    store.put("s3://data/put", b"-")
    store.put_if_absent("s3://data/absent", b"-")
    store.upload_file(tmp_path / "file", "s3://data/upload")
    for key in ("put", "absent", "upload"):
        at = store._client.head_object(Bucket="data", Key=key)
        assert at["ServerSideEncryption"] == "AES256"
    plain = trusting.store(trusting.token())
    plain.put("s3://data/plain", b"-")
    assert "ServerSideEncryption" not in store._client.head_object(Bucket="data", Key="plain")


def test_a_private_authority_must_be_named(trusting: Trusting) -> None:
    identity = WebIdentity(trusting.role, trusting.token(), trusting.endpoint)
    with pytest.raises(StoreUnavailable):
        S3Store(StoreConfig(trusting.endpoint, "us-east-1", True, None, identity)).get(OBJECT)


def test_a_stage_enters_with_what_its_task_says(trusting: Trusting, tmp_path: Path) -> None:
    identity = RoleIdentity(
        role_arn=trusting.role, audience=AUDIENCE, token_endpoint=trusting.endpoint
    )
    mounted = tmp_path / "stores" / identity.folder
    mounted.mkdir(parents=True)
    (mounted / TOKEN_FILE).write_bytes(trusting.token().read_bytes())
    task = Task(
        subject=Subject(namespace="n", kind="SyntheticDataset", name="d"),
        parameters=ClusterParameters(clusters=2),
        stores={
            "outputs": StoreAccess(
                endpoint=trusting.endpoint,
                region="us-east-1",
                path_style=True,
                ca_bundle=trusting.authority.read_text(),
                sse=Encryption(type="AES256"),
                credentials=identity,
            )
        },
        inputs={},
        output=Output(store="outputs", uri="s3://data/out/"),
    )
    told = Task.model_validate_json(task.model_dump_json(by_alias=True))
    store = Stores(told, tmp_path / "stores", tmp_path / "scratch")["outputs"]
    store.put("s3://data/stage", b"-")
    at = store._client.head_object(Bucket="data", Key="stage")
    assert at["ServerSideEncryption"] == "AES256"
