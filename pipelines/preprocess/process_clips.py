"""Process the clips of a shard in batches: fetch, prepare, detect, make rows. One bad clip never costs another one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipelines import storage
from pipelines.dataset.rows import ClipRow, Reject
from pipelines.faces.face import Face, LandmarkDetector
from pipelines.media import frame_folder
from pipelines.media.decoder.process import Decoder, DecoderDied
from pipelines.one_line import one_line
from pipelines.planning.clip_annotations import read_box_text
from pipelines.planning.plan import MISSING, PlannedClip, resolve_path, source_url
from pipelines.preprocess.candidate_frames import PreparedClip, prepare_clip
from pipelines.preprocess.clip_to_row import make_row
from pipelines.preprocess.config import ClipConfig
from pipelines.preprocess.quality import ClipRejected, RejectReason
from pipelines.preprocess.stopwatch import Stopwatch

_BATCH_BYTES = 1024 * 1024 * 1024  # of frames held for one call of a detector that takes several clips
_MAX_MESSAGE_CHARS = 500


@dataclass
class _ClipTask:
    """A clip on its way to an outcome: prepared, then detected, then a row, or rejected at any step."""

    clip: PlannedClip
    prepared: PreparedClip | None = None
    faces: Sequence[Sequence[Face]] = ()
    outcome: ClipRow | Reject | None = None

    @contextlib.contextmanager
    def rejecting(self) -> Iterator[None]:
        """Turn an exception of the block into the clip's outcome."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - one bad clip must not cost the shard; its row holds the reason
            self.outcome = to_reject(self.clip, error)


def process_clips(
    clips: Iterable[PlannedClip],
    corpus: str,
    detector: LandmarkDetector,
    decoder: Decoder,
    config: ClipConfig,
    watch: Stopwatch,
) -> Iterator[ClipRow | Reject]:
    """Yield the outcome of each clip, in order.

    Clips are detected in batches of `detector.clips_at_once`, fewer where their frames take too much memory. The
    batches depend on the clips alone, so that a repeated run gives the same rows.
    """
    with contextlib.ExitStack() as files:
        batch: list[_ClipTask] = []
        for clip in clips:
            task = _ClipTask(clip)
            batch.append(task)
            with task.rejecting():
                task.prepared = _prepare(clip, corpus, decoder, config, watch, files)
            prepared = [task.prepared for task in batch if task.prepared is not None]
            num_bytes = sum(item.frames.num_held_bytes for item in prepared)
            if len(prepared) >= detector.clips_at_once or num_bytes > _BATCH_BYTES:
                yield from _finish(batch, detector, decoder, config, watch)
                batch = []
                files.close()
        yield from _finish(batch, detector, decoder, config, watch)


def _prepare(
    clip: PlannedClip,
    corpus: str,
    decoder: Decoder,
    config: ClipConfig,
    watch: Stopwatch,
    files: contextlib.ExitStack,
) -> PreparedClip:
    if clip.duplicate_of is not None:
        raise ClipRejected(RejectReason.DUPLICATE, "plan", f"same content as {clip.duplicate_of}")
    with watch("fetch"):
        path = files.enter_context(local_file(clip, corpus))
        box_text = read_box_text(resolve_path(corpus, clip.boxes)) if clip.boxes else None
    return prepare_clip(clip, path, box_text, decoder, config, watch)


def _finish(
    batch: Sequence[_ClipTask], detector: LandmarkDetector, decoder: Decoder, config: ClipConfig, watch: Stopwatch
) -> Iterator[ClipRow | Reject]:
    _detect([task for task in batch if task.prepared is not None], detector, watch)
    for task in batch:
        if task.outcome is None:
            assert task.prepared is not None
            with task.rejecting():
                task.outcome = make_row(task.prepared, task.faces, decoder, config, watch)
        assert task.outcome is not None
        yield task.outcome


