"""Draw the frames of a film with the driven parts of the face: each frame is its own canvas and its own shot.

What a frame hides, the inside of a mouth or an eye that it shows shut, is taken from the avatar's pictures, which are
frames of the film chosen for that (`film_shots`), drawn with the same landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from pipelines.faces.landmark_image import rasterize_batch
from pipelines.faces.person_matte import PersonSegmenter
from training.animation.animator import Animator, make_warper
from training.animation.film.lay_over import FilmTargets
from training.animation.region import Picture, Region
from training.animation.region_warp import SourceShot
from training.animation.shots.choice import choose_shots
from training.animation.shots.masks import OPENINGS, opening_mask, part_mask
from training.animation.shots.openings import lay_opening, opening_distances
from training.avatars.portraits import Portrait
from training.images import resize_square
from training.warp.control_points import REACH, control_points
from training.warp.eyes import Gaze
from training.warp.field import warp_field
from training.warp.mirrored_light import mirrored_gain

_STEADY_S = 0.5  # over which the region's place is averaged: a crop that trembles would make its picture tremble
_AT_ONCE = 16
_POSE_WEIGHT = 0.3  # of another frame, only mouth and eyes are shown; many frames show them
_NEVER = 1e3
_FADE_IN = 4.0  # the drawing covers the frame wholly from a quarter of the driver's motion on


class FilmPainter:
    """Draws frames of a film one after the other."""

    def __init__(
        self,
        animator: Animator,
        own: Float[np.ndarray, "frames 68 2"],
        gaze: Float[np.ndarray, "frames 2 2"],
        targets: FilmTargets,
        parts: Sequence[str],
        fps: float,
    ) -> None:
        """Prepare a film.

        Args:
            own: the film's landmarks, and those of `targets`, in pixels of the frames to draw on.
            gaze: the film's gaze; NaN where it is unknown.
            parts: of `retarget.PARTS`, that are drawn anew.
            fps: of the film.
        """
        self.animator, self.own, self.targets, self.parts = animator, own, targets, tuple(parts)
        self._own_gaze = gaze
        window = max(round(_STEADY_S * fps), 1)
        flat = own.reshape(len(own), -1).astype(np.float32)
        self._steady = cv2.blur(flat, (1, window), borderType=cv2.BORDER_REPLICATE).reshape(own.shape)
        openings = [part for part in OPENINGS if part in parts and animator.config.warp_prior]
        self._shares = {part: choose_shots(self._distances(part), fps) for part in openings}
        self._segmenter = PersonSegmenter() if "pose" in self.parts else None

    @property
    def shares(self) -> Float[np.ndarray, "frames shots"]:
        """Share of the frame itself, then of each of the avatar's pictures, in mouth and eyes that are driven."""
        if not self._shares:
            return np.eye(1, 1 + len(self.animator.shots), dtype=np.float32).repeat(len(self.own), axis=0)
        mean: np.ndarray = np.mean([*self._shares.values()], axis=0)
        return mean

    def draw(self, number: int, image: Picture) -> Picture:
        """Return frame `number` with its driven parts; the image itself where the driver has no share."""
        share = min(_FADE_IN * float(self.targets.shares[number]), 1.0)
        if share <= 0:
            return image
        region = self._region(number, image)
        corner = np.array([region.left, region.top], np.float32)
        own, target = self.own[number] - corner, self.targets.landmarks[number] - corner
        cut = region.cut(image)
        drawn = self._draw_own(number, region, cut).astype(np.float32)
        others = self._draw_others(number, region)
        for part, shares in self._shares.items():
            inside = opening_mask(target, part, region.side)
            drawn = lay_opening(drawn, others, inside, shares[number, 1:])
        mask = share * part_mask(own, target, self.parts, region.side)
        return _placed(image, region, np.rint(cut + mask * (drawn - cut)).astype(np.uint8))

    def _region(self, number: int, image: Picture) -> Region:
        return Region.around(Portrait(image, self._steady[number], "", ""), self.animator.config)

    def _draw_own(self, number: int, region: Region, cut: UInt8[np.ndarray, "side side 3"]) -> np.ndarray:
        animator, config = self.animator, self.animator.config
        target = region.to_network(self.targets.landmarks[number][None], config.image_size)
        gaze = None if self.targets.gaze is None else self.targets.gaze[number][None]
        if not config.warp_prior:
            return self._to_region(animator.draw(0, target, gaze)[0], region)
        own = self.own[number]
        network = region.to_network(own, config.image_size)
        own_gaze = self._own_gaze[number] if np.isfinite(self._own_gaze[number]).all() else None
        if self._segmenter is None:  # nothing moves against the background
            matte = np.full_like(cut[..., 0], 255)
        else:
            matte = self._segmenter.matte(cut, own - np.array([region.left, region.top], np.float32))
        image = rasterize_batch(torch.from_numpy(network[None]), config.image_size, config.raster)
        return self._draw_from(SourceShot(cut, matte, network, image, own_gaze), region, target, gaze)

    @torch.no_grad()
    def _draw_from(
        self,
        shot: SourceShot,
        region: Region,
        target: Float[np.ndarray, "1 68 2"],
        gaze: Float[np.ndarray, "1 2 2"] | None,
    ) -> UInt8[np.ndarray, "side side 3"]:
        """Draw as `Animator.draw` does, from a shot that is none of the avatar's."""
        animator, config = self.animator, self.animator.config
        ours, theirs, points = (
            torch.from_numpy(landmarks).to(animator.device)
            for landmarks in (
                control_points(shot.landmarks[None], config.image_size),
                control_points(target, config.image_size),
                target,
            )
        )
        turn = None
        if gaze is not None and shot.gaze is not None:
            turn = Gaze(*(torch.from_numpy(look).to(animator.device) for look in (shot.gaze[None], gaze)))
        warper = make_warper(shot, region, config, animator.device)
        gain = None
        if self._segmenter is not None:  # the head turns
            crop = resize_square(shot.pixels[region.crop, region.crop], config.image_size)
            gain = torch.from_numpy(mirrored_gain(crop, shot.landmarks)).to(animator.device)[None]
        warp = warper(warp_field(ours, theirs, extent=REACH, gaze=turn, mirrored_gain=gain))
        images = rasterize_batch(points, config.image_size, config.raster)
        drawn = warp.compose(animator.generate(images, animator.adain_values, warp.warped))
        return np.asarray(drawn[0], np.uint8)

    def _draw_others(self, number: int, region: Region) -> dict[int, UInt8[np.ndarray, "side side 3"]]:
        """Draw the pictures of the avatar that have a share in a frame."""
        target = region.to_network(self.targets.landmarks[number][None], self.animator.config.image_size)
        gaze = None if self.targets.gaze is None else self.targets.gaze[number][None]
        shots = {int(shot) for shares in self._shares.values() for shot in np.flatnonzero(shares[number, 1:])}
        return {shot: self._to_region(self.animator.draw(shot, target, gaze)[0], region) for shot in sorted(shots)}

    def _to_region(self, drawn: UInt8[np.ndarray, "drawn drawn 3"], region: Region) -> UInt8[np.ndarray, "side side 3"]:
        """Place the crop of a picture drawn at the canvas's size where the crop of a region of another size is."""
        canvas = self.animator.region
        scale = region.crop_side / canvas.crop_side
        shift = (0.5 - canvas.margin) * scale - 0.5 + region.margin
        affine, size = np.array([[scale, 0, shift], [0, scale, shift]]), (region.side, region.side)
        placed = cv2.warpAffine(drawn, affine, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(placed, np.uint8)

    def _distances(self, part: str) -> Float[np.ndarray, "frames shots"]:
        """Return how badly the frame itself, and each of the avatar's pictures, shows an opening as it is to be."""
        size = self.animator.config.image_size
        shots = np.stack([shot.landmarks for shot in self.animator.shots])
        distances = np.empty((len(self.own), 1 + len(shots)))
        for first in range(0, len(self.own), _AT_ONCE):
            frames = slice(first, first + _AT_ONCE)
            own, target = self._networks(frames)
            distances[frames, 0] = np.diagonal(opening_distances(own, target, size, part, _POSE_WEIGHT))
            distances[frames, 1:] = opening_distances(shots, target, size, part, _POSE_WEIGHT)
        still = self.targets.shares <= 0
        distances[still, 0], distances[still, 1:] = 0, _NEVER
        return distances

    def _networks(self, part: slice) -> tuple[Float[np.ndarray, "frames 68 2"], Float[np.ndarray, "frames 68 2"]]:
        blank, size = np.zeros((1, 1, 3), np.uint8), self.animator.config.image_size
        pairs = []
        for number in range(len(self.own))[part]:
            region = self._region(number, blank)
            both = np.stack([self.own[number], self.targets.landmarks[number]])
            pairs.append(region.to_network(both, size))
        own, target = np.stack(pairs, axis=1)
        return own, target


def _placed(image: Picture, region: Region, drawn: UInt8[np.ndarray, "side side 3"]) -> Picture:
    """Return the image with a region's pixels, without what of the region lies beyond the image."""
    height, width = image.shape[:2]
    top, left = max(region.top, 0), max(region.left, 0)
    bottom, right = min(region.top + region.side, height), min(region.left + region.side, width)
    picture = image.copy()
    inner = (slice(top - region.top, bottom - region.top), slice(left - region.left, right - region.left))
    picture[top:bottom, left:right] = drawn[inner]
    return picture
