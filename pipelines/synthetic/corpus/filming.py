"""Clips from their numbers: who, where and how each is, drawn, encoded and written; by one process or several."""

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

_AHEAD = 2  # clips that wait for each worker: more would only be in the way of a stop


class Pictures(Protocol):
    """Frames of a film, as the renderer gives them."""

    @property
    def images(self) -> torch.Tensor:
        """RGB bytes, frames x height x width x 3."""

    @property
    def points(self) -> torch.Tensor:
        """The 68 true points in pixels, frames x 68 x 2."""


class Camera(Protocol):
    """What films a person in a scene: `renderer.Renderer`, or a test's own."""

    def film(self, person: Person, scene: Scene, motion: Motion) -> Iterator[Pictures]:
        """The frames of the motion, in order, some at a time."""


@dataclass(frozen=True, eq=False)
class Assignment:
    """What all workers are told: nothing of it changes from clip to clip."""

    out: str
    config: CorpusConfig
    tracks: tuple[Track, ...]
    make_camera: Callable[[int], Camera]
    """Makes the renderer for pictures of so many pixels a side; called once in each process."""


@dataclass(frozen=True)
class Filmed:
    """A clip that is written."""

    spec: ClipSpec
    num_frames: int


def cast(spec: ClipSpec, config: CorpusConfig, tracks: tuple[Track, ...]) -> tuple[Person, Scene, Motion]:
    """Who does what where in a clip: a pure function of its numbers and the seed.

    In a paired corpus the scene belongs to the identity alone and the motion to the motion's number alone.
    """
    words: tuple[int | str, ...] = (config.seed, spec.identity, spec.video, spec.clip, "motion")
    video = spec.video
    if config.paired:
        words, video = (config.seed, spec.video, "paired motion"), 1
    motion = draw_motion(generator(*words), tracks, config.num_frames, float(config.fps))
    return Person.draw(config.seed, spec.identity), Scene.draw(config.seed, spec.identity, video), motion


@dataclass
class Filmer:
    """Films clips one after another with one camera, made on first use."""

    assignment: Assignment
    _camera: Camera | None = field(default=None, init=False)

    def __call__(self, spec: ClipSpec) -> Filmed:
        """Draw a clip and write it, the truth last. Raises OSError where it cannot be written."""
        job = self.assignment
        config, url = job.config, spec.url(job.out)
        self._camera = self._camera or job.make_camera(config.size)
        person, scene, motion = cast(spec, config, job.tracks)
        points: list[np.ndarray] = []

        def images() -> Iterator[UInt8[np.ndarray, "height width 3"]]:
            assert self._camera is not None
            for pictures in self._camera.film(person, scene, motion):
                points.append(pictures.points.cpu().numpy())
                yield from pictures.images.cpu().numpy()

        storage.write_bytes(url, encode_clip(images(), config.size, config.fps, scene.crf))
        truth = Truth(np.concatenate(points).astype(np.float32), motion.angles, motion.travel, motion.actions)
        assert len(truth.points) == len(motion), f"{len(truth.points)} frames of {len(motion)} were drawn"
        about = {"fps": str(config.fps), "size": str(config.size), "seed": str(config.seed), "clip": str(spec.key)}
        write_truth(url, truth, about)
        return Filmed(spec, len(motion))


def film_clips(specs: Iterable[ClipSpec], assignment: Assignment, workers: int) -> Iterator[Filmed]:
    """Film the clips with so many processes, each with one thread; yields each clip when it is whole.

    The bytes do not depend on `workers`. One worker is this process itself.

    Raises:
        OSError: a clip cannot be written, or a worker was killed.
    """
    # Else MKL's products depend on where in memory their factors happen to lie: other last bits in every other process.
    # It takes effect where MKL has not been used yet, as in the command and in its workers.
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    if workers > 1:
        yield from _film_together(specs, assignment, workers)
        return
    filmer = Filmer(assignment)
    with _one_thread():
        for spec in specs:
            yield filmer(spec)


@contextmanager
def _one_thread() -> Iterator[None]:
    """torch's sums depend on how many threads share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _film_together(specs: Iterable[ClipSpec], assignment: Assignment, workers: int) -> Iterator[Filmed]:
    others = set(multiprocessing.active_children())
    todo = iter(specs)
    # Spawned, not forked: torch's threads and filesystems do not survive a fork.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _join, (assignment,))
    waiting: set[Future[Filmed]] = set()
    try:
        with _uninterrupted():
            waiting |= {pool.submit(_film, spec) for spec in itertools.islice(todo, _AHEAD * workers)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            with _uninterrupted():
                waiting |= {pool.submit(_film, spec) for spec in itertools.islice(todo, len(done))}
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise OSError("a worker was killed, perhaps for want of memory; run again with fewer --workers") from error
    finally:
        if waiting:  # stopped in the middle. Writes are atomic: whatever a worker is at may end here
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes that start here never hear Ctrl-C, which a terminal sends to all: this process tells them to end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_filmer: Filmer | None = None  # of a worker process


def _join(assignment: Assignment) -> None:
    """What a worker does first."""
    global _filmer
    torch.set_num_threads(1)
    _filmer = Filmer(assignment)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        parent.join()
        os._exit(1)  # killed, it could not tell; this process would wait for clips for ever

    threading.Thread(target=leave_with_parent, daemon=True).start()


def _film(spec: ClipSpec) -> Filmed:
    assert _filmer is not None
    return _filmer(spec)
