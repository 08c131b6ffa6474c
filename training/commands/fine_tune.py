"""`sfumato fine-tune PORTRAIT… --model M -o AVATAR`: make an avatar from one or a few pictures of a person."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
import tyro

from pipelines import storage
from pipelines.cli import Artefact, CommandResult, progress
from pipelines.faces.detectors import create_picture_detector
from pipelines.faces.identity.face_choice import FORMS, parse_face_choice
from training.avatars.avatar import Avatar, load_avatar, save_avatar
from training.avatars.doubts import doubts
from training.avatars.finetune import MAX_PORTRAITS, FineTuneConfig, fine_tune
from training.avatars.portraits import find_portraits
from training.checkpoints.bundle import MANIFEST, load_bundle
from training.checkpoints.model_registry import locate
from training.device import choose_device
from training.losses.perceptual_files import PerceptualFiles


@dataclass(frozen=True)
class Options:
    """Make an avatar from one or a few pictures of a person."""

    portraits: tyro.conf.Positional[tuple[str, ...]]
    """Pictures of the person (paths or URLs): JPEG, PNG, WebP, AVIF, HEIC, GIF (first frame), BMP or TIFF."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Folder or URL to write the avatar to."""
    model: Annotated[str | None, tyro.conf.arg(aliases=["-m"])] = None
    """Base model: folder or URL that `sfumato meta-train` or `export` wrote, or models:/NAME@ALIAS in the MLflow
    registry; default: the bundled one."""
    num_steps: int | None = None
    """Number of updates; 0 is feed-forward. By default training stops when held-out pictures no longer improve; a model
    with a warp prior and fewer than four frames of one clip makes no updates, since nothing can be held out. 25 updates
    improve most photographs slightly and make paintings worse; they are no default, since grain does not tell the two
    apart (docs/experiments.md)."""
    face: Annotated[str | None, tyro.conf.arg(metavar=FORMS)] = None
    """The face when a picture shows several: its number (0 is the largest), a point on it or a box around it in
    pixels."""
    consent: str | None = None
    """Statement that the person shown agrees, or why no consent is needed; stored in the avatar."""
    vgg19: str | None = None
    """Weights of Caffe's VGG19 (path or URL), for a model that was trained with them. Weights from a URL are cached;
    later runs find them without this flag."""
    vggface: str | None = None
    """Weights of Caffe's VGGFace; see --vgg19."""
    device: str = "auto"
    """Device of the networks: auto (a CUDA device if there is one), cpu, cuda or cuda:N."""
    seed: int = 0
    """Random seed."""

    def __post_init__(self) -> None:
        if not self.portraits:
            raise ValueError("name at least one picture")
        if (number := len(set(self.portraits))) > MAX_PORTRAITS:
            raise ValueError(f"fine-tuning takes 1 to {MAX_PORTRAITS} pictures, got {number}")


def run(options: Options) -> CommandResult:
    """Fine-tune and write the avatar, unless the output already holds the same one."""
    started, device = time.monotonic(), choose_device(options.device)
    face = parse_face_choice(options.face or "0")
    model = load_bundle(locate(options.model))
    if (existing := _existing_avatar(options, model.version)) is not None:
        return _result(options, existing, started, "already made: nothing to do")
    portraits = find_portraits(options.portraits, create_picture_detector(model.config.model.detector), face=face)
    with progress() as bar:
        task = bar.add_task("fine-tune", total=None)

        def on_step(step: int, most: int, terms: Mapping[str, float]) -> None:
            bar.update(task, completed=step, total=most, description=f"fine-tune  content {terms['content']:.3f}")

        files = PerceptualFiles.named(options.vgg19, options.vggface)
        config = FineTuneConfig(options.num_steps, options.seed)
        try:
            avatar = fine_tune(model, portraits, config, on_step, files, device)
        except torch.OutOfMemoryError as error:
            raise ValueError(f"--device {device}: too little memory for this model") from error
    save_avatar(avatar, options.out, options.consent)
    unchanged = options.num_steps is None and avatar.steps == 0
    notes = ("no updates were made: feed-forward; --num-steps asks for some",) if unchanged else ()
    return _result(options, avatar, started, *doubts(portraits, len(options.portraits)), *notes)


def _existing_avatar(options: Options, version: str) -> Avatar | None:
    """Return the avatar at the output if it has the same model, pictures and options, else None.

    The avatar's manifest does not record face and seed: with values other than the defaults it is made again.
    """
    manifest = storage.join(options.out, MANIFEST)
    if options.face is not None or options.seed != 0 or not storage.exists(manifest):
        return None
    if json.loads(storage.read_bytes(manifest)).get("consent") != options.consent:
        return None
    avatar = load_avatar(options.out)
    for url in options.portraits:
        storage.check_file(url)
    wanted = {hashlib.sha256(storage.read_bytes(url)).hexdigest() for url in options.portraits}
    same_steps = options.num_steps in (None, avatar.steps)
    same = avatar.base_version == version and {portrait.sha256 for portrait in avatar.portraits} == wanted
    return avatar if same and same_steps else None


def _result(options: Options, avatar: Avatar, started: float, *notes: str) -> CommandResult:
    return CommandResult(
        made=(Artefact("avatar", options.out),),
        counts={"portraits": len(avatar.portraits), "steps": avatar.steps},
        seconds=time.monotonic() - started,
        notes=notes,
    )
