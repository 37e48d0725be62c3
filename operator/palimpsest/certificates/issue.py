"""Makes CAs and leaves, and reads what a Secret or a caBundle holds of them."""

import datetime as dt
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .rotation import Authority, Leaf

# Clocks of the API servers may be behind by this much.
BACKDATE = dt.timedelta(minutes=5)
_BEGIN = b"-----BEGIN CERTIFICATE-----"


def make_authority(life: dt.timedelta, now: dt.datetime) -> tuple[bytes, bytes]:
    """A new CA: certificate and key in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "palimpsest-admission-ca")])
    certificate = (
        _builder(name, name, key.public_key(), key.public_key(), now, now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key)


def make_leaf(
    authority: tuple[bytes, bytes], names: Iterable[str], life: dt.timedelta, now: dt.datetime
) -> tuple[bytes, bytes]:
    """A serving certificate for `names` (DNS names, IP addresses) and its key, in PEM.

    It ends with its CA at the latest. Raises ValueError for a CA that is unusable.
    """
    signer = _certificate(authority[0])
    signing_key = _key(authority[1])
    key = ec.generate_private_key(ec.SECP256R1())
    ordered = sorted(names)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "palimpsest-admission")])
    expires = min(now + life, signer.not_valid_after_utc)
    certificate = (
        _builder(name, signer.subject, key.public_key(), signing_key.public_key(), now, expires)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(each) for each in ordered]), critical=False
        )
        .sign(signing_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key)


def read_authority(certificate: bytes, key: bytes) -> Authority | None:
    """The CA of a pair that can sign, else None."""
    try:
        found = _certificate(certificate)
        if found.public_key() != _key(key).public_key():
            return None
        if not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return None
        return _authority(found)
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return None


def read_bundle(text: bytes) -> tuple[Authority, ...]:
    """The certificates of a bundle; those that cannot be read are left out."""
    found = []
    for part in text.split(_BEGIN)[1:]:
        try:
            found.append(_authority(_certificate(_BEGIN + part)))
        except ValueError:
            continue
    return tuple(dict.fromkeys(found))


def read_leaf(certificate: bytes, key: bytes, known: Sequence[Authority]) -> Leaf | None:
    """The serving certificate of a pair that fits, else None; its issuer is sought in `known`."""
    try:
        found = _certificate(certificate)
        private = serialization.load_pem_private_key(key, None)
        if found.public_key() != private.public_key():
            return None
        names = _names(found)
    except (ValueError, TypeError):
        return None
    issuer = next((each for each in known if _signed_by(found, each)), None)
    return Leaf(
        issuer=issuer,
        names=names,
        issued=found.not_valid_before_utc + BACKDATE,
        expires=found.not_valid_after_utc,
    )


def _signed_by(certificate: x509.Certificate, authority: Authority) -> bool:
    try:
        certificate.verify_directly_issued_by(_certificate(authority.pem.encode()))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = (str(each) for each in names.get_values_for_type(x509.IPAddress))
    return frozenset((*names.get_values_for_type(x509.DNSName), *addresses))


def _authority(certificate: x509.Certificate) -> Authority:
    return Authority(
        pem=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        issued=certificate.not_valid_before_utc + BACKDATE,
        expires=certificate.not_valid_after_utc,
    )


def _certificate(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def _key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the CA's key is not one of an elliptic curve")
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    expires: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(expires)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        # Two CAs of one name: their keys tell them apart.
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
        )
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
