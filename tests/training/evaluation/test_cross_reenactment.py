"""Driving one person with another, on films whose true landmarks are known: every person does every motion."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.dataset.reader import ShardDataset
from pipelines.faces.crop import CropRule, crop, crop_affine, to_crop
from pipelines.faces.head_pose import fit_pose
from training.evaluation.cross_reenactment import (
    CrossPairFrames,
    choose_cross_pairs,
    crop_like_portrait,
    evaluate_cross_pair,
    list_motions,
)
from training.evaluation.evaluate import EvaluationContext
from training.evaluation.methods import Shots
from training.evaluation.metrics.faces import Faces
from training.evaluation.metrics.landmark_motion import landmark_error
from training.evaluation.metrics.metric_networks import DetectedFaces, MetricNetworks
from training.evaluation.protocol import ProtocolConfig, read_faces
from training.evaluation.still_methods import MeanFrame, NearestFrame, StaticPortrait
from training.images import resize_points

MakePaired = Callable[..., ShardDataset]
CONFIG = ProtocolConfig("train", num_videos=50, num_frames=32, shots=(1, 4))
SIZE = 32


def _takes(dataset: ShardDataset) -> Any:
    return list_motions(dataset.videos("train"), dataset.crop_affines("train"))


def _context(
    dataset: ShardDataset, methods: Sequence[Any] = (), networks: Any = None, config: Any = CONFIG
) -> EvaluationContext:
    return EvaluationContext(dataset, SIZE, methods, (), networks, config)


def test_a_crossing_is_two_people_and_two_motions(make_paired: MakePaired) -> None:
    crossings = choose_cross_pairs(_takes(make_paired(3, 3)), CONFIG)
    assert len({crossing.truth.name for crossing in crossings}) == len(crossings) == 9
    for crossing in crossings:
        assert crossing.truth.identity != crossing.driver.identity
        assert crossing.truth.motion == crossing.driver.motion
        assert len(crossing.starts) == 2
        for start in crossing.starts:
            assert start.portrait.identity == crossing.truth.identity
            assert start.reference.identity == crossing.driver.identity
            assert start.portrait.motion == start.reference.motion != crossing.truth.motion
            assert start.numbers == crossing.numbers == tuple(range(10))


def test_the_choice_is_the_seeds_and_people_take_turns(make_paired: MakePaired) -> None:
    takes = _takes(make_paired(3, 3))
    four = ProtocolConfig("train", num_videos=4, num_frames=32, shots=(1,))
    chosen = choose_cross_pairs(takes, four)
    assert [crossing.name for crossing in choose_cross_pairs(takes[::-1], four)] == [each.name for each in chosen]
    assert len({crossing.truth.identity for crossing in chosen[:3]}) == 3
    names = {
        tuple(each.name for each in choose_cross_pairs(takes, ProtocolConfig("train", 4, 32, (1,), seed=seed)))
        for seed in range(5)
    }
    assert len(names) > 1


def test_frames_are_paired_by_their_numbers_in_the_film(make_paired: MakePaired) -> None:
    # Person 0 keeps the even frames, person 1 every third.
    takes = _takes(make_paired(2, 2, lambda person, motion: range(0, 20, 2 + person)))
    for crossing in choose_cross_pairs(takes, CONFIG):
        assert crossing.starts[0].numbers == crossing.numbers == (0, 6, 12, 18)
        assert crossing.num_shots == (10 if crossing.truth.identity == "id0" else 7)
    two = ProtocolConfig("train", num_videos=50, num_frames=2, shots=(1,))
    assert choose_cross_pairs(takes, two)[0].numbers == (0, 18)


@pytest.mark.parametrize(
    ("people", "motions", "kept"),
    [
        (1, 3, lambda person, motion: range(6)),  # nobody else
        (3, 1, lambda person, motion: range(6)),  # no other motion
        (2, 2, lambda person, motion: range(person, 12, 2)),  # no frame in common
    ],
)
def test_without_a_counterpart_there_are_no_pairs(
    people: int, motions: int, kept: Callable[[int, int], range], make_paired: MakePaired
) -> None:
    assert choose_cross_pairs(_takes(make_paired(people, motions, kept)), CONFIG) == []


def _settings(dataset: ShardDataset) -> list[tuple[Any, CrossPairFrames]]:
    return [(each, CrossPairFrames.of(_context(dataset), each)) for each in choose_cross_pairs(_takes(dataset), CONFIG)]


def test_the_truth_is_seen_in_the_portraits_crop(make_paired: MakePaired, take: Callable[..., Any]) -> None:
    dataset = make_paired(2, 2)
    for crossing, setting in _settings(dataset):
        person, motion = int(crossing.truth.identity[2:]), int(crossing.truth.motion[1:5])
        clip = take(person, motion, range(10))
        own, _ = take(person, 1 - motion, range(10))
        stored = crop_affine(own, CropRule(), 48)  # of the portrait's clip
        wanted = resize_points(to_crop(clip[0], stored), SIZE / 48)
        assert np.allclose(setting.truth.landmarks, wanted, atol=1e-3)
        affine = crop_affine(own, CropRule(), SIZE)
        for ours, image in zip(setting.truth.images, clip[1], strict=True):
            difference = np.abs(ours.astype(int) - crop(image, affine, SIZE))[setting.known]
            assert difference.mean() < 12  # cut from a crop, not from the clip: a little softer


def test_the_portrait_is_the_most_neutral_frame_that_the_driver_has_too(make_paired: MakePaired) -> None:
    dataset = make_paired(2, 4)
    for crossing, setting in _settings(dataset):
        assert setting.portrait in [start.portrait for start in crossing.starts]
        own = setting.shots.stored.landmarks[0]
        pose = fit_pose(own)
        turned = [
            abs(frame.landmarks[0, 33, 0] - frame.landmarks[0, [0, 16], 0].mean())
            for start in crossing.starts
            for number in start.numbers
            for frame in [read_faces(dataset, [start.portrait.frames[number]])]
        ]
        # A nose in the middle of the jaw: these faces differ in pose alone.
        assert abs(own[33, 0] - own[[0, 16], 0].mean()) <= np.quantile(turned, 0.25)
        assert abs(float(pose.yaw)) < 4


def test_what_the_truths_crop_does_not_hold_is_not_measured(make_paired: MakePaired) -> None:
    for crossing, setting in _settings(make_paired(2, 2)):
        portrait, truth = setting.portrait.affine, crossing.truth.affine
        for axis, line in ((0, setting.known.any(axis=0)), (1, setting.known.any(axis=1))):
            # Middles of the 32 pixels across the portrait's crop, in the clip; then the truth's first and last edge.
            clip = portrait[axis, 2] + portrait[0, 0] * ((np.arange(SIZE) + 0.5) * 48 / SIZE - 0.5)
            low, high = (truth[axis, 2] + truth[0, 0] * edge for edge in (-0.5, 47.5))
            assert line.tolist() == ((clip >= low) & (clip <= high)).tolist()
        assert setting.shared_area == pytest.approx(100 * setting.known.mean())
        assert 50 < setting.shared_area <= 100
        black = np.zeros_like(setting.truth.images)
        shown = setting.within(black)
        assert (shown[:, setting.known] == 0).all()
        assert np.array_equal(shown[:, ~setting.known], setting.truth.images[:, ~setting.known])


def test_retargeted_landmarks_are_the_truths_and_raw_ones_are_the_drivers_face(make_paired: MakePaired) -> None:
    for crossing, setting in _settings(make_paired(3, 2)):
        retargeted, raw = (
            landmark_error(points, setting.truth.landmarks).mean() for points in (setting.targets, setting.raw)
        )
        apart = abs(int(crossing.driver.identity[2:]) - int(crossing.truth.identity[2:]))
        assert retargeted < 3
        assert raw > 2 * apart
        assert raw > 2 * retargeted


def test_raw_landmarks_keep_their_shape_and_lie_where_the_portrait_does(face: Callable[..., np.ndarray]) -> None:
    motion = np.stack([face(50, 60, 62), face(50, 64, 62, yaw=10.0)])
    own = face(25, 16, 17)
    first, second = crop_like_portrait(motion, own, CropRule(), SIZE)
    assert np.allclose(first, own, atol=1e-3)  # the same face at half the size
    assert np.allclose(second - first, (motion[1] - motion[0]) / 2, atol=1e-3)


class _Echo:
    """Draws flat pictures whose brightness says which landmarks it was given."""

    name = "echo"

    def draw(self, shots: Shots, targets: np.ndarray) -> np.ndarray:
        flat = np.clip(targets[:, :, 0].mean(axis=1) * 6, 0, 255).astype(np.uint8)
        return np.broadcast_to(flat[:, None, None, None], (len(targets), SIZE, SIZE, 3)).copy()


class _Networks(MetricNetworks):
    """Sees no faces; distances are of pixels."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    def detect(self, frames: np.ndarray) -> DetectedFaces:
        return DetectedFaces(np.zeros(len(frames), bool), np.zeros((len(frames), 68, 2)), np.zeros((len(frames), 128)))

    def embed(self, faces: Faces) -> np.ndarray:
        return np.ones((len(faces), 128))

    def features(self, frames: np.ndarray) -> np.ndarray:
        return frames.reshape(len(frames), -1)[:, :2].astype(np.float32)

    def lpips(self, frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.abs(frames.astype(float) - truth).mean(axis=(1, 2, 3))


def test_rows_are_drawn_with_retargeted_and_with_raw_landmarks(make_paired: MakePaired) -> None:
    dataset = make_paired(2, 2)
    config = ProtocolConfig("train", num_videos=1, num_frames=5, shots=(1, 4, 11))
    (crossing,) = choose_cross_pairs(_takes(dataset), config)
    methods = [StaticPortrait(), MeanFrame(), NearestFrame(), _Echo()]
    result = evaluate_cross_pair(_context(dataset, methods, _Networks(), config), crossing)
    names = [
        "true frame", "static portrait", "nearest frame", "echo", "echo, raw landmarks",
        "landmarks alone", "landmarks alone, raw landmarks",
    ]  # fmt: skip
    assert [(row.num_shots, row.method) for row in result.rows] == [(t, name) for t in (1, 4) for name in names]
    assert (result.name, result.driver, result.num_frames) == (
        CrossPairFrames.of(_context(dataset, config=config), crossing).portrait.name,
        crossing.driver.name,
        5,
    )
    rows = {(row.num_shots, row.method): row for row in result.rows}
    assert rows[1, "true frame"].values["lpips"] == 0
    # Of one shot the nearest is the portrait.
    assert rows[1, "nearest frame"].values["lpips"] == rows[1, "static portrait"].values["lpips"]
    assert rows[4, "nearest frame"].values["lpips"] < rows[4, "static portrait"].values["lpips"]
    assert rows[1, "echo"].values["lpips"] != rows[1, "echo, raw landmarks"].values["lpips"]
    setting = CrossPairFrames.of(_context(dataset, config=config), crossing)
    shown = setting.within(_Echo().draw(setting.shots, setting.raw))
    assert rows[1, "echo, raw landmarks"].values["psnr"] == pytest.approx(_psnr(shown, setting.truth.images))
    assert rows[1, "landmarks alone"].values["landmark_error"] < 3 < rows[1, names[-1]].values["landmark_error"]


def _psnr(frames: np.ndarray, truth: np.ndarray) -> float:
    from skimage.metrics import peak_signal_noise_ratio

    return float(np.mean([peak_signal_noise_ratio(b, a) for a, b in zip(frames, truth, strict=True)]))
