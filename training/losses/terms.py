"""The loss terms of arXiv 1905.08233, section 3.2, unweighted; weights are training.config.LossWeights."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from training.config import LossWeights


def distances(generated: Mapping[str, Sequence[Tensor]], real: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """Return the distance between loss networks' activations of generated and real frames, by loss term.

    `identity` has its own distance; all others are the L1 between activations, averaged per layer, summed over layers.
    """
    return {
        term: identity(activations, real[term]) if term == "identity" else _summed_l1(activations, real[term])
        for term, activations in generated.items()
    }


def feature_matching(generated: Sequence[Tensor], real: Sequence[Tensor]) -> Float[Tensor, ""]:
    """L1 between the discriminator's activations, averaged per block, summed over blocks."""
    return _summed_l1(generated, real)


def adversarial(score_fake: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
    """The generator's adversarial loss, `-D(x_hat)`."""
    return -score_fake.mean()


def discriminator_hinge(score_real: Float[Tensor, "batch"], score_fake: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
    """The discriminator's hinge loss, `max(0, 1 + D(x_hat)) + max(0, 1 - D(x))`."""
    return F.relu(1 + score_fake).mean() + F.relu(1 - score_real).mean()


def embedding_match(embedding: Float[Tensor, "batch size"], rows: Float[Tensor, "batch size"]) -> Float[Tensor, ""]:
    """L1 between e_hat_i and W_i, averaged over the vector."""
    return F.l1_loss(embedding, rows)


def identity(generated: Sequence[Tensor], real: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Squared distance of a face recogniser's embeddings, which come last, plus a third of the L1 between activations,
    averaged per stage, summed over stages."""
    distance = (generated[-1] - real[-1].detach()).square().sum(dim=1).mean()
    return distance + _summed_l1(generated[:-1], real[:-1]) / 3


def pixel(generated: Float[Tensor, "batch 3 h w"], real: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, ""]:
    """L1 between frames in [-1, 1], averaged over pixels and channels (pix2pix, arXiv 1611.07004, section 3.1)."""
    return F.l1_loss(generated, real)


def weighted_sum(terms: Mapping[str, Tensor], weights: LossWeights) -> Float[Tensor, ""]:
    """Return the sum of the terms, each times the weight of its name."""
    return torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()


def _summed_l1(generated: Sequence[Tensor], real: Sequence[Tensor]) -> Float[Tensor, ""]:
    terms = [F.l1_loss(ours, theirs.detach()) for ours, theirs in zip(generated, real, strict=True)]
    return torch.stack(terms).sum()
