"""The Fréchet distance between two sets of frames, as Gaussians of a classifier's features (Heusel et al., 1706.08500).

With the original Inception network it is the FID. No package registry has that network's weights, so the default is
VGG16's features, whose distances are comparable within one report but not with published numbers.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.config import TrainConfig
from training.evaluation.metrics.inception import load_inception
from training.losses.perceptual import CAFFE_SCALE, load_perceptual

FID = "FID"
VGG16_DISTANCE = "Fréchet distance, VGG16 features"


class Features(Protocol):
    """Maps frames in [-1, 1] to one feature vector each."""

    def __call__(self, frames: Float[Tensor, "batch 3 h w"], /) -> Float[Tensor, "batch features"]: ...


@dataclass(frozen=True)
class FeatureNetwork:
    """A feature extractor, and the name of its distance in reports."""

    name: str
    extract: Features
    weights_sha256: str | None = None


class _VggFeatures(nn.Module):
    """The spatial mean of relu5_1: 512 features, without the content loss's scale."""

    def __init__(self) -> None:
        super().__init__()
        self.network = load_perceptual(TrainConfig(perceptual="vgg16")).classifier("content")

    def forward(self, frames: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch features"]:
        features: Tensor = self.network(frames)[-1].mean(dim=(2, 3)) / CAFFE_SCALE
        return features


def feature_network(fid_weights: str | None, device: torch.device) -> FeatureNetwork:
    """Return Inception if its weights are given, else VGG16.

    Raises:
        FileNotFoundError, ValueError: the weights do not exist, or belong to another network.
    """
    if fid_weights is None:
        return FeatureNetwork(VGG16_DISTANCE, _VggFeatures().eval().to(device))
    network, sha256 = load_inception(fid_weights)
    return FeatureNetwork(FID, network.to(device), sha256)


def frechet_distance(ours: Float[np.ndarray, "ours features"], true: Float[np.ndarray, "true features"]) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), at least 0; lower is better.

    With fewer samples than features the covariances have low rank and the distance is biased upwards: compare only
    distances of equal numbers of samples.

    Raises:
        ValueError: a set has fewer than two samples and so no covariance.
    """
    if min(len(ours), len(true)) < 2:
        raise ValueError(f"a Fréchet distance needs two samples of each, got {len(ours)} and {len(true)}")
    means = [features.mean(axis=0, dtype=np.float64) for features in (ours, true)]
    # tr (C1 C2)^(1/2) is the sum of the singular values of X1 X2^T for centred samples X. This avoids the root of a
    # matrix that rounding has made indefinite, and is cheap with fewer samples than features.
    centred = [
        (features - mean) / np.sqrt(len(features) - 1) for features, mean in zip((ours, true), means, strict=True)
    ]
    traces = sum(float(np.square(samples).sum()) for samples in centred)
    root_trace = float(np.linalg.svd(_cross(centred[0], centred[1]), compute_uv=False).sum())
    return max(float(np.square(means[0] - means[1]).sum()) + traces - 2 * root_trace, 0.0)


def _cross(
    ours: Float[np.ndarray, "ours features"], true: Float[np.ndarray, "true features"]
) -> Float[np.ndarray, "_rows _columns"]:
    """Return a matrix with the singular values of X1 X2^T, with at most as many rows and columns as features."""
    return np.asarray(_small(ours) @ _small(true).T)


def _small(samples: Float[np.ndarray, "samples features"]) -> Float[np.ndarray, "_rows features"]:
    """Return X or, if it has more rows than columns, R of its QR decomposition: X^T X = R^T R."""
    return samples if len(samples) <= samples.shape[1] else np.asarray(np.linalg.qr(samples, mode="r"))
