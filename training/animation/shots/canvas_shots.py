"""Turn an avatar's pictures into shots of its canvas, from which frames can start.

A picture of the canvas's scene (frames of one clip) is a shot as it is. Of any other picture only the head is used:
aligned to the canvas's, matched to its light, and set on the canvas's body before its background.
"""

from functools import cached_property

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8

from pipelines.faces.head_pose import INNER_LIP, LEFT_EYE, RIGHT_EYE, fit_pose
from pipelines.faces.landmark_image import rasterize_batch
from pipelines.faces.person_matte import PersonSegmenter
from training.animation.region import Picture, Region
from training.animation.region_warp import SourceShot
from training.avatars.portraits import Portrait
from training.config import ModelConfig
from training.images import smooth_step, to_images
from training.warp.control_points import REACH, control_points
from training.warp.field import warp_field
from training.warp.matted_shot import to_shots
from training.warp.spline import warp

_SAME_SCENE = 14.0  # mean difference of backgrounds, in 0..255, below which two pictures are of one scene
_COMPARED_SIZE = 64  # pixels at which backgrounds are compared
_MIN_BACKGROUND = 0.05  # share of the region that must be background to compare it
_EDGE = 0.03  # distance from the edges of a picture over which its head fades, relative to the region
# Heights are in heights of the face, from brows to chin.
_NECK = 0.06, 0.22  # below the chin, over which the head fades into the canvas's neck
_REMOVED = -0.25, -0.05  # relative to the chin, over which the removal of the canvas's head ends
_LIGHT_SIZE = 96  # pixels at which light is compared
_LIGHT_BLUR = 0.1  # standard deviation over which light is compared, relative to the region
_MAX_GAIN = 2.5
_BRIGHT = 140  # of the darkest channel, from which on a pixel counts, more and more, as white
_DARK = 12.0  # added to both before their ratio is taken: shadows are noisy


