"""The published sizes of embedder, generator and discriminator, and what each computes, on tiny ones by hand."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import ModelConfig
from training.models.discriminator import Discriminator
from training.models.embedder import Embedder
from training.models.generator import Generator
from training.models.layers import SelfAttention, num_parameters
from training.presets import PRESETS, paper
from training.warp.apply import WarpedShot, warp_with_field
from training.warp.field import WarpField
from training.warp.matted_shot import make_shot

MakeModel = Callable[..., ModelConfig]
_CPU = torch.device("cpu")
Unbent = Callable[[Tensor, Tensor], WarpedShot]


def _unbent() -> Tensor:
    return torch.zeros(1, 32, 32, 2)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def published() -> tuple[Embedder, Generator, Discriminator]:
    """Of preset `paper`, on the meta device: a forward pass tells sizes and costs nothing."""
    config = paper().model
    embedder, generator, discriminator = (build(config) for build in (Embedder, Generator, Discriminator))
    return embedder.to("meta").eval(), generator.to("meta").eval(), discriminator.to("meta").eval()


@pytest.mark.slow
def test_the_paper_preset_has_the_published_parameter_counts(
    published: tuple[Embedder, Generator, Discriminator],
) -> None:
    embedder, generator, discriminator = (num_parameters(network) / 1e6 for network in published)
    assert embedder == pytest.approx(15, rel=0.02)
    assert generator == pytest.approx(38, rel=0.02)
    assert discriminator == pytest.approx(20, rel=0.03)
    assert num_parameters(published[1].projection) / 1e6 == pytest.approx(6.7, rel=0.01)


def test_the_paper_preset_has_13056_adain_values(published: tuple[Embedder, Generator, Discriminator]) -> None:
    # Four blocks 512 -> 512; up blocks 512 -> 512, 256, 128, 64; the head. Scale and bias of both norms each.
    assert published[1].num_adain_values == 2 * (4 * 1024 + 1024 + 768 + 384 + 192 + 64) == 13_056


def test_the_paper_generator_is_16_pixels_wide_in_the_middle(
    published: tuple[Embedder, Generator, Discriminator],
) -> None:
    generator = published[1]
    shapes: dict[str, torch.Size] = {}
    _record(shapes, down=generator.down[-1], first_up=generator.up[0], last_up=generator.up[-1])
    for index, block in enumerate(generator.bottleneck):
        _record(shapes, **{f"bottleneck{index}": block})
    for where, attention in [*generator.attention.items(), ("down", _attention_of(generator.down))]:
        _record(shapes, **{f"attention_{where}": attention})
    values = torch.empty(2, 13_056, device="meta")
    drawn = generator(torch.empty(2, 3, 256, 256, device="meta"), values)
    assert drawn.frame.shape == (2, 3, 256, 256)
    assert shapes["down"] == shapes["bottleneck3"] == (2, 512, 16, 16)
    assert len(generator.bottleneck) == len(generator.up) == 4
    assert shapes["first_up"] == (2, 512, 32, 32)
    assert shapes["last_up"] == (2, 64, 256, 256)
    assert shapes["attention_down"] == (2, 256, 32, 32)
    assert shapes["attention_1"] == (2, 256, 64, 64)
    assert len(generator.attention) == 1


def test_the_paper_embedder_and_discriminator_end_at_4_pixels(
    published: tuple[Embedder, Generator, Discriminator],
) -> None:
    embedder, _, discriminator = published
    picture = torch.empty(2, 3, 256, 256, device="meta")
    shapes: dict[str, torch.Size] = {}
    _record(shapes, body=embedder.body, attention=_attention_of(embedder.body))
    assert embedder(picture, picture).shape == (2, 512)
    assert shapes == {"body": (2, 512, 4, 4), "attention": (2, 256, 32, 32)}
    features = discriminator(picture, picture, torch.empty(2, 512, device="meta")).features
    assert [feature.shape[1:] for feature in features] == [
        (64, 128, 128), (128, 64, 64), (256, 32, 32), (512, 16, 16), (512, 8, 8), (512, 4, 4), (512, 4, 4),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "base", "demo"])
@torch.no_grad()
def test_the_smaller_presets_draw_frames_of_their_size(name: str, unbent: Unbent) -> None:
    config = PRESETS[name]().model
    embedder, generator, discriminator = (build(config).eval() for build in (Embedder, Generator, Discriminator))
    picture = torch.zeros(1, 3, config.image_size, config.image_size)
    embedding = embedder(picture, picture)
    drawn = generator(picture, generator.adain_values(embedding), unbent(picture, picture))
    assert drawn.frame.shape == picture.shape
    assert discriminator(drawn.frame, picture, embedding).score.shape == (1,)
    assert len(generator.attention) == 1


def test_the_embedding_is_the_rectified_sum_over_space_and_the_mean_over_shots(tiny_model: MakeModel) -> None:
    embedder = Embedder(tiny_model()).eval()
    frames, images = torch.randn(2, 3, 3, 32, 32), torch.randn(2, 3, 3, 32, 32)
    one = F.relu(embedder.body(torch.cat([images[0, 1], frames[0, 1]])[None]).sum(dim=(2, 3)))
    assert torch.allclose(embedder(frames[0, 1:2], images[0, 1:2]), one, atol=1e-5)
    each = torch.stack([embedder(frames[:, k], images[:, k]) for k in range(3)])
    assert torch.allclose(embedder.embed_shots(frames, images), each.mean(dim=0), atol=1e-5)


@torch.no_grad()
def test_the_score_is_v_times_row_plus_w0_plus_b(tiny_model: MakeModel) -> None:
    discriminator = Discriminator(tiny_model()).eval()
    with torch.no_grad():
        discriminator.bias.fill_(0.25)
    seen: list[Tensor] = []
    discriminator.blocks[-1].register_forward_hook(lambda module, args, out: seen.append(out))
    frame, image, rows = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32), torch.randn(2, 8)
    output = discriminator(frame, image, rows)
    for number in range(2):
        vector = [max(float(channel.sum()), 0.0) for channel in seen[0][number]]
        weights = [float(row + w0) for row, w0 in zip(rows[number], discriminator.w0, strict=True)]
        by_hand = sum(v * w for v, w in zip(vector, weights, strict=True)) + 0.25
        assert float(output.score[number]) == pytest.approx(by_hand, rel=1e-4, abs=1e-4)
    # Two halvings and the last residual block; the attention between them is none.
    assert [feature.shape[1:] for feature in output.features] == [(4, 16, 16), (8, 8, 8), (8, 8, 8)]
    assert len(discriminator.blocks) == 4


def test_adain_starts_as_plain_instance_norm(tiny_model: MakeModel) -> None:
    generator = Generator(tiny_model())
    values = generator.adain_values(torch.zeros(1, 8))[0]
    assert len(values) == generator.num_adain_values
    # Bottleneck 8 -> 8, up 8 -> 8, up 8 -> 4, head 4: scales, then biases, of each norm.
    expected = [value for size in (8, 8, 8, 8, 8, 4, 4) for value in [1.0] * size + [0.0] * size]
    assert values.tolist() == expected


@torch.no_grad()
def test_an_untrained_generator_with_a_warp_prior_shows_the_warp(tiny_model: MakeModel, unbent: Unbent) -> None:
    generator = Generator(tiny_model(warp_prior=True))
    images, warped = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32) * 1.9 - 0.95
    drawn = generator(images, generator.adain_values(torch.rand(2, 8)), unbent(warped, images))
    assert drawn.parts is not None
    torch.testing.assert_close(drawn.frame, warped, atol=1e-5, rtol=0)
    torch.testing.assert_close(drawn.parts.colour, warped, atol=1e-5, rtol=0)
    torch.testing.assert_close(drawn.parts.moved, warped, atol=1e-5, rtol=0)
    # sigmoid(1): paint is let through
    torch.testing.assert_close(drawn.parts.alpha, torch.full((2, 1, 32, 32), 0.7310586))


@torch.no_grad()
def test_with_a_warp_prior_the_frame_is_the_mask_between_the_warp_and_a_change_of_it(
    tiny_model: MakeModel, unbent: Unbent
) -> None:
    generator = Generator(tiny_model(warp_prior=True))
    generator.head.bias.copy_(torch.tensor([0.5, 0.0, -0.5, 1.0]))  # of the paint in red, green, blue and of the mask
    picture = torch.rand(1, 3, 32, 32)
    drawn = generator(picture, generator.adain_values(torch.rand(1, 8)), unbent(torch.zeros(1, 3, 32, 32), picture))
    # tanh(0.5) = 0.46212; sigmoid(1 + 1) = 0.88080, so 0.11920 of the paint is seen.
    assert drawn.parts is not None
    for channel, colour in enumerate((0.46212, 0.0, -0.46212)):
        torch.testing.assert_close(drawn.parts.colour[0, channel], torch.full((32, 32), colour), atol=1e-4, rtol=0)
        torch.testing.assert_close(drawn.frame[0, channel], torch.full((32, 32), 0.11920 * colour), atol=1e-4, rtol=0)


@torch.no_grad()
def test_what_stands_still_is_shown_where_the_shot_has_it(tiny_model: MakeModel) -> None:
    """The warp moves everything by two pixels; a network that says "not at all" takes all of it back."""
    generator = Generator(tiny_model(warp_prior=True))
    generator.motion.get_parameter("bias").copy_(torch.tensor([1e3, 0.0, 0.0]))  # still, further in x and in y
    shot = torch.rand(1, 3, 64, 64) * 2 - 1
    warped = warp_with_field(_all_person(shot), torch.rand(1, 3, 32, 32), WarpField.spline_only(_unbent() + 2 * 2 / 32))
    drawn = generator(warped.landmark_image, generator.adain_values(torch.rand(1, 8)), warped)
    assert drawn.parts is not None
    assert float((warped.frame[:, :3] - F.avg_pool2d(shot, 2)).abs().mean()) > 0.1
    torch.testing.assert_close(drawn.parts.field.spline, torch.zeros(1, 32, 32, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(drawn.frame, F.avg_pool2d(shot, 2), atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_network_moves_a_place_beyond_the_warp_by_a_tenth_of_the_crops_half_at_most(tiny_model: MakeModel) -> None:
    generator = Generator(tiny_model(warp_prior=True))
    generator.motion.get_parameter("bias").copy_(torch.tensor([0.0, 1e3, -1e3]))
    warped = warp_with_field(
        _all_person(torch.rand(1, 3, 64, 64)), torch.rand(1, 3, 32, 32), WarpField.spline_only(_unbent())
    )
    drawn = generator(warped.landmark_image, generator.adain_values(torch.rand(1, 8)), warped)
    assert drawn.parts is not None
    further = drawn.parts.field.spline[0]
    torch.testing.assert_close(further, torch.tensor([0.1, -0.1]).expand(32, 32, 2), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_place_does_not_move_alone(tiny_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Motion is said at a quarter of the size and smoothed over five places: a lock of hair goes with the head."""
    generator = Generator(tiny_model(warp_prior=True))
    alone = torch.zeros(1, 3, 8, 8)
    alone[0, 1, 4, 4] = 1e3  # one place as far to the right as can be, which is 0.1 for all at once
    monkeypatch.setattr(generator.motion, "forward", lambda _: alone)
    warped = warp_with_field(
        _all_person(torch.rand(1, 3, 64, 64)), torch.rand(1, 3, 32, 32), WarpField.spline_only(_unbent())
    )
    drawn = generator(warped.landmark_image, generator.adain_values(torch.rand(1, 8)), warped)
    assert drawn.parts is not None
    further = drawn.parts.field.spline[0, :, :, 0]
    # (1, 2, 3, 2, 1) / 9 along either side: a third of a third at the place itself, nothing three places on.
    assert float(further.max()) == pytest.approx(0.1 / 9, abs=2e-3)
    assert float(further[:, :6].abs().max()) == 0


