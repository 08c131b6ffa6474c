"""The certificate for trying things out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from pipelines.provenance.development_certificate import FILE, make, read_or_make


def test_it_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    first = read_or_make(folder)
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600
    assert read_or_make(folder) == first
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_it_is_made_again_when_it_has_expired_or_is_broken(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for old in (make(now - timedelta(days=9), now - timedelta(days=1)), b"", b"-----BEGIN CERTIFICATE-----\n"):
        (tmp_path / FILE).write_bytes(old)
        leaf = x509.load_pem_x509_certificates(read_or_make(tmp_path))[0]
        assert leaf.not_valid_after_utc > now + timedelta(days=3000)


def test_a_folder_that_cannot_be_written_does_not_stop_signing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert b"BEGIN PRIVATE KEY" in read_or_make(tmp_path / "file" / "cache")
