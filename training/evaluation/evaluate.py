"""The protocol, run: every method on the same frames of the same videos, and portraits driven by somebody else.

What a video gave is kept before the next one starts, so that an evaluation that was cut short goes on where it was.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from pipelines import storage
from pipelines.dataset.reader import ShardDataset
from pipelines.media.images import webp
from training.animation.retarget import MotionOptions, retarget
from training.evaluation.methods import TRUE_FRAME, Method, Shots
from training.evaluation.metrics.frame_metrics import Reference, driving_metrics, motion_metrics, reconstruction_metrics
from training.evaluation.metrics.metric_networks import DetectedFaces, MetricNetworks
from training.evaluation.metrics.sface import unit
from training.evaluation.protocol import Pair, ProtocolConfig, Selection, read_faces
from training.evaluation.results import Row, VideoResult, pack, unpack

MOTION_ASKED_FOR = "motion asked for"
"""Not a method: the retargeted landmarks themselves."""
_PICTURES = 4
_SHOWN_SHOTS = 8
_NO_FEATURES = np.zeros((0, 0), np.float32)

# Frames of a data set are taken evenly from a clip: they are too far apart for a filter meant for video.
_MOTION = MotionOptions(smoothing=0.0)


@dataclass(frozen=True)
class EvaluationContext:
    """What all videos of one evaluation share."""

    dataset: ShardDataset
    size: int
    """Side of the frames in pixels."""
    methods: Sequence[Method]
    driven: Sequence[Method]
    """Those that can move a portrait, and what they are held against."""
    metric_networks: MetricNetworks
    config: ProtocolConfig


def evaluate_video(bench: EvaluationContext, selection: Selection) -> VideoResult:
    """Every method on one video, for every T that it has shots for."""
    judge, frames = bench.metric_networks, selection.video.frames
    truth = read_faces(bench.dataset, [frames[i] for i in selection.held_out], bench.size)
    shots = Shots(read_faces(bench.dataset, [frames[i] for i in selection.shots]), bench.size)
    places = shown_frame_indices(len(truth))
    rows = []
    for number in (number for number in bench.config.shots if number <= len(selection.shots)):
        given = shots.first(number)
        reference = Reference.of(judge, truth, given.faces)
        drawn = {TRUE_FRAME: truth.images}
        drawn |= {method.name: method.draw(given, truth.landmarks) for method in bench.methods}
        for name, images in drawn.items():
            values = reconstruction_metrics(judge, images, reference)
            rows.append(Row(number, name, values, judge.features(images), to_webp(images[places])))
    return VideoResult(
        name=selection.video.video_id,
        driver="",
        num_frames=len(truth),
        shots=to_webp(shots.faces.images[:_SHOWN_SHOTS]),
        targets=to_webp(truth.images[places]),
        rows=tuple(rows),
    )


def evaluate_pair(bench: EvaluationContext, pair: Pair) -> VideoResult:
    """Every method that moves a portrait, driven by somebody else's frames."""
    judge = bench.metric_networks
    portrait = Shots(read_faces(bench.dataset, [pair.portrait]), bench.size)
    driver = read_faces(bench.dataset, pair.driver, bench.size)
    targets = retarget(portrait.faces.landmarks[0], driver.landmarks, 25.0, _MOTION)
    portrait_embedding = judge.recognise(portrait.faces)[0]
    driver_embedding = unit(judge.recognise(driver).mean(axis=0))
    places = shown_frame_indices(len(driver))
    rows = [Row(1, MOTION_ASKED_FOR, motion_metrics(_as_seen(targets), driver), _NO_FEATURES, ())]
    for method in bench.driven:
        images = method.draw(portrait, targets)
        values = driving_metrics(judge, images, driver, portrait_embedding, driver_embedding)
        rows.append(Row(1, method.name, values, _NO_FEATURES, to_webp(images[places])))
    return VideoResult(
        name=pair.portrait_video.video_id,
        driver=pair.driver_video.video_id,
        num_frames=len(driver),
        shots=to_webp(portrait.faces.images),
        targets=to_webp(driver.images[places]),
        rows=tuple(rows),
    )


def load_or_compute(url: str, make: Callable[[], VideoResult]) -> VideoResult:
    """The result kept at `url`; made and kept first where there is none, or a broken one."""
    if storage.exists(url):
        try:
            return unpack(storage.read_bytes(url))
        except ValueError:
            pass  # written by another version: made again
    result = make()
    storage.write_bytes(url, pack(result))
    return result


def _as_seen(landmarks: Float[np.ndarray, "frames 68 2"]) -> DetectedFaces:
    """Landmarks as if a detector had found them."""
    return DetectedFaces(np.ones(len(landmarks), bool), landmarks, np.zeros((len(landmarks), 128), np.float32))


def shown_frame_indices(total: int) -> list[int]:
    """A few of so many frames, spread evenly: those that are shown."""
    return sorted({round(place) for place in np.linspace(0, total - 1, min(_PICTURES, total))})


def to_webp(images: UInt8[np.ndarray, "frames size size 3"]) -> tuple[bytes, ...]:
    """Frames as a page shows them: WebP of 256 pixels at most."""
    return tuple(webp(image) for image in images)