def test_what_is_wrong_in_the_frame_tells_the_network_where_to_move(tiny_model: MakeModel) -> None:
    """A slope a pixel too far left: the gradient says to look further left."""
    generator = Generator(tiny_model(warp_prior=True))
    slope = (torch.arange(64) / 64).expand(1, 3, 64, 64)
    warped = warp_with_field(_all_person(slope), torch.zeros(1, 3, 32, 32), WarpField.spline_only(_unbent()))
    drawn = generator(warped.landmark_image, generator.adain_values(torch.rand(1, 8)), warped)
    F.l1_loss(drawn.frame, warped.frame[:, :3] - 1 / 32).backward()
    gradient = generator.motion.get_parameter("bias").grad
    assert gradient is not None
    assert float(gradient[1]) > 1e-4  # to look left lowers the error


@pytest.mark.slow
def test_detail_of_the_warp_reaches_the_paint_without_passing_the_middle(tiny_model: MakeModel, unbent: Unbent) -> None:
    """The mask of a place hangs on the warp there more than anywhere else, on the mean over some random networks."""
    felt = torch.zeros(32, 32)
    for seed in range(12):
        torch.manual_seed(seed)
        generator = Generator(tiny_model(warp_prior=True)).eval()
        nn.init.normal_(generator.head.weight)
        picture = torch.rand(1, 3, 32, 32)
        warped = torch.zeros(1, 3, 32, 32, requires_grad=True)
        drawn = generator(picture, generator.adain_values(torch.rand(1, 8)), unbent(warped, picture))
        assert drawn.parts is not None
        drawn.parts.alpha[0, 0, 20, 9].backward()
        assert warped.grad is not None
        one = warped.grad[0].abs().sum(dim=0)
        felt += one / one.sum()
    assert divmod(int(felt.argmax()), 32) in {(row, column) for row in range(17, 24) for column in range(6, 13)}


