"""What is seen of teeth: as much as age and sex say, between the lips and nowhere else."""

import dataclasses

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float32

from pipelines.synthetic.graphics.rasterizer import rasterize
from pipelines.synthetic.head.arkit_actions import vector
from pipelines.synthetic.head.head_model import TEETH, load_head_model
from pipelines.synthetic.head.landmark_points import true_points
from pipelines.synthetic.head.mesh import HeadMesh
from pipelines.synthetic.head.person import Person

_SIDE, _PER_METRE = 240, 1500.0


@pytest.fixture(scope="module")
def mesh() -> HeadMesh:
    return HeadMesh()


def at_rest(mesh: HeadMesh, person: Person, upper: float, lower: float) -> Float32[np.ndarray, "vertices 3"]:
    return mesh.rest([dataclasses.replace(person, teeth=(upper, lower))]).vertices[0].numpy()


def seen(
    mesh: HeadMesh, person: Person, actions: dict[str, float]
) -> tuple[Bool[np.ndarray, "side side"], Float32[np.ndarray, "68 2"]]:
    """Where teeth are seen from straight ahead, and the 68 points, in pixels about the mouth."""
    faces, angles = torch.from_numpy(vector(actions)[None]), torch.zeros(1, 3)
    vertices = mesh.move(mesh.rest([person]), faces, angles)
    points = true_points(vertices)
    middle = points[:, 48:60].mean(dim=1, keepdim=True)

    def project(places: torch.Tensor) -> torch.Tensor:
        return (places - middle)[..., [0, 2]] * torch.tensor([_PER_METRE, -_PER_METRE]) + _SIDE / 2

    corners = torch.cat([project(vertices), (0.5 - vertices[..., 1:2]).clamp(0.01, 1)], dim=-1)  # nearer is more
    head = mesh.model  # hair and glasses left out
    found = rasterize(corners, head.faces, _SIDE, _SIDE)
    picture = np.zeros(_SIDE * _SIDE, bool)
    picture[found.pixels[head.parts[found.triangles] == TEETH].numpy()] = True
    return picture.reshape(_SIDE, _SIDE), project(points)[0].numpy()


@pytest.mark.slow
def test_so_many_millimetres_are_beyond_either_lip(mesh: HeadMesh) -> None:
    model = load_head_model()
    teeth = model.faces[model.parts == TEETH].unique().numpy()
    front = teeth[np.abs(model.template[teeth, 0].numpy()) < 0.012]
    for number in (1, 2, 3):
        person = Person.draw(1000, number)
        little, much = at_rest(mesh, person, 0.0, 0.0)[front], at_rest(mesh, person, 0.004, 0.003)[front]
        moved = (much - little)[:, 2]
        upper = moved < 0
        np.testing.assert_allclose(moved[upper], -0.004, atol=1e-6)
        np.testing.assert_allclose(moved[~upper], 0.003, atol=1e-6)
        lips = true_points(mesh.rest([person]).vertices)[0].numpy()  # on the skin of the lips, not quite at their edge
        assert little[upper, 2].min() == pytest.approx(lips[62, 2], abs=0.0025)
        assert little[~upper, 2].max() == pytest.approx(lips[66, 2], abs=0.0025)


@pytest.mark.slow
def test_teeth_are_seen_between_the_lips_alone(mesh: HeadMesh) -> None:
    laugh = {"jawOpen": 0.45, "mouthSmile": 0.9, "mouthUpperUp": 0.5, "mouthLowerDown": 0.3}
    cry = {"jawOpen": 0.95, "mouthLowerDown": 0.4, "mouthUpperUp": 0.2}
    for number in (1, 3, 5):  # narrow chins, through which molars came
        for actions in (laugh, cry):
            picture, points = seen(mesh, Person.draw(1000, number), actions)
            rows, columns = picture.nonzero()
            (left, top), (right, bottom) = points[48:60].min(axis=0) - 2, points[48:60].max(axis=0) + 2
            assert len(rows) > 100
            assert left < columns.min()
            assert columns.max() < right
            assert top < rows.min()
            assert rows.max() < bottom
            # Below the corners the lower lip is a triangle; a molar beside it is on the chin.
            low = rows > points[[48, 54], 1].mean()
            reach = 0.5 * (right - left) * (bottom - rows[low]) / (bottom - points[[48, 54], 1].mean()) + 12
            assert (np.abs(columns[low] - _SIDE / 2) < reach).all()


def test_a_laugh_bares_upper_teeth_and_a_shut_mouth_none(mesh: HeadMesh) -> None:
    person = dataclasses.replace(Person.draw(1000, 1), teeth=(0.003, 0.001))
    shut, _ = seen(mesh, person, {})
    laugh, points = seen(mesh, person, {"jawOpen": 0.45, "mouthSmile": 0.9, "mouthUpperUp": 0.5})
    assert shut.sum() < 100 < 300 < laugh.sum()
    upper_half = laugh[: round(points[[62, 66], 1].mean())]
    assert upper_half.sum() > 0.6 * laugh.sum()


@pytest.mark.slow
def test_the_young_show_upper_teeth_and_the_old_lower_ones() -> None:
    """Means of da Motta et al. 2010 at 25 and at 60 years and more, 1.2 mm apart either way."""
    people = [Person.draw(5, number) for number in range(600)]
    shown = 1000 * np.array([person.teeth for person in people])
    woman = np.array([person.phenotype[4] > 0.5 for person in people])  # `female` of AXES
    old = np.array([person.phenotype[9] for person in people])
    young_woman, old_man = shown[woman & (old < 0.1)].mean(axis=0), shown[~woman & (old > 0.54)].mean(axis=0)
    assert young_woman == pytest.approx([3.5, 1.0], abs=0.6)
    assert old_man == pytest.approx([0.6, 3.05], abs=0.6)
