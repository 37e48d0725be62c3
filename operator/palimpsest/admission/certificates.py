"""The serving certificate: read from a mounted Secret, renewed in the live TLS context."""

import hashlib
import logging
import ssl
from pathlib import Path

from cryptography import x509

from palimpsest.telemetry import admission

log = logging.getLogger(__name__)

CERTIFICATE = "tls.crt"
KEY = "tls.key"


class Certificates:
    """A server context that follows the files `tls.crt` and `tls.key` of a directory.

    New handshakes use the new certificate; connections in progress are left alone.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loaded = ""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    @property
    def loaded(self) -> bool:
        """Whether there is a certificate to serve."""
        return bool(self._loaded)

    def refresh(self) -> bool:
        """Load the files if they changed; whether it did. An unusable pair leaves the old one."""
        # A mounted Secret is swapped by moving the link `..data`: behind it the pair is one.
        swapped = self._directory / "..data"
        pair = (swapped if swapped.exists() else self._directory).resolve()
        certificate, key = pair / CERTIFICATE, pair / KEY
        try:
            served = certificate.read_bytes()
            digest = hashlib.sha256(served + key.read_bytes()).hexdigest()
            if digest == self._loaded:
                return False
            expires = x509.load_pem_x509_certificates(served)[0].not_valid_after_utc
            # Tried apart first: a failed load leaves a context with half a pair.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
            self.context.load_cert_chain(certificate, key)
        except (OSError, ValueError) as error:
            log.warning(
                "certificate not loaded",
                extra={"directory": str(self._directory), "error": type(error).__name__},
            )
            return False
        self._loaded = digest
        admission.observe_certificate("leaf", expires.timestamp())
        log.info("certificate loaded", extra={"directory": str(self._directory)})
        return True
