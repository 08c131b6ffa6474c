import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from jaxtyping import Float, UInt8

from pipelines.benchmarks.synthetic_faces import (
    KnownFace,
    KnownFigures,
    known_counts,
    known_table,
    measure_known,
    render_known_faces,
)
from pipelines.faces.face import Box, Candidates, Face, make_face


def marked(seen: bool) -> KnownFace:
    """The eyes' corners 100 apart, all other points at one of them; a lit picture is one that is seen."""
    points = np.zeros((68, 2))
    points[45] = (100, 100)
    points[36] = (40, 20)
    return KnownFace(np.full((4, 4, 3), 255 * seen, np.uint8), points)


@dataclass
class ShiftingDetector:
    """Finds faces in lit pictures: one far away, then the one that is there, its points shifted."""

    truth: Float[np.ndarray, "68 2"]
    shift: tuple[float, float]
    name: str = "shifting"
    clips_at_once: int = 1

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[Face]:
        places = (self.truth + 500.0, self.truth + np.array(self.shift)) if image.any() else ()
        return [make_face(points, 1.0) for points in places]

    def follow(self, clips: Sequence[Candidates]) -> list[list[list[Face]]]:
        raise NotImplementedError


@dataclass
class OneBox:
    """The same box in every picture."""

    box: Box
    reference_scale: float = 1.0
    pictures_at_once: int = 1

    def find(self, images: Sequence[UInt8[np.ndarray, "_height _width 3"]]) -> list[list[Box]]:
        return [[self.box] for _ in images]


def test_a_face_counts_as_found_where_it_is_and_its_error_is_in_eye_distances() -> None:
    people = [[marked(True), marked(False)], [marked(True)]]
    advanced: list[None] = []
    detector = ShiftingDetector(people[0][0].points, (6.0, 8.0))
    box = OneBox((0.0, 0.0, 100.0, 90.0))
    figures = measure_known({"shifting": detector}, box, people, lambda: advanced.append(None))
    assert (figures.num_faces, figures.num_boxes, len(advanced)) == (3, 3, 2)
    assert [error.tolist() for error in figures.errors["shifting"]] == [pytest.approx([0.1] * 68)] * 2


def test_a_box_elsewhere_finds_no_face() -> None:
    """The points' box is 100 wide and high: one that covers a quarter of it is another thing's."""
    people = [[marked(True)]]
    assert measure_known({}, OneBox((0.0, 0.0, 50.0, 50.0)), people, lambda: None).num_boxes == 0


def test_figures_name_the_detector_and_the_part() -> None:
    error = np.repeat([0.1, 0.02], [17, 51])
    figures = KnownFigures(4, {"one": [error, error], "blind": []}, 3)
    counts = known_counts(figures)
    assert (counts["heads"], counts["one heads found"], counts["yunet heads found"]) == (4, 2, 3)
    assert (counts["one heads jaw error per mille"], counts["one heads eyes error per mille"]) == (100, 20)
    assert counts["blind heads found"] == 0
    assert "blind heads error per mille" not in counts
    columns = [list(column.cells) for column in known_table(figures).columns]
    assert columns[:2] == [["one", "blind", "yunet"], ["2/4", "0/4", "3/4"]]
    assert columns[2:4] == [["4.0", "", ""], ["10.0", "", ""]]


@pytest.fixture(scope="module")
def heads() -> list[list[KnownFace]]:
    return list(render_known_faces(2))


@pytest.mark.slow
def test_known_heads_are_two_frames_each_of_different_people(heads: list[list[KnownFace]]) -> None:
    assert [len(person) for person in heads] == [2, 2]
    faces = [face for person in heads for face in person]
    for one, other in itertools.pairwise(faces):
        assert np.abs(one.points - other.points).max() > 1
    for face in faces:
        assert face.image.shape == (256, 256, 3)
        assert 0 < face.points.min() < face.points.max() < 255
        assert face.points[36, 0] < face.points[45, 0]  # left eye of the picture first
        assert face.points[27, 1] < face.points[33, 1] < face.points[57, 1] < face.points[8, 1]  # top to bottom
