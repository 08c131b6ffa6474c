import dataclasses
import tracemalloc
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

import training.animation.shots.canvas_shots as shots_module
from pipelines.faces.person_matte import PersonSegmenter
from training.animation.animator import Animator
from training.animation.shots.choice import ShotShares
from training.animation.upsample import guided_upsample
from training.avatars.avatar import Avatar
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import Portrait
from training.checkpoints.bundle import BaseModel
from training.warp.control_points import REACH


@pytest.fixture
def avatar(base_model: Callable[..., BaseModel], portrait: Callable[..., Portrait]) -> Avatar:
    return fine_tune(base_model(warp_prior=True), [portrait()], FineTuneConfig(0))


def drawn(animator: Animator, targets: np.ndarray) -> Iterator[np.ndarray]:
    """The regions of frames with these landmarks."""
    return animator.frames(targets, None, animator.choose_shots(targets, 25.0))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_the_clip(avatar: Avatar) -> None:
    """Arrays of a drawing Animator: batches come and go."""
    peaks = []
    for num_frames in (16, 96):
        targets = np.repeat(avatar.canvas.landmarks[None], num_frames, axis=0)
        animator = Animator(avatar)
        tracemalloc.start()
        count = sum(1 for _ in drawn(animator, targets))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count == num_frames
    assert peaks[1] < 1.2 * peaks[0] + 100_000


def test_the_crop_of_the_canvas_is_the_models_own(avatar: Avatar) -> None:
    animator = Animator(avatar)
    image, _ = avatar.canvas.crop(avatar.config, animator.region.crop_side)
    _, landmarks = avatar.canvas.crop(avatar.config, 32)
    assert np.abs(animator.shots[0].landmarks - landmarks).max() < 0.5  # whole pixels of the canvas
    inner = animator.region.crop
    assert np.abs(animator.shots[0].pixels[inner, inner].astype(int) - image).mean() < 8
    assert animator.region.side == pytest.approx(REACH * animator.region.crop_side, abs=2)


def test_pasting_the_unmoved_region_gives_the_picture_back(avatar: Avatar) -> None:
    animator = Animator(avatar)
    pixels = animator.shots[0].pixels
    assert np.array_equal(animator.paste(pixels), avatar.canvas.image)
    white = animator.paste(np.full_like(pixels, 255))
    middle = np.rint(avatar.canvas.landmarks.mean(axis=0)).astype(int)
    assert white[middle[1], middle[0]].tolist() == [255] * 3


@pytest.mark.slow
def test_what_the_network_moves_is_moved_within_its_crop_and_nowhere_else(avatar: Avatar) -> None:
    with torch.no_grad():
        avatar.generator.motion.get_parameter("bias").copy_(torch.tensor([0.0, 1e3, 0.0]))  # look right
    animator = Animator(avatar)
    pixels, crop, side = animator.shots[0].pixels, animator.region.crop, animator.region.side
    (frame,) = drawn(animator, avatar.canvas.landmarks[None])
    shift = 0.1 * animator.region.crop_side / 2  # of the crop's half
    assert shift == pytest.approx(6.3)
    near, far = side // 2 - 15, side // 2 + 15
    move = np.array([[1, 0, -shift], [0, 1, 0]])
    wanted = cv2.warpAffine(pixels, move, pixels.shape[:2])[near:far, near:far].astype(int)
    assert np.abs(frame[near:far, near:far] - wanted).mean() < 2
    assert np.abs(pixels[near:far, near:far] - wanted).mean() > 5
    beyond = np.ones(frame.shape[:2], bool)
    of_it = slice(crop.start - 4, crop.stop + 4)  # as far as a pixel of the network's reaches
    beyond[of_it, of_it] = False
    assert np.abs(frame[beyond].astype(int) - pixels[beyond]).max() <= 1


def test_what_is_behind_the_person_stands_still(
    avatar: Avatar, right_half: PersonSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shots_module, "PersonSegmenter", lambda: right_half)
    animator = Animator(avatar)
    (frame,) = drawn(animator, avatar.canvas.landmarks[None] - np.array([4, 0], np.float32))
    changed = np.abs(frame.astype(int) - animator.shots[0].pixels).max(axis=2)
    middle = animator.region.side // 2
    assert changed[:, : middle - 8].max() <= 2
    assert changed[middle - 10 : middle + 10, middle + 2 : middle + 20].max() > 20


