"""Which videos and frames are measured, on small data sets."""

from collections.abc import Callable

import numpy as np
import pytest

from pipelines.dataset.reader import ShardDataset
from training.evaluation.metrics.faces import Faces
from training.evaluation.protocol import ProtocolConfig, choose_frames, choose_pairs, choose_videos, read_faces

MakeDataset = Callable[..., ShardDataset]


def test_shots_and_held_out_frames_are_disjoint_and_the_shots_nested(make_dataset: MakeDataset) -> None:
    (video,) = make_dataset("ann/v1", num_frames=14).videos("train")
    selection = choose_frames(video, ProtocolConfig(num_frames=5, shots=(1, 4, 8)))
    assert selection is not None
    assert (len(selection.shots), len(selection.held_out)) == (8, 5)
    assert not set(selection.shots) & set(selection.held_out)
    assert list(selection.held_out) == sorted(selection.held_out)
    fewer = choose_frames(video, ProtocolConfig(num_frames=5, shots=(1,)))
    assert fewer is not None
    assert fewer.shots == selection.shots[:1]


def test_a_t_that_leaves_too_few_frames_is_left_out(make_dataset: MakeDataset) -> None:
    (video,) = make_dataset("ann/v1", num_frames=14).videos("train")
    for num_frames, shots, given, held_out in ((32, (1, 6), 6, 8), (32, (1, 7), 1, 13), (4, (1, 10), 10, 4)):
        selection = choose_frames(video, ProtocolConfig(num_frames=num_frames, shots=shots))
        assert selection is not None
        assert (len(selection.shots), len(selection.held_out)) == (given, held_out)
    assert choose_frames(video, ProtocolConfig(shots=(7,))) is None


def test_choice_depends_on_seed_and_id_alone(make_dataset: MakeDataset) -> None:
    few = make_dataset("ann/v1", "bob/v1", num_frames=20, name="few").videos("train")
    many = make_dataset("abe/v0", "ann/v1", "bob/v1", num_frames=20, name="many").videos("train")
    config = ProtocolConfig(num_frames=4, shots=(1, 4))
    chosen = [choose_frames(video, config) for video in (few[0], many[1], few[1])]
    assert [one and (one.shots, one.held_out) for one in chosen[:1]] == [
        one and (one.shots, one.held_out) for one in chosen[1:2]
    ]
    assert chosen[0]
    assert chosen[2]
    assert chosen[0].shots != chosen[2].shots
    other = choose_frames(few[0], ProtocolConfig(num_frames=4, shots=(1, 4), seed=1))
    assert other
    assert other.shots != chosen[0].shots


def test_videos_come_from_as_many_people_as_there_are(make_dataset: MakeDataset) -> None:
    videos = make_dataset("ann/v1", "ann/v2", "ann/v3", "bob/v1", "cyd/v1").videos("train")
    for seed in range(4):
        chosen = choose_videos(videos, 3, seed)
        assert {video.identity for video in chosen} == {"ann", "bob", "cyd"}
        assert choose_videos(videos[::-1], 3, seed) == chosen
    assert len(choose_videos(videos, 50, 0)) == 5


def test_pairs_are_of_two_people_and_the_driver_runs_in_time(make_dataset: MakeDataset) -> None:
    videos = make_dataset("ann/v1", "ann/v2", "bob/v1", num_frames=6).videos("train")
    pairs = choose_pairs(videos, ProtocolConfig(num_pairs=5, num_frames=4))
    assert [(pair.portrait_video.video_id, pair.driver_video.video_id) for pair in pairs] == [
        ("ann/v1", "bob/v1"),
        ("ann/v2", "bob/v1"),
        ("bob/v1", "ann/v1"),
    ]
    assert [frame.frame_index for frame in pairs[0].driver] == [0, 1, 2, 3]
    assert choose_pairs(videos[:2], ProtocolConfig(num_pairs=5)) == []


def test_faces_are_scaled_with_their_landmarks(make_dataset: MakeDataset) -> None:
    dataset = make_dataset("ann/v1")
    frames = dataset.videos("train")[0].frames[:2]
    stored, small = read_faces(dataset, frames), read_faces(dataset, frames, 24)
    assert (stored.size, small.size) == (48, 24)
    # 48 px to 24: a pixel's centre at x lies at (x + 0.5) / 2 - 0.5.
    np.testing.assert_allclose(small.landmarks, (stored.landmarks + 0.5) / 2 - 0.5, atol=1e-5)
    assert np.abs(small.images.mean(axis=(1, 2)) - stored.images.mean(axis=(1, 2))).max() < 1
    assert len(Faces(stored.images, stored.landmarks).first(1)) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_videos": 0}, "num_videos must be at least 1, not 0"),
        ({"num_frames": 0}, "num_frames must be at least 1, not 0"),
        ({"num_pairs": -1}, "num_pairs must not be negative, got -1"),
        ({"shots": ()}, "shots must be rising"),
        ({"shots": (0, 1)}, "got 0 1"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProtocolConfig(**wrong)  # type: ignore[arg-type]
