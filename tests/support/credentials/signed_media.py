"""Small media, keys and foreign credentials for the tests of provenance."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import c2pa
import imageio_ffmpeg
from PIL import Image

from pipelines.provenance.signing_key import SigningFiles, SigningKey, load_signing_key


def ffmpeg(*arguments: str) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def key_of(pem: bytes, folder: Path, name: str) -> SigningKey:
    """Write a PEM with key and certificates to a folder, and load it."""
    path = folder / f"{name}.pem"
    path.write_bytes(pem)
    return load_signing_key(SigningFiles(str(path), str(path)))


def picture(suffix: str, frames: int = 1) -> bytes:
    """Return a small picture, or an animation."""
    images = [Image.new("RGB", (16, 16), (40 * at, 90, 160)) for at in range(frames)]
    sink = io.BytesIO()
    more = {"save_all": True, "append_images": images[1:], "duration": 100} if frames > 1 else {}
    images[0].save(sink, {"jpg": "JPEG"}.get(suffix, suffix.upper()), **more)
    return sink.getvalue()


def signed_by_another(data: bytes, media_type: str, key: SigningKey, generator: str = "Camera") -> bytes:
    """Sign with the library alone, as other software does."""
    action = {"action": "c2pa.created", "digitalSourceType": "http://c2pa.org/digitalsourcetype/empty"}
    manifest = {
        "claim_generator_info": [{"name": generator, "version": "2"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }
    info = c2pa.C2paSignerInfo(key.algorithm.encode(), key.chain, key.private_key, None)
    settings = c2pa.Settings.from_dict({"verify": {"verify_after_sign": False}})
    sink = io.BytesIO()
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(manifest, c2pa.Context(settings)) as builder:
        builder.sign(signer, media_type, io.BytesIO(data), sink)
    return sink.getvalue()