def test_each_frame_starts_from_the_picture_that_suits_it(
    base_model: Callable[..., BaseModel], portrait: Callable[..., Portrait]
) -> None:
    """Three pictures of three poses: the frames that have those poses start from them."""
    poses = [{"yaw": 0.0}, {"yaw": 22.0}, {"yaw": -22.0}]
    pictures = [dataclasses.replace(portrait(**pose), sha256=str(number)) for number, pose in enumerate(poses)]
    avatar = fine_tune(base_model(warp_prior=True), pictures, FineTuneConfig(0))
    animator = Animator(avatar)
    assert animator.names == [picture.name for picture in pictures]
    targets = np.stack([picture.landmarks for picture in pictures]).repeat(20, axis=0)
    shares = animator.choose_shots(targets, 25.0).head
    assert [shares[10].argmax(), shares[30].argmax(), shares[50].argmax()] == [0, 1, 2]
    assert np.array_equal(animator.choose_shots(targets, None).head.argmax(axis=1), np.arange(3).repeat(20))


@pytest.mark.slow
def test_a_mouth_of_another_picture_is_laid_over_the_head(
    base_model: Callable[..., BaseModel], portrait: Callable[..., Portrait]
) -> None:
    """The canvas is grey, the mouth of the other picture red: only the frame that takes the mouth from it shows red."""
    own, other = portrait(), dataclasses.replace(portrait(yaw=20.0), sha256="1")
    pixels = np.full_like(other.image, 128)
    mouth = other.landmarks[48:68].mean(axis=0).astype(int)
    pixels[mouth[1] - 3 : mouth[1] + 4, mouth[0] - 6 : mouth[0] + 7] = (250, 20, 20)
    pictures = [dataclasses.replace(own, image=np.full_like(own.image, 128)), dataclasses.replace(other, image=pixels)]
    animator = Animator(fine_tune(base_model(warp_prior=True), pictures, FineTuneConfig(0)))
    head = np.array([[1, 0], [1, 0]], np.float32)
    shares = ShotShares(head, {"lips": np.array([[1, 0], [0, 1]], np.float32)})
    targets = animator.canvas.landmarks[None].repeat(2, axis=0)
    plain, laid = (frame.astype(int) for frame in animator.frames(targets, None, shares))
    redness = laid[..., 0] - laid[..., 1]
    assert np.abs(plain[..., 0] - plain[..., 1]).max() < 20
    x, y = (targets[0, 48:68].mean(axis=0) - [animator.region.left, animator.region.top]).astype(int)
    assert redness[y, x] > 100
    face = targets[0] - [animator.region.left, animator.region.top]
    brows, chin = face[17:27, 1].max().astype(int), face[8, 1].astype(int)
    assert np.abs(laid - plain)[: brows + 2].max() <= 1
    assert np.abs(laid - plain)[chin:].max() <= 1


def test_guided_upsampling_adds_a_constant_exactly_and_keeps_the_grain() -> None:
    random = torch.Generator().manual_seed(0)
    guide, fine = torch.rand(1, 3, 8, 8, generator=random), torch.rand(1, 3, 40, 40, generator=random)
    added = guided_upsample(torch.full((1, 3, 8, 8), 0.25), guide, fine)
    assert torch.allclose(added, torch.full_like(fine, 0.25), atol=1e-5)
    # Where the guide is flat, the mean of the values is added and the fine picture keeps its grain.
    ramp = torch.linspace(0, 1, 8).expand(1, 3, 8, 8)
    smooth = guided_upsample(ramp, torch.full((1, 3, 8, 8), 0.5), fine)
    assert torch.allclose(smooth[0, 0, 0], smooth[0, 0, 20], atol=1e-6)
    assert float(smooth[0, 0, 0].diff().min()) > -1e-6


def test_guided_upsampling_follows_the_edges_of_the_fine_picture() -> None:
    step = torch.zeros(1, 3, 64, 64)
    step[..., 30:] = 1.0  # between two coarse pixels
    guide = F.avg_pool2d(step, 8)
    up = guided_upsample(-0.5 * guide, guide, step)[0, 0, 32]
    plain = F.interpolate(-0.5 * guide, size=(64, 64), mode="bilinear", align_corners=False)[0, 0, 32]
    assert float(up[29] - up[30]) > 0.3
    assert float(plain[29] - plain[30]) < 0.1
