"""Run the protocol: measure every method on the same frames of the same videos, and on driven portraits.

The result of each video is stored before the next one starts, so that an interrupted evaluation can resume.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from pipelines import storage
from pipelines.dataset.reader import ShardDataset
from pipelines.faces.identity.sface import unit
from pipelines.media.images import encode_webp
from training.animation.motion.fit_actions import without_expression
from training.animation.retarget import MotionOptions, retarget
from training.evaluation.methods import TRUE_FRAME, Method, Shots
from training.evaluation.metrics.frame_metrics import Reference, driving_metrics, motion_metrics, reconstruction_metrics
from training.evaluation.metrics.metric_networks import DetectedFaces, MetricNetworks
from training.evaluation.protocol import Pair, ProtocolConfig, Selection, read_faces
from training.evaluation.results import Row, VideoResult, pack, unpack

MOTION_ASKED_FOR = "motion asked for"
"""Name of the row that measures the retargeted landmarks themselves instead of a method."""
_NUM_SHOWN_FRAMES = 4
_SHOWN_SHOTS = 8
_WEBP_QUALITY = 90
_SHOWN_PX = 256
_NO_FEATURES = np.zeros((0, 0), np.float32)

# No temporal smoothing: a data set samples frames of a clip evenly, too far apart for it.
_MOTION = MotionOptions(smoothing=0.0)


@dataclass(frozen=True)
class EvaluationContext:
    """What all videos of an evaluation have in common."""

    dataset: ShardDataset
    size: int
    """Height and width of frames, pixels."""
    methods: Sequence[Method]
    driven: Sequence[Method]
    """Methods for driven portraits."""
    metric_networks: MetricNetworks
    config: ProtocolConfig


def evaluate_video(context: EvaluationContext, selection: Selection) -> VideoResult:
    """Measure every method on one video, for every T that the video has enough shots for."""
    networks, frames = context.metric_networks, selection.video.frames
    truth = read_faces(context.dataset, [frames[i] for i in selection.held_out], context.size)
    shots = Shots(read_faces(context.dataset, [frames[i] for i in selection.shots]), context.size)
    places = shown_frame_indices(len(truth))
    rows = []
    for number in (number for number in context.config.shots if number <= len(selection.shots)):
        given = shots.first(number)
        reference = Reference.of(networks, truth, given.faces)
        drawn = {TRUE_FRAME: truth.images}
        drawn |= {method.name: method.draw(given, truth.landmarks) for method in context.methods}
        features = features_and_detections(networks, drawn)
        for name, images in drawn.items():
            values = reconstruction_metrics(networks, images, reference)
            rows.append(Row(number, name, values, features[name], to_webp(images[places])))
    return VideoResult(
        name=selection.video.video_id,
        driver="",
        num_frames=len(truth),
        shots=to_webp(shots.faces.images[:_SHOWN_SHOTS]),
        targets=to_webp(truth.images[places]),
        rows=tuple(rows),
    )


def evaluate_pair(context: EvaluationContext, pair: Pair) -> VideoResult:
    """Measure methods on a portrait driven by the frames of another person."""
    networks = context.metric_networks
    portrait = Shots(read_faces(context.dataset, [pair.portrait]), context.size)
    driver = read_faces(context.dataset, pair.driver, context.size)
    own = portrait.faces.landmarks[0]
    targets = retarget(own, driver.landmarks, 25.0, _MOTION, source_rest=without_expression(own))
    portrait_embedding = networks.embed(portrait.faces)[0]
    driver_embedding = unit(networks.embed(driver).mean(axis=0))
    places = shown_frame_indices(len(driver))
    rows = [Row(1, MOTION_ASKED_FOR, motion_metrics(_as_detected(targets), driver), _NO_FEATURES, ())]
    for method in context.driven:
        images = method.draw(portrait, targets)
        values = driving_metrics(networks, images, driver, portrait_embedding, driver_embedding)
        rows.append(Row(1, method.name, values, _NO_FEATURES, to_webp(images[places])))
    return VideoResult(
        name=pair.portrait_video.video_id,
        driver=pair.driver_video.video_id,
        num_frames=len(driver),
        shots=to_webp(portrait.faces.images),
        targets=to_webp(driver.images[places]),
        rows=tuple(rows),
    )


def features_and_detections(
    networks: MetricNetworks, drawn: Mapping[str, UInt8[np.ndarray, "frames size size 3"]]
) -> dict[str, Float[np.ndarray, "frames features"]]:
    """Return the features of each method's frames. Meanwhile a thread detects their faces, for the cache: detection
    takes one core only."""
    with ThreadPoolExecutor(1, "detect") as pool:
        detecting = [pool.submit(networks.detect, images) for images in drawn.values()]
        features = {name: networks.features(images) for name, images in drawn.items()}
        for each in detecting:
            each.result()
    return features


def load_or_compute(url: str, make: Callable[[], VideoResult]) -> VideoResult:
    """Return the result stored at `url`; if there is none, or it is invalid, compute and store it."""
    if storage.exists(url):
        try:
            return unpack(storage.read_bytes(url))
        except ValueError:
            pass  # written by another version: compute it again
    result = make()
    storage.write_bytes(url, pack(result))
    return result


def _as_detected(landmarks: Float[np.ndarray, "frames 68 2"]) -> DetectedFaces:
    """Wrap landmarks as detected faces without embeddings."""
    return DetectedFaces(np.ones(len(landmarks), bool), landmarks, np.zeros((len(landmarks), 128), np.float32))


def shown_frame_indices(total: int) -> list[int]:
    """Return evenly spaced indices of the frames to show in the report."""
    return sorted({round(index) for index in np.linspace(0, total - 1, min(_NUM_SHOWN_FRAMES, total))})


def to_webp(images: UInt8[np.ndarray, "frames size size 3"]) -> tuple[bytes, ...]:
    """Encode frames for the report, as WebP of at most 256 pixels."""
    return tuple(encode_webp(image, max_side=_SHOWN_PX, quality=_WEBP_QUALITY) for image in images)
