import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.media import images, video

Fixture = Callable[..., Any]


def test_probe_tells_size_rate_and_length(make_video: Fixture, numbered_frame: Fixture) -> None:
    path = make_video("clip.mp4", [numbered_frame(i) for i in range(12)], fps=Fraction(30000, 1001), audio_codec="aac")
    info = video.probe(path)
    assert (info.width, info.height, info.fps, info.num_frames) == (64, 48, Fraction(30000, 1001), 12)
    assert info.has_audio
    assert info.codec == "h264"
    assert info.rotation == 0


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile 'other.mp4'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "",
    ],
)
def test_text_named_mp4_is_refused_whatever_it_pretends_to_be(
    text: str, tmp_path: Path, make_video: Fixture, numbered_frame: Fixture
) -> None:
    make_video("other.mp4", [numbered_frame(1)] * 3)
    path = tmp_path / "text.mp4"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"text\.mp4 is"):
        video.probe(path)


def test_what_is_no_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        video.probe(tmp_path / "missing.mp4")
    with pytest.raises(ValueError, match="regular file"):
        video.probe(tmp_path)
    with pytest.raises(ValueError, match="regular file"):
        video.probe("/dev/zero")


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 48000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with pytest.raises(ValueError, match="no video stream"):
        video.probe(path)


def test_frames_come_in_order_with_their_times(
    make_video: Fixture, numbered_frame: Fixture, frame_number: Fixture
) -> None:
    path = make_video("clip.mp4", [numbered_frame(i) for i in range(10)], fps=Fraction(25))
    frames = list(video.decode(path))
    assert [frame.index for frame in frames] == list(range(10))
    assert [frame_number(frame.image) for frame in frames] == list(range(10))
    assert [frame.pts_us for frame in frames] == [i * 40_000 for i in range(10)]


def test_only_the_frames_asked_for_are_given(
    make_video: Fixture, numbered_frame: Fixture, frame_number: Fixture
) -> None:
    path = make_video("clip.mp4", [numbered_frame(i) for i in range(10)])
    frames = list(video.decode(path, frame_indices=[7, 2, 2, 99]))
    assert [(frame.index, frame_number(frame.image)) for frame in frames] == [(2, 2), (7, 7)]


def test_a_file_cut_off_gives_the_frames_before_the_cut(make_video: Fixture, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3), dtype=np.uint8)
    whole = make_video("whole.ts", list(noise))
    cut = tmp_path / "cut.ts"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert 5 < len(list(video.decode(cut))) < 40


def test_broken_bytes_in_the_middle_do_not_end_the_clip(make_video: Fixture, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3), dtype=np.uint8)
    data = bytearray(make_video("whole.ts", list(noise)).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    broken = tmp_path / "broken.ts"
    broken.write_bytes(data)
    assert len(list(video.decode(broken))) > 25


def test_too_large_frames_are_refused_before_conversion(make_video: Fixture, numbered_frame: Fixture) -> None:
    path = make_video("clip.mp4", [numbered_frame(1)] * 2)
    with pytest.raises(ValueError, match="64x48"):
        next(video.decode(path, max_pixels=64 * 48 - 1))


def test_a_name_that_looks_like_a_protocol_or_pattern_is_only_a_name(
    make_video: Fixture, numbered_frame: Fixture
) -> None:
    for name in ("http:x.mp4", "-y %d $(x) 'q'.mp4", "ünïcode.mp4"):
        made = make_video("clip.mp4", [numbered_frame(1)] * 2)
        odd = made.with_name(name)
        made.replace(odd)
        assert video.probe(odd).num_frames == 2


def test_a_rotated_clip_is_shown_upright(make_video: Fixture, tmp_path: Path) -> None:
    import av

    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32] = 250  # bright at the left as stored
    stored = make_video("stored.mp4", [image] * 3)
    turned = tmp_path / "turned.mp4"
    # The display matrix of a video that players turn by 90 degrees clockwise: bright left becomes bright top.
    with av.open(str(stored)) as source, av.open(str(turned), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    data = turned.read_bytes()
    identity = b"".join(v.to_bytes(4, "big", signed=True) for v in (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30))
    clockwise = b"".join(v.to_bytes(4, "big", signed=True) for v in (0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30))
    at = data.index(identity, data.index(b"tkhd"))
    turned.write_bytes(data[:at] + clockwise + data[at + len(identity) :])
    info = video.probe(turned)
    assert (info.width, info.height) == (48, 64)
    shown = next(video.decode(turned)).image
    assert shown.shape == (64, 48, 3)
    assert shown[:24].mean() > 200 > 60 > shown[-24:].mean()


# Pictures


def test_a_photograph_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = 255  # bright left; orientation 6 shows it turned clockwise: bright top
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "x.png", exif=exif)
    image = images.read_image(tmp_path / "x.png")
    assert image.shape == (40, 20, 3)
    assert image[:20].min() == 255
    assert image[20:].max() == 0


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "RGBA"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new("RGB", (30, 20), (255, 255, 255)).convert(mode).save(tmp_path / f"x.{suffix}")
    image = images.read_image(tmp_path / f"x.{suffix}")
    assert image.shape == (20, 30, 3)
    assert image.min() > 250


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 32896, np.uint16)).save(tmp_path / "x.png")
    assert (images.read_image(tmp_path / "x.png") == 128).all()


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (3, 3), (0, 0, 0, 0)).save(tmp_path / "x.png")
    assert (images.read_image(tmp_path / "x.png") == 255).all()


def test_the_suffix_does_not_matter_and_the_first_frame_is_taken(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    first.save(tmp_path / "x.jpg", format="GIF", save_all=True, append_images=[second])
    assert tuple(images.read_image(tmp_path / "x.jpg")[0, 0]) == (255, 0, 0)


def test_what_is_no_picture_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    for name in ("text.jpg", "empty.jpg", "drawing.svg"):
        with pytest.raises(ValueError, match=f"{name} is not a JPEG"):
            images.read_image(tmp_path / name)
    Image.new("RGB", (200, 200)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:400])
    with pytest.raises(ValueError, match=r"cut\.jpg is a broken picture"):
        images.read_image(tmp_path / "cut.jpg")
    with pytest.raises(FileNotFoundError, match="missing"):
        images.read_image(tmp_path / "missing.jpg")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT")
    with pytest.raises(ValueError, match="pixels"):
        images.read_image(tmp_path / "bomb.png")