class ShotMaker:
    """Makes the shots of a canvas."""

    def __init__(self, canvas: Portrait, region: Region, config: ModelConfig) -> None:
        self.canvas, self.region, self.config = canvas, region, config
        self._segmenter = PersonSegmenter()
        self.base = self._shot(region.cut(canvas.image), canvas.landmarks - self._corner, canvas.gaze)

    @cached_property
    def _background(self) -> Picture:
        """The canvas's region, inpainted where its person is."""
        shot = to_shots(self.base.pixels[None], self.base.matte[None], torch.device("cpu"))
        background: np.ndarray = to_images(shot[:, 4:])[0]
        return background

    @property
    def _corner(self) -> Float[np.ndarray, "2"]:
        return np.array([self.region.left, self.region.top], np.float32)

    def shot(self, portrait: Portrait) -> SourceShot:
        """Return the shot of a further picture of the person."""
        if portrait.image.shape == self.canvas.image.shape:
            shot = self._shot(self.region.cut(portrait.image), portrait.landmarks - self._corner, portrait.gaze)
            if self._is_same_scene(shot):
                return shot
        affine = _alignment(portrait.landmarks, self.canvas.landmarks)
        affine[:, 2] -= self._corner
        landmarks = _transform(portrait.landmarks, affine)
        head = self._shot(self._sample(portrait.image, affine), landmarks, portrait.gaze)
        return self._on_canvas(head, landmarks, self._covered(portrait.image, affine))

    def _shot(
        self, pixels: Picture, landmarks: Float[np.ndarray, "68 2"], gaze: Float[np.ndarray, "2 2"] | None
    ) -> SourceShot:
        """Make a shot of a region's pixels and landmarks in them."""
        if self.config.warp_prior:
            matte = self._segmenter.matte(pixels, landmarks)
        else:
            matte = np.full_like(pixels[..., 0], 255)
        network = self.region.to_network(landmarks + self._corner, self.config.image_size)
        image = rasterize_batch(torch.from_numpy(network[None]), self.config.image_size, self.config.raster)
        return SourceShot(pixels, matte, network, image, gaze)

    def _is_same_scene(self, shot: SourceShot) -> bool:
        small = (_COMPARED_SIZE, _COMPARED_SIZE)
        ours, theirs = (cv2.resize(each.pixels, small, interpolation=cv2.INTER_AREA) for each in (self.base, shot))
        person = np.maximum(
            *(cv2.resize(each.matte, small, interpolation=cv2.INTER_AREA) for each in (self.base, shot))
        )
        bare = cv2.dilate(person, np.ones((3, 3), np.uint8)) < 16
        if bare.mean() < _MIN_BACKGROUND:
            bare[:] = True
        difference = np.abs(ours.astype(int) - theirs).mean(axis=2)
        return float(difference[bare].mean()) < _SAME_SCENE

    def _sample(self, image: Picture, affine: Float[np.ndarray, "2 3"]) -> UInt8[np.ndarray, "side side 3"]:
        """Return the region's pixels of a picture that an affine transform takes into the region."""
        scale = float(affine[0, 0])
        if scale < 1:  # average first: the transform samples single pixels
            height, width = image.shape[:2]
            shrunk = max(round(width * scale), 1), max(round(height * scale), 1)
            ratio = np.array([shrunk[0] / width, shrunk[1] / height])
            image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
            affine = np.hstack([affine[:, :2] / ratio, (affine[:, :2] @ (0.5 / ratio - 0.5) + affine[:, 2])[:, None]])
        side = (self.region.side, self.region.side)
        sampled = cv2.warpAffine(image, affine, side, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(sampled)

    def _covered(self, image: Picture, affine: Float[np.ndarray, "2 3"]) -> Float32[np.ndarray, "side side 1"]:
        """Return which of the region's pixels a picture covers: 1 inside, falling to 0 at its edges."""
        side = self.region.side
        covered = cv2.warpAffine(np.ones(image.shape[:2], np.float32), affine, (side, side), flags=cv2.INTER_LINEAR)
        distance = cv2.distanceTransform((covered > 0.999).astype(np.uint8), cv2.DIST_L2, 3)
        return np.asarray(smooth_step(distance / (_EDGE * side)), np.float32)[..., None]

    def _on_canvas(
        self, head: SourceShot, landmarks: Float[np.ndarray, "68 2"], covered: Float32[np.ndarray, "side side 1"]
    ) -> SourceShot:
        """Return the canvas with its head replaced by that of another picture, where that covers it."""
        lit = _neutral_highlights((head.pixels.astype(np.float32) + _DARK) * self._gain(head) - _DARK, head.pixels)
        share = covered * _above(landmarks, self.region.side, *_NECK) * (head.matte[..., None] / 255)
        own = self.canvas.landmarks - self._corner
        removed = covered * _above(own, self.region.side, *_REMOVED) * (self.base.matte[..., None] / 255)
        body = self.base.pixels + removed * (self._background.astype(np.float32) - self.base.pixels)
        pixels = np.rint(body + share * (lit - body)).astype(np.uint8)
        matte = self.base.matte * (1 - removed[..., 0])
        matte = np.rint(matte + share[..., 0] * (head.matte - matte)).astype(np.uint8)
        return SourceShot(pixels, matte, head.landmarks, head.landmark_image, head.gaze)

    @torch.no_grad()
    def _gain(self, head: SourceShot) -> Float32[np.ndarray, "side side 3"]:
        """Return factors, of pixels plus `_DARK`, that give a head the canvas's colour and light; they vary smoothly.

        The canvas's face is warped to the other's landmarks, and both are compared where they show skin.
        """
        size, small = self.config.image_size, (_LIGHT_SIZE, _LIGHT_SIZE)
        ours, theirs = (torch.from_numpy(control_points(shot.landmarks[None], size)) for shot in (self.base, head))
        grid = warp_field(ours, theirs, extent=REACH).grid(_LIGHT_SIZE)
        canvas = cv2.resize(self.base.pixels, small, interpolation=cv2.INTER_AREA)
        warped = warp(torch.from_numpy(canvas).permute(2, 0, 1)[None].float(), grid)[0].permute(1, 2, 0).numpy()
        pixels = cv2.resize(head.pixels, small, interpolation=cv2.INTER_AREA).astype(np.float32)
        per_pixel = (_LIGHT_SIZE / REACH) / size
        middle = _LIGHT_SIZE * (1 - 1 / REACH) / 2
        skin = _skin((head.landmarks + 0.5) * per_pixel - 0.5 + middle, _LIGHT_SIZE)
        ratio = np.log((warped + _DARK) / (pixels + _DARK)) * skin[..., None]
        mean = ratio.sum(axis=(0, 1)) / max(float(skin.sum()), 1e-6)
        sigma = _LIGHT_BLUR * _LIGHT_SIZE
        near = cv2.GaussianBlur(skin, (0, 0), sigma)[..., None]
        local = cv2.GaussianBlur(ratio.astype(np.float32), (0, 0), sigma) / np.maximum(near, 1e-6)
        known = np.minimum(near / 0.1, 1)
        limit = np.log(_MAX_GAIN)
        gain = np.exp(np.clip(mean + known * (local - mean), -limit, limit)).astype(np.float32)
        side = (self.region.side, self.region.side)
        return np.asarray(cv2.resize(gain, side, interpolation=cv2.INTER_LINEAR))


def _neutral_highlights(lit: Float32[np.ndarray, "side side 3"], pixels: Picture) -> Float32[np.ndarray, "side side 3"]:
    """Make those pixels grey that all channels of the picture show bright: teeth and highlights, whose colour is lost
    where a channel is overexposed, would turn false with the light. Limit all to [0, 255]."""
    share = smooth_step((pixels.min(axis=2, keepdims=True).astype(np.float32) - _BRIGHT) / (255 - _BRIGHT))
    neutral: np.ndarray = lit + share * (lit.mean(axis=2, keepdims=True) - lit)
    return neutral.clip(0, 255).astype(np.float32)


def _alignment(source: Float[np.ndarray, "68 2"], target: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "2 3"]:
    """Return the scaling and translation that take a head to the place of another.

    A head that tilts stays tilted, for hair hangs down; frames start from it when the driver tilts the head.
    """
    ours, theirs = fit_pose(source), fit_pose(target)
    scale = float(theirs.scale / ours.scale)
    shift = theirs.translation - scale * ours.translation
    return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])


