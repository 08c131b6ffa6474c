from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import UInt8

from pipelines.media.video import decode, open_media, probe
from pipelines.synthetic.corpus.clip_file import COMMENT, encode_clip


def patches(num_frames: int = 30, size: int = 64) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Four flat colours, brighter from frame to frame."""
    for number in range(num_frames):
        image = np.zeros((size, size, 3), np.uint8)
        for place, colour in enumerate([(180, 40, 40), (40, 160, 60), (50, 60, 170), (120, 120, 120)]):
            y, x = divmod(place, 2)
            half = size // 2
            image[y * half : (y + 1) * half, x * half : (x + 1) * half] = np.array(colour) + number
        yield image


def test_a_clip_holds_every_frame_in_its_colours_at_its_rate(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode_clip(patches(), 64, 25, 18))
    info = probe(path)
    assert (info.width, info.height, info.fps, info.num_frames, info.codec) == (64, 64, 25, 30, "h264")
    frames = list(decode(path))
    assert [frame.pts_us for frame in frames] == [40_000 * number for number in range(30)]
    for frame, image in zip(frames, patches(), strict=True):
        inner = np.r_[4:28, 36:60]
        assert np.abs(frame.image[np.ix_(inner, inner)].astype(int) - image[np.ix_(inner, inner)]).mean() < 3
    with open_media(path) as container:
        assert container.metadata["comment"] == COMMENT
        context = container.streams.video[0].codec_context
        assert (int(context.colorspace), int(context.color_range)) == (1, 1)  # BT.709, limited


def test_same_frames_give_the_same_bytes_and_crf_counts() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (10, 64, 64, 3), np.uint8)
    clip = encode_clip(iter(noise), 64, 25, 18)
    assert clip == encode_clip(iter(noise), 64, 25, 18)
    assert len(encode_clip(iter(noise), 64, 25, 30)) < 0.7 * len(clip)


def test_a_clip_without_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one frame"):
        encode_clip(iter(()), 64, 25, 18)
