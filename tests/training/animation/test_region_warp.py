"""Tensors and OpenCV draw the same picture: what holds on this CPU for both holds on a GPU for the former."""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from other_device import other_device

from pipelines import assets
from pipelines.faces.detectors import create_detector
from pipelines.faces.head_pose import Pose, fit_pose, unproject
from training.animation import animator as animator_module
from training.animation.animator import Animator
from training.animation.opencv_warp import OpenCvWarper
from training.animation.shots.choice import ShotShares
from training.animation.torch_warp import TorchWarper
from training.avatars.avatar import Avatar
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import Portrait, find_portraits
from training.checkpoints.bundle import BaseModel, load_bundle
from training.checkpoints.shipped import SHIPPED

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def mona_lisa() -> Avatar:
    pictures = find_portraits([str(assets.fetch("mona_lisa"))], create_detector("mediapipe"))
    return fine_tune(load_bundle(SHIPPED), pictures, FineTuneConfig(0))


def moved(avatar: Avatar) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of a head that moves, opens its mouth, shuts its eyes and turns to its hidden side, and its gaze."""
    canvas = avatar.canvas
    assert canvas.gaze is not None
    pose = fit_pose(canvas.landmarks)
    heads = np.repeat(unproject(canvas.landmarks, pose)[None], 4, axis=0)
    heads[1, [55, 56, 57, 58, 59, 65, 66, 67], 1] += 1.0
    heads[2, [37, 38, 43, 44], 1] += 0.6
    facing = [pose] * 3 + [
        Pose.from_angles(np.asarray(pose.yaw + 25), pose.pitch, pose.roll, pose.scale, pose.translation)
    ]
    turned = [
        dataclasses.replace(each, translation=pose.translation + np.array([8 * number, 0])).project(head)
        for number, (each, head) in enumerate(zip(facing, heads, strict=True))
    ]
    gaze = np.stack([canvas.gaze + np.array([0.05 * number, 0]) for number in range(4)])
    return np.stack(turned).astype(np.float32), gaze.astype(np.float32)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_tensors_and_opencv_draw_the_same_picture(mona_lisa: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    targets, gaze = moved(mona_lisa)
    frames = []
    for make in (OpenCvWarper, lambda *shot: TorchWarper(*shot, CPU)):
        monkeypatch.setattr(animator_module, "make_warper", lambda *shot, make=make: make(*shot[:3]))
        animator = Animator(mona_lisa, max_size=1280)
        shares = animator.choose_shots(targets, None)
        frames.append(np.stack(list(animator.frames(targets, gaze, shares))).astype(int))
    difference = np.abs(frames[0] - frames[1]).max(axis=-1)
    assert (difference <= 1).mean() > 0.97
    assert difference.mean() < 0.3
    assert np.abs(frames[0][3] - animator.shots[0].pixels).mean() > 2  # it did move


@pytest.mark.slow
def test_a_face_larger_than_the_networks_warp_is_drawn_the_same(
    base_model: Callable[..., BaseModel], portrait: Callable[..., Portrait], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generator's input is then warped at the networks' resolution, not at the picture's."""
    small = portrait()
    blurred = cv2.GaussianBlur(cv2.resize(small.image, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC), (0, 0), 4)
    large = dataclasses.replace(small, image=blurred, landmarks=(small.landmarks + 0.5) * 6 - 0.5)
    avatar = fine_tune(base_model(warp_prior=True), [large], FineTuneConfig(0))
    targets = large.landmarks[None] + np.array([20, 5], np.float32)
    frames = []
    for make in (OpenCvWarper, lambda *shot: TorchWarper(*shot, CPU)):
        monkeypatch.setattr(animator_module, "make_warper", lambda *shot, make=make: make(*shot[:3]))
        animator = Animator(avatar)
        frames.append(next(animator.frames(targets, None, ShotShares(np.ones((1, 1), np.float32)))).astype(int))
    assert animator.region.crop_side > avatar.config.frame_size
    assert (np.abs(frames[0] - frames[1]).max(axis=-1) <= 1).mean() > 0.97


@pytest.mark.slow
def test_on_another_device_no_tensor_meets_one_of_the_cpu_and_the_picture_is_the_same(
    base_model: Callable[..., BaseModel], portrait: Callable[..., Portrait]
) -> None:
    still = fine_tune(base_model(warp_prior=True), [portrait(90.0)], FineTuneConfig(0))
    picture = dataclasses.replace(
        still.canvas,
        image=cv2.GaussianBlur(still.canvas.image, (0, 0), 3),
        gaze=np.array([[0.5, 0.0], [0.5, 0.0]], np.float32),
    )
    avatar = dataclasses.replace(still, portraits=(picture,))
    targets = picture.landmarks[None] + np.array([[[3.0, 1.0]], [[-2.0, 0.0]]], np.float32)
    gaze = np.array([[[0.6, 0.0], [0.6, 0.0]]] * 2, np.float32)
    frames, shares = [], ShotShares(np.ones((2, 1), np.float32))
    frames.append(np.stack(list(Animator(avatar).frames(targets, gaze, shares))).astype(int))
    with other_device() as device:  # raises where tensors of two devices meet
        frames.append(np.stack(list(Animator(avatar, device=device).frames(targets, gaze, shares))).astype(int))
    assert (np.abs(frames[0] - frames[1]).max(axis=-1) <= 2).mean() > 0.97


@pytest.mark.gpu
def test_a_gpu_draws_the_picture_of_the_cpu(mona_lisa: Avatar) -> None:
    targets, gaze = moved(mona_lisa)
    frames = []
    for device in (CPU, torch.device("cuda")):
        animator = Animator(mona_lisa, max_size=1280, device=device)
        shares = animator.choose_shots(targets, None)
        frames.append(np.stack(list(animator.frames(targets, gaze, shares))).astype(int))
    assert (np.abs(frames[0] - frames[1]).max(axis=-1) <= 1).mean() > 0.98
