"""Alignment against scikit-image, and who is who on real pictures."""

import numpy as np
import pytest
from skimage.transform import SimilarityTransform

from pipelines import assets
from pipelines.faces.detectors import create_detector
from pipelines.faces.head_pose import CANONICAL_LANDMARKS, Pose
from pipelines.faces.identity.sface import FaceRecogniser, align, five_points, similarity
from pipelines.media.images import read_image
from pipelines.media.video import decode


def face(roll: float) -> np.ndarray:
    """The landmarks of a head of about 100 pixels that looks straight ahead."""
    zero = np.array(0.0)
    pose = Pose.from_angles(zero, zero, np.array(roll), np.array(100 / 15), np.array([80.0, 90.0]))
    return pose.project(CANONICAL_LANDMARKS)


def test_similarity_is_that_of_scikit_image() -> None:
    random = np.random.default_rng(0)
    source, target = random.normal(size=(5, 2)) * 30, random.normal(size=(5, 2)) * 9 + 50
    expected = SimilarityTransform.from_estimate(source, target).params[:2]
    np.testing.assert_allclose(similarity(source, target), expected, atol=1e-9)


def test_five_points_are_eyes_nose_and_mouth() -> None:
    points = face(roll=0.0)
    right, left, nose, mouth_right, mouth_left = five_points(points)
    np.testing.assert_allclose(right, points[36:42].mean(axis=0))
    np.testing.assert_allclose(left, points[42:48].mean(axis=0))
    assert right[0] < nose[0] < left[0]
    assert max(right[1], left[1]) < nose[1] < min(mouth_right[1], mouth_left[1])


def test_alignment_puts_eyes_and_mouth_on_the_template() -> None:
    landmarks = face(roll=20.0)
    image = np.zeros((180, 160, 3), np.uint8)
    for eye in five_points(landmarks)[:2]:
        x, y = np.rint(eye).astype(int)
        image[y - 3 : y + 4, x - 3 : x + 4] = 255
    aligned = align(image, landmarks)
    assert aligned.shape == (112, 112, 3)
    rows, columns = np.nonzero(aligned[..., 0] > 128)
    for side, x in ((columns < 56, 38.3), (columns >= 56, 73.5)):
        # The five points cannot all lie on the template: a head's own proportions leave a few pixels.
        assert columns[side].mean() == pytest.approx(x, abs=6)
        assert rows[side].mean() == pytest.approx(51.6, abs=6)


@pytest.mark.slow
def test_two_pictures_of_one_person_are_more_alike_than_those_of_two() -> None:
    detector = create_detector()
    pictures = [read_image(str(assets.fetch("astronaut")))]
    for clip in ("clip_langer", "clip_cap12", "clip_cap13"):
        frames = [frame.image for number, frame in enumerate(decode(assets.fetch(clip))) if number in (0, 60)]
        pictures += frames
    landmarks = [detector.detect(picture)[0].landmarks for picture in pictures]
    recogniser = FaceRecogniser()
    astronaut, woman, woman_later, man, man_later, man_again, _ = np.concatenate(
        [recogniser.embed(picture[None], points[None]) for picture, points in zip(pictures, landmarks, strict=True)]
    )
    np.testing.assert_allclose(np.linalg.norm(woman), 1, rtol=1e-6)
    same = [woman @ woman_later, man @ man_later, man @ man_again]
    others = [astronaut @ woman, astronaut @ man, woman @ man]
    assert min(same) > 0.5 > 0.3 > max(others), (same, others)


@pytest.mark.slow
def test_a_batch_gives_what_each_picture_gives() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (19, 112, 112, 3)).astype(np.uint8)
    landmarks = (random.normal(size=(19, 68, 2)) * 20 + 56).astype(np.float32)
    recogniser = FaceRecogniser()
    single = [recogniser.embed(image[None], points[None])[0] for image, points in zip(images, landmarks, strict=True)]
    np.testing.assert_allclose(recogniser.embed(images, landmarks), np.stack(single), atol=1e-4)
    assert recogniser.embed(images[:0], landmarks[:0]).shape == (0, 128)
