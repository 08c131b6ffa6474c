"""The JPEGs of shards: pixels to bytes and back."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8


def encode_jpeg(image: UInt8[np.ndarray, "height width 3"], jpeg_quality: int) -> bytes:
    """JPEG without chroma subsampling: at face size its blur would reach lips and eyes."""
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
    """RGB pixels of a shard's JPEG. Raises ValueError when it is broken."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"a JPEG of {len(data)} bytes cannot be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
