"""`sfumato synthesize OUT`: a corpus of parametric talking heads with their truth. Run again, it continues."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tyro

from pipelines import storage
from pipelines.cli import Artefact, CommandResult, progress
from pipelines.storage.files import remove_leftovers
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
    """Talking heads that nobody owns: people drawn from a seed, as VoxCeleb2-like mp4 with the truth beside each."""

    out: tyro.conf.Positional[str]
    """Where the corpus goes: a path or URL. An unfinished one is continued."""
    identities: int = 100
    """People."""
    videos: int = 2
    """Videos of each, in other light, clothes and surroundings; with --paired the motions that everybody does."""
    clips: int = 1
    """Clips of each video."""
    seconds: float = 4.0
    """Length of each clip."""
    fps: int = 25
    """Pictures a second. A few are enough to train on: as many pictures then hold more of what a face can do."""
    size: int = 256
    """Side of the pictures in pixels."""
    seed: int = 0
    """The same seed gives the same bytes; another one other people."""
    paired: bool = False
    """Every person does every motion, frame by frame the same: ground truth for driving one face with another."""
    motion: Literal["clips", "procedural"] = "clips"
    """`clips` also recombines what faces do in the real clips of the assets, which are fetched once; `procedural` needs
    nothing."""
    workers: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    """Processes, one core each. They change nothing but the time it takes."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")

    def corpus_config(self) -> CorpusConfig:
        """What decides the clips. Raises ValueError for values out of range."""
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
    """Film the clips that are not there yet, and write the manifest last.

    Raises:
        ValueError: a value out of range, or OUT holds something else.
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
            if storage.is_local(out):  # stores keep no half-written files
                remove_leftovers(out)
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
