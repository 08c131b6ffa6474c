"""RenderedClip heads: what a stranger and a detector would see, and where the true points go."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from jaxtyping import Float32, UInt8

from pipelines.faces.detectors import create_detector
from pipelines.faces.head_pose import eye_openness, fit_pose, mouth_openness
from pipelines.synthetic.head.person import Person, generator
from pipelines.synthetic.motion.motion import ACTIONS, Motion, draw_motion
from pipelines.synthetic.render.renderer import Renderer
from pipelines.synthetic.render.scene import Scene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(128, frames_at_once=4)


def still(
    actions: Mapping[str, float] | None = None,
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    travel: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Motion:
    """One frame: actions by the first words of their names, and a turned head that has moved."""
    values = np.zeros((1, len(ACTIONS)), np.float32)
    for name, value in (actions or {}).items():
        values[0, [action.startswith(name) for action in ACTIONS]] = value
    return Motion(25.0, values, np.array([[yaw, pitch, roll]], np.float32), np.array([travel], np.float32))


@pytest.fixture(scope="module")
def points(renderer: Renderer) -> Callable[[Motion], Float32[np.ndarray, "68 2"]]:
    """The true points of one person who does what the motion says."""
    person, scene = Person.draw(0, 1), Scene.draw(0, 1, 0)
    return lambda motion: renderer.frames([person], [scene], [motion]).points[0].numpy()


def test_the_same_numbers_give_the_same_bytes_however_many_frames_are_drawn_at_once(renderer: Renderer) -> None:
    person, scene = Person.draw(3, 8), Scene.draw(3, 8, 1)
    motion = draw_motion(generator(3, "motion"), (), 5, 25.0)
    clips = [list(camera.render_clip(person, scene, motion)) for camera in (renderer, Renderer(128, frames_at_once=3))]
    assert [len(part.images) for part in clips[1]] == [3, 2]
    images, points = (
        [torch.cat([getattr(part, name) for part in clip]) for clip in clips] for name in ("images", "points")
    )
    assert torch.equal(images[0], images[1])
    assert torch.equal(points[0], points[1])
    assert images[0].shape == (5, 128, 128, 3)


def test_frames_of_many_people_are_those_of_each_alone(renderer: Renderer) -> None:
    people = [Person.draw(0, i) for i in (1, 2, 1)]
    scenes = [dataclasses.replace(Scene.draw(0, i, 0), grain=0.0) for i in (1, 2, 1)]  # its noise depends on the place
    motions = [still(), still({"jawOpen": 0.5}), still(yaw=20.0)]
    together = renderer.frames(people, scenes, motions)
    for index in range(3):
        alone = renderer.frames(people[index : index + 1], scenes[index : index + 1], motions[index : index + 1])
        torch.testing.assert_close(together.points[index : index + 1], alone.points)
        # Products of larger matrices are summed in another order on some processors: a few values round the other way.
        apart = (together.images[index].int() - alone.images[0].int()).abs()
        assert int(apart.max()) <= 1
        assert float(apart.float().mean()) < 2e-4


def test_faces_do_what_the_actions_say(points: Callable[[Motion], Float32[np.ndarray, "68 2"]]) -> None:
    rest = points(still())
    shut = eye_openness(points(still({"eyeBlink": 1.0})))
    assert (shut < 0.45 * eye_openness(rest)).all()
    wink = eye_openness(points(still({"eyeBlinkLeft": 1.0})))
    assert wink[0] == pytest.approx(eye_openness(rest)[0], rel=0.02), (
        "the person's right eye, on the left of the picture"
    )
    assert wink[1] < 0.45 * eye_openness(rest)[1]
    assert mouth_openness(points(still({"jawOpen": 0.7}))) > mouth_openness(rest) + 0.25
    smile = points(still({"mouthSmile": 1.0}))
    assert smile[54, 0] - smile[48, 0] > 1.08 * (rest[54, 0] - rest[48, 0])
    brows = points(still({"browInnerUp": 1.0, "browOuterUp": 1.0}))
    assert (brows[18:26, 1] < rest[18:26, 1] - 0.5).all()


@pytest.mark.parametrize("turn", [{"yaw": 25.0}, {"yaw": -25.0}, {"pitch": 12.0}, {"roll": 15.0}])
def test_heads_turn_as_far_and_to_the_side_that_the_angles_say(
    turn: dict[str, float], points: Callable[[Motion], Float32[np.ndarray, "68 2"]]
) -> None:
    rest, pose = fit_pose(points(still())[None]), fit_pose(points(still(**turn))[None])
    ((name, degrees),) = turn.items()
    turned = float(getattr(pose, name)[0] - getattr(rest, name)[0])
    assert turned == pytest.approx(degrees, rel=0.35)


def test_a_head_that_comes_nearer_is_seen_larger_and_one_that_goes_aside_as_large(
    points: Callable[[Motion], Float32[np.ndarray, "68 2"]],
) -> None:
    rest, near, far = (points(still(travel=(0.0, 0.0, nearer))) for nearer in (0.0, 0.2, -0.2))
    # By exp(0.2) at the distance of the head's middle; its face is some centimetres nearer, and gains a little more.
    assert 1.22 < np.ptp(near[:, 0]) / np.ptp(rest[:, 0]) < 1.26
    assert 0.79 < np.ptp(far[:, 0]) / np.ptp(rest[:, 0]) < 0.82
    aside = points(still(travel=(0.1, -0.2, 0.0)))
    moved = aside - rest
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:1], moved.shape), atol=1e-3)
    assert moved[0, 1] == pytest.approx(-2 * moved[0, 0])


def test_a_jaw_opens_as_far_as_those_of_the_real_clips(
    points: Callable[[Motion], Float32[np.ndarray, "68 2"]],
) -> None:
    """There the lips part by .74 to .92 of the eyes' distance for each 1 that MediaPipe says of jawOpen."""
    opened = points(still({"jawOpen": 0.6}))
    eyes = np.linalg.norm(opened[36:42].mean(axis=0) - opened[42:48].mean(axis=0))
    assert 0.74 < np.linalg.norm(opened[62] - opened[66]) / eyes / 0.6 < 0.92


