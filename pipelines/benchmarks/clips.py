"""Films to measure with: real ones, cut to the length of a data set's clips (packets are copied, nothing is encoded
anew), or drawn people, of whom there are as many as clips."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipelines import assets
from pipelines.media.video import ffmpeg_executable, probe
from pipelines.synthetic.corpus.corpus import CorpusConfig, plan_clips

CATALOGUE = ("clip_langer", "clip_single_face", "clip_carphone", "clip_face_noface", "clip_cap12", "clip_cap13")


def fetch_clips(folder: Path, seconds: float) -> tuple[list[Path], list[str]]:
    """The catalogue's clips, cut, in `folder`, and a line for each that cannot be had here.

    Raises:
        AssetError: none of them can be had.
    """
    films, notes = [], []
    missing: assets.AssetError | None = None
    for name in CATALOGUE:
        try:
            films.append(cut(assets.fetch(name), folder / f"{name}.mp4", seconds))
        except assets.AssetError as error:
            missing = error
            notes.append(f"{name} left out: {error}")
    if not films and missing is not None:
        raise missing
    return films, notes


def given_clips(paths: Sequence[str], folder: Path, seconds: float) -> tuple[list[Path], list[str]]:
    """These films, cut, in `folder`.

    Raises:
        FileNotFoundError: one does not exist.
        ValueError: one cannot be read.
    """
    for path in paths:
        probe(path)
    films = [cut(Path(path), folder / f"film-{number}.mp4", seconds) for number, path in enumerate(paths)]
    return films, []


def synthesize_clips(number: int, folder: Path, seconds: float) -> tuple[list[Path], list[str]]:
    """Films of as many synthetic people in `folder`, the first of a corpus without tracks, and no notes."""
    from pipelines.synthetic.corpus.render_clips import RenderSettings, render_clips
    from pipelines.synthetic.render.renderer import Renderer  # loads the head model's data: not for `--help`

    config = CorpusConfig(identities=number, videos=1, seconds=seconds, motion="procedural")
    filmed = render_clips(plan_clips(config), RenderSettings(str(folder), config, (), Renderer), 1)
    films = [Path(clip.spec.url(str(folder))).rename(folder / f"{clip.spec.key.identity}.mp4") for clip in filmed]
    return films, []


def cut(film: Path, to: Path, seconds: float) -> Path:
    """Copy the first `seconds` of a film. Raises ValueError when its packets do not fit into an mp4."""
    to.parent.mkdir(parents=True, exist_ok=True)
    command = [ffmpeg_executable(), "-nostdin", "-loglevel", "error", "-y", "-i", f"file:{film.absolute()}"]
    command += ["-t", str(seconds), "-map", "0:v:0", "-map", "0:a:0?", "-c", "copy", f"file:{to.absolute()}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{film} cannot be cut: {done.stderr.strip().rpartition(chr(10))[2]}")
    return to
