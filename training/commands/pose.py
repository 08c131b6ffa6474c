"""`sfumato pose SOURCE -o OUT`: one picture of a portrait with another expression, gaze and pose, set by sliders."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

import torch
import tyro

from pipelines import storage
from pipelines.cli import Artefact, CommandResult
from pipelines.faces.detectors import create_picture_detector
from pipelines.faces.identity.face_choice import FORMS, parse_face_choice
from pipelines.media.images import encode_still, still_format
from pipelines.provenance.film_stamp import check_label, with_label
from pipelines.provenance.marks import Provenance, marked
from pipelines.provenance.signing_key import load_signing_key
from training.animation.animator import Animator
from training.animation.motion.sliders import Sliders
from training.animation.motion.still import draw_still
from training.animation.render import COMMENT
from training.avatars.avatar import Avatar, load_avatar
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import find_portraits
from training.avatars.provenance import portraits_of, provenance_of
from training.checkpoints.bundle import MANIFEST, load_bundle
from training.checkpoints.model_registry import locate
from training.device import choose_device


@dataclass(frozen=True)
class Options:
    """Draw a portrait with another expression, gaze and pose, set by sliders; at 0, each leaves it as it is."""

    source: tyro.conf.Positional[str]
    """Picture or avatar folder (path or URL)."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Path or URL of the picture to write: .png, .jpg or .webp."""
    sliders: Annotated[Sliders, tyro.conf.arg(name="")] = field(default_factory=Sliders)
    frame: Literal["full", "crop"] = "full"
    """Draw the whole picture, or only the crop around the face."""
    max_size: int | None = None
    """Maximum length of the picture's longer side, pixels; default: as the portrait."""
    model: Annotated[str | None, tyro.conf.arg(aliases=["-m"])] = None
    """Base model for a source that is a picture: a bundle's path or URL, or models:/NAME@ALIAS; default: the bundled
    one."""
    face: Annotated[str, tyro.conf.arg(metavar=FORMS)] = "0"
    """The face when a picture shows several: its number (0 is the largest), a point on it or a box around it in
    pixels."""
    label: str = ""
    """A line in the lower left corner, such as "AI-generated"; default: none."""
    device: str = "auto"
    """Device of the networks: auto (a CUDA device if there is one), cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        still_format(self.out)
        check_label(self.label)
        if self.max_size is not None and not 64 <= self.max_size <= 8192:
            raise ValueError(f"--max-size must lie in [64, 8192] pixels, got {self.max_size}")


def run(options: Options) -> CommandResult:
    """Draw the picture and write it.

    Raises:
        FileNotFoundError: the source or the model does not exist.
        ValueError: the source is no picture with a face and no avatar, an option is out of range, or key or certificate
            for the credentials cannot be used.
    """
    started, device, key = time.monotonic(), choose_device(options.device), load_signing_key()
    avatar = _avatar(options, device)
    animator = Animator(avatar, max_size=options.max_size, device=device)
    still = draw_still(animator, options.sliders)
    picture = animator.paste(still.region)
    if options.frame == "crop":
        picture = still.region[animator.region.crop, animator.region.crop]
    picture = with_label(picture, options.label)
    data = marked(encode_still(picture, options.out, COMMENT), options.out, _provenance(options, avatar), key)
    storage.write_bytes(options.out, data)
    height, width = picture.shape[:2]
    return CommandResult(
        (Artefact("picture", options.out),),
        {"width": width, "height": height},
        time.monotonic() - started,
        notes=(*key.notes, *still.notes),
    )


def _provenance(options: Options, avatar: Avatar) -> Provenance:
    """Return how the picture was made; its credentials name files without their folders."""
    is_picture = storage.is_local(options.source) and not storage.is_folder(options.source)
    path = storage.local_path(options.source) if is_picture else None
    files = {} if path is None else {portrait.sha256: path for portrait in avatar.portraits}
    sliders = {name: value for name, value in asdict(options.sliders).items() if value != getattr(Sliders(), name)}
    flags = {**sliders, "frame": options.frame, "max_size": options.max_size, "face": options.face}
    flags |= {"label": options.label} if options.label else {}
    usual = {"frame": "full", "max_size": None, "face": "0"}
    words = ["sfumato", "pose", storage.name(options.source), "-o", storage.name(options.out)]
    if options.model is not None:
        words += ["--model", options.model if options.model.startswith("models:/") else storage.name(options.model)]
    for name, value in flags.items():
        if name not in usual or value != usual[name]:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return provenance_of(avatar, portraits_of(avatar, files), flags, shlex.join(words))


def _avatar(options: Options, device: torch.device) -> Avatar:
    if storage.is_folder(options.source):
        if not storage.exists(storage.join(options.source, MANIFEST)):
            raise ValueError(f"{options.source} is a folder and no avatar")
        return load_avatar(options.source)
    if not storage.exists(options.source):
        raise FileNotFoundError(f"{options.source} does not exist")
    model = load_bundle(locate(options.model))
    portraits = find_portraits(
        [options.source], create_picture_detector(model.config.model.detector), face=parse_face_choice(options.face)
    )
    return fine_tune(model, portraits, FineTuneConfig(), None, None, device)
