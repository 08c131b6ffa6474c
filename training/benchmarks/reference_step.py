"""A training step as in public reproductions, for comparison.

It follows the sources of the two best-known ones, vincent-thevenin/Realistic-Neural-Talking-Head-Models (A) and
grey-eye/talking-heads (B); where they differ, the cheaper variant is used, except for the one marked *. The networks
are ours at the same sizes, without a warp prior, with separate convolution and resampling, in float32 and torch's
default memory format:

    data        a torch DataLoader without workers; an item is K + 1 frames, each read from its file, resized and
                converted to a tensor, with its landmark image rasterised separately (they use matplotlib; here it is
                our faster rasteriser)
    first pass  E, G, D on the generated frame and D on the real one, each with its graph; the perceptual network, whose
                weights neither freezes, on the generated frame and, also with its graph, on the real one*; one backward
                pass of the generator's and discriminator's losses together, into all networks and both sides of the
                feature matching; Adam on E and G, and on D
    second pass D again on both frames, backward, Adam on D
    W           a dense parameter of D under the same Adam: gradients and moments of every row, twice per step

Both run the perceptual network beyond its last tapped layer; here it ends there. (* A processes the real frame without
a graph.)
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from pipelines.dataset.reader import ShardDataset, SourceVideo
from pipelines.faces.landmark_image import rasterize
from training.config import ModelConfig, TrainConfig
from training.images import resize_points
from training.losses.perceptual import PerceptualNetwork
from training.models.discriminator import Discriminator
from training.models.embedder import Embedder
from training.models.generator import Generator
from training.models.layers import AdaINResidualBlock, ResidualBlock, StemBlock

_Network = TypeVar("_Network", bound=nn.Module)
Item = tuple[int, Float[Tensor, "frames 3 h w"], Float[Tensor, "frames 3 h w"]]


def write_files(dataset: ShardDataset, videos: Sequence[SourceVideo], folder: Path) -> None:
    """Write frames and landmarks to files, one folder per video."""
    for number, video in enumerate(videos):
        video_folder = folder / f"{number:06d}"
        video_folder.mkdir(parents=True)
        for index, (jpeg, landmarks) in enumerate(dataset.read(video.frames)):
            (video_folder / f"{index:05d}.jpg").write_bytes(jpeg)
            np.save(video_folder / f"{index:05d}.npy", landmarks)


class ReferenceData(Dataset[Item]):
    """Reads the files of `write_files`. An item is the row, the frames and their landmark images, in [-1, 1]."""

    def __init__(self, folder: Path, num_frames: int, config: ModelConfig) -> None:
        self.videos = [sorted(video.glob("*.jpg")) for video in sorted(folder.iterdir())]
        self.num_frames, self.config = num_frames, config

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Item:
        frames, landmark_images = [], []
        for file in random.sample(self.videos[index], self.num_frames):
            frame, landmark_image = self._read(file)
            frames.append(frame)
            landmark_images.append(landmark_image)
        return index, torch.stack(frames), torch.stack(landmark_images)

    def _read(self, file: Path) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 h w"]]:
        size = self.config.image_size
        with Image.open(file) as picture:
            resized = picture.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            landmarks = resize_points(np.load(file.with_suffix(".npy")), size / picture.width)
        return _tensor(np.asarray(resized)), _tensor(rasterize(landmarks, size, self.config.raster))


def _tensor(image: np.ndarray) -> Float[Tensor, "3 h w"]:
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 127.5 - 1


def reference_batches(
    data: ReferenceData, episodes: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield batches of random items, a million items in all."""
    sampler = torch.utils.data.RandomSampler(data, replacement=True, num_samples=1_000_000)
    for rows, frames, landmark_images in DataLoader(data, batch_size=episodes, sampler=sampler):
        yield rows.to(device), frames.to(device), landmark_images.to(device)


class ReferenceStep:
    """Networks and optimisers at a `TrainConfig`'s sizes, with `num_rows` identity rows."""

    def __init__(self, config: TrainConfig, perceptual: PerceptualNetwork, num_rows: int, device: torch.device) -> None:
        self.weights = config.losses
        self.embedder = _plain(Embedder(config.model)).to(device)
        self.generator = _plain(Generator(config.model)).to(device)
        self.discriminator = _plain(Discriminator(config.model)).to(device)
        self.rows = nn.Parameter(torch.randn(num_rows, config.model.embedding_size, device=device) * 0.02)
        self.perceptual = perceptual.to(device).requires_grad_(True)
        self.generator_optimizer = torch.optim.Adam(
            [*self.embedder.parameters(), *self.generator.parameters()], config.learning_rate
        )
        self.discriminator_optimizer = torch.optim.Adam(
            [*self.discriminator.parameters(), self.rows], config.learning_rate_discriminator
        )

    def __call__(
        self,
        rows: Int[Tensor, "batch"],
        frames: Float[Tensor, "batch frames 3 h w"],
        landmark_images: Float[Tensor, "batch frames 3 h w"],
    ) -> tuple[float, float]:
        """Make one step; the last frame is the target. Return the losses of generator and discriminator."""
        target, image = frames[:, -1], landmark_images[:, -1]
        embedding = self.embedder.embed_shots(frames[:, :-1], landmark_images[:, :-1])
        generated = self.generator(image, self.generator.adain_values(embedding)).frame
        fake = self.discriminator(generated, image, self.rows[rows])
        real = self.discriminator(target, image, self.rows[rows])
        self.generator_optimizer.zero_grad()
        self.discriminator_optimizer.zero_grad()
        activations, true_activations = self.perceptual(generated), self.perceptual(target)
        content = [_l1(activations[term], true_activations[term]) for term in activations]
        generator_loss = (
            self.weights.content * torch.stack(content).sum()
            - self.weights.adversarial * fake.score.mean()
            + self.weights.feature_matching * _l1(fake.features, real.features)
            + self.weights.embedding_match * F.l1_loss(embedding, self.rows[rows])
        )
        (generator_loss + _hinge(real.score, fake.score)).backward()
        self.generator_optimizer.step()
        self.discriminator_optimizer.step()
        generated = generated.detach()
        fake = self.discriminator(generated, image, self.rows[rows])
        real = self.discriminator(target, image, self.rows[rows])
        self.discriminator_optimizer.zero_grad()
        hinge = _hinge(real.score, fake.score)
        hinge.backward()
        self.discriminator_optimizer.step()
        return generator_loss.item(), hinge.item()


def _plain(network: _Network) -> _Network:
    """Make convolution and resampling separate operations, as in the reproductions."""
    for module in network.modules():
        if isinstance(module, StemBlock | ResidualBlock | AdaINResidualBlock):
            module.fused = False
    return network


def _hinge(real: Float[Tensor, "batch"], fake: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
    return F.relu(1 + fake).mean() + F.relu(1 - real).mean()


def _l1(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Float[Tensor, ""]:
    return torch.stack([F.l1_loss(a, b) for a, b in zip(ours, theirs, strict=True)]).sum()
