"""Avatar jobs: uploaded pictures -> an avatar in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from serving.service.config import ServiceConfig
from serving.service.errors import in_clients_words
from serving.service.state.requests import Facts
from serving.service.store import Store
from serving.service.work.base_model import PresentModel
from serving.service.work.lease import JobOrder, Lease, Work

if TYPE_CHECKING:
    from pipelines.faces.face import LandmarkDetector
    from training.avatars.portraits import Portrait
    from training.checkpoints.bundle import BaseModel
    from training.config import ModelConfig
    from training.losses.perceptual_files import PerceptualFiles


def make_finetuner(config: ServiceConfig) -> Work:
    """Load the base model and its detector; return what makes avatars with them."""
    from pipelines.faces.detectors import create_picture_detector
    from training.checkpoints.bundle import load_bundle
    from training.checkpoints.model_registry import resolve
    from training.device import choose_device

    def load(name: str) -> tuple[BaseModel, LandmarkDetector]:
        model = load_bundle(resolve(name))
        return model, create_picture_detector(model.config.model.detector)

    store, present = config.store(), PresentModel(config.model, load)

    def work(order: JobOrder, lease: Lease) -> Facts:
        model, detector = present()
        return run_fine_tune(
            order,
            lease,
            store=store,
            model=model,
            detector=detector,
            num_steps=config.num_steps,
            perceptual_files=config.perceptual_files,
            device=str(choose_device(config.device)),
        )

    return work


def run_fine_tune(
    order: JobOrder,
    lease: Lease,
    *,
    store: Store,
    model: BaseModel,
    detector: LandmarkDetector,
    num_steps: int | None = None,
    perceptual_files: PerceptualFiles | None = None,
    device: str = "cpu",
) -> Facts:
    """Make and save the avatar of a job; return facts for the client.

    Raises:
        ValueError: the pictures cannot be used (no face, another person ...), in the client's words.
        JobCancelled: the lease was stopped.
    """
    from pipelines.faces.identity.face_choice import LARGEST, parse_face_choice
    from training.avatars.avatar import save_avatar
    from training.avatars.finetune import FineTuneConfig, fine_tune
    from training.avatars.portraits import find_portraits
    from training.device import choose_device

    request = order.request
    assert request.kind == "avatar"
    lease.progress(0, 0, "pictures")
    store.remove_avatar(order.avatar_id)  # what a killed worker has left
    with ExitStack() as copies:
        paths = [str(copies.enter_context(store.local(store.upload(order.id, name)))) for name in request.pictures]
        with in_clients_words({path: f"picture {number}" for number, path in enumerate(paths, 1)}):
            face = LARGEST if request.face is None else parse_face_choice(request.face)
            portraits = find_portraits(paths, detector, face=face)
        if request.face is None:
            require_one_person(portraits, [Path(path).name for path in paths])

    def on_step(step: int, total: int, _losses: Mapping[str, float]) -> None:
        lease.progress(step, total, "fine-tuning")

    lease.progress(0, num_steps or 0, "fine-tuning")
    config = FineTuneConfig(num_steps=num_steps)
    avatar = fine_tune(model, portraits, config, on_step, perceptual_files, choose_device(device))
    lease.progress(avatar.steps, avatar.steps, "saving")
    left, top, width, height = face_crop(avatar.portraits[0], avatar.config)
    save_avatar(avatar, store.avatar(order.avatar_id), request.consent)
    return {
        "num_pictures": len(portraits),
        "num_steps": avatar.steps,
        "base_model": avatar.base_version,
        "device": device,
        "crop_left": left,
        "crop_top": top,
        "crop_width": width,
        "crop_height": height,
    }


def face_crop(portrait: Portrait, config: ModelConfig) -> tuple[float, float, float, float]:
    """Return left, top, width and height of the face's crop as shares of the picture; it may reach beyond."""
    from training.animation.region import Region

    region = Region.around(portrait, config)
    height, width = portrait.image.shape[:2]
    left, top, side = region.left + region.margin, region.top + region.margin, region.crop_side
    return (round(left / width, 4), round(top / height, 4), round(side / width, 4), round(side / height, 4))


def require_one_person(portraits: Sequence[Portrait], names: Sequence[str]) -> None:
    """Raise ValueError ("picture 2 shows another person than picture 1") when portraits show several people.

    Two pictures show one person when SFace finds them alike, or both like a third: a profile need not be like a front.

    Args:
        names: file names of the pictures, in the client's order; a portrait has one of them.
    """
    from pipelines.faces.identity.sface import SAME_PERSON, FaceRecogniser, align

    if len(portraits) < 2:
        return
    faces = FaceRecogniser().embed_aligned([align(portrait.image, portrait.landmarks) for portrait in portraits])
    alike = faces @ faces.T >= SAME_PERSON
    of_first = alike[0]
    for _ in portraits:
        of_first = of_first | alike[of_first].any(axis=0)
    if of_first.all():
        return
    other = names.index(portraits[int(of_first.argmin())].name) + 1
    raise ValueError(f"picture {other} shows another person than picture {names.index(portraits[0].name) + 1}")
