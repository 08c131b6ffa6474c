from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.media import frame_folder
from pipelines.media.decoder.process import Decoder

RATE = Fraction(10)


def put(folder: Path, name: str, grey: int, size: tuple[int, int] = (8, 6)) -> None:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", size, (grey, grey, grey)).save(folder / name)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Three frames of grey 10, 20, 30, whose names sort otherwise as text, and files that are no frames."""
    folder = tmp_path / "film"
    for name, grey in (("f10.png", 30), ("f2.png", 20), ("f1.png", 10)):
        put(folder, name, grey)
    (folder / "._f1.png").write_bytes(b"AppleDouble")
    (folder / "notes.txt").write_text("")
    return folder


def test_frames_come_in_the_order_of_their_numbers(film: Path) -> None:
    frames = list(frame_folder.decode(film, RATE))
    assert [(f.index, f.pts_us, int(f.image[0, 0, 0])) for f in frames] == [
        (0, 0, 10),
        (1, 100_000, 20),
        (2, 200_000, 30),
    ]
    assert {f.image.shape for f in frames} == {(6, 8, 3)}
    assert [f.index for f in frame_folder.decode(film, RATE, frame_indices=[2, 0, 2, 9])] == [0, 2]
    assert frame_folder.read_frame_table(film, RATE).seconds.tolist() == [0.0, 0.1, 0.2]
    info = frame_folder.probe(film, RATE)
    assert (info.width, info.height, info.fps, info.num_frames, info.has_audio) == (8, 6, 10, 3, False)


def test_a_broken_frame_is_left_out_and_another_size_made_equal(film: Path) -> None:
    (film / "f1.png").write_text("no picture")
    put(film, "f11.png", 40, (16, 12))
    frames = list(frame_folder.decode(film, RATE))
    assert [(f.index, f.image.shape, int(f.image[0, 0, 0])) for f in frames] == [
        (1, (6, 8, 3), 20),
        (2, (6, 8, 3), 30),
        (3, (6, 8, 3), 40),
    ]
    assert [f.image.shape for f in frame_folder.decode(film, RATE, frame_indices=[3])] == [(6, 8, 3)]


def test_a_folder_without_a_readable_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no pictures"):
        frame_folder.probe(tmp_path, RATE)
    (tmp_path / "1.png").write_text("no picture")
    with pytest.raises(ValueError, match="holds no picture that can be read"):
        frame_folder.probe(tmp_path, RATE)
    put(tmp_path, "2.png", 1)
    with pytest.raises(ValueError, match="frames of 8x6 exceed 10 pixels"):
        list(frame_folder.decode(tmp_path, RATE, max_pixels=10))


def test_the_hash_tells_order_and_content(film: Path, tmp_path: Path) -> None:
    before = frame_folder.sha256(film)
    (film / "notes.txt").write_text("changed")
    assert frame_folder.sha256(film) == before
    (film / "f2.png").rename(film / "f3.png")
    assert frame_folder.sha256(film) != before


@pytest.mark.slow
def test_the_decoder_reads_a_folder_like_a_film(film: Path) -> None:
    with Decoder(frame_rate=RATE) as decoder:
        info = decoder.describe(film)
        assert (info.width, info.height, info.fps, info.first, info.last, info.start_us) == (8, 6, RATE, 0, 2, 0)
        assert decoder.times(film, [0, 2, 7]) == {0: 0.0, 2: 0.2}
        assert [(f.index, int(np.max(f.image))) for f in decoder.frames(film, [0, 2])] == [(0, 10), (2, 30)]
        assert decoder.audio(film) is None
        (film / "f1.png").unlink()
        (film.parent / "nothing").mkdir()
        with pytest.raises(ValueError, match="nothing holds no pictures"):
            decoder.describe(film.parent / "nothing")
