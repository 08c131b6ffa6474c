"""Stream the clips of shards one after another, read ahead in large pieces."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Float32, Int32, Int64

from pipelines.dataset.frame_index import FrameRef
from pipelines.dataset.index_file import IndexColumns, IndexFile, check_footer, read_columns
from pipelines.dataset.schema import FRAME_RANGES, INDEX_SCHEMA, KEY_COLUMNS, ClipKey

_PIECE_BYTES = 16 * 2**20

ReadFrames = Callable[[Sequence[FrameRef]], list[tuple[bytes, Float[np.ndarray, "68 2"]]]]


@dataclass(frozen=True, eq=False)
class StreamedClip:
    """A clip's frames with their landmarks (crop pixels) and index columns. Angles are in degrees."""

    key: ClipKey
    jpegs: tuple[bytes, ...]
    landmarks: Float32[np.ndarray, "frames 68 2"]
    frame_index: Int32[np.ndarray, "frames"]
    frame_pts_us: Int64[np.ndarray, "frames"]
    landmark_score: Float32[np.ndarray, "frames"]
    yaw: Float32[np.ndarray, "frames"]
    pitch: Float32[np.ndarray, "frames"]
    roll: Float32[np.ndarray, "frames"]
    sharpness: Float32[np.ndarray, "frames"]
    brightness: Float32[np.ndarray, "frames"]
    mouth_openness: Float32[np.ndarray, "frames"]
    eye_openness: Float32[np.ndarray, "frames"]


_PER_FRAME = [field.name for field in fields(StreamedClip) if field.name in INDEX_SCHEMA.names]


@dataclass(frozen=True)
class _Piece:
    """Consecutive clips of a shard, each as (first row, end) of its index."""

    url: str
    columns: IndexColumns
    clips: tuple[tuple[int, int], ...]


def stream_clips(files: Sequence[IndexFile], read: ReadFrames) -> Iterator[StreamedClip]:
    """Yield the clips of some shards in the files' order. At most three pieces of about 16 MB are in memory.

    Row groups are contiguous in the file, and so are the frames in them: a piece takes one read or a few.

    Raises:
        ValueError: a shard, its index or a frame is damaged; the message names the shard and the clip.
        OSError: a shard is missing or shorter than its index says.
    """
    with ThreadPoolExecutor(1, "stream") as pool:
        ahead = None
        for piece in _pieces(files):
            ready, ahead = ahead, pool.submit(_read_piece, piece, read)
            yield from ready.result() if ready else ()
        yield from ahead.result() if ahead else ()


def _pieces(files: Sequence[IndexFile]) -> Iterator[_Piece]:
    for file in files:
        check_footer(file)
        columns = read_columns(file, [*dict.fromkeys((*_PER_FRAME, *FRAME_RANGES))])
        lengths = columns.numbers["jpeg_length"]
        clips: list[tuple[int, int]] = []
        num_bytes = 0
        for first, end in columns.runs(*KEY_COLUMNS):
            clips.append((first, end))
            num_bytes += int(lengths[first:end].sum())
            if num_bytes >= _PIECE_BYTES:
                yield _Piece(file.url, columns, tuple(clips))
                clips, num_bytes = [], 0
        if clips:
            yield _Piece(file.url, columns, tuple(clips))


def _read_piece(piece: _Piece, read: ReadFrames) -> list[StreamedClip]:
    first, end = piece.clips[0][0], piece.clips[-1][1]
    frames = read([_frame(piece, row) for row in range(first, end)])
    return [_clip(piece.columns, start, stop, frames[start - first : stop - first]) for start, stop in piece.clips]


def _frame(piece: _Piece, row: int) -> FrameRef:
    numbers = piece.columns.numbers
    return FrameRef(
        url=piece.url,
        clip=piece.columns.key_values("clip", [row])[0],
        **{name: int(numbers[name][row]) for name in (*FRAME_RANGES, "frame_index")},
    )


def _clip(
    columns: IndexColumns, start: int, stop: int, frames: Sequence[tuple[bytes, Float[np.ndarray, "68 2"]]]
) -> StreamedClip:
    identity, video, clip = (columns.key_values(name, [start])[0] for name in KEY_COLUMNS)
    return StreamedClip(
        key=ClipKey(identity, video, clip),
        jpegs=tuple(jpeg for jpeg, _ in frames),
        landmarks=np.stack([points for _, points in frames]),
        **{name: columns.numbers[name][start:stop] for name in _PER_FRAME},
    )
