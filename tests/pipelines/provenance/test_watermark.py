"""The mark in the frames: who reads it after what, and what it costs the picture."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from credentials.signed_media import ffmpeg

from pipelines.media.encode import VideoWriter
from pipelines.provenance.watermark import LumaWatermark, film_watermark, model_digits, read_watermark

MODEL = "d7dfa27302" + "6" * 54
Picture = np.ndarray


def scene(width: int, height: int, seed: int = 0) -> Picture:
    """A picture with slow changes, edges and grain."""
    random = np.random.default_rng(seed)
    coarse = cv2.resize(random.uniform(30, 220, (9, 7, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.circle(coarse, (width // 2, height // 3), height // 5, (200.0, 160.0, 120.0), -1)
    return np.asarray((coarse + random.normal(0, 2, coarse.shape)).clip(0, 255), dtype=np.uint8)


def luma(picture: Picture) -> Picture:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.float32)


def film(path: Path, model: str | None, size: tuple[int, int]) -> Path:
    """A few frames of a scene in which a disc moves."""
    stamp = None if model is None else LumaWatermark(model)
    still = scene(*size)
    with VideoWriter(path, width=size[0], height=size[1], fps=Fraction(12), stamp=stamp) as writer:
        for at in range(6):
            frame = still.copy()
            cv2.circle(frame, (200 + 8 * at, 200), 40, (90, 60, 40), -1)
            writer.write(frame)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("size", [(480, 640), (900, 300)])
def test_it_is_read_after_half_size_at_crf_28_without_metadata(size: tuple[int, int], tmp_path: Path) -> None:
    marked = film(tmp_path / "marked.mp4", MODEL, size)
    half = tmp_path / "half.mkv"
    scale = f"scale={size[0] // 4 * 2}:{size[1] // 4 * 2}"
    ffmpeg("-i", str(marked), "-map_metadata", "-1", "-vf", scale, "-c:v", "libx264", "-crf", "28", str(half))
    for path, container in ((marked, "mov"), (half, "matroska")):
        found = film_watermark(path, container)
        assert found is not None, path
        assert found.model == "d7dfa27302"
    other = film_watermark(film(tmp_path / "other.mp4", "1" * 64, size), "mov")
    assert other is not None
    assert other.model == "1" * 10
    assert film_watermark(film(tmp_path / "plain.mp4", None, size), "mov") is None
    again = film(tmp_path / "again.mp4", MODEL, size)
    assert again.read_bytes() == marked.read_bytes()


def test_it_changes_the_picture_by_less_than_42_db_tell() -> None:
    for size in ((742, 1154), (390, 390), (640, 360)):
        picture = scene(*size)
        before, marked = picture.copy(), LumaWatermark(MODEL)(picture)
        assert np.array_equal(picture, before), "the frame that was given"
        error = np.mean((marked.astype(np.float64) - picture) ** 2)
        assert 10 * np.log10(255**2 / error) > 42
        change = marked.astype(int) - picture
        inside = (picture > 3) & (picture < 252)
        assert abs(change).max() <= 4
        assert np.all((change == change[..., :1])[inside.all(axis=2)]), "only luma changes"


def test_sizes_of_any_ratio_keep_it_and_parts_mirrors_and_other_pictures_have_none() -> None:
    marked = LumaWatermark(MODEL)(scene(640, 360)).copy()
    for size in ((640, 360), (320, 180), (500, 281), (640, 300), (1280, 720)):
        found = read_watermark(cv2.resize(luma(marked), size, interpolation=cv2.INTER_AREA))
        assert found is not None, size
        assert found.model == "d7dfa27302"
        assert found.score > 10
    for part in (marked[:, ::-1], marked[40:, 60:], scene(640, 360), scene(64, 64), np.zeros((360, 640, 3), np.uint8)):
        assert read_watermark(luma(np.ascontiguousarray(part))) is None
    assert read_watermark(np.zeros((1, 5), np.float32)) is None


def test_every_frame_has_the_same_mark_and_tiny_ones_none() -> None:
    stamp, first, second = LumaWatermark(MODEL), scene(400, 300), scene(400, 300, seed=1) // 2 + 60
    changes = [stamp(picture).astype(int) - picture for picture in (first // 2 + 60, second)]
    assert np.array_equal(*changes)
    tiny = scene(100, 100)
    assert LumaWatermark(MODEL)(tiny) is tiny


def test_what_cannot_be_decoded_has_no_mark(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("#EXTM3U\nhttp://localhost:1/film.mp4\n")
    assert film_watermark(tmp_path / "text.mp4", "mov") is None
    assert film_watermark(tmp_path / "none.mp4", "mov") is None


def test_a_version_that_is_no_hash_is_hashed() -> None:
    assert model_digits(MODEL) == "d7dfa27302"
    # printf 'my model' | sha256sum
    assert model_digits("my model") == "76eeb051b5"
