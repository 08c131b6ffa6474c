"""Read images from outside safely, and encode and decode JPEG and WebP."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

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

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


def read_image(path: str | Path, data: bytes | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Read an image as RGB: first frame, EXIF orientation applied, transparency over white, 16 bits reduced to 8.

    Args:
        path: path or URL.
        data: its contents, where they have been read already.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not one of JPEG, PNG, WEBP, GIF, BMP, TIFF; broken; or more than 100 megapixels.
    """
    try:
        with storage.open(str(path)) if data is None else io.BytesIO(data) as source, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large images and odd EXIF; MAX_IMAGE_PIXELS is the limit
            with Image.open(source, formats=IMAGE_FORMATS) as picture:
                if picture.width * picture.height > MAX_IMAGE_PIXELS:
                    raise ValueError(f"{path}: {picture.width}x{picture.height} exceeds {MAX_IMAGE_PIXELS:,} pixels")
                picture.load()
                return _picture_to_rgb(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError as error:
        names = ", ".join(IMAGE_FORMATS[:-1])
        raise ValueError(f"{path} is not a {names} or {IMAGE_FORMATS[-1]} picture") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too many pixels ({error})") from error
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a folder, not a picture") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} is a broken picture: {error}") from error


def _picture_to_rgb(picture: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    if picture.mode.startswith(("I", "F")):
        # Pillow's conversion clips at 255 instead of scaling.
        values = np.asarray(picture, dtype=np.float64)
        scale = 255 / 65535 if picture.mode.startswith("I") or values.max(initial=0) > 1 else 255.0
        grey = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        paper = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(paper, layer)
    return np.array(picture.convert("RGB"), dtype=np.uint8)


def encode_webp(image: UInt8[np.ndarray, "size size 3"], *, max_side: int, quality: int) -> bytes:
    """Return a square image as a still WebP, reduced to at most `max_side` pixels; `quality` is 1 to 100."""
    side = min(max_side, image.shape[0])
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) if side < image.shape[0] else image
    done, data = cv2.imencode(".webp", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert done
    return bytes(data)
