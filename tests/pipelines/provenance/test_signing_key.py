"""Key and certificate from files: what fits together, and what is said of what does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from pipelines.provenance.development_certificate import make
from pipelines.provenance.signing_key import CERT, KEY, SigningFiles, load_signing_key

_END = b"-----END CERTIFICATE-----\n"


def _split(pem: bytes) -> tuple[bytes, bytes]:
    """Return the chain and the key."""
    at = pem.index(b"-----BEGIN CERTIFICATE")
    return pem[at:], pem[:at]


def _pem(key: ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey, password: bytes | None = None) -> bytes:
    hidden = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden)


def test_what_does_not_fit_is_named_on_one_line(tmp_path: Path) -> None:
    chain, key = _split(make())
    now = datetime.now(UTC)
    old, old_key = _split(make(datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)))
    young, young_key = _split(make(now + timedelta(days=1), now + timedelta(days=2)))
    own = load_pem_private_key(key, None)
    assert isinstance(own, ec.EllipticCurvePrivateKey)
    c, k = tmp_path / "c.pem", tmp_path / "k.pem"
    cases = [
        (chain, _split(make())[1], f"{k} is not the key of the first certificate in {c}"),
        (chain, b"nonsense", f"{k} holds no private key in PEM"),
        (chain, _pem(own, b"secret"), f"{k} has a password: signing needs a key without one"),
        (chain, _pem(dsa.generate_private_key(1024)), f"{k} is of a kind that C2PA does not know"),
        (b"", key, f"{c} holds no certificates in PEM"),
        (chain.split(_END)[0] + _END, key, f"{c} holds one certificate: that of its issuer has to follow"),
        (old, old_key, f"{c} is valid from 2020-01-01 to 2021-01-01, not now"),
        (young, young_key, f"{c} is valid from {now + timedelta(days=1):%Y-%m-%d}"),
    ]
    for certificates, private, message in cases:
        c.write_bytes(certificates)
        k.write_bytes(private)
        with pytest.raises(ValueError, match=f"^{message}"):
            load_signing_key(SigningFiles(str(c), str(k)))


def test_the_environment_names_both_files_or_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    monkeypatch.setenv(CERT, "")
    monkeypatch.delenv(KEY, raising=False)
    assert load_signing_key().is_development
    (tmp_path / "both.pem").write_bytes(make())
    monkeypatch.setenv(KEY, str(tmp_path / "both.pem"))
    with pytest.raises(ValueError, match="SFUMATO_C2PA_KEY is set and SFUMATO_C2PA_CERT is not: signing needs both"):
        load_signing_key()
    monkeypatch.setenv(CERT, str(tmp_path / "both.pem"))
    key = load_signing_key()
    assert (key.is_development, key.notes) == (False, ())
    assert "PRIVATE" not in repr(key)
    monkeypatch.setenv(CERT, str(tmp_path / "none.pem"))
    with pytest.raises(FileNotFoundError, match=r"none\.pem does not exist"):
        load_signing_key()
