"""Which picture and which sound of a film are used. The films are written by ffmpeg's program."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_corpus import ffmpeg

from pipelines.media import video
from pipelines.media.audio import copy_audio
from pipelines.media.decoder.process import Decoder
from pipelines.media.sound import find_sound
from pipelines.media.streams import packets_of

RED, GREEN, BLUE = "color=red:s=64x48:r=10:d=0.5", "color=lime:s=64x48:r=10:d=0.5", "color=blue:s=64x48:r=10:d=0.5"


def film(path: Path, *inputs: str, options: str = "") -> Path:
    """A film with a stream of each lavfi source, in this order."""
    sources = [argument for source in inputs for argument in ("-f", "lavfi", "-i", source)]
    maps = [argument for number in range(len(inputs)) for argument in ("-map", str(number))]
    ffmpeg(*sources, *maps, "-pix_fmt", "yuv420p", "-preset", "ultrafast", *options.split(), str(path))
    return path


def hue(path: Path) -> str:
    """Which of red, green and blue the film shows."""
    means = next(video.decode(path)).image.mean(axis=(0, 1))
    return ("red", "green", "blue")[int(np.argmax(means))]


def rename_codec(path: Path, old: bytes, new: bytes, which: int) -> Path:
    """Replace the name of the codec in an mp4's track number `which` by one that nobody knows."""
    data = path.read_bytes()
    at = -1
    for _ in range(which + 1):
        at = data.index(b"stsd", at + 1)
    at = data.index(old, at)
    data = data[:at] + new + data[at + 4 :]
    if old == b"mp4a":  # whose details would tell that it is AAC
        at = data.index(b"esds", at)
        data = data[:at] + b"none" + data[at + 4 :]
    path.write_bytes(data)
    return path


def test_the_picture_stream_of_default_disposition_is_shown(tmp_path: Path) -> None:
    path = film(tmp_path / "x.mkv", RED, GREEN, options="-disposition:0 0 -disposition:1 default")
    assert hue(path) == "green"
    assert [frame.index for frame in video.decode(path)] == [0, 1, 2, 3, 4]
    with Decoder() as decoder:  # the child process, too
        assert decoder.describe(path).num_frames == 5


def test_without_a_default_the_first_one_is_shown(tmp_path: Path) -> None:
    assert hue(film(tmp_path / "x.mkv", BLUE, GREEN, options="-disposition:0 0 -disposition:1 0")) == "blue"


def test_a_cover_and_a_single_frame_are_no_film(tmp_path: Path) -> None:
    once = "color=red:s=64x48:r=10:d=0.1"
    cover = film(tmp_path / "cover.mp4", once, GREEN, options="-c:v:0 mjpeg -disposition:0 attached_pic")
    assert (hue(cover), video.probe(cover).num_frames) == ("green", 5)
    still = film(tmp_path / "still.mp4", once, GREEN, options="-disposition:1 0")
    assert hue(still) == "green"


def test_a_stream_of_an_unknown_codec_is_passed_over(tmp_path: Path) -> None:
    path = rename_codec(film(tmp_path / "x.mp4", RED, GREEN), b"avc1", b"zzz1", 0)
    assert hue(path) == "green"


def test_a_stream_that_does_not_decode_is_passed_over(tmp_path: Path) -> None:
    path = film(tmp_path / "x.mkv", RED, GREEN, options="-c:v:0 mjpeg -c:v:1 libx264")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\xff\xc0\x00\x11", bytes(4)))  # JPEGs without their frame
    assert hue(path) == "green"


def test_unknown_codecs_alone_are_refused_by_name(tmp_path: Path) -> None:
    path = rename_codec(film(tmp_path / "x.mp4", RED), b"avc1", b"zzz1", 0)
    for read in (video.probe, lambda path: next(video.decode(path))):
        with pytest.raises(ValueError, match=r"x\.mp4: its pictures are of a codec that cannot be decoded"):
            read(path)
    with Decoder() as decoder, pytest.raises(ValueError, match=r"x\.mp4: its pictures are of a codec"):
        decoder.describe(path)


def test_a_stream_that_begins_late_is_passed_over() -> None:
    """PyAV raises IndexError for its packets, after which the film goes on."""

    class Film:
        parts = iter((["first"], ["second", "third"]))

        def demux(self, stream: object) -> Iterator[str]:
            yield from (part := next(self.parts))
            if part == ["first"]:
                raise IndexError("list index out of range")

    assert list(packets_of(Film(), None)) == ["first", "second", "third"]


# Sound

LOW, HIGH = "sine=300:d=0.5:r=48000", "sine=3000:d=0.5:r=48000"


def test_apples_spatial_sound_beside_aac_is_passed_over(tmp_path: Path) -> None:
    """As in films of an iPhone 15: a track of the codec `apac`, which is no default, after or before the AAC."""
    for unknown, kept in ((2, 1), (1, 2)):
        path = film(tmp_path / f"{unknown}.mov", RED, LOW, HIGH, options="-c:a aac")
        rename_codec(path, b"mp4a", b"apac", unknown)
        sound, note = find_sound(path, Fraction(0))
        assert sound is not None
        assert (sound.index, sound.codec, note) == (kept, "aac", None)
        assert video.probe(path).has_audio
        assert copy_audio(path) is not None


def test_the_sound_of_default_disposition_comes_first(tmp_path: Path) -> None:
    path = film(tmp_path / "x.mkv", RED, LOW, HIGH, options="-c:a flac -disposition:a:0 0 -disposition:a:1 default")
    sound, _ = find_sound(path, Fraction(0))
    assert sound is not None
    assert sound.index == 2


def test_without_usable_sound_there_is_a_note(tmp_path: Path) -> None:
    path = rename_codec(film(tmp_path / "x.mov", RED, LOW, options="-c:a pcm_s16le"), b"sowt", b"zzz1", 1)
    assert find_sound(path, Fraction(0)) == (None, "the video is silent: its sound stream cannot be decoded")
    assert not video.probe(path).has_audio
    assert copy_audio(path) is None
    silent = film(tmp_path / "silent.mp4", RED)
    assert find_sound(silent, Fraction(0)) == (None, None)


def test_sound_that_is_noise_to_its_decoder_is_not_used(tmp_path: Path) -> None:
    path = film(tmp_path / "x.mkv", RED, LOW, HIGH, options="-c:a:0 ac3 -c:a:1 flac")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x0b\x77", b"\0\0"))  # AC-3's sync word
    sound, note = find_sound(path, Fraction(0))
    assert sound is not None
    assert (sound.codec, note) == ("flac", None)


def test_frames_too_large_are_refused_before_one_is_decoded(tmp_path: Path) -> None:
    """A GIF of 35 bytes whose header asks for 263 megapixels."""
    header = b"GIF89a" + struct.pack("<HHBBB", 17968, 14648, 0, 0, 0)
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, 17968, 14648, 0) + b"\x02\x02\x4c\x01\x00"
    (tmp_path / "bomb.gif").write_bytes(header + image + b"\x3b")
    with pytest.raises(ValueError, match=r"bomb\.gif: frames of 17968x14648 exceed 9437184 pixels"):
        video.probe(tmp_path / "bomb.gif")
