"""Data of the benchmarks: real clips, as a data set, and as videos to sample from like public reproductions."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pipelines import assets
from pipelines.faces.detectors import create_detector
from pipelines.faces.face import LandmarkDetector

_CLIPS = {
    "clip_langer": ("woman", "pexels"),
    "clip_single_face": ("man-at-door", "single-face"),
    "clip_carphone": ("man-in-car", "carphone"),
}


def make_dataset(folder: Path) -> tuple[str, tuple[str, ...]]:
    """Preprocess the catalogue's clips below `folder` with the command; return the data set and the clips' paths.

    Raises:
        ValueError: preprocessing failed; the message has the last line of its output.
    """
    paths = {name: assets.fetch(name) for name in _CLIPS}
    lines = [
        json.dumps({"path": str(paths[name]), "identity": identity, "video": video})
        for name, (identity, video) in _CLIPS.items()
    ]
    (folder / "clips.jsonl").write_text("\n".join(lines) + "\n")
    root = str(folder / "set")
    flags = ("--val-fraction", "0", "--test-fraction", "0", "--workers", "1")
    command = [sys.executable, "-m", "sfumato", "preprocess", str(folder / "clips.jsonl"), root, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        raise ValueError(f"the data set could not be made: {done.stderr.strip().rpartition(chr(10))[2]}")
    return root, tuple(str(path) for path in paths.values())


def warm_detector() -> LandmarkDetector:
    """Return a detector that has run once; the reproductions load theirs for each item."""
    assets.fetch("face_landmarker")
    detector = create_detector("mediapipe")
    detector.detect(np.zeros((256, 256, 3), np.uint8))
    return detector


def draw_episodes(
    videos: Sequence[str], detector: LandmarkDetector, num_frames: int, size: int, random: np.random.Generator
) -> None:
    """Load one episode per video like public reproductions: decode all, choose `num_frames`, detect, resize."""
    for video in videos:
        capture = cv2.VideoCapture(video)
        frames = []
        while True:
            success, frame = capture.read()
            if not success:
                break
            frames.append(frame)
        capture.release()
        for number in random.choice(len(frames), min(num_frames, len(frames)), replace=False):
            image = cv2.cvtColor(frames[number], cv2.COLOR_BGR2RGB)
            detector.detect(image)
            cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
