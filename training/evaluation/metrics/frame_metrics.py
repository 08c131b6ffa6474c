"""Metrics of the tables: name, unit, direction, and their computation for a video's frames."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from pipelines.faces.head_pose import eye_openness, fit_pose, mouth_openness
from pipelines.faces.identity.sface import NAME as RECOGNISER
from pipelines.faces.identity.sface import unit
from training.evaluation.metrics import landmark_motion, ssim_psnr
from training.evaluation.metrics.faces import Faces
from training.evaluation.metrics.metric_networks import DetectedFaces, MetricNetworks

MetricValues = dict[str, float]
"""Values of one video by metric; NaN if not measurable."""

Better = Literal["higher", "lower", "near 1"]


@dataclass(frozen=True)
class Metric:
    """A column of a table."""

    key: str
    label: str
    unit: str
    better: Better
    digits: int
    meaning: str


_FOUND = "over the frames in which a face is found"

RECONSTRUCTION = (
    Metric("ssim", "SSIM", "", "higher", 3, "structural similarity to the true frame, Gaussian window"),
    Metric("psnr", "PSNR", "dB", "higher", 2, "peak signal to noise ratio against the true frame"),
    Metric("lpips", "LPIPS", "", "lower", 3, "perceptual distance from the true frame"),
    Metric(
        "csim_source",
        f"CSIM source ({RECOGNISER})",
        "",
        "higher",
        3,
        f"cosine of the face's embedding with the mean of the shots', {_FOUND}",
    ),
    Metric(
        "csim_truth",
        f"CSIM truth ({RECOGNISER})",
        "",
        "higher",
        3,
        f"cosine of the face's embedding with the true frame's, {_FOUND}",
    ),
    Metric(
        "landmark_error",
        "landmark error",
        "%",
        "lower",
        2,
        "mean distance of the 68 points, as the detector finds them, from the true ones, in percent of the distance "
        f"of the outer corners of the eyes, {_FOUND}",
    ),
    Metric(
        "mouth_sharpness",
        "mouth sharpness",
        "",
        "near 1",
        2,
        "variance of the Laplacian in the mouth's box, relative to the true frames'",
    ),
    Metric(
        "head_motion",
        "head motion",
        "",
        "near 1",
        2,
        f"how much yaw, pitch and roll vary, relative to the true frames', {_FOUND}",
    ),
    Metric("without_face", "no face", "frames", "lower", 1, "frames of a video in which the detector finds no face"),
)

DRIVING = (
    Metric(
        "csim_source",
        f"CSIM source ({RECOGNISER})",
        "",
        "higher",
        3,
        f"cosine of the face's embedding with the portrait's, {_FOUND}",
    ),
    Metric(
        "csim_driver",
        f"CSIM driver ({RECOGNISER})",
        "",
        "lower",
        3,
        f"the same with the mean of the driver's: how much of the driver's identity leaks into the portrait, {_FOUND}",
    ),
    Metric("mouth", "mouth follows", "", "higher", 2, "correlation of the mouth's openness with the driver's"),
    Metric("eyes", "eyes follow", "", "higher", 2, "correlation of the eyes' openness with the driver's"),
    Metric("yaw", "yaw follows", "", "higher", 2, "correlation of the head's yaw with the driver's"),
    Metric(
        "head_motion", "head motion", "", "near 1", 2, "how much yaw, pitch and roll vary, relative to the driver's"
    ),
    Metric(
        "jitter",
        "jitter",
        "%",
        "lower",
        2,
        "mean second difference of the landmarks over the data set's frames in a row, in percent of the distance "
        "of the outer corners of the eyes; compare with the first row's, the motion asked for",
    ),
    Metric("without_face", "no face", "frames", "lower", 1, "frames in which the detector finds no face"),
)


@dataclass(frozen=True)
class Reference:
    """The truth that a video's generated frames are compared with."""

    truth: Faces
    true_embeddings: Float[np.ndarray, "frames 128"]
    source_embedding: Float[np.ndarray, "128"]
    """Normalised mean of the shots' embeddings."""

    @classmethod
    def of(cls, networks: MetricNetworks, truth: Faces, shots: Faces) -> "Reference":
        return cls(truth, networks.embed(truth), unit(networks.embed(shots).mean(axis=0)))


def reconstruction_metrics(
    networks: MetricNetworks, frames: UInt8[np.ndarray, "frames size size 3"], reference: Reference
) -> MetricValues:
    """Compare frames of one video with the true ones."""
    truth = reference.truth
    detected = networks.detect(frames)
    found = detected.found
    detail = [float(ssim_psnr.mouth_detail(images, truth.landmarks).sum()) for images in (frames, truth.images)]
    motions = _head_motion(detected.landmarks[found], truth.landmarks[found])
    return {
        "ssim": _mean(ssim_psnr.ssim(frames, truth.images)),
        "psnr": _mean(ssim_psnr.psnr(frames, truth.images)),
        "lpips": _mean(networks.lpips(frames, truth.images)),
        "csim_source": _mean(detected.embeddings[found] @ reference.source_embedding),
        "csim_truth": _mean((detected.embeddings * reference.true_embeddings).sum(axis=1)[found]),
        "landmark_error": _mean(landmark_motion.landmark_error(detected.landmarks[found], truth.landmarks[found])),
        "mouth_sharpness": detail[0] / detail[1] if detail[1] > 0 else float("nan"),
        **motions,
        "without_face": float((~found).sum()),
    }


def driving_metrics(
    networks: MetricNetworks,
    frames: UInt8[np.ndarray, "frames size size 3"],
    driver: Faces,
    portrait_embedding: Float[np.ndarray, "128"],
    driver_embedding: Float[np.ndarray, "128"],
) -> MetricValues:
    """Measure frames of a driven portrait, for which there is no truth."""
    detected = networks.detect(frames)
    embeddings = detected.embeddings[detected.found]
    return {
        "csim_source": _mean(embeddings @ portrait_embedding),
        "csim_driver": _mean(embeddings @ driver_embedding),
        **motion_metrics(detected, driver),
    }


def motion_metrics(detected: DetectedFaces, driver: Faces) -> MetricValues:
    """Measure how a moving face follows a driver's landmarks."""
    found = detected.found
    ours, theirs = detected.landmarks[found], driver.landmarks[found]
    return {
        "mouth": landmark_motion.correlation(mouth_openness(ours), mouth_openness(theirs)),
        "eyes": landmark_motion.correlation(eye_openness(ours).mean(axis=-1), eye_openness(theirs).mean(axis=-1)),
        "yaw": landmark_motion.correlation(fit_pose(ours).yaw, fit_pose(theirs).yaw),
        **_head_motion(ours, theirs),
        "jitter": landmark_motion.jitter(detected.landmarks, found),
        "without_face": float((~found).sum()),
    }


def _head_motion(found: Float[np.ndarray, "frames 68 2"], wanted: Float[np.ndarray, "frames 68 2"]) -> MetricValues:
    if len(found) < 2:
        return {"head_motion": float("nan")}
    ratios = landmark_motion.head_motion(found, wanted)
    angles = {f"head_motion_{name}": ratios[name] for name in ("yaw", "pitch", "roll")}
    return {"head_motion": ratios["all"], **angles}


def _mean(values: Float[np.ndarray, "values"]) -> float:
    """Return the mean, NaN if there are no values."""
    return float(values.mean()) if len(values) else float("nan")
