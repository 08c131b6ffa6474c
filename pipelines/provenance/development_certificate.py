"""A certificate for trying things out, made at first use: nobody's trust list has it.

C2PA asks for version 3 certificates, an issuer, the key usage digitalSignature and the extended key usage
emailProtection or documentSigning (specification 2.2, section 14.5, Certificate profile).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FILE = "c2pa-development.pem"
ORGANISATION = "Sfumato development certificate (untrusted)"
_YEARS = 10
_Key = ec.EllipticCurvePrivateKey


def read_or_make(folder: Path) -> bytes:
    """Return the key, the certificate and its issuer's in `folder` as one PEM; make them if there are none.

    The file is readable by its owner only. Processes that start together get the same one. In a folder that cannot be
    written, each process has one of its own.
    """
    path = folder / FILE
    with contextlib.suppress(OSError):
        found = path.read_bytes()
        if _is_valid(found):
            return found
        path.unlink()
    made = make()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=folder, prefix=".partial-")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as sink:
                sink.write(made)
            with contextlib.suppress(FileExistsError):
                os.link(partial, path)
        finally:
            Path(partial).unlink()
        return path.read_bytes()
    except OSError:
        return made


def make(begin: datetime | None = None, end: datetime | None = None) -> bytes:
    """Return a new ES256 key, its certificate and that of its issuer, as PEM. The issuer's key is thrown away."""
    begin = begin or datetime.now(UTC) - timedelta(days=1)
    end = end or begin + timedelta(days=365 * _YEARS)
    key, issuer_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _certificate("issuer", issuer_key, issuer_key, (begin, end))
    leaf = _certificate("signer", key, issuer_key, (begin, end))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return b"".join([private, *(each.public_bytes(Encoding.PEM) for each in (leaf, issuer))])


def _certificate(name: str, key: _Key, issuer_key: _Key, span: tuple[datetime, datetime]) -> x509.Certificate:
    is_issuer = key is issuer_key
    usage = x509.KeyUsage(not is_issuer, False, False, False, False, is_issuer, is_issuer, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name("issuer"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(span[0])
        .not_valid_after(span[1])
        .add_extension(x509.BasicConstraints(ca=is_issuer, path_length=0 if is_issuer else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not is_issuer:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    pairs = ((NameOID.ORGANIZATION_NAME, ORGANISATION), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in pairs])


def _is_valid(pem: bytes) -> bool:
    try:
        leaf = x509.load_pem_x509_certificates(pem)[0]
    except (ValueError, IndexError):
        return False
    return leaf.not_valid_before_utc <= datetime.now(UTC) < leaf.not_valid_after_utc
