"""Clips for benchmarks: real videos, cut to the length of a data set's clips (packets are copied, nothing is encoded
again), or one clip of each of a number of synthetic people."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipelines import assets
from pipelines.media.video import ffmpeg_executable, probe
from pipelines.synthetic.corpus.corpus import CorpusConfig, plan_clips

CATALOGUE = ("clip_langer", "clip_single_face", "clip_carphone", "clip_face_noface", "clip_cap12", "clip_cap13")


def fetch_clips(folder: Path, seconds: float) -> tuple[list[Path], list[str]]:
    """Cut the catalogue's clips into `folder`; return them, and a note for each that cannot be fetched.

    Raises:
        AssetError: none of them can be fetched.
    """
    videos, notes = [], []
    missing: assets.AssetError | None = None
    for name in CATALOGUE:
        try:
            videos.append(cut(assets.fetch(name), folder / f"{name}.mp4", seconds))
        except assets.AssetError as error:
            missing = error
            notes.append(f"{name} left out: {error}")
    if not videos and missing is not None:
        raise missing
    return videos, notes


def given_clips(paths: Sequence[str], folder: Path, seconds: float) -> tuple[list[Path], list[str]]:
    """Cut these videos into `folder`; return them, and no notes.

    Raises:
        FileNotFoundError: one does not exist.
        ValueError: one cannot be read.
    """
    for path in paths:
        probe(path)
    videos = [cut(Path(path), folder / f"film-{number}.mp4", seconds) for number, path in enumerate(paths)]
    return videos, []


def synthesize_clips(number: int, folder: Path, seconds: float) -> tuple[list[Path], list[str]]:
    """Films of as many synthetic people in `folder`, the first of a corpus without tracks, and no notes."""
    from pipelines.synthetic.corpus.render_clips import RenderSettings, render_clips
    from pipelines.synthetic.render.renderer import Renderer  # loads the head model's data: not for `--help`

    config = CorpusConfig(identities=number, videos=1, seconds=seconds, motion="procedural")
    filmed = render_clips(plan_clips(config), RenderSettings(str(folder), config, (), Renderer), 1)
    films = [Path(clip.spec.url(str(folder))).rename(folder / f"{clip.spec.key.identity}.mp4") for clip in filmed]
    return films, []


def cut(video: Path, to: Path, seconds: float) -> Path:
    """Copy the first `seconds` of a video. Raises ValueError when mp4 cannot hold its streams."""
    to.parent.mkdir(parents=True, exist_ok=True)
    command = [ffmpeg_executable(), "-nostdin", "-loglevel", "error", "-y", "-i", f"file:{video.absolute()}"]
    command += ["-t", str(seconds), "-map", "0:v:0", "-map", "0:a:0?", "-c", "copy", f"file:{to.absolute()}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{video} cannot be cut: {done.stderr.strip().rpartition(chr(10))[2]}")
    return to
