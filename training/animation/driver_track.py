"""Track the driver's face through a video."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from pipelines.faces.face import LandmarkDetector
from pipelines.faces.head_pose import NUM_LANDMARKS
from pipelines.faces.identity.face_choice import LARGEST, FaceChoice
from pipelines.faces.identity.person_tracker import PersonTracker
from pipelines.faces.second_look import detect_in_order
from pipelines.media.decoder.process import Decoder, DecoderDied
from pipelines.media.frame_times import FrameTimes, frame_times
from pipelines.media.video import decode, probe
from training.animation.animator import Cancelled
from training.animation.prefetch import prefetch
from training.animation.smoothing import fill_gaps

_QUEUED_FRAMES = 8  # decoded ahead of detection


@dataclass(frozen=True, eq=False)
class Rest:
    """A driver's face at rest, facing forwards."""

    landmarks: Float[np.ndarray, "68 2"]
    """In pixels."""
    gaze: Float[np.ndarray, "2 2"]
    """`pipelines.faces.head_pose.gaze`."""


@dataclass(frozen=True)
class DriverTrack:
    """The motion of a driver's face: 0.5 KB per frame."""

    landmarks: Float[np.ndarray, "frames 68 2"]
    """In pixels; interpolated where no face was found."""
    gaze: Float[np.ndarray, "frames 2 2"]
    """`pipelines.faces.head_pose.gaze`; NaN where it is unknown."""
    found: Bool[np.ndarray, "frames"]
    times: FrameTimes
    """When the driver shows its frames."""
    detector: str
    """Name of the detector, whose landmarks an avatar's model must have been trained on."""
    rest: Rest | None = None
    """The face that the motion is relative to, where it is known; None: one of the frames is at rest."""
    exact: bool = False
    """Whether the motion has no noise, as that of key frames, and is not to be smoothed."""
    adds: bool = False
    """Whether expression is added to the portrait's, as that of sliders is; else what the portrait shows of the same
    expression counts once: a spoken "ah" opens an open mouth no further."""

    def __len__(self) -> int:
        return len(self.landmarks)


def track_driver(
    driver: Path,
    detector: LandmarkDetector,
    *,
    decoder: Decoder | None = None,
    face: FaceChoice = LARGEST,
    on_frame: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> DriverTrack:
    """Track one person's face through a film, also after absences and cuts. Decoding runs ahead.

    Args:
        decoder: decodes the driver in its own process, so that a film that crashes or hangs the decoder is an error;
            None: in this process.
        face: the person, in the first frame that shows a face, or within a second after it.
        on_frame: called with (frames done, expected frames).
        cancelled: polled for each frame.

    Raises:
        ValueError: the driver is no video, crashes or hangs the decoder, or does not show the face; the message is one
            line.
        Cancelled: `cancelled()` became true.
    """
    try:
        return _track(driver, detector, decoder, face, on_frame, cancelled)
    except DecoderDied as error:
        raise ValueError(f"{driver}: {error}") from None


def _track(
    driver: Path,
    detector: LandmarkDetector,
    decoder: Decoder | None,
    face: FaceChoice,
    on_frame: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool],
) -> DriverTrack:
    info = probe(driver) if decoder is None else decoder.probe(driver)
    film = decode(driver) if decoder is None else decoder.film(driver)
    # Lists of arrays would take twice the memory.
    landmarks, gaze, found, seconds = array("f"), array("f"), array("b"), array("d")
    no_landmarks, no_gaze = (np.full((points, 2), np.nan, np.float32) for points in (NUM_LANDMARKS, 2))
    person = PersonTracker(face)
    detect = detect_in_order(detector)
    for frame in prefetch(film, _QUEUED_FRAMES):
        if cancelled():
            raise Cancelled
        # Not MediaPipe's tracking mode: it smooths over time and removes two thirds of a blink (minimum eye openness on
        # the carphone clip: 0.12 tracked, 0.02 detected). Retargeting smooths instead.
        seen = person.find(frame.image, detect(frame.image), frame.pts_us / 1e6)
        landmarks.frombytes((no_landmarks if seen is None else seen.landmarks).astype(np.float32).tobytes())
        gaze.frombytes((no_gaze if seen is None or seen.gaze is None else seen.gaze).astype(np.float32).tobytes())
        found.append(seen is not None)
        seconds.append(frame.pts_us / 1e6)
        if on_frame is not None:
            on_frame(len(found), max(info.num_frames, len(found)))
    if person.problem is not None:
        raise ValueError(f"{driver}: {person.problem}")
    is_found = np.array(found, bool)
    try:
        filled = fill_gaps(np.array(landmarks, np.float32).reshape(-1, NUM_LANDMARKS, 2), is_found)
    except ValueError as error:
        raise ValueError(f"{driver}: {error}") from None
    looks, times = np.array(gaze, np.float32).reshape(-1, 2, 2), frame_times(seconds, info.fps)
    return DriverTrack(filled, looks, is_found, times, detector.name)
