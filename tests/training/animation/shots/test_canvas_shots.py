"""Pictures of a person as shots of one canvas."""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from jaxtyping import Float, UInt8

import training.animation.shots.canvas_shots as shots_module
from pipelines.faces.person_matte import PersonSegmenter
from training.animation.region import Region
from training.animation.shots.canvas_shots import ShotMaker
from training.avatars.portraits import Portrait
from training.config import ModelConfig


class _Head(PersonSegmenter):
    """Takes the landmarks' hull, and all below the chin, for the person."""

    def matte(
        self, image: UInt8[np.ndarray, "height width 3"], landmarks: Float[np.ndarray, "68 2"]
    ) -> UInt8[np.ndarray, "height width"]:
        matte = np.zeros(image.shape[:2], np.uint8)
        cv2.fillConvexPoly(matte, cv2.convexHull(np.rint(landmarks).astype(np.int32)), 255)
        chin = np.rint(landmarks[8]).astype(int)
        matte[chin[1] :, chin[0] - 12 : chin[0] + 12] = 255
        return matte


@pytest.fixture(autouse=True)
def _head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shots_module, "PersonSegmenter", _Head)


@pytest.fixture
def config(tiny_model: Callable[..., ModelConfig]) -> ModelConfig:
    return tiny_model(warp_prior=True)


def paint(landmarks: np.ndarray, height: int, width: int, ground: tuple[int, int, int]) -> np.ndarray:
    """A face of one colour, brighter at the right, before a ground of another, with a body below."""
    image = np.full((height, width, 3), ground, np.uint8)
    chin = np.rint(landmarks[8]).astype(int)
    image[chin[1] :, chin[0] - 12 : chin[0] + 12] = (40, 60, 160)
    face = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(face, cv2.convexHull(np.rint(landmarks).astype(np.int32)), 1)
    across = np.linspace(-20, 20, width).repeat(height).reshape(width, height).T
    image[face == 1] = np.clip(np.array([170.0, 130, 100]) + across[..., None], 0, 255)[face == 1]
    return image


@pytest.fixture
def canvas(face: Callable[..., np.ndarray]) -> Portrait:
    landmarks = face(60.0, 62.0, 80.0)
    return Portrait(paint(landmarks, 150, 121, (20, 90, 40)), landmarks, "canvas.png", "c")


def test_a_picture_of_the_same_scene_is_a_shot_as_it_is(
    canvas: Portrait, config: ModelConfig, face: Callable[..., np.ndarray]
) -> None:
    landmarks = face(60.0, 66.0, 82.0, yaw=10.0)
    further = Portrait(paint(landmarks, 150, 121, (22, 90, 42)), landmarks, "further.png", "f")
    region = Region.around(canvas, config)
    shot = ShotMaker(canvas, region, config).shot(further)
    assert np.array_equal(shot.pixels, region.cut(further.image))
    assert shot.landmarks == pytest.approx(region.to_network(landmarks[None], 32)[0])


def test_of_another_picture_the_head_is_set_on_the_canvas_in_its_light(
    canvas: Portrait, config: ModelConfig, face: Callable[..., np.ndarray]
) -> None:
    """Twice as large, elsewhere, at half the brightness and before a white ground."""
    landmarks = face(120.0, 150.0, 140.0, yaw=12.0)
    image = paint(landmarks, 300, 290, (255, 255, 255))
    skin = image[..., 0] < 255
    image[skin] = image[skin] // 2
    region = Region.around(canvas, config)
    maker = ShotMaker(canvas, region, config)
    shot = maker.shot(Portrait(image, landmarks, "other.png", "o"))
    corner = np.array([region.left, region.top])
    nose = np.rint(canvas.landmarks[30] - corner).astype(int)
    around = np.s_[nose[1] - 5 : nose[1] + 5, nose[0] - 5 : nose[0] + 5]
    assert shot.pixels[around].mean(axis=(0, 1)) == pytest.approx(maker.base.pixels[around].mean(axis=(0, 1)), abs=15)
    # The canvas's body and background, not the other's.
    below = np.rint(canvas.landmarks[8] - corner).astype(int) + np.array([0, 25])
    assert np.abs(shot.pixels[below[1], below[0]].astype(int) - maker.base.pixels[below[1], below[0]]).max() < 8
    assert np.abs(shot.pixels[5, 5].astype(int) - maker.base.pixels[5, 5]).max() == 0
    # The head is where the canvas's is, and as large, but turned.
    assert np.ptp(shot.landmarks, axis=0) == pytest.approx(np.ptp(maker.base.landmarks, axis=0), rel=0.1)
    assert np.abs(shot.landmarks[[27, 28, 29]] - maker.base.landmarks[[27, 28, 29]]).max() < 3
    assert shot.landmarks[30, 0] > maker.base.landmarks[30, 0] + 0.3


def test_where_a_picture_ends_the_canvas_is_kept(
    canvas: Portrait, config: ModelConfig, face: Callable[..., np.ndarray]
) -> None:
    landmarks = face(60.0, 31.0, 80.0)
    cropped = Portrait(paint(landmarks, 150, 60, (200, 0, 200)), landmarks, "cropped.png", "x")
    region = Region.around(canvas, config)
    maker = ShotMaker(canvas, region, config)
    shot = maker.shot(dataclasses.replace(cropped))
    # The left half of the face lies beyond the picture's edge.
    outermost = np.rint(canvas.landmarks[2] - [region.left, region.top]).astype(int) + np.array([1, 0])
    kept = (pixels[outermost[1], outermost[0]].astype(int) for pixels in (shot.pixels, maker.base.pixels))
    assert np.abs(np.subtract(*kept)).max() < 35
    assert not (shot.pixels == [200, 0, 200]).all(axis=2).any()
