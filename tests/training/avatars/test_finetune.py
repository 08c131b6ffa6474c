import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from other_device import OTHER, other_device

from pipelines.faces.landmark_image import rasterize_batch
from training.avatars import finetune
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import Portrait
from training.checkpoints.bundle import BaseModel
from training.images import to_tensor
from training.losses import loss_networks
from training.losses.face_identity import FaceRecogniser
from training.losses.perceptual import PerceptualNetwork, load_perceptual
from training.losses.perceptual_files import PerceptualFiles

MakeModel = Callable[..., BaseModel]
MakePortrait = Callable[..., Portrait]


@pytest.mark.slow
@pytest.mark.parametrize("warp_prior", [True, False])
def test_no_steps_are_feed_forward(warp_prior: bool, base_model: MakeModel, portrait: MakePortrait) -> None:
    model, portraits = base_model(warp_prior=warp_prior), [portrait(), portrait(yaw=10.0)]
    avatar = fine_tune(model, portraits, FineTuneConfig(0))
    # With a warp prior pictures are cut twice as large as they are seen, as in training: means of four pixels.
    fineness = 2 if warp_prior else 1
    cuts = np.stack([p.crop(model.config.model, 32 * fineness)[0] for p in portraits])
    fine = to_tensor(cuts, torch.device("cpu"))
    frames = fine.unflatten(3, (32, fineness)).unflatten(2, (32, fineness)).mean(dim=(3, 5))
    points = np.stack([p.crop(model.config.model, 32)[1] for p in portraits])
    images = rasterize_batch(torch.from_numpy(points), 32, model.config.model.raster)
    expected = model.generator.adain_values(model.embedder.embed_shots(frames[None], images[None]))
    assert torch.allclose(avatar.adain_values, expected, atol=1e-6)
    for name, value in avatar.generator.state_dict().items():
        assert torch.equal(value, model.generator.state_dict()[name])
    assert avatar.steps == 0
    assert avatar.base_version == model.version
    assert avatar.portraits == tuple(portraits)


@pytest.mark.slow
@pytest.mark.parametrize("warp_prior", [True, False])
def test_steps_lower_the_error_on_the_pictures(
    warp_prior: bool, base_model: MakeModel, portrait: MakePortrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_LEARNING_RATE", "_LEARNING_RATE_DISCRIMINATOR"):
        monkeypatch.setattr(finetune, name, 1e-2)  # tiny networks, few steps
    model = base_model(warp_prior=warp_prior)
    if warp_prior:  # it would show the warp, which is right already
        model.generator.head.get_parameter("bias").data.copy_(torch.tensor([0.5, 0.5, -0.5, -2.0]))
    seen: list[tuple[int, int, Mapping[str, float]]] = []
    avatar = fine_tune(model, [portrait()], FineTuneConfig(25), lambda *step: seen.append(step))
    assert [(step, most) for step, most, _ in seen] == [(i, 25) for i in range(1, 26)]
    assert {"content", "adversarial", "feature_matching", "discriminator"} == seen[0][2].keys()
    content = [terms["content"] for *_, terms in seen]
    assert np.mean(content[-5:]) < 0.95 * np.mean(content[:5])
    assert avatar.steps == 25
    assert not avatar.generator.training
    assert not any(parameter.requires_grad for parameter in avatar.generator.parameters())
    assert not avatar.adain_values.requires_grad


@pytest.mark.slow
def test_a_model_of_the_published_loss_is_fine_tuned_with_it(
    base_model: MakeModel, portrait: MakePortrait, published_files: PerceptualFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_networks, "load_perceptual", load_perceptual)
    model = base_model(warp_prior=True, perceptual="vgg19_vggface", vgg19_sha256="c" * 64)
    with pytest.raises(ValueError, match=r"the weights of VGG19 of sha256 cccccccccccc… are needed: name them with"):
        fine_tune(model, [portrait()], FineTuneConfig(1))
    with pytest.raises(ValueError, match=r"content\.pth has sha256 \w+, expected c{64}"):
        fine_tune(model, [portrait()], FineTuneConfig(1), perceptual_files=published_files)
    assert fine_tune(model, [portrait()], FineTuneConfig(0)).steps == 0  # feed-forward needs no loss
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, vgg19_sha256=None))
    terms: list[Mapping[str, float]] = []
    avatar = fine_tune(model, [portrait()], FineTuneConfig(2), lambda *step: terms.append(step[2]), published_files)
    assert avatar.steps == 2
    assert min(terms[0]["content"], terms[0]["content_face"]) > 0