def test_the_gaze_goes_where_it_is_sent(renderer: Renderer) -> None:
    # The dark of iris and pupil moves within the eye: to the picture's right when the person looks to the left.
    person, scene = Person.draw(0, 2), Scene.draw(0, 2, 0)
    looks = [
        still({"eyeLookOutLeft": x, "eyeLookInRight": x, "eyeLookOutRight": y, "eyeLookInLeft": y})
        for x, y in ((1, 0), (0, 1))
    ]
    pictures = Renderer(384).frames([person] * 2, [scene] * 2, looks)
    left, right = (
        _darkest(image.numpy(), eye.numpy()[42:48]) for image, eye in zip(pictures.images, pictures.points, strict=True)
    )
    assert left > right + 3


def _darkest(image: UInt8[np.ndarray, "height width 3"], eye: Float32[np.ndarray, "6 2"]) -> float:
    """Column of the dark inside an eye, in pixels from its middle."""
    (x0, y0), (x1, y1) = eye.min(axis=0).astype(int) + 1, eye.max(axis=0).astype(int)
    dark = 255.0 - image[y0:y1, x0:x1].mean(axis=2)
    weight = np.maximum(dark - np.quantile(dark, 0.6), 0).sum(axis=0)
    return float((weight * np.arange(len(weight))).sum() / weight.sum() - len(weight) / 2)


def test_people_differ_and_stay_who_they_are(renderer: Renderer) -> None:
    people, scenes = [Person.draw(0, i) for i in range(6)], [Scene.draw(0, 0, 0)] * 6
    images = renderer.frames(people, scenes, [still()] * 6).images.float()
    again = renderer.frames(people, scenes, [still()] * 6).images.float()
    assert torch.equal(images, again)
    apart = (images[:, None] - images[None]).abs().mean(dim=(2, 3, 4))
    assert (apart[~torch.eye(6, dtype=torch.bool)] > 8).all()


def test_a_detector_finds_the_faces_near_their_true_points() -> None:
    renderer, detector = Renderer(256), create_detector("mediapipe")
    people, scenes = [Person.draw(5, i) for i in range(10)], [Scene.draw(5, i, 0) for i in range(10)]
    pictures = renderer.frames(people, scenes, [draw_motion(generator(i, "m"), (), 1, 25.0) for i in range(10)])
    errors = []
    for image, truth in zip(pictures.images.numpy(), pictures.points.numpy(), strict=True):
        faces = detector.detect(image)
        if faces:
            eyes = np.linalg.norm(truth[45] - truth[36])
            errors.append(np.linalg.norm(faces[0].landmarks - truth, axis=-1).mean() / eyes)
    assert len(errors) >= 9
    assert np.mean(errors) < 0.07
