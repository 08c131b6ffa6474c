import numpy as np
import pytest

from pipelines import assets
from pipelines.media import video
from pipelines.media.scene_cuts import find_scenes, signature


def scene(seed: int, frames: int, drift: float = 0.0) -> list[np.ndarray]:
    """A picture of smooth random shapes that moves by `drift` pixels a frame."""
    rng = np.random.default_rng(seed)
    wide = np.repeat(np.repeat(rng.integers(0, 255, (6, 40, 3), dtype=np.uint8), 16, axis=0), 16, axis=1)
    return [wide[:, round(i * drift) : round(i * drift) + 128] for i in range(frames)]


def scenes_of(images: list[np.ndarray]) -> list[list[int]]:
    return [[*positions] for positions in find_scenes([signature(image) for image in images])]


def test_a_hard_cut_begins_a_scene() -> None:
    assert scenes_of(scene(1, 4) + scene(2, 3) + scene(3, 2)) == [[0, 1, 2, 3], [4, 5, 6], [7, 8]]


def test_a_scene_that_comes_back_is_the_same_scene() -> None:
    assert scenes_of(scene(1, 4) + scene(2, 2) + scene(1, 3) + scene(2, 2)) == [[0, 1, 2, 3, 6, 7, 8], [4, 5, 9, 10]]


def test_a_moving_camera_is_no_cut() -> None:
    assert scenes_of(scene(1, 20, drift=6.0)) == [[*range(20)]]


def test_few_frames_are_one_scene_and_none_is_none() -> None:
    assert scenes_of(scene(1, 1)) == [[0]]
    assert find_scenes([]) == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number"),
    [("clip_langer", 1), ("clip_single_face", 1), ("clip_carphone", 1), ("clip_face_noface", 2)],
)
def test_real_clips_have_the_scenes_one_sees(name: str, number: int) -> None:
    path = assets.fetch(name)
    images = [frame.image for frame in video.decode(path)][::4]
    # The picture in the middle of a cross-fade is a scene of its own: too short to matter.
    assert sum(len(positions) > 2 for positions in scenes_of(images)) == number
