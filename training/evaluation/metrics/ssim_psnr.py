"""Pixelwise metrics of a generated frame against the true one: SSIM, PSNR, and the sharpness of the mouth."""

import math

import cv2
import numpy as np
from jaxtyping import Float, Float64, UInt8

from pipelines.faces.head_pose import INNER_LIP, OUTER_LIP

_PEAK = 255.0
# Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, section III-C.
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
_MOUTH_MARGIN = 0.2  # margin of the mouth's box, in widths of the mouth, so that it contains the lips' outline


def ssim(
    frames: UInt8[np.ndarray, "batch h w 3"], truth: UInt8[np.ndarray, "batch h w 3"]
) -> Float64[np.ndarray, "batch"]:
    """Return the structural similarity in [-1, 1], 1 for equal frames; higher is better.

    The mean over the three channels, with an 11 x 11 Gaussian window (sigma 1.5) that stays within the frame.

    Raises:
        ValueError: the frames are smaller than the window.
    """
    if min(frames.shape[1:3]) < _WINDOW:
        raise ValueError(f"SSIM needs pictures of {_WINDOW} px, got {frames.shape[2]}x{frames.shape[1]}")
    return np.array([_ssim(*pair) for pair in zip(frames, truth, strict=True)], np.float64)


def _ssim(frame: UInt8[np.ndarray, "h w 3"], truth: UInt8[np.ndarray, "h w 3"]) -> float:
    # In float64: variances are small differences of large squares, inaccurate in float32 for a flat background.
    ours, true = frame.astype(np.float64), truth.astype(np.float64)
    mean, true_mean = _blurred(ours), _blurred(true)
    variance = _blurred(ours * ours) - mean * mean
    true_variance = _blurred(true * true) - true_mean * true_mean
    covariance = _blurred(ours * true) - mean * true_mean
    similarity = (2 * mean * true_mean + _C1) * (2 * covariance + _C2)
    similarity /= (mean * mean + true_mean * true_mean + _C1) * (variance + true_variance + _C2)
    return float(similarity.mean())


def _blurred(planes: Float64[np.ndarray, "h w 3"]) -> Float64[np.ndarray, "h2 w2 3"]:
    """Blur by the window where it lies within the frame."""
    weights, border = cv2.getGaussianKernel(_WINDOW, _SIGMA, cv2.CV_64F), _WINDOW // 2
    blurred: np.ndarray = cv2.sepFilter2D(planes, cv2.CV_64F, weights, weights)
    return blurred[border:-border, border:-border]


def psnr(
    frames: UInt8[np.ndarray, "batch h w 3"], truth: UInt8[np.ndarray, "batch h w 3"]
) -> Float64[np.ndarray, "batch"]:
    """Return the peak signal-to-noise ratio in dB over all channels; higher is better, infinite for equal frames."""
    error = np.square(frames.astype(np.float64) - truth).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(_PEAK**2 / error))


def mouth_detail(
    frames: UInt8[np.ndarray, "batch h w 3"], landmarks: Float[np.ndarray, "batch 68 2"]
) -> Float64[np.ndarray, "batch"]:
    """Return the variance of the Laplacian of grey values (0..255) in the mouth's box, per frame.

    Args:
        landmarks: the true ones (pixels), where the mouth should be.
    """
    return np.array([_detail(frame, points) for frame, points in zip(frames, landmarks, strict=True)], np.float64)


def _detail(frame: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "68 2"]) -> float:
    lips = landmarks[OUTER_LIP.start : INNER_LIP.stop]
    margin = _MOUTH_MARGIN * float(np.ptp(lips[:, 0]))
    left, top = (max(math.floor(float(low) - margin), 0) for low in lips.min(axis=0))
    right, bottom = (math.ceil(float(high) + margin) + 1 for high in lips.max(axis=0))
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    # Filter the whole frame, not the box, whose border OpenCV would mirror.
    laplacian = cv2.Laplacian(grey, cv2.CV_32F)[top:bottom, left:right]
    return float(laplacian.var()) if laplacian.size else 0.0
