"""CelebV-HQ's and CelebV-Text's JSON files: the YouTube id, span and face box of each clip.

They hold {"clips": {NAME: {"ytb_id": ID, "duration": {"start_sec": S, "end_sec": S}, "bbox": {"top": T, "bottom": B,
"left": L, "right": R}}}}. Boxes and spans refer to the raw video ID.mp4; CelebV-HQ's boxes are fractions of the frame,
CelebV-Text's are pixels. Source: the README.md of https://github.com/CelebV-HQ/CelebV-HQ and
https://github.com/celebv-text/CelebV-Text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from pipelines import storage
from pipelines.planning.splits import read_text
from pipelines.planning.voxceleb_boxes import FPS, BoxTrack

_MARK = ".json#"


@lru_cache(maxsize=1)
def read_annotations(url: str) -> Mapping[str, Mapping[str, Any]]:
    """Return name -> annotation of each clip. The last file is kept: a worker needs it for each of its clips.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file.
    """
    try:
        clips = json.loads(read_text(url)).get("clips", {})
        return {str(name): {key: clip[key] for key in ("ytb_id", "duration", "bbox")} for name, clip in clips.items()}
    except (AttributeError, KeyError, TypeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{url} holds no annotations of clips: {type(error).__name__}: {error}") from error


def clips_of_videos(annotations: Mapping[str, Mapping[str, Any]]) -> Mapping[str, list[str]]:
    """Return YouTube id -> names of its clips."""
    videos: dict[str, list[str]] = {}
    for name, clip in annotations.items():
        videos.setdefault(str(clip["ytb_id"]), []).append(name)
    return videos


def read_box_text(url: str) -> str:
    """Return the text of a file of boxes, or for FILE.json#NAME the annotation of the clip NAME as JSON.

    Raises:
        FileNotFoundError: there is no such file or annotation.
        ValueError: the JSON file is no file of annotations.
    """
    path, mark, name = url.partition(_MARK)
    if not mark:
        return bytes(storage.read_bytes(url)).decode(errors="replace")
    annotations = read_annotations(f"{path}.json")
    if name not in annotations:
        raise FileNotFoundError(f"{path}.json has no clip {name}")
    return json.dumps(annotations[name])


def parse_annotation(text: str) -> BoxTrack:
    """Return the annotation of one clip as a box that stays the same over the clip's span.

    Raises:
        ValueError: a number is missing, or is none; the span or the box is empty.
    """
    clip = json.loads(text)
    try:
        span, box = clip["duration"], clip["bbox"]
        # CelebV-Text's README calls some of the seconds start_frame and end_frame.
        start, end = (float(span.get(f"{side}_sec", span.get(f"{side}_frame"))) for side in ("start", "end"))
        corners = np.array([float(box[side]) for side in ("left", "top", "right", "bottom")])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no span and box in numbers: {text[:120]}") from error
    numbers = np.array([start, end, *corners])
    if not np.isfinite(numbers).all() or end <= start or not (corners[2:] > corners[:2]).all():
        raise ValueError(f"its span or box is empty: {text[:120]}")
    first = round(start * FPS)
    frames = np.array([first, max(first, round(end * FPS) - 1)], np.int64)
    in_fractions = bool(np.abs(corners).max() <= 1)
    return BoxTrack(frames, np.stack([corners, corners]), in_fractions, in_pixels=not in_fractions)
