"""Previews of pairs: portrait, the driver's rest frame, and the driver's most extreme frames as they will look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipelines.faces.face import make_face
from pipelines.faces.head_pose import eye_openness, fit_pose, mouth_openness
from training.animation.animator import Animator
from training.animation.checks.bent_limits import bent_frames
from training.animation.preview.advice import driver_warnings, portrait_warnings
from training.animation.preview.draw_many import WantedFrames, draw_many
from training.animation.preview.driver_sample import DriverSample, landmarks_in
from training.animation.render import RenderOptions, check_detector, follow
from training.animation.retarget import resolve_neutral_frame

Image = UInt8[np.ndarray, "height width 3"]
_TILE, _TALL = 208, 416  # sides of the small tiles and of the first two, pixels
_LINE = 22  # height of a line of text
_GREEN, _WHITE, _YELLOW, _BLACK = (40, 220, 90), (255, 255, 255), (255, 200, 40), (20, 20, 20)


@dataclass(frozen=True)
class Preview:
    """A picture (RGB), and warnings of one line each."""

    picture: Image
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class PreviewPlan:
    """A pair, and what of it is to be drawn."""

    animator: Animator
    sample: DriverSample
    extremes: Mapping[str, int]
    """Title of each column, and its frame of the sample."""
    rest: int
    """Frame of the sample that shows the driver at rest."""
    bent: Bool[np.ndarray, "frames"]
    """Of `bent_limits.bent_frames`."""
    wanted: WantedFrames
    """Each extreme frame once, in ascending order."""


def plan_preview(animator: Animator, sample: DriverSample, options: RenderOptions) -> PreviewPlan:
    """Choose what a pair's preview shows.

    Raises:
        ValueError: the sample is of another detector than the avatar's model.
    """
    check_detector(animator.config.detector, sample.track.detector)
    motion, driver = replace(options.motion, smoothing=0.0), sample.track.landmarks
    targets, gaze, shares = follow(animator, sample.track, motion)
    bent = bent_frames(animator.canvas.landmarks, driver, targets, motion)
    extremes = _extremes(driver)
    frames = sorted(set(extremes.values()))
    wanted = WantedFrames(animator, targets[frames], None if gaze is None else gaze[frames], shares[frames])
    return PreviewPlan(animator, sample, extremes, resolve_neutral_frame(driver, motion), bent, wanted)


def make_previews(plans: Sequence[PreviewPlan]) -> list[Preview]:
    """Draw the previews of pairs; their frames share the networks' batches where avatars allow it.

    Left: the portrait with the face's box and landmarks (green) and the networks' crop (white). Beside it: the driver's
    rest frame. Then, in columns, the driver's frames with the widest mouth, the furthest turns to either side, the
    furthest nod and the most closed eyes; below each what the portrait becomes. Warnings are written below.
    """
    drawn = draw_many([plan.wanted for plan in plans])
    return [_preview(plan, regions) for plan, regions in zip(plans, drawn, strict=True)]


def _preview(plan: PreviewPlan, regions: Sequence[Image]) -> Preview:
    animator, sample, extremes = plan.animator, plan.sample, plan.extremes
    crop, frames = animator.region.crop, sorted(set(extremes.values()))
    tiles = {frame: _fit(region[crop, crop], _TILE, _TILE) for frame, region in zip(frames, regions, strict=True)}
    results = [_titled(tiles[frame].copy(), "bent" if plan.bent[frame] else "") for frame in extremes.values()]
    drivers = [_titled(_driver_tile(sample, frame, _TILE), title) for title, frame in extremes.items()]
    portrait = _titled(_portrait_tile(animator), "portrait")
    beside = _titled(_driver_tile(sample, plan.rest, _TALL), "rest")
    columns = [np.vstack(pair) for pair in zip(drivers, results, strict=True)]
    picture = np.hstack([portrait, beside, *columns])
    warnings = (*portrait_warnings(animator.canvas), *driver_warnings(sample, plan.bent))
    return Preview(np.vstack([picture, _text(warnings or ("no warnings",), picture.shape[1])]), warnings)


def _extremes(driver: Float[np.ndarray, "frames 68 2"]) -> dict[str, int]:
    pose, mouth, eyes = fit_pose(driver), mouth_openness(driver), eye_openness(driver).mean(axis=1)
    nod = pose.pitch - np.median(pose.pitch)
    found = {"mouth": int(mouth.argmax()), "left": int(pose.yaw.argmin()), "right": int(pose.yaw.argmax())}
    found |= {"nod": int(np.abs(nod).argmax()), "eyes": int(eyes.argmin())}
    title = {
        "mouth": f"mouth {mouth[found['mouth']]:.2f}",
        "left": f"yaw {pose.yaw[found['left']]:+.0f}",
        "right": f"yaw {pose.yaw[found['right']]:+.0f} ",
        "nod": f"pitch {pose.pitch[found['nod']]:+.0f}",
        "eyes": f"eyes {eyes[found['eyes']]:.2f}",
    }
    return {title[name]: frame for name, frame in found.items()}


def _portrait_tile(animator: Animator) -> Image:
    canvas, region = animator.canvas, animator.region
    left, top = region.left + region.margin, region.top + region.margin
    picture = _marked(canvas.image, canvas.landmarks)
    corner, opposite = (left, top), (left + region.crop_side, top + region.crop_side)
    return _fit(cv2.rectangle(picture, corner, opposite, _WHITE, _thickness(picture)), _TALL, _TALL)


def _driver_tile(sample: DriverSample, frame: int, side: int) -> Image:
    """The face with its surroundings."""
    image, points = sample.images[frame], landmarks_in(sample, frame)
    centre, half = points.mean(axis=0), max(1.2 * float(max(np.ptp(points, axis=0))), 8.0)
    x0, y0 = np.maximum(centre - half, 0).astype(int)
    x1, y1 = np.minimum(centre + half, image.shape[1::-1]).astype(int)
    cut = np.ascontiguousarray(image[y0:y1, x0:x1])
    scale = side / max(cut.shape[:2])
    large = cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return _fit(_marked(large, (points - (x0, y0)) * scale), side, side)


def _marked(image: Image, landmarks: Float[np.ndarray, "68 2"]) -> Image:
    picture, thick = image.copy(), _thickness(image)
    x0, y0, x1, y1 = (round(edge) for edge in make_face(landmarks, 1.0).box)
    cv2.rectangle(picture, (x0, y0), (x1, y1), _GREEN, thick)
    for x, y in np.rint(landmarks).astype(int).tolist():
        cv2.circle(picture, (x, y), thick, _GREEN, -1)
    return picture


def _thickness(image: Image) -> int:
    return max(1, round(max(int(side) for side in image.shape[:2]) / 350))


def _fit(image: Image, width: int, height: int) -> UInt8[np.ndarray, "tile_height tile_width 3"]:
    """Scale a picture to fit, with black beside it."""
    scale = min(width / image.shape[1], height / image.shape[0])
    new = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.resize(image, new, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    tile = np.full((height, width, 3), _BLACK, np.uint8)
    x, y = (width - new[0]) // 2, (height - new[1]) // 2
    tile[y : y + new[1], x : x + new[0]] = small
    return tile


def _titled(tile: Image, title: str) -> Image:
    if title:
        tile[: _LINE - 2, : 9 * len(title) + 10] = _BLACK
        _write(tile, title.strip(), 6, 15, _YELLOW)
    return tile


def _text(lines: Sequence[str], width: int) -> Image:
    sheet = np.full((_LINE * len(lines) + 10, width, 3), _BLACK, np.uint8)
    for number, line in enumerate(lines):
        _write(sheet, line, 8, _LINE * (number + 1) - 3, _WHITE)
    return sheet


def _write(image: Image, text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(image, plain, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