def test_the_base_model_is_left_as_it_was(base_model: MakeModel, portrait: MakePortrait) -> None:
    model = base_model()
    networks = (model.generator, model.discriminator, model.embedder)
    before = [{k: v.clone() for k, v in network.state_dict().items()} for network in networks]
    avatar = fine_tune(model, [portrait()], FineTuneConfig(2))
    for network, state in zip(networks, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    # P is dropped in fine-tuning: psi' is free, its projection rests. (Its power iteration may have run.)
    weight = "projection.parametrizations.weight.original"
    assert torch.equal(avatar.generator.state_dict()[weight], model.generator.state_dict()[weight])
    assert not torch.equal(avatar.adain_values, fine_tune(model, [portrait()], FineTuneConfig(0)).adain_values)


@pytest.mark.slow
def test_with_a_warp_prior_weights_go_part_of_the_way_that_was_learned(
    base_model: MakeModel, portrait: MakePortrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As "Robust fine-tuning" (2021) has it; the published form, which knows a face by its tuned weights alone, goes
    all of it."""

    def way(share: float, *, warp_prior: bool) -> dict[str, torch.Tensor]:
        monkeypatch.setattr(finetune, "_TUNED_FRACTION", share)
        model = base_model(warp_prior=warp_prior)
        avatar = fine_tune(model, [portrait()], FineTuneConfig(2))
        before = fine_tune(model, [portrait()], FineTuneConfig(0))
        parameters = zip(avatar.generator.named_parameters(), before.generator.named_parameters(), strict=True)
        moved = {name: after - start for (name, after), (_, start) in parameters}
        return moved | {"adain": avatar.adain_values - before.adain_values}

    whole, part = way(1.0, warp_prior=True), way(0.25, warp_prior=True)
    assert sum(float(change.abs().max()) > 0 for change in whole.values()) > len(whole) / 2
    for name, change in whole.items():
        assert torch.allclose(part[name], change / 4, atol=1e-6)
    published, unchanged = way(1.0, warp_prior=False), way(0.25, warp_prior=False)
    assert all(torch.equal(unchanged[name], change) for name, change in published.items())


class _Watching(FaceRecogniser):
    """Sees a few pixels, and remembers the landmarks it was shown."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.shown: list[torch.Tensor] = []

    def forward(self, frames: torch.Tensor, landmarks: torch.Tensor) -> list[torch.Tensor]:
        self.shown.append(landmarks)
        return [frames[:, :, ::8, ::8], frames.mean(dim=(2, 3))]


@pytest.mark.slow
@pytest.mark.parametrize("warp_prior", [True, False])
@pytest.mark.parametrize("pictures", [1, 4])  # variants of one, and pairs of a clip's
def test_a_model_that_learned_whose_face_it_is_is_tuned_with_it(
    pictures: int, warp_prior: bool, base_model: MakeModel, portrait: MakePortrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    recogniser = _Watching()
    monkeypatch.setattr(loss_networks, "load_recogniser", lambda: recogniser)
    model = base_model(warp_prior=warp_prior)
    weights = dataclasses.replace(model.config.losses, identity=60.0)
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, losses=weights))
    terms: list[Mapping[str, float]] = []
    portraits = [portrait(yaw=float(yaw)) for yaw in range(pictures)]
    fine_tune(model, portraits, FineTuneConfig(1), lambda *step: terms.append(step[2]))
    assert terms[0]["identity"] > 0
    # Faces lie within their crops, each nose between eyes and mouth.
    landmarks = recogniser.shown[0]
    eyes, nose, mouth = (landmarks[:, part, 1].mean(dim=1) for part in (slice(36, 48), slice(31, 36), slice(48, 68)))
    assert (eyes < nose).all()
    assert (nose < mouth).all()
    assert (landmarks.abs() < 1).all()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_avatar(base_model: MakeModel, portrait: MakePortrait) -> None:
    model = base_model(warp_prior=True)
    a, b, other = (fine_tune(model, [portrait()], FineTuneConfig(3, seed)) for seed in (1, 1, 2))
    assert torch.equal(a.adain_values, b.adain_values)
    for name, value in a.generator.state_dict().items():
        assert torch.equal(value, b.generator.state_dict()[name])
    assert not torch.equal(a.adain_values, other.adain_values)


@pytest.mark.slow
def test_by_default_it_stops_when_held_out_variants_get_no_better(
    base_model: MakeModel, portrait: MakePortrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([9.0, 5.0, *[6.0] * finetune._PATIENCE, 1.0])  # before any step, then every ten
    monkeypatch.setattr(finetune._Trainer, "error", lambda self, frames: next(errors))
    steps: list[int] = []
    avatar = fine_tune(base_model(), [portrait()], FineTuneConfig(), lambda step, most, terms: steps.append(step))
    assert avatar.steps == 10
    assert steps[-1] == 10 + 10 * finetune._PATIENCE


@pytest.mark.slow
def test_a_model_that_gets_no_better_at_all_stays_feed_forward(
    base_model: MakeModel, portrait: MakePortrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune._Trainer, "error", lambda self, frames: 1.0)
    model = base_model()
    avatar = fine_tune(model, [portrait()], FineTuneConfig())
    assert avatar.steps == 0
    assert torch.equal(avatar.adain_values, fine_tune(model, [portrait()], FineTuneConfig(0)).adain_values)


@pytest.mark.parametrize(("portraits", "most"), [(1, 125), (30, 230), (64, 230), (2, 129)])
def test_more_pictures_take_more_steps(portraits: int, most: int) -> None:
    assert finetune._max_steps(portraits) == most


@pytest.mark.parametrize("number", [0, 65])
def test_no_or_too_many_pictures_are_refused(number: int, base_model: MakeModel, portrait: MakePortrait) -> None:
    with pytest.raises(ValueError, match=f"fine-tuning takes 1 to 64 pictures, got {number}"):
        fine_tune(base_model(), [portrait()] * number, FineTuneConfig(0))
    with pytest.raises(ValueError, match="num_steps must not be negative, got -1"):
        FineTuneConfig(-1)


@pytest.mark.slow
def test_one_picture_and_a_warp_are_not_fine_tuned_unless_asked(
    base_model: MakeModel, portrait: MakePortrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_networks, "load_perceptual", None)  # nor is a network for it fetched
    model = base_model(warp_prior=True)
    for pictures in ([portrait()], [portrait(yaw=yaw) for yaw in (0.0, 8.0, 16.0)]):
        assert fine_tune(model, pictures, FineTuneConfig()).steps == 0
    with pytest.raises(TypeError):
        fine_tune(model, [portrait()], FineTuneConfig(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("warp_prior", "pictures", "num_steps"), [(True, 1, 1), (True, 4, None), (False, 2, 1)]
)  # variants, pairs, and the published form
def test_all_is_computed_on_the_device_and_the_avatar_comes_back(
    warp_prior: bool,
    pictures: int,
    num_steps: int | None,
    base_model: MakeModel,
    portrait: MakePortrait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finetune, "_max_steps", lambda portraits: 1)
    model, portraits = base_model(warp_prior=warp_prior), [portrait(yaw=4.0 * number) for number in range(pictures)]
    expected = fine_tune(model, portraits, FineTuneConfig(num_steps))
    with other_device():  # raises where tensors of two devices meet
        avatar = fine_tune(model, portraits, FineTuneConfig(num_steps), device=OTHER)
    assert avatar.adain_values.device.type == "cpu"
    assert {parameter.device.type for parameter in avatar.generator.parameters()} == {"cpu"}
    assert avatar.steps == expected.steps
    # But for landmark images, which another device draws by another method.
    assert torch.allclose(avatar.adain_values, expected.adain_values, atol=1e-3)
    for name, value in avatar.generator.state_dict().items():
        assert torch.allclose(value, expected.generator.state_dict()[name], atol=1e-3)


@pytest.mark.slow
def test_too_little_memory_for_all_frames_at_once_makes_smaller_batches(
    base_model: MakeModel, portrait: MakePortrait, random_perceptual: PerceptualNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = base_model(warp_prior=True)
    expected = fine_tune(model, [portrait()], FineTuneConfig(2))
    forward = PerceptualNetwork.forward
    tried: list[int] = []

    def small(self: PerceptualNetwork, frames: torch.Tensor) -> object:
        tried.append(len(frames))
        if len(frames) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, frames)

    monkeypatch.setattr(PerceptualNetwork, "forward", small)
    avatar = fine_tune(model, [portrait()], FineTuneConfig(2))
    assert tried[:4] == [6, 6, 4, 2]  # 16, 8, then 4 frames at once, of six
    assert torch.allclose(avatar.adain_values, expected.adain_values, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_makes_the_same_avatar(base_model: MakeModel, portrait: MakePortrait) -> None:
    model, portraits = base_model(warp_prior=True), [portrait(yaw=4.0 * number) for number in range(5)]
    avatars = [fine_tune(model, portraits, FineTuneConfig(2), device=torch.device(name)) for name in ("cpu", "cuda")]
    assert avatars[1].adain_values.device.type == "cpu"
    assert torch.allclose(avatars[0].adain_values, avatars[1].adain_values, atol=1e-2)
