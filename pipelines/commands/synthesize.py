"""`sfumato synthesize OUT`: render a corpus of synthetic talking heads with ground truth. A repeated run continues."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tyro

from pipelines import storage
from pipelines.cli import Artefact, CommandResult, progress
from pipelines.machine import available_cpus
from pipelines.synthetic.corpus.corpus import (
    MANIFEST,
    CorpusConfig,
    complete_clips,
    plan_clips,
    read_settings,
    start_corpus,
    write_manifest,
)

if TYPE_CHECKING:
    from pipelines.synthetic.corpus.render_clips import FrameRenderer


@dataclass(frozen=True)
class Options:
    """Render videos of synthetic people in VoxCeleb2's layout, each with its ground truth (landmarks, pose, motion)."""

    out: tyro.conf.Positional[str]
    """Path or URL of the corpus. An unfinished one is continued."""
    identities: int = 100
    """Number of people."""
    videos: int = 2
    """Videos per person, each with other light, clothes and background; with --paired, the number of motions."""
    clips: int = 1
    """Clips per video."""
    seconds: float = 4.0
    """Length of each clip."""
    fps: int = 25
    """Frames per second. A low rate suits training: the same number of frames then covers more poses and
    expressions."""
    size: int = 256
    """Side of the frames in pixels."""
    seed: int = 0
    """Random seed. The same seed gives the same bytes."""
    paired: bool = False
    """Every person performs every motion, frame by frame the same: ground truth for cross-identity reenactment."""
    motion: Literal["clips", "procedural"] = "clips"
    """`clips` also recombines facial motion tracked in the real demo clips, which are fetched once; `procedural` needs
    no downloads."""
    workers: int = dataclasses.field(default_factory=available_cpus)
    """Number of processes, one core each. It does not change the output."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")

    def corpus_config(self) -> CorpusConfig:
        """Return the config that determines the clips. Raises ValueError for values out of range."""
        return CorpusConfig(
            identities=self.identities,
            videos=self.videos,
            clips=self.clips,
            seconds=self.seconds,
            fps=self.fps,
            size=self.size,
            seed=self.seed,
            paired=self.paired,
            motion=self.motion,
        )


def run(options: Options) -> CommandResult:
    """Render the clips that do not exist yet, and write the manifest last.

    Raises:
        ValueError: a value out of range, or OUT is not an unfinished corpus with this config.
        OSError: a clip cannot be written.
    """
    begun = time.monotonic()
    config, out = options.corpus_config(), storage.absolute(options.out)
    read_settings(out)  # what cannot go there is refused before anything is fetched or measured
    from pipelines.synthetic.corpus.contact_sheet import SHEET, write_sheet
    from pipelines.synthetic.corpus.render_clips import RenderSettings, render_clips
    from pipelines.synthetic.motion.real_tracks import load_tracks, tracks_digest

    tracks = load_tracks() if config.motion == "clips" else ()
    start_corpus(out, config, tracks_digest(tracks))
    whole = complete_clips(out)
    todo = [spec for spec in plan_clips(config) if spec.url(out) not in whole]
    num_frames, started = 0, time.monotonic()
    with progress() as bars:
        bar = bars.add_task("synthesize", total=config.num_clips, completed=config.num_clips - len(todo))
        try:
            for clip in render_clips(
                todo, RenderSettings(out, config, tracks, make_renderer), min(options.workers, len(todo))
            ):
                num_frames += clip.num_frames
                rate = num_frames / (time.monotonic() - started)
                bars.update(bar, advance=1, description=f"synthesize, {rate:.1f} frames/s")
        except BaseException:
            if storage.is_local(out):  # object stores keep no partial files
                storage.remove_partial_files(out)
            raise
    seconds = time.monotonic() - started
    write_sheet(out, config)
    manifest = write_manifest(out, config, num_frames_now=num_frames, seconds=seconds)
    counts = {**manifest["counts"], "clips filmed now": len(todo)}
    speed = f"{num_frames / seconds:.1f} frames a second" if num_frames else "all clips were there already"
    made = (
        Artefact("corpus", options.out),
        Artefact("manifest", storage.join(options.out, MANIFEST)),
        Artefact("people", storage.join(options.out, SHEET)),
    )
    return CommandResult(made, counts, time.monotonic() - begun, notes=(speed,))


def make_renderer(size: int) -> FrameRenderer:
    """The renderer on this machine's CPU."""
    from pipelines.synthetic.render.renderer import Renderer

    return Renderer(size)
