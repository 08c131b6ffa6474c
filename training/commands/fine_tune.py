"""`sfumato fine-tune PORTRAIT… --model M -o AVATAR`: one or a few pictures of one person -> an avatar."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pipelines import storage
from pipelines.cli import Artefact, CommandResult, progress
from pipelines.faces.detectors import create_detector
from pipelines.storage.hashing import sha256_of
from training.avatars.avatar import Avatar, load_avatar, save_avatar
from training.avatars.finetune import FineTuneConfig, fine_tune
from training.avatars.portraits import find_portraits
from training.checkpoints.bundle import MANIFEST, load_bundle
from training.checkpoints.shipped import named_or_shipped
from training.losses.perceptual_files import PerceptualFiles


@dataclass(frozen=True)
class Options:
    """Make an avatar of one person from one or a few pictures."""

    portraits: tyro.conf.Positional[tuple[str, ...]]
    """Pictures of the person: JPEG, PNG, WebP, GIF (first frame), BMP or TIFF."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Where the avatar goes: a folder or URL."""
    model: Annotated[str | None, tyro.conf.arg(aliases=["-m"])] = None
    """Base model: the folder or URL that `sfumato meta-train` or `export` wrote; default: the one that comes along."""
    num_steps: int | None = None
    """Updates; 0 is feed-forward. By default they stop when held-out pictures get no better, and there are none for a
    model with a warp prior and fewer than four frames of one film: no picture tells then when to stop. 25 make most
    photographs a little better, and drawn people worse."""
    face: int | None = None
    """Which face, counted from 0 for the largest, when a picture shows several."""
    consent: str | None = None
    """A statement that the person shown agrees, or why none is needed; kept with the avatar."""
    vgg19: str | None = None
    """Weights of Caffe's VGG19, a path or URL, for a model that was trained with them; those of a URL are kept in the
    cache, where they are found without the flag."""
    vggface: str | None = None
    """Weights of Caffe's VGGFace, likewise."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.portraits:
            raise ValueError("name at least one picture")


def run(options: Options) -> CommandResult:
    """Fine-tune and save."""
    started = time.monotonic()
    model = load_bundle(named_or_shipped(options.model))
    if (made := _made_before(options, model.version)) is not None:
        return _outcome(options, made, started, "already made: nothing to do")
    portraits = find_portraits(options.portraits, create_detector(model.config.model.detector), face=options.face)
    with progress() as bar:
        task = bar.add_task("fine-tune", total=None)

        def on_step(step: int, most: int, terms: Mapping[str, float]) -> None:
            bar.update(task, completed=step, total=most, description=f"fine-tune  content {terms['content']:.3f}")

        files = PerceptualFiles.named(options.vgg19, options.vggface)
        avatar = fine_tune(model, portraits, FineTuneConfig(options.num_steps, options.seed), on_step, files)
    save_avatar(avatar, options.out, options.consent)
    stayed = options.num_steps is None and avatar.steps == 0
    notes = ("no updates were made: feed-forward; --num-steps asks for some",) if stayed else ()
    return _outcome(options, avatar, started, *notes)


def _made_before(options: Options, version: str) -> Avatar | None:
    """The avatar at the output, if the same model made it of the same pictures with the same options.

    An avatar does not say which face and seed it was made with: any but the default is made again.
    """
    manifest = storage.join(options.out, MANIFEST)
    if options.face is not None or options.seed != 0 or not storage.exists(manifest):
        return None
    if json.loads(storage.read_bytes(manifest)).get("consent") != options.consent:
        return None
    avatar = load_avatar(options.out)
    wanted = {sha256_of(Path(path)) for path in options.portraits if Path(path).is_file()}
    same_steps = options.num_steps in (None, avatar.steps)
    same = avatar.base_version == version and {portrait.sha256 for portrait in avatar.portraits} == wanted
    return avatar if same and same_steps else None


def _outcome(options: Options, avatar: Avatar, started: float, *notes: str) -> CommandResult:
    return CommandResult(
        made=(Artefact("avatar", options.out),),
        counts={"portraits": len(avatar.portraits), "steps": avatar.steps},
        seconds=time.monotonic() - started,
        notes=notes,
    )
