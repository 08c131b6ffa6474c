"""Frames as a player shows them. The truth is what ffmpeg's program shows of the same file, or worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media_corpus import ffmpeg

from pipelines.media import video
from pipelines.media.display import is_hd

X265 = "-c:v libx265 -preset ultrafast -crf 4 -x265-params log-level=error -pix_fmt yuv420p10le"


def first(path: Path) -> np.ndarray:
    return next(video.decode(path)).image


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames of a picture whose corners all differ."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32], image[:24, 32:], image[24:, :32] = (220, 30, 40), (20, 200, 60), (30, 60, 210)
    path = tmp_path_factory.mktemp("stored") / "stored.mp4"
    raw = "-f rawvideo -pix_fmt rgb24 -s 64x48 -r 10 -i - -c:v libx264 -crf 4 -pix_fmt yuv420p"
    ffmpeg(*raw.split(), str(path), data=image.tobytes() * 4)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [[], ["-display_hflip"]])
def test_all_eight_orientations_are_those_of_a_player(turn: int, flip: list[str], stored: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    ffmpeg("-display_rotation", str(turn), *flip, "-i", str(stored), "-c", "copy", str(path))
    data = ffmpeg("-i", str(path), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1")
    info, shown = video.probe(path), first(path)
    assert (info.width, info.height) == ((48, 64) if turn % 180 else (64, 48))
    assert shown.shape == (info.height, info.width, 3)
    truth = np.frombuffer(data, np.uint8).reshape(shown.shape)
    assert np.abs(shown.astype(int) - truth)[4:-4, 4:-4].mean() < 3


def test_what_is_hd_without_a_tag() -> None:
    assert [is_hd(*size) for size in ((1280, 720), (720, 1280), (1920, 1080), (640, 640))] == [True] * 4
    assert [is_hd(*size) for size in ((640, 360), (720, 576), (720, 480), (320, 240))] == [False] * 4


def pq(nits: float) -> float:
    """SMPTE ST 2084's signal, 0 to 1."""
    share = (nits / 10_000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * share) / (1 + 18.6875 * share)) ** 78.84375)


def hlg(share: float) -> float:
    """BT.2100's hybrid log-gamma of scene light, 0 to 1."""
    if share <= 1 / 12:
        return float((3 * share) ** 0.5)
    return float(0.17883277 * np.log(12 * share - 0.28466892) + 0.55991073)


def write_grey(path: Path, signals: list[float], curve: str) -> None:
    """A film of grey bars with these signals, 10 bits in limited range, tagged as HDR."""
    luma = np.rint(64 + 876 * np.repeat(signals, 32)).astype("<u2")
    frame = np.tile(luma, (64, 1)).tobytes() + np.full(64 * len(luma) // 2, 512, "<u2").tobytes()
    raw = f"-f rawvideo -pix_fmt yuv420p10le -s {len(luma)}x64 -r 10 -i -"
    tags = f"-vf setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc={curve}:range=limited"
    ffmpeg(*f"{raw} {X265} {tags}".split(), str(path), data=frame * 2)


@pytest.mark.slow
def test_hdr_is_mapped_to_standard_range(tmp_path: Path) -> None:
    """Half of white's light is sRGB's 188; white is 203 cd/m2; brighter light is white, and nothing is washed out."""
    for curve, signals in (
        ("smpte2084", [pq(nits) for nits in (0, 10, 50.75, 101.5, 1000)]),
        ("arib-std-b67", [hlg(share) for share in (0, 0.01, 0.06, 0.13, 1)]),
    ):
        path = tmp_path / f"{curve}.mp4"
        write_grey(path, signals, curve)
        shown = first(path)[32, 16::32].astype(int)
        assert (shown.max(axis=1) - shown.min(axis=1)).max() <= 2  # grey stays grey
        grey = shown.mean(axis=1)
        assert grey[0] <= 2
        assert grey[4] >= 240
        assert (np.diff(grey) > 15).all()
        if curve == "smpte2084":
            assert abs(grey[3] - 188) <= 8
            assert abs(grey[2] - 137) <= 6  # a quarter of the light


@pytest.mark.slow
def test_wide_primaries_are_converted(tmp_path: Path) -> None:
    """A green of Display P3 that sRGB has: (60, 180, 70) is (95, 177, 84) there, by the matrices of both."""
    image = np.full((64, 64, 3), (95, 177, 84), np.uint8)
    source = "-f rawvideo -pix_fmt rgb24 -s 64x64 -r 10 -i -"
    tags = "setparams=colorspace=bt709:color_primaries=smpte432:color_trc=bt709"
    command = f"{source} -vf scale=out_color_matrix=bt709:out_range=tv,format=yuv420p10le,{tags} {X265}"
    ffmpeg(*command.split(), str(tmp_path / "p3.mp4"), data=image.tobytes() * 2)
    assert np.abs(first(tmp_path / "p3.mp4")[32, 32].astype(int) - (60, 180, 70)).max() <= 5


def test_pixels_that_cannot_be_converted_are_an_error_that_names_the_file(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import av.error

    from pipelines.media import display

    class Refuses:
        def reformat(self, *arguments: Any, **options: Any) -> None:
            raise av.error.ArgumentError(22, "not supported")

    monkeypatch.setattr(display, "VideoReformatter", Refuses)
    with pytest.raises(ValueError, match=r"stored\.mp4: its pixels \(yuv420p of colour space"):
        first(stored)
