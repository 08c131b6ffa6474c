"""Read images from outside safely, and encode and decode JPEG and WebP."""

from __future__ import annotations

import io
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from pipelines import storage


def encode_jpeg(image: UInt8[np.ndarray, "height width 3"], jpeg_quality: int) -> bytes:
    """Encode as JPEG without chroma subsampling, which would blur lips and eyes at the size of face crops."""
    settings = [
        cv2.IMWRITE_JPEG_QUALITY,
        jpeg_quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    assert done
    return bytes(data)


def decode_jpeg(data: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """Decode a JPEG to RGB. Raises ValueError when it is broken."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"a JPEG of {len(data)} bytes cannot be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


MAX_IMAGE_PIXELS = 100_000_000


# fmt: off
PICTURE_SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".avif", ".heic", ".heif", ".hif",
])
# fmt: on
"""Suffixes by which pictures are recognised in folders, in lower case."""

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIC")
_TIFF_MAGIC = (b"II*\0", b"MM\0*")
_INTEGER_SCALE = 255 / 65535
_SRGB_TOLERANCE = 1  # levels


def read_image(path: str | Path, data: bytes | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Read an image as RGB in sRGB, as a viewer shows it.

    The first frame; EXIF orientation applied; an embedded colour profile (ICC) converted to sRGB; transparency over
    white; 16 bits and floating point (0 to 1, 0 to 255 or 0 to 65535, recognised by the largest value) reduced to 8.

    Args:
        path: path or URL.
        data: its contents, where they have been read already.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not one of JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF, HEIC; broken; values of an unknown range; or more
            than 100 megapixels.
    """
    _register_heif()
    try:
        with storage.open(str(path)) if data is None else io.BytesIO(data) as source, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large images and odd EXIF; MAX_IMAGE_PIXELS is the limit
            head = source.read(4)
            source.seek(0)
            return _read(source)
    except UnidentifiedImageError as error:
        if head in _TIFF_MAGIC:
            raise ValueError(f"{path} is a TIFF of a kind that cannot be read, such as floating-point RGB") from error
        names = ", ".join(IMAGE_FORMATS[:-1])
        raise ValueError(f"{path} is not a {names} or {IMAGE_FORMATS[-1]} picture") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too many pixels ({error})") from error
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a folder, not a picture") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist") from error
    except _BadPicture as error:
        raise ValueError(f"{path}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{path} is a broken picture: {error or type(error).__name__}") from error


class _BadPicture(Exception):
    """The picture is whole and cannot be used; the message lacks its name."""


@cache
def _register_heif() -> None:
    import pi_heif  # the decoders alone: pillow-heif carries x265, whose licence is the GPL

    pi_heif.register_heif_opener()


def _read(source: Any) -> UInt8[np.ndarray, "height width 3"]:
    formats = ["HEIF" if name == "HEIC" else name for name in IMAGE_FORMATS]
    with Image.open(source, formats=formats) as picture:
        if picture.width * picture.height > MAX_IMAGE_PIXELS:
            raise _BadPicture(f"{picture.width}x{picture.height} exceeds {MAX_IMAGE_PIXELS:,} pixels")
        picture.load()
        profile = picture.info.get("icc_profile")
        # A HEIC is upright already, and Pillow's plugin says so in its EXIF.
        return _picture_to_rgb(ImageOps.exif_transpose(picture), profile)


def _picture_to_rgb(picture: Image.Image, profile: bytes | None) -> UInt8[np.ndarray, "height width 3"]:
    if picture.mode.startswith(("I", "F")):
        picture = Image.fromarray(_to_8_bits(picture))
    kind = "L" if picture.mode in ("L", "LA", "La", "1") else "RGB"
    opacity = None
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        opacity = picture.getchannel("A")
        picture = picture.convert(kind)
    elif picture.mode not in ("CMYK", "LAB"):
        picture = picture.convert(kind)
    picture = _to_srgb(picture, profile) if profile else picture
    picture = picture.convert("RGB")
    if opacity is not None:
        picture = Image.composite(picture, Image.new("RGB", picture.size, (255, 255, 255)), opacity)
    return np.array(picture, dtype=np.uint8)


def _to_8_bits(picture: Image.Image) -> UInt8[np.ndarray, "height width"]:
    """Scale grey values; Pillow's conversion clips them at 255 instead."""
    values = np.asarray(picture, dtype=np.float64)
    scale = _INTEGER_SCALE if picture.mode.startswith("I") else _float_scale(values)
    return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)


def _float_scale(values: Float64[np.ndarray, "height width"]) -> float:
    """Return 255 over the white of a floating-point picture: 1, 255 or 65535, the smallest that is no less than its
    largest value. Up to 1.5 is taken for 1, because resizing and sharpening overshoot."""
    if not np.isfinite(values).all():
        raise _BadPicture("its pixels hold values that are no numbers")
    darkest, brightest = float(values.min(initial=0)), float(values.max(initial=0))
    white = next((white for white, largest in ((1, 1.5), (255, 256), (65535, 65536)) if brightest <= largest), None)
    if white is not None and darkest >= -white / 2:
        return 255 / white
    values_are = f"its pixels hold values from {darkest:g} to {brightest:g}"
    raise _BadPicture(f"{values_are}; floating-point pictures go from 0 to 1, 255 or 65535")


def _to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Convert a picture's colours from those of its ICC profile. As viewers do, ignore a profile that is broken or of
    another kind of pixels."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        kind = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(source.profile.xcolor_space.strip())
        if kind != picture.mode:
            return picture
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            kind,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if kind == "RGB" and _changes_little(transform):
            return picture  # sRGB itself
        return ImageCms.applyTransform(picture, transform) or picture
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return picture


def _changes_little(transform: ImageCms.ImageCmsTransform) -> bool:
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    changed = np.asarray(ImageCms.applyTransform(Image.fromarray(cube), transform)).astype(int)
    return bool(np.abs(changed - cube).max() <= _SRGB_TOLERANCE)


def encode_webp(image: UInt8[np.ndarray, "size size 3"], *, max_side: int, quality: int) -> bytes:
    """Return a square image as a still WebP, reduced to at most `max_side` pixels; `quality` is 1 to 100."""
    side = min(max_side, image.shape[0])
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) if side < image.shape[0] else image
    done, data = cv2.imencode(".webp", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert done
    return bytes(data)


_STILL_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_DESCRIPTION = 0x010E  # EXIF's ImageDescription


def still_format(name: str) -> str:
    """Return Pillow's format for a file's name. Raises ValueError unless it ends with .png, .jpg, .jpeg or .webp."""
    suffix = Path(name).suffix.lower()
    if suffix not in _STILL_FORMATS:
        raise ValueError(f"{name}: the name of a picture ends with {', '.join(_STILL_FORMATS)}")
    return _STILL_FORMATS[suffix]


def encode_still(image: UInt8[np.ndarray, "height width 3"], name: str, description: str = "") -> bytes:
    """Encode a picture by its name's suffix: PNG, or JPEG or WebP of high quality, with a description in its EXIF."""
    exif = Image.Exif()
    if description:
        exif[_DESCRIPTION] = description
    file = io.BytesIO()
    Image.fromarray(image).save(file, still_format(name), exif=exif, quality=95, **_full_colour(name))
    return file.getvalue()


def _full_colour(name: str) -> dict[str, int]:
    return {"subsampling": 0} if still_format(name) == "JPEG" else {}