def _detect(tasks: Sequence[_ClipTask], detector: LandmarkDetector, watch: Stopwatch) -> None:
    """Set the faces of each task. When a batch fails, detect each of its clips alone and reject those that fail."""
    prepared = [task.prepared for task in tasks if task.prepared is not None]
    if not prepared:
        return
    try:
        with watch("detect"):
            found = detector.follow([item.candidates for item in prepared])
    except Exception as error:  # noqa: BLE001 - as in _ClipTask.rejecting
        if len(tasks) == 1:
            tasks[0].outcome = to_reject(tasks[0].clip, error)
            return
        for task in tasks:
            _detect([task], detector, watch)
        return
    for task, faces in zip(tasks, found, strict=True):
        task.faces = faces


def local_file(clip: PlannedClip, corpus: str) -> contextlib.AbstractContextManager[Path]:
    """Provide the clip as a local file inside a `with` block, or as a local folder of frames; a member of a tar is read
    as a byte range of it.

    Raises:
        ClipRejected: it did not exist when the run was planned, and does not exist now.
        OSError: it cannot be read, or has another size than the plan says.
    """
    if clip.is_frames:
        return _frame_folder(clip, corpus)
    return _tar_member(clip, corpus) if clip.offset is not None else _whole_file(clip, corpus)


@contextlib.contextmanager
def _frame_folder(clip: PlannedClip, corpus: str) -> Iterator[Path]:
    url = source_url(clip, corpus)
    with contextlib.ExitStack() as files:
        if storage.is_local(url):
            folder = storage.local_path(url)
        else:
            folder = Path(files.enter_context(storage.ScratchFolder()))
            for name in storage.list(url, recursive=False):
                (folder / PurePosixPath(name).name).write_bytes(storage.read_bytes(name))
        size = sum(path.stat().st_size for path in frame_folder.list_frames(folder))
        if size != clip.num_bytes != MISSING:
            raise OSError(f"its pictures have {size} bytes, and had {clip.num_bytes} when the run was planned")
        yield folder


@contextlib.contextmanager
def _whole_file(clip: PlannedClip, corpus: str) -> Iterator[Path]:
    if clip.num_bytes == MISSING and not storage.exists(source_url(clip, corpus)):
        raise ClipRejected(RejectReason.MISSING, "fetch", "the manifest names it, and it does not exist")
    with storage.local_copy(source_url(clip, corpus)) as path:
        size = path.stat().st_size
        if not path.is_file():  # opening a pipe would block until something writes to it
            raise ClipRejected(RejectReason.UNREADABLE, "fetch", f"{clip.source} is not a regular file")
        if size != clip.num_bytes != MISSING:
            raise OSError(f"it has {size} bytes, and had {clip.num_bytes} when the run was planned")
        yield path


@contextlib.contextmanager
def _tar_member(clip: PlannedClip, corpus: str) -> Iterator[Path]:
    assert clip.offset is not None
    with storage.ScratchFolder() as folder:
        path = Path(folder) / f"member{PurePosixPath(clip.source).suffix}"
        path.write_bytes(storage.ranges([source_url(clip, corpus)], [clip.offset], [clip.num_bytes])[0])
        yield path


def to_reject(clip: PlannedClip, error: Exception) -> Reject:
    """Return the reject row of a clip that raised `error`. Its message never holds a path of this machine."""
    reason, stage = _classify(error)
    message = one_line(error)
    if isinstance(error, FileNotFoundError):
        message = "it is not there any more"
    elif isinstance(error, OSError) and error.strerror:
        message = error.strerror  # str(error) would add the path
    elif reason is RejectReason.INTERNAL:
        message = f"{type(error).__name__}: {message}"
    more = {"measures": error.measures} if isinstance(error, ClipRejected) else {}
    return Reject(
        clip.key,
        clip.source,
        stage,
        reason.status,
        str(reason),
        message[:_MAX_MESSAGE_CHARS],
        reason.retryable,
        clip.attempt,
        **more,
    )


def _classify(error: Exception) -> tuple[RejectReason, str]:
    """Return the reason and the stage that an exception stands for."""
    if isinstance(error, ClipRejected):
        return error.reason, error.stage
    if isinstance(error, DecoderDied):
        return (RejectReason.TIMED_OUT if error.timed_out else RejectReason.CRASHED), "decode"
    if isinstance(error, OSError):
        return RejectReason.STORAGE, "fetch"
    return RejectReason.INTERNAL, "process"
