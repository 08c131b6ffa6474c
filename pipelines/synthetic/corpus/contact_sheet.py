"""Contact sheet of a corpus: one frame of each of its first people."""

from __future__ import annotations

import numpy as np

from pipelines import storage
from pipelines.media.images import encode_jpeg
from pipelines.media.video import decode
from pipelines.synthetic.corpus.corpus import ClipSpec, CorpusConfig

SHEET = "people.jpg"
_MAX_PEOPLE, _COLUMNS, _JPEG_QUALITY = 64, 8, 88


def write_sheet(out: str, config: CorpusConfig) -> None:
    """Write `people.jpg` into a finished corpus: the middle frame of the first clip of each person, 64 at most."""
    people = range(1, min(config.identities, _MAX_PEOPLE) + 1)
    tiles = [_middle_frame(out, ClipSpec(who, 1, 1, config.paired), config.num_frames) for who in people]
    blank = np.full_like(tiles[0], 255)
    width = min(_COLUMNS, len(tiles))
    tiles += [blank] * (-len(tiles) % width)
    rows = [np.concatenate(tiles[start : start + width], axis=1) for start in range(0, len(tiles), width)]
    storage.write_bytes(storage.join(out, SHEET), encode_jpeg(np.concatenate(rows), _JPEG_QUALITY))


def _middle_frame(out: str, spec: ClipSpec, num_frames: int) -> np.ndarray:
    with storage.local_copy(spec.url(out)) as path:
        (frame,) = decode(path, frame_indices=[num_frames // 2])
    return frame.image
