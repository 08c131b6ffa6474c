"""Render, encode and write the clips of a corpus, in one process or several."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from jaxtyping import UInt8

from pipelines import storage
from pipelines.synthetic.corpus.clip_file import encode_clip
from pipelines.synthetic.corpus.corpus import ClipSpec, CorpusConfig
from pipelines.synthetic.corpus.ground_truth import Truth, write_truth
from pipelines.synthetic.head.person import Person, generator
from pipelines.synthetic.motion.motion import Motion, draw_motion
from pipelines.synthetic.motion.real_tracks import Track
from pipelines.synthetic.render.scene import Scene

_QUEUED_PER_WORKER = 2  # few, so that an interrupted run stops soon


class RenderedFrames(Protocol):
    """A batch of frames with ground truth."""

    @property
    def images(self) -> torch.Tensor:
        """RGB bytes, frames x height x width x 3."""

    @property
    def points(self) -> torch.Tensor:
        """The 68 landmarks in pixels, frames x 68 x 2."""


class FrameRenderer(Protocol):
    """Renders a person in a scene: `renderer.Renderer`, or a stub in tests."""

    def render_clip(self, person: Person, scene: Scene, motion: Motion) -> Iterator[RenderedFrames]:
        """Yield the frames of the motion in order, in batches."""


@dataclass(frozen=True, eq=False)
class RenderSettings:
    """Settings of a run that all workers share."""

    out: str
    config: CorpusConfig
    tracks: tuple[Track, ...]
    make_renderer: Callable[[int], FrameRenderer]
    """Creates the renderer for a frame size in pixels; called once per process."""


@dataclass(frozen=True)
class RenderedClip:
    """A clip that has been written."""

    spec: ClipSpec
    num_frames: int


def draw_clip(spec: ClipSpec, config: CorpusConfig, tracks: tuple[Track, ...]) -> tuple[Person, Scene, Motion]:
    """Draw the person, scene and motion of a clip, a pure function of its numbers and the seed.

    In a paired corpus the scene depends only on the identity, and the motion only on the motion's number.
    """
    seed_parts: tuple[int | str, ...] = (config.seed, spec.identity, spec.video, spec.clip, "motion")
    video = spec.video
    if config.paired:
        seed_parts, video = (config.seed, spec.video, "paired motion"), 1
    motion = draw_motion(generator(*seed_parts), tracks, config.num_frames, float(config.fps))
    return Person.draw(config.seed, spec.identity), Scene.draw(config.seed, spec.identity, video), motion


@dataclass
class ClipRenderer:
    """Renders clips one after another with one renderer, which is created on first use."""

    settings: RenderSettings
    _renderer: FrameRenderer | None = field(default=None, init=False)

    def __call__(self, spec: ClipSpec) -> RenderedClip:
        """Render a clip and write it, then its ground truth. Raises OSError when it cannot be written."""
        settings = self.settings
        config, url = settings.config, spec.url(settings.out)
        self._renderer = self._renderer or settings.make_renderer(config.size)
        person, scene, motion = draw_clip(spec, config, settings.tracks)
        points: list[np.ndarray] = []

        def images() -> Iterator[UInt8[np.ndarray, "height width 3"]]:
            assert self._renderer is not None
            for frames in self._renderer.render_clip(person, scene, motion):
                points.append(frames.points.cpu().numpy())
                yield from frames.images.cpu().numpy()

        storage.write_bytes(url, encode_clip(images(), config.size, config.fps, scene.crf))
        truth = Truth(np.concatenate(points).astype(np.float32), motion.angles, motion.travel, motion.actions)
        assert len(truth.points) == len(motion), f"{len(truth.points)} frames of {len(motion)} were rendered"
        about = {"fps": str(config.fps), "size": str(config.size), "seed": str(config.seed), "clip": str(spec.key)}
        write_truth(url, truth, about)
        return RenderedClip(spec, len(motion))


def render_clips(specs: Iterable[ClipSpec], settings: RenderSettings, workers: int) -> Iterator[RenderedClip]:
    """Render the clips in `workers` processes with one thread each; yield each clip when it is complete.

    The bytes do not depend on `workers`. With one worker no process is started.

    Raises:
        OSError: a clip cannot be written, or a worker was killed.
    """
    # Without this, MKL's results depend on memory alignment, so that the last bits differ between processes. It takes
    # effect only before MKL is first used, which holds in the command and in its workers.
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    if workers > 1:
        yield from _render_in_processes(specs, settings, workers)
        return
    render = ClipRenderer(settings)
    with _one_thread():
        for spec in specs:
            yield render(spec)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Set torch to one thread: the results of its sums depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _render_in_processes(specs: Iterable[ClipSpec], settings: RenderSettings, workers: int) -> Iterator[RenderedClip]:
    others = set(multiprocessing.active_children())
    todo = iter(specs)
    # Spawn, not fork: torch's threads and fsspec's filesystems do not survive a fork.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _init_worker, (settings,))
    waiting: set[Future[RenderedClip]] = set()
    try:
        with _sigint_blocked():
            waiting |= {
                pool.submit(_render_in_worker, spec) for spec in itertools.islice(todo, _QUEUED_PER_WORKER * workers)
            }
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            with _sigint_blocked():
                waiting |= {pool.submit(_render_in_worker, spec) for spec in itertools.islice(todo, len(done))}
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise OSError("a worker was killed, perhaps for want of memory; run again with fewer --workers") from error
    finally:
        if waiting:  # interrupted; writes are atomic, so workers can be terminated
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT in processes that start here: a terminal sends Ctrl-C to all, and this process ends the others."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_worker_renderer: ClipRenderer | None = None  # in worker processes


def _init_worker(settings: RenderSettings) -> None:
    """Initialize a worker process."""
    global _worker_renderer
    torch.set_num_threads(1)
    _worker_renderer = ClipRenderer(settings)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        parent.join()
        os._exit(1)  # a killed parent cannot terminate its workers, which would wait for ever

    threading.Thread(target=exit_with_parent, daemon=True).start()


def _render_in_worker(spec: ClipSpec) -> RenderedClip:
    assert _worker_renderer is not None
    return _worker_renderer(spec)
