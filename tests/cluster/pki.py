"""Certificates of a cluster that lives for days on one machine, made by openssl."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from cluster import cache
from cluster.commands import run

DAYS = "365"


@dataclass(frozen=True)
class Identity:
    """A private key and its certificate, PEM files."""

    key: Path
    certificate: Path


class Authority:
    """A certificate authority kept in a folder; it signs each identity once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.identity = Identity(folder / "ca.key", folder / "ca.crt")
        if not self.identity.certificate.exists():
            self._key(self.identity.key)
            _openssl(
                *("req", "-x509", "-new", "-key", self.identity.key, "-days", DAYS),
                *("-subj", "/CN=palimpsest-test-ca", "-out", self.identity.certificate),
                *("-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"),
            )

    def sign(
        self, user: str, groups: tuple[str, ...] = (), names: tuple[str, ...] = ()
    ) -> Identity:
        """An identity for a client (user, groups) that also serves under `names` (DNS or IP)."""
        stem = user.replace(":", "-").replace("/", "-")
        made = Identity(self.folder / f"{stem}.key", self.folder / f"{stem}.crt")
        if made.certificate.exists():
            return made
        self._key(made.key)
        extensions = "keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth,serverAuth\n"
        if names:
            kinds = (f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in names)
            extensions += f"subjectAltName={','.join(kinds)}\n"
        config = self.folder / f"{stem}.ext"
        config.write_text(extensions)
        request = self.folder / f"{stem}.csr"
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        _openssl("req", "-new", "-key", made.key, "-subj", subject, "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-days", DAYS, "-extfile", config),
            *("-CA", self.identity.certificate, "-CAkey", self.identity.key, "-CAcreateserial"),
            *("-out", made.certificate),
        )
        return made

    def key_pair(self, name: str) -> Identity:
        """A bare key pair (its `certificate` is the public key): signs service account tokens."""
        made = Identity(self.folder / f"{name}.key", self.folder / f"{name}.pub")
        if not made.certificate.exists():
            self._key(made.key)
            _openssl("pkey", "-in", made.key, "-pubout", "-out", made.certificate)
        return made

    def kubeconfig(self, path: Path, server: str, identity: Identity) -> Path:
        """Writes a kubeconfig (JSON is YAML) with everything inline, mode 0600."""

        def inline(file: Path) -> str:
            return base64.b64encode(file.read_bytes()).decode()

        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "palimpsest",
            "clusters": [
                {
                    "name": "palimpsest",
                    "cluster": {
                        "server": server,
                        "certificate-authority-data": inline(self.identity.certificate),
                    },
                }
            ],
            "users": [
                {
                    "name": "admin",
                    "user": {
                        "client-certificate-data": inline(identity.certificate),
                        "client-key-data": inline(identity.key),
                    },
                }
            ],
            "contexts": [
                {"name": "palimpsest", "context": {"cluster": "palimpsest", "user": "admin"}}
            ],
        }
        cache.write_atomic(path, json.dumps(document, indent=1), 0o600)
        return path

    @staticmethod
    def _key(path: Path) -> None:
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
        path.chmod(0o600)


def _openssl(*arguments: str | Path) -> None:
    run(["openssl", *arguments], what="making a certificate", remedy="Install openssl.")


def _is_address(name: str) -> bool:
    return name.replace(".", "").isdigit()
