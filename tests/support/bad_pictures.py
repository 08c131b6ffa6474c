"""Make the pictures of the tests of bad portraits, by their numbers in the list of bad inputs."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines import assets

WIDTH, HEIGHT = 240, 372


def face() -> Image.Image:
    """The Mona Lisa, 240 x 372."""
    with Image.open(assets.fetch("mona_lisa")) as picture:
        return picture.convert("RGB").resize((WIDTH, HEIGHT))


def make(folder: Path) -> None:
    """Write every picture of the list to a folder. Those named "N usable ..." show the same face, upright."""
    _not_pictures(folder)
    _formats(folder)
    _sizes(folder)


def _not_pictures(folder: Path) -> None:
    (folder / "1.jpg").write_bytes(b"")
    face().save(folder / "2.jpg", quality=90)
    whole = (folder / "2.jpg").read_bytes()
    (folder / "2.jpg").write_bytes(whole[: len(whole) // 3])
    (folder / "3.jpg").write_text("a letter")
    (folder / "12 svg.png").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    (folder / "12 eps.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (folder / "12 psd.png").write_bytes(b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(14))
    (folder / "12 broken heic.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
    os.mkfifo(folder / "48 pipe.png")
    (folder / "48 nothing.png").symlink_to(folder / "gone.png")
    # A header of 900 megapixels, and 60 MB of text in 60 KB.
    header = _chunk(b"IHDR", struct.pack(">II5B", 30000, 30000, 8, 2, 0, 0, 0))
    (folder / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(b"")))
    face().save(folder / "6.png")
    png = (folder / "6.png").read_bytes()
    text = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 60_000_000, 9))
    (folder / "6.png").write_bytes(png[:33] + text + png[33:])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _formats(folder: Path) -> None:
    picture = face()
    picture.save(folder / "4 usable png.jpg", "PNG")
    moving = [picture, Image.new("RGB", picture.size)]
    for suffix in ("webp", "gif"):
        moving[0].save(folder / f"7 usable.{suffix}", save_all=True, append_images=moving[1:], duration=40)
    for mode, suffix in (("CMYK", "jpg"), ("P", "png"), ("L", "png"), ("RGBA", "png"), ("LA", "png")):
        picture.convert(mode).save(folder / f"8 usable {mode}.{suffix}")
    grey = np.asarray(picture.convert("L"), np.uint16) * 257
    Image.fromarray(grey).save(folder / "8 usable 16 bits.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / "9 usable turned.jpg", exif=exif, quality=90)
    picture.save(folder / "11 usable pages.tif", save_all=True, append_images=[Image.new("RGB", (9, 9))])


def _sizes(folder: Path) -> None:
    picture = face()
    for width, height in ((1, 1), (8, 4000), (60, 40)):
        Image.new("RGB", (width, height), (90, 80, 70)).save(folder / f"10 {width}x{height}.png")
    picture.crop((0, 0, WIDTH - 1, HEIGHT - 1)).save(folder / "10 usable odd.png")
    picture.resize((48, 74)).save(folder / "10 usable small.png")
