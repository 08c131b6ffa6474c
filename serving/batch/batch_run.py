"""Make every video of a run: reuse finished ones, hand the missing ones to workers, report every outcome."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import cached_property

from rich.progress import Progress, TaskID

from pipelines import storage
from pipelines.one_line import hide_credentials
from serving.batch.avatar_maker import AvatarMaker
from serving.batch.inputs import Input, Problem
from serving.batch.items import AvatarTask, Item, MosaicTask, Outcome, VideoTask, now
from serving.batch.pool import Finished, OpenPool, Pool
from serving.batch.results.report import Report, Row
from serving.batch.results.sidecars import Sidecar, cache_key, is_complete, read_sidecar
from serving.batch.schedule import Schedule

KILLED = "killed its worker twice"
_NUM_READERS = 16


@dataclass
class BatchRun:
    """One run over a list of items, with its outcomes."""

    out: str
    """Folder of the results: an absolute path or a URL."""
    maker: AvatarMaker
    """Asked for versions only; workers have makers of their own."""
    report: Report
    progress: Progress
    side_by_side: bool = True
    mosaic: bool = True
    sidecars: dict[str, Sidecar] = field(default_factory=dict)
    """Of all finished videos and mosaics, by name."""
    notes: dict[str, None] = field(default_factory=dict)
    """Keys are lines for the user about finished videos and failed mosaics, in order, without repeats."""

    def animate(self, items: Sequence[Item], open_pool: OpenPool) -> None:
        """Make the videos of `items` and the mosaics of their sources.

        Raises:
            FileNotFoundError: the base model does not exist.
            ValueError, OSError: no worker can work here.
        """
        items = self._name_apart(items)
        keys = {item: self._key(item) for item in items}
        sources = _Sources(items)
        missing: dict[Item, str] = {}
        skipped: list[Row] = []
        for item, sidecar in zip(items, self._read_sidecars([item.name for item in items]), strict=True):
            if sidecar is None or sidecar.key != keys[item] or not is_complete(self.out, sidecar):
                missing[item] = keys[item]
                continue
            sources.finished(item)
            self.sidecars[item.name] = sidecar
            skipped.append(self._row(item, sidecar))
        self.report.add(*skipped)
        bar = self.progress.add_task("videos", total=len(items), completed=len(items) - len(missing))
        schedule = Schedule(missing)
        mosaics = [task for source in sources.complete() if (task := self.mosaic_of(sources.items[source]))]
        for mosaic in mosaics:
            schedule.add_mosaic(mosaic)
        if missing or mosaics:
            with open_pool(len(missing) + len(mosaics)) as pool:
                _Loop(self, schedule, pool, sources, bar).run()

    def refuse(self, problem: Problem) -> None:
        """Report an input that cannot be read."""
        self.report.add(Row(problem.url, "failed", reason=problem.reason, finished_at=now()))

    def _key(self, item: Item) -> str:
        """Return a hash of everything that decides a video; a video with another key is rendered again."""
        version, options = self.maker.version(item.source), asdict(item.options)
        source, driver = item.source.input, item.driver
        return cache_key(source.sha256, driver.sha256, version, options, str(self.side_by_side))

    @cached_property
    def _present(self) -> frozenset[str]:
        """URLs of the files in `out` when the run begins."""
        return frozenset(storage.list(self.out, recursive=False))

    def _read_sidecars(self, names: Sequence[str]) -> Sequence[Sidecar | None]:
        """Return the sidecars of earlier runs by these names. One listing says which can exist at all."""

        def read(name: str) -> Sidecar | None:
            url = storage.join(self.out, f"{name}.json")
            return read_sidecar(url) if url in self._present else None

        with ThreadPoolExecutor(_NUM_READERS) as readers:
            return list(readers.map(read, names))

    def _name_apart(self, items: Sequence[Item]) -> Sequence[Item]:
        """Rename the items whose name an earlier run has given to a video of other files, unless the user chose it."""
        named = []
        for item, sidecar in zip(items, self._read_sidecars([item.name for item in items]), strict=True):
            if sidecar is not None and not _is_of(sidecar, item):
                if item.has_own_name:
                    self.notes[f"{item.name}.mp4: replaces a video of other files"] = None
                else:
                    other = item.name
                    digest = cache_key(item.source.input.sha256, item.driver.sha256)
                    item = replace(item, name=f"{other}-{digest[:8]}")
                    self.notes[f"{item.name}.mp4: {other}.mp4 is there, of other files, and is kept"] = None
            named.append(item)
        return named

    def end(self, item: Item, outcome: Outcome, worker: str) -> None:
        """Record the outcome of an item that a worker has ended."""
        if outcome.sidecar is not None:
            self.sidecars[item.name] = outcome.sidecar
            for note in outcome.sidecar.notes:
                self.notes[f"{item.name}: {note}"] = None
        self.report.add(self._row(item, outcome.sidecar, outcome, worker))

    def _row(
        self, item: Item, sidecar: Sidecar | None, outcome: Outcome | None = None, worker: str | None = None
    ) -> Row:
        """Return the row of an item; without an outcome, it is skipped."""
        quality = None if sidecar is None else sidecar.quality
        ended = outcome or Outcome(now(), now())
        return Row(
            item.name,
            "skipped" if outcome is None else "done" if outcome.ok else "failed",
            source=hide_credentials(item.source.input.url),
            driver=hide_credentials(item.driver.url),
            reason=ended.reason,
            video=None if sidecar is None else storage.join(self.out, f"{item.name}.mp4"),
            seconds=None if outcome is None else (ended.finished_at - ended.started_at).total_seconds(),
            frames=None if sidecar is None else sidecar.frames,
            csim=None if quality is None else quality.csim,
            bent_share=None if quality is None else quality.bent_share,
            missing_share=None if quality is None else quality.missing_share,
            fps=None if sidecar is None else float(Fraction(sidecar.fps)),
            worker=worker,
            started_at=ended.started_at,
            finished_at=ended.finished_at,
        )

    def mosaic_of(self, items: Sequence[Item]) -> MosaicTask | None:
        """Return the task for a source's mosaic, unless it is there or the source has too few videos."""
        videos = tuple((item.name, self.sidecars[item.name]) for item in items if item.name in self.sidecars)
        if not self.mosaic or len(videos) < 2:
            return None
        source = items[0].source.input
        task = MosaicTask(f"{source.name}.mosaic", cache_key(*(video.key for _, video in videos)), videos)
        (done,) = self._read_sidecars([task.name])
        if done is not None and not _is_source(done, source):
            task = replace(task, name=f"{source.name}-{source.sha256[:8]}.mosaic")
            (done,) = self._read_sidecars([task.name])
        if done is None or done.key != task.key or not is_complete(self.out, done):
            return task
        self.sidecars[task.name] = done
        return None


