"""Small valid files of each kind that users give to Sfumato, for `fuzz.py` to mutate."""

from __future__ import annotations

import io
import json
from fractions import Fraction

import av
import numpy as np
from PIL import Image

_SIDE, _FRAMES, _RATE = 48, 5, 8_000


def seeds() -> dict[str, bytes]:
    """Return file name -> contents."""
    return {
        "h264-aac.mp4": _film("mp4", "libx264", "aac"),
        "rotated.mov": _film("mov", "mpeg4", "pcm_s16le"),
        "fragmented.mp4": _film("mp4", "libx264", None, {"movflags": "frag_keyframe+empty_moov"}),
        "vp9-opus.webm": _film("webm", "libvpx-vp9", "libopus"),
        "h264-mp3.mkv": _film("matroska", "libx264", "libmp3lame"),
        "mpeg2.ts": _film("mpegts", "mpeg2video", "mp2"),
        "mjpeg.avi": _film("avi", "mjpeg", "pcm_s16le"),
        "baseline.jpg": _picture("JPEG", quality=80, exif=_exif()),
        "progressive.jpg": _picture("JPEG", progressive=True, icc_profile=b"\0" * 128),
        "rgb.png": _picture("PNG"),
        "palette.png": _picture("PNG", mode="P"),
        "alpha.webp": _picture("WEBP", mode="RGBA"),
        "lzw.tif": _picture("TIFF", compression="tiff_lzw"),
        "moving.gif": _moving_gif(),
        "clips.csv": 'path,identity,video,clip,split,num_bytes\na.mp4,an,v,0,train,10\n"b,c.mp4",léo,v2,1,,\n'.encode(),
        "clips.jsonl": "\n".join(
            json.dumps(row)
            for row in ({"path": "a.mp4", "identity": 17, "num_bytes": 10}, {"path": "b.mp4", "split": "test"})
        ).encode(),
    }


def _film(container: str, codec: str, sound: str | None, options: dict[str, str] | None = None) -> bytes:
    sink = io.BytesIO()
    with av.open(sink, "w", format=container, options=options or {}) as output:
        stream = output.add_stream(codec, rate=Fraction(25))
        stream.width = stream.height = _SIDE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.thread_count = 1
        audio = output.add_stream(sound, rate=48_000 if sound == "libopus" else 44_100) if sound else None
        for number in range(_FRAMES):
            image = np.full((_SIDE, _SIDE, 3), 40 * number, np.uint8)
            image[number * 8 : number * 8 + 8] = (255, 0, 90)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))
        if audio is not None:
            _add_sound(output, audio)
    return sink.getvalue()


def _add_sound(output: av.container.OutputContainer, stream: av.AudioStream) -> None:
    samples = (np.sin(np.arange(_RATE) / 9) * 8000).astype(np.int16)[None]
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.sample_rate = stream.rate
    resampler = av.AudioResampler(stream.format, stream.layout, stream.rate, stream.frame_size or None)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        part.pts = None
        output.mux(stream.encode(part))
    output.mux(stream.encode(None))


def _picture(kind: str, mode: str = "RGB", **options: object) -> bytes:
    ramp = np.arange(_SIDE * _SIDE * 3, dtype=np.uint32).reshape(_SIDE, _SIDE, 3) % 251
    sink = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).convert(mode).save(sink, kind, **options)
    return sink.getvalue()


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    exif[0x010E] = "a picture"
    return exif


def _moving_gif() -> bytes:
    sink = io.BytesIO()
    frames = [Image.new("RGB", (_SIDE, _SIDE), (60 * number, 0, 90)) for number in range(3)]
    frames[0].save(sink, "GIF", save_all=True, append_images=frames[1:], duration=40)
    return sink.getvalue()
