import torch

from training.config import LossWeights
from training.losses.loss_networks import MOUTH_SIDE, LossNetworks, crop_mouths
from training.losses.perceptual import PerceptualNetwork

SIZE = 96


def _landmarks(left: float, top: float, right: float, bottom: float) -> torch.Tensor:
    """A face in a crop of SIZE pixels whose lips span so many of them."""
    points = torch.zeros(1, 68, 2)
    points[:, 48:68] = torch.tensor([left, top])
    points[:, 54] = torch.tensor([right, bottom])
    return points * (2 / SIZE) - 1


def test_a_mouth_is_cut_out_upright_and_enlarged() -> None:
    """Of lips from 30 to 60 the square is 1.6 times as wide, 48 pixels, so that pixels fall on pixels."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    picture = torch.stack([rows, columns, rows])[None] / SIZE
    mouth = crop_mouths(picture, _landmarks(30, 40, 60, 60))
    assert mouth.shape == (1, 3, MOUTH_SIDE, MOUTH_SIDE)
    torch.testing.assert_close(mouth, picture[:, :, 26:74, 21:69], atol=1e-5, rtol=0)


def test_a_mouth_at_the_edge_of_a_picture_is_cut_out_too() -> None:
    picture = torch.rand(1, 3, SIZE, SIZE)
    assert torch.isfinite(crop_mouths(picture, _landmarks(-10, 80, 40, 110))).all()


def test_networks_see_what_the_losses_ask_for(random_perceptual: PerceptualNetwork) -> None:
    """What lies around a mouth changes nothing of what is seen in it."""
    plain, careful = (LossNetworks(LossWeights(content_mouth=weight), random_perceptual) for weight in (0.0, 0.1))
    landmarks, picture = _landmarks(30, 40, 60, 60), torch.rand(1, 3, SIZE, SIZE)
    elsewhere, inside = picture.clone(), picture.clone()
    elsewhere[:, :, :20] = -1
    inside[:, :, 45:55, 40:50] = -1
    seen, other, changed = (careful(x, landmarks) for x in (picture, elsewhere, inside))
    assert plain(picture, landmarks).keys() == {"content"}
    assert seen.keys() == {"content", "content_mouth"}

    def same(a: dict[str, list[torch.Tensor]], b: dict[str, list[torch.Tensor]], term: str) -> bool:
        return all(torch.equal(*pair) for pair in zip(a[term], b[term], strict=True))

    assert same(seen, other, "content_mouth")
    assert not same(seen, other, "content")
    assert not same(seen, changed, "content_mouth")