@torch.no_grad()
def test_without_a_warp_prior_the_frame_has_no_parts(tiny_model: MakeModel) -> None:
    generator = Generator(tiny_model())
    drawn = generator(torch.rand(1, 3, 32, 32), generator.adain_values(torch.rand(1, 8)))
    assert drawn.parts is None
    assert float(drawn.frame.abs().max()) <= 1


def test_a_missing_or_superfluous_warp_is_refused(tiny_model: MakeModel, unbent: Unbent) -> None:
    picture = torch.rand(1, 3, 32, 32)
    for warp_prior, warped in ((True, None), (False, unbent(picture, picture))):
        generator = Generator(tiny_model(warp_prior=warp_prior))
        with pytest.raises(ValueError, match=f"warp_prior={warp_prior}"):
            generator(picture, generator.adain_values(torch.rand(1, 8)), warped)


def test_a_size_that_cannot_be_halved_is_refused(tiny_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="image_size 30 cannot be halved 2 times by the generator"):
        tiny_model(image_size=30)
    with pytest.raises(ValueError, match="by the embedder"):
        tiny_model(embedder_channels=(4,) * 5)


@torch.no_grad()
def test_what_is_behind_the_person_does_not_move_with_the_network_either(tiny_model: MakeModel) -> None:
    generator = Generator(tiny_model(warp_prior=True))
    generator.motion.get_parameter("bias").copy_(torch.tensor([0.0, 1e3, 0.0]))  # as far to the right as can be
    shot, person = torch.rand(1, 3, 64, 64) * 1.9 - 0.95, torch.zeros(1, 64, 64)
    person[:, :, :32] = 1
    warped = warp_with_field(make_shot(shot, person), torch.rand(1, 3, 32, 32), WarpField.spline_only(_unbent()))
    drawn = generator(warped.landmark_image, generator.adain_values(torch.rand(1, 8)), warped)
    small = F.avg_pool2d(shot, 2)
    # A tenth of a half are 1.6 of 32 pixels; the outline is as soft.
    torch.testing.assert_close(drawn.frame[..., 19:], small[..., 19:], atol=1e-4, rtol=0)
    assert float((drawn.frame[..., :16] - small[..., :16]).abs().mean()) > 0.1


def _all_person(pictures: Tensor) -> Tensor:
    return make_shot(pictures, torch.ones_like(pictures[:, 0]))


def _record(shapes: dict[str, torch.Size], **modules: nn.Module) -> None:
    for name, module in modules.items():
        module.register_forward_hook(lambda module, args, out, name=name: shapes.update({name: out.shape}))


def _attention_of(body: nn.Module) -> nn.Module:
    (attention,) = (module for module in body.modules() if isinstance(module, SelfAttention))
    return attention
