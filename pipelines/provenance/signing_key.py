"""The key and the certificates that sign what Sfumato makes: named by environment variables, else for development."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from pipelines import storage
from pipelines.assets.cache import cache_folder
from pipelines.provenance import development_certificate

CERT, KEY = "SFUMATO_C2PA_CERT", "SFUMATO_C2PA_KEY"
"""Environment variables: paths or URLs of the certificate chain (PEM, the signer's first) and its private key (PEM)."""
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class SigningFiles:
    """Where key and certificates are. Plain data: it travels to workers, the key itself does not."""

    cert: str | None = None
    """Path or URL; None, like `key`: the development certificate."""
    key: str | None = None

    @staticmethod
    def from_environment() -> SigningFiles:
        """Read `CERT` and `KEY`. Raises ValueError when one of them is missing."""
        cert, key = os.environ.get(CERT) or None, os.environ.get(KEY) or None
        if (cert is None) != (key is None):
            given, lacking = (CERT, KEY) if key is None else (KEY, CERT)
            raise ValueError(f"{given} is set and {lacking} is not: signing needs both")
        return SigningFiles(cert, key)

    def absolute(self) -> SigningFiles:
        """Return the files with absolute paths, for workers in other working folders."""
        return SigningFiles(*(None if url is None else storage.absolute(url) for url in (self.cert, self.key)))


@dataclass(frozen=True)
class SigningKey:
    """What signs."""

    algorithm: str
    """C2PA's name: es256, es384, es512, ps256 or ed25519."""
    chain: bytes
    """PEM, the signer's certificate first."""
    private_key: bytes = field(repr=False)
    is_development: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for the user of a development certificate."""
        text = f"signed by a development certificate, which nobody trusts: {CERT} and {KEY} name one of your own"
        return (text,) if self.is_development else ()


def load_signing_key(files: SigningFiles | None = None) -> SigningKey:
    """Read key and certificates and check that they fit together; None: those of the environment.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is no PEM of its kind, or has a password; the key is another's or of an unsupported kind;
            the certificate is not valid now, or its issuer's is missing.
    """
    files = files or SigningFiles.from_environment()
    if files.cert is None or files.key is None:
        pem = development_certificate.read_or_make(cache_folder())
        return _signing_key(pem, pem, ("the development certificate", "its key"), is_development=True)
    return _signing_key(_read(files.cert), _read(files.key), (files.cert, files.key), is_development=False)


def _read(url: str) -> bytes:
    storage.check_file(url)
    return storage.read_bytes(url)


def _signing_key(chain: bytes, key: bytes, names: tuple[str, str], *, is_development: bool) -> SigningKey:
    certificates = read_certificates(chain, names[0])
    leaf = certificates[0]
    try:
        private = load_pem_private_key(key, None)
    except TypeError:
        raise ValueError(f"{names[1]} has a password: signing needs a key without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{names[1]} holds no private key in PEM") from None
    algorithm = _algorithm(private)
    if algorithm is None:
        raise ValueError(f"{names[1]} is of a kind that C2PA does not know: an EC, RSA or Ed25519 key is needed")
    if _public(private.public_key()) != _public(leaf.public_key()):
        raise ValueError(f"{names[1]} is not the key of the first certificate in {names[0]}")
    if not leaf.not_valid_before_utc <= datetime.now(UTC) < leaf.not_valid_after_utc:
        raise ValueError(
            f"{names[0]} is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d},"
            " not now"
        )
    if len(certificates) < 2:
        raise ValueError(f"{names[0]} holds one certificate: that of its issuer has to follow")
    pem = b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
    plain = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return SigningKey(algorithm, pem, plain, is_development)


def read_certificates(pem: bytes, name: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM, one at least. Raises ValueError."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError(f"{name} holds no certificates in PEM") from None


def _algorithm(private: object) -> str | None:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return _CURVES.get(private.curve.name)
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    return "ed25519" if isinstance(private, ed25519.Ed25519PrivateKey) else None


def _public(key: object) -> bytes:
    data: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return data
