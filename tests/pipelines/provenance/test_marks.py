"""Signing: what is in the credentials, and that pictures and sound stay as they are. c2pa's own reader judges."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import c2pa
import numpy as np
import pytest
from credentials.signed_media import picture
from PIL import Image

from pipelines.provenance.marks import Ingredient, Provenance, mark, marked
from pipelines.provenance.signing_key import SigningKey


def read(data: bytes, media_type: str, beside: bytes | None = None) -> dict[str, Any]:
    with c2pa.Reader(media_type, io.BytesIO(data), beside) as reader:
        report: dict[str, Any] = json.loads(reader.json())
    failures = [each["code"] for each in report["validation_results"]["activeManifest"]["failure"]]
    assert failures == ["signingCredential.untrusted"]  # whole; nobody's trust list has the certificate
    manifest: dict[str, Any] = report["manifests"][report["active_manifest"]]
    return manifest


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux() if packet.size]


def assertion(manifest: dict[str, Any], label: str) -> Any:
    return next(each["data"] for each in manifest["assertions"] if each["label"] == label)


def test_a_film_keeps_its_frames_and_sound_and_says_how_it_was_made(
    signed_film: Path, bare_film: Path, provenance: Provenance
) -> None:
    assert packets(signed_film) == packets(bare_film)
    data = signed_film.read_bytes()
    manifest = read(data, "video/mp4")
    assert manifest["claim_generator_info"][0]["name"] == "Sfumato"
    (created,) = assertion(manifest, "c2pa.actions.v2")["actions"]
    assert created["action"] == "c2pa.created"
    assert created["digitalSourceType"] == ("http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia")
    assert len(created["parameters"]["ingredients"]) == 2
    facts = assertion(manifest, "org.sfumato.render")
    assert {name: facts[name] for name in ("model", "mlflow_run", "dataset_digest", "command", "consent_sha256")} == {
        "model": "c" * 64,
        "mlflow_run": "e014",
        "dataset_digest": "d" * 64,
        "command": provenance.command,
        "consent_sha256": "e" * 64,
    }
    assert [(each["title"], each["relationship"]) for each in manifest["ingredients"]] == [
        ("mona.jpg", "inputTo"),
        ("talk.mp4", "inputTo"),
    ]
    assert str(signed_film.parent).encode() not in data  # no folder of this machine
    assert [path.name for path in signed_film.parent.glob(".partial-*")] == []


@pytest.mark.parametrize(("name", "frames"), [("a.png", 1), ("a.jpg", 1), ("a.webp", 1), ("b.webp", 3)])
def test_pictures_keep_their_pixels(name: str, frames: int, provenance: Provenance, key: SigningKey) -> None:
    suffix = name.rpartition(".")[2]
    plain = picture(suffix, frames)
    signed = marked(plain, name, provenance, key)
    assert read(signed, f"image/{suffix.replace('jpg', 'jpeg')}")["title"] == name
    with Image.open(io.BytesIO(plain)) as before, Image.open(io.BytesIO(signed)) as after:
        assert getattr(after, "n_frames", 1) == frames
        for number in range(frames):
            before.seek(number)
            after.seek(number)
            assert np.array_equal(np.asarray(before), np.asarray(after))


def test_a_container_that_cannot_hold_credentials_gets_them_beside_it(
    tmp_path: Path, provenance: Provenance, key: SigningKey
) -> None:
    film = tmp_path / "film.webm"
    film.write_bytes(b"\x1aE\xdf\xa3" + bytes(100))
    beside = mark(film, provenance, key)
    assert beside == tmp_path / "film.webm.c2pa"
    assert film.read_bytes() == b"\x1aE\xdf\xa3" + bytes(100)
    assert read(film.read_bytes(), "application/octet-stream", beside.read_bytes())["title"] == "film.webm"


def test_recorded_footage_makes_it_a_composite_and_its_own_credentials_are_kept(
    signed_film: Path, bare_film: Path, tmp_path: Path, provenance: Provenance, key: SigningKey
) -> None:
    film = tmp_path / "dubbed.mp4"
    film.write_bytes(bare_film.read_bytes())
    inputs = (
        Ingredient("film", "own.mp4", "1" * 64, signed_film, is_shown=True),
        Ingredient("driver", "talk.mp4", "2" * 64, bare_film),
    )
    mark(film, replace(provenance, ingredients=inputs), key)
    manifest = read(film.read_bytes(), "video/mp4")
    created, placed = assertion(manifest, "c2pa.actions.v2")["actions"]
    assert created["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert placed["action"] == "c2pa.placed"
    relationships = {each["title"]: each["relationship"] for each in manifest["ingredients"]}
    assert relationships == {"own.mp4": "componentOf", "talk.mp4": "inputTo"}
    kept = [each["title"] for each in manifest["ingredients"] if "active_manifest" in each]
    assert kept == ["own.mp4"]


def test_a_file_that_is_no_film_is_refused_and_stays(tmp_path: Path, provenance: Provenance, key: SigningKey) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"no film at all")
    with pytest.raises(ValueError, match=r"^film\.mp4 cannot be signed: "):
        mark(film, provenance, key)
    assert film.read_bytes() == b"no film at all"
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
