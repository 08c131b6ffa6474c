"""Drivers of every kind -> tracks: films, motion files, ARKit recordings, key frames, speech."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipelines.faces.face import LandmarkDetector
from pipelines.faces.identity.face_choice import LARGEST, FaceChoice
from pipelines.media.decoder.process import Decoder
from training.animation.driver_track import DriverTrack, track_driver
from training.animation.motion.arkit_csv import is_arkit, read_arkit
from training.animation.motion.face_motion import to_track
from training.animation.motion.formats import MOTION_FILE, is_motion, is_speech
from training.animation.motion.key_frames import read_key_json, read_key_table
from training.animation.motion.motion_file import read_motion_file
from training.animation.motion.speech import read_speech
from training.animation.motion.text_table import read_table


def read_driver(
    path: Path,
    detector: LandmarkDetector,
    *,
    decoder: Decoder | None = None,
    face: FaceChoice = LARGEST,
    on_frame: Callable[[int, int], None] | None = None,
) -> DriverTrack:
    """Return the track of a driver: a film, a file of motion (`formats.is_motion`), or speech (`formats.is_speech`).

    Args:
        detector: for films; motion without landmarks of its own suits every detector.
        decoder: of films, in a process of its own; None: in this one.
        face: the person in a film.
        on_frame: called with (frames done, expected frames).

    Raises:
        ValueError: the file cannot be used; the message is one line.
    """
    if is_speech(path.name):
        return to_track(*read_speech(path, on_frame), detector.name, exact=True)
    if not is_motion(path.name):
        return track_driver(path, detector, decoder=decoder, face=face, on_frame=on_frame)
    return read_motion(path, detector.name)


def read_motion(path: Path, detector: str) -> DriverTrack:
    """Return the track of a file of motion.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be used; the message names it, and the line.
    """
    suffix = path.suffix.lower()
    if suffix == MOTION_FILE:
        return read_motion_file(path)
    if suffix == ".json":
        return to_track(*read_key_json(path), detector, exact=True, adds=True)
    table = read_table(path)
    if is_arkit(table.columns):
        return to_track(*read_arkit(table), detector, exact=False)
    if "time" not in table.columns:
        raise ValueError(
            f"{path} line {table.header_line}: neither key frames, with a column time, nor an ARKit recording, with a"
            " column Timecode"
        )
    return to_track(*read_key_table(table), detector, exact=True, adds=True)