def _is_of(sidecar: Sidecar, item: Item) -> bool:
    """Whether a video is of an item's files, whatever its options."""
    return _is_source(sidecar, item.source.input) and sidecar.drivers[0].sha256 == item.driver.sha256


def _is_source(sidecar: Sidecar, source: Input) -> bool:
    """Whether a video is of a source: of this content or, for an avatar, of this folder, in which it is made anew."""
    recorded = sidecar.sources[0]
    if source.kind == "avatar" and recorded.path == hide_credentials(source.url):
        return True
    return recorded.sha256 == source.sha256


class _Sources:
    """The items of each source, and how many of them are not finished."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items: dict[Input, list[Item]] = defaultdict(list)
        for item in items:
            self.items[item.source.input].append(item)
        self._num_open = {source: len(items) for source, items in self.items.items()}

    def finished(self, item: Item) -> bool:
        """Count an item as done, skipped or failed; return whether it was its source's last."""
        self._num_open[item.source.input] -= 1
        return self._num_open[item.source.input] == 0

    def complete(self) -> Sequence[Input]:
        """Return the sources without open items."""
        return [source for source, number in self._num_open.items() if not number]


@dataclass(frozen=True)
class _Loop:
    """Hands out tasks and takes in their outcomes until there are none."""

    batch: BatchRun
    schedule: Schedule
    pool: Pool
    sources: _Sources
    bar: TaskID

    def run(self) -> None:
        while True:
            for worker in self.pool.idle():
                task = self.schedule.next_task(worker)
                if task is not None:
                    self.pool.start(worker, task)
            if not self.pool.num_running and not self.schedule.has_tasks:
                return
            for finished in self.pool.wait():
                self._take(finished)
            self.batch.report.flush_if_due()

    def _take(self, finished: Finished) -> None:
        outcome, task = finished.outcome, finished.task
        if outcome is None:
            if self.schedule.lost(finished.worker, task, lost_machine=finished.lost_machine):
                return
            outcome = Outcome(now(), now(), reason=KILLED)
        worker = self.pool.name(finished.worker)
        match task:
            case AvatarTask() if outcome.ok:
                self.schedule.avatar_made(task.source)
            case AvatarTask():
                for item in self.schedule.avatar_failed(task.source):
                    self._end(item, outcome, worker)
            case VideoTask():
                self._end(task.item, outcome, worker)
            case MosaicTask() if outcome.sidecar is not None:
                self.batch.sidecars[task.name] = outcome.sidecar
            case MosaicTask():
                self.batch.notes[f"{task.name}: {outcome.reason}"] = None

    def _end(self, item: Item, outcome: Outcome, worker: str) -> None:
        """Record an item's outcome, and schedule the mosaic after the last video of its source."""
        self.batch.end(item, outcome, worker)
        self.batch.progress.advance(self.bar)
        if self.sources.finished(item) and (mosaic := self.batch.mosaic_of(self.sources.items[item.source.input])):
            self.schedule.add_mosaic(mosaic)
