"""`sfumato motion DRIVER -o OUT`: the motion of a film as a file that drives like the film."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import tyro

from pipelines import storage
from pipelines.argument_parser import UsageError
from pipelines.cli import Artefact, CommandResult, progress
from pipelines.faces.detectors import create_detector
from pipelines.media.decoder.process import Decoder, Limits
from training.animation.motion.arkit_csv import write_arkit
from training.animation.motion.drivers import read_driver
from training.animation.motion.fit_actions import fit_actions
from training.animation.motion.formats import MOTION_FILE
from training.animation.motion.motion_file import write_motion


@dataclass(frozen=True)
class Options:
    """Write the motion of a driver's face into a file: `animate` takes it as a driver instead of the film, and gives
    the same pictures, without sound."""

    driver: tyro.conf.Positional[str]
    """Video, motion file, ARKit recording, key frames or speech (path or URL)."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Path or URL to write to: .motion.parquet for all that is known, .csv for an ARKit recording (52 actions and
    angles of the head, columns as Live Link Face's)."""
    detector: str = "mediapipe"
    """Landmark detector; it has to be the one of the model that is animated. The bundled model's is mediapipe."""
    neutral_frame: int | None = None
    """Frame that actions and angles are relative to, from 0; default: the most frontal and relaxed one."""

    def __post_init__(self) -> None:
        if PurePosixPath(self.out).suffix.lower() not in (MOTION_FILE, ".csv"):
            raise UsageError(f"{self.out}: the name of the output ends with {MOTION_FILE} or .csv")


def run(options: Options) -> CommandResult:
    """Track the driver and write its motion.

    Raises:
        FileNotFoundError: the driver does not exist.
        ValueError: it shows no face, or is broken.
    """
    started = time.monotonic()
    if not storage.exists(options.driver):
        raise FileNotFoundError(f"{options.driver} does not exist")
    storage.check_file(options.driver)
    detector = create_detector(options.detector)
    with progress() as bar, storage.ScratchFolder() as scratch:
        task = bar.add_task("track", total=None)
        track = read_driver(
            _local(options.driver, Path(scratch)),
            detector,
            decoder=Decoder(Limits(clip_s=math.inf)),
            on_frame=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if options.out.lower().endswith(".csv"):
        write_arkit(fit_actions(track, options.neutral_frame), track.times, options.out)
    else:
        write_motion(track, options.out, options.neutral_frame)
    missing = int((~track.found).sum())
    note = f"no face in {missing} of {len(track)} frames: the motion there is filled in"
    return CommandResult(
        (Artefact("motion", options.out),),
        {"frames": len(track)},
        time.monotonic() - started,
        notes=(note,) if missing else (),
    )


def _local(url: str, scratch: Path) -> Path:
    if storage.is_local(url):
        return storage.local_path(url)
    path = scratch / f"driver{PurePosixPath(storage.name(url)).suffix}"
    with storage.open(url) as source, path.open("wb") as sink:
        while chunk := source.read(1 << 20):
            sink.write(chunk)
    return path
