import numpy as np
import pytest

from pipelines.benchmarks.hand_marked import load_marked, read_ljson, read_pts


def test_pts_count_from_one_and_ljson_has_y_first() -> None:
    assert read_pts("version: 1\nn_points:  2\n{\n1.0 2.5\n10 20\n}\n").tolist() == [[0, 1.5], [9, 19]]
    text = '{"groups": {"LJSON": {"landmarks": {"points": [[1.5, 0], [19, 9]]}}}, "version": 3}'
    assert read_ljson(text).tolist() == [[0, 1.5], [9, 19]]


@pytest.mark.slow
def test_the_four_faces_are_marked_in_ibugs_order() -> None:
    marked = load_marked()
    assert [(picture.name, picture.image.shape) for picture in marked] == [
        ("breakingbad", (1080, 1920, 3)),
        ("einstein", (1024, 817, 3)),
        ("lenna", (512, 512, 3)),
        ("takeo", (225, 150, 3)),
    ]
    for picture in marked:
        points = picture.points
        assert points.shape == (68, 2)
        assert (points > 0).all()
        assert (points < [picture.image.shape[1], picture.image.shape[0]]).all()
        assert points[36, 0] < points[45, 0]  # the picture's left eye first
        assert points[36:48, 1].mean() < points[30, 1] < points[48:60, 1].mean() < points[8, 1]
    lenna = marked[2]
    iris = lenna.image[265:275, 255:345].mean(axis=(0, 1))
    assert iris[0] > iris[2]  # RGB: she is reddish
    assert np.ptp(lenna.points[:, 0]) < 200