def _transform(points: Float[np.ndarray, "68 2"], affine: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "68 2"]:
    moved: np.ndarray = (points @ affine[:, :2].T + affine[:, 2]).astype(np.float32)
    return moved


def _above(landmarks: Float[np.ndarray, "68 2"], side: int, start: float, end: float) -> Float32[np.ndarray, "h w 1"]:
    """Return a mask that is 1 above a line below the chin and falls to 0 over a distance, both in heights of the face.

    The line is perpendicular to the face's axis.
    """
    chin, brows = landmarks[8], landmarks[17:27].mean(axis=0)
    height = max(float(np.linalg.norm(chin - brows)), 1.0)
    down = (chin - brows) / height
    x, y = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))
    below = ((x - chin[0]) * down[0] + (y - chin[1]) * down[1]) / height
    return np.asarray(smooth_step((end - below) / (end - start)), np.float32)[..., None]


def _skin(landmarks: Float[np.ndarray, "68 2"], size: int) -> Float32[np.ndarray, "size size"]:
    """Return a mask of the face without eyes and mouth."""
    mask = np.zeros((size, size), np.uint8)
    _fill(mask, landmarks, 255)
    for part in (RIGHT_EYE, LEFT_EYE, INNER_LIP):
        _fill(mask, landmarks[part], 0)
    return mask.astype(np.float32) / 255


def _fill(mask: UInt8[np.ndarray, "size size"], points: Float[np.ndarray, "points 2"], value: int) -> None:
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points).astype(np.int32)), value)
