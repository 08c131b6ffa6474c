"""Recipes of 200 films: every container, codec, pixel format, rotation, range and sound layout that the bundled ffmpeg
writes and people have. `media_corpus.py` makes and checks them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """How ffmpeg writes one film. A band is white from 0.4 to 0.5 s and from 1.0 to 1.1 s, when the sound beeps."""

    name: str
    video: str
    """Options of the video encoder."""
    pixels: str = "yuv420p"
    matrix: str = "bt601"
    """Of YUV pixels: bt601, bt709 or bt2020."""
    full: bool = False
    """Full range instead of limited."""
    tagged: bool = False
    """Matrix and range are written into the stream."""
    size: tuple[int, int] = (192, 128)
    fps: str = "25"
    select: str = ""
    """ffmpeg's expression for the frames that are kept, for a variable rate."""
    sound: str = ""
    """Options of the sound encoder; none: no sound."""
    begins_s: float = 0.0
    """Time at which the sound begins; negative: before the picture."""
    second_sound: str = ""
    """Options of a sound stream before that one, which is not the default."""
    sar: str = ""
    display: str = ""
    """Options of ffmpeg's input that turn the film."""
    refused: str = ""
    """What the refusal says; none: it is done."""
    hdr: str = ""
    """The transfer curve of HDR, whose colours are not compared: they are tone-mapped."""
    quick: bool = False
    """One of the tenth that is a test."""


_AAC = "-c:a aac"
_X264 = "-c:v libx264 -preset ultrafast -crf 6"
_X265 = "-c:v libx265 -preset ultrafast -crf 6 -x265-params log-level=error"
_VP9 = "-c:v libvpx-vp9 -cpu-used 8 -crf 6 -b:v 0"
_VP8 = "-c:v libvpx -cpu-used 8 -crf 4 -b:v 4M"
_AV1 = "-c:v libsvtav1 -preset 12 -crf 10 -svtav1-params lp=1"
_MPEG = "-q:v 2"
_FFV1 = "-c:v ffv1"
_PAL = (720, 576)
_HD = (1280, 720)

_QUICK = frozenset(
    [
        "h264.mp4",
        "vp9.webm",
        "mpeg4.avi",
        "mpeg2.ts",
        "wmv2.wmv",
        "flv1.flv",
        "theora.ogv",
        "gif.gif",
        "gbrp.mkv",
        "hd-untagged.mp4",
        "full.mp4",
        "hflip.mp4",
        "turned-90-hflip.mp4",
        "wide-pixels.mp4",
        "aac-5.1.mp4",
        "text.y4m",
        "opus-later.mkv",
        "pcm-earlier.mov",
        "two-sounds.mkv",
        "pause.mkv",
        "23.976.mp4",
    ]
)


def recipes() -> tuple[Recipe, ...]:
    """Return all recipes; names are unique."""
    groups = (_containers(), _codecs(), _pixels(), _colours(), _turned(), _sounds(), _rates(), _refusals())
    found = tuple(replace(recipe, quick=recipe.name in _QUICK) for group in groups for recipe in group)
    assert len({recipe.name for recipe in found}) == len(found)
    assert sum(recipe.quick for recipe in found) == len(_QUICK)
    return found


def _containers() -> Iterator[Recipe]:
    for suffix in ("mp4", "mov", "mkv", "avi", "ts", "m2ts", "flv", "3gp", "3g2", "m4v", "mxf", "asf", "ismv", "f4v"):
        yield Recipe(f"h264.{suffix}", _X264, sound="-c:a pcm_s16le" if suffix == "mxf" else _AAC)
    for suffix in ("mp4", "mov", "mkv", "ts", "flv"):
        yield Recipe(f"hevc.{suffix}", _X265, sound=_AAC)
    for suffix in ("mp4", "mkv", "webm"):
        opus = "-c:a libopus"
        yield Recipe(f"vp9.{suffix}", _VP9, sound=opus)
        yield Recipe(f"av1.{suffix}", _AV1, sound=opus)
    for suffix in ("mkv", "webm", "ogv", "avi"):
        sound = "-c:a libmp3lame" if suffix == "avi" else "-c:a libvorbis"
        yield Recipe(f"vp8.{suffix}", _VP8 + (" -f ogg" if suffix == "ogv" else ""), sound=sound)
    for codec, suffix in ((_VP8, "vp8"), (_VP9, "vp9"), (_AV1, "av1")):
        yield Recipe(f"{suffix}.ivf", codec)
    for suffix in ("mp4", "avi", "mkv", "mov", "3gp", "ts", "asf"):
        sound = {"avi": "-c:a libmp3lame", "asf": "-c:a wmav2"}.get(suffix, _AAC)
        yield Recipe(f"mpeg4.{suffix}", f"-c:v mpeg4 -bf 2 {_MPEG}", sound=sound)
    for suffix in ("ts", "mpg", "vob", "mkv", "avi", "mxf", "mp4"):
        sound = "-c:a pcm_s16le" if suffix == "mxf" else "-c:a mp2"
        yield Recipe(f"mpeg2.{suffix}", f"-c:v mpeg2video -bf 2 {_MPEG} -b:v 20M", sound=sound)
    for suffix in ("ts", "mpg", "avi", "mkv"):
        yield Recipe(f"mpeg1.{suffix}", f"-c:v mpeg1video {_MPEG} -b:v 8M", sound="-c:a mp2")
    for suffix in ("ogv", "mkv"):
        yield Recipe(f"theora.{suffix}", "-c:v libtheora -q:v 10", sound="-c:a libvorbis")
    yield Recipe("gif.gif", "-c:v gif", pixels="rgb8")
    yield Recipe("h264.psp.mp4", f"{_X264} -f psp", sound=_AAC)


def _codecs() -> Iterator[Recipe]:
    pcm, mp3 = "-c:a pcm_s16le", "-c:a libmp3lame"
    yield from (Recipe(f"{name}.avi", f"-c:v {name} {_MPEG} -b:v 20M", sound=mp3) for name in ("wmv1", "wmv2"))
    yield from (Recipe(f"{name}.wmv", f"-c:v {name} {_MPEG}", sound="-c:a wmav2") for name in ("wmv1", "wmv2"))
    yield from (
        Recipe(f"{name}.avi", f"-c:v {name} {_MPEG}", sound=mp3) for name in ("msmpeg4v2", "msmpeg4", "libxvid")
    )
    yield Recipe("flv1.flv", f"-c:v flv {_MPEG}", sound=mp3)
    yield Recipe("flashsv.flv", "-c:v flashsv", "bgr24", sound=mp3)
    yield Recipe("flashsv2.flv", "-c:v flashsv2", "bgr24", sound=mp3)
    for name, pixels in (("asv1", "yuv420p"), ("asv2", "yuv420p"), ("snow", "yuv420p"), ("cljr", "yuv411p")):
        yield Recipe(f"{name}.avi", f"-c:v {name} -strict -2 {_MPEG}", pixels, sound=pcm)
    for name, pixels in (("cinepak", "rgb24"), ("msvideo1", "rgb555le"), ("zmbv", "bgr0"), ("png", "rgb24")):
        yield Recipe(f"{name}.avi", f"-c:v {name}", pixels, sound=pcm)
    for name in ("huffyuv", "ffvhuff", "utvideo", "magicyuv"):
        yield Recipe(f"{name}.avi", f"-c:v {name}", "yuv422p", sound=pcm)
    yield Recipe("mjpeg.avi", "-c:v mjpeg -q:v 1", "yuvj420p", full=True, sound=pcm)
    yield Recipe("mjpeg.mov", "-c:v mjpeg -q:v 1", "yuvj444p", full=True, sound=pcm)
    yield Recipe("mjpeg.mkv", "-c:v mjpeg -q:v 1", "yuvj422p", full=True, sound=mp3)
    yield Recipe("ljpeg.avi", "-c:v ljpeg", "bgr24", sound=pcm)
    yield Recipe("jpegls.mkv", "-c:v jpegls", "rgb24", sound="-c:a flac")
    yield Recipe("jpeg2000.mov", "-c:v jpeg2000 -q:v 1", "rgb24", sound=pcm)
    yield Recipe("openjpeg.mkv", "-c:v libopenjpeg", "rgb24", sound="-c:a flac")
    yield Recipe("dv.avi", "-c:v dvvideo", size=_PAL, sound=pcm)
    yield Recipe("dv.mov", "-c:v dvvideo", size=_PAL, sound=pcm)
    yield Recipe("h263.3gp", f"-c:v h263 {_MPEG}", size=(176, 144), sound="-c:a libopencore_amrnb -ar 8000 -ac 1")
    yield Recipe("h261.avi", f"-c:v h261 {_MPEG}", size=(352, 288), sound=pcm)
    yield Recipe("prores.mov", "-c:v prores_ks -profile:v hq", "yuv422p10le", sound=pcm)
    yield Recipe("prores4444.mov", "-c:v prores_ks -profile:v 4444", "yuva444p10le", sound=pcm)
    yield Recipe("dnxhr.mov", "-c:v dnxhd -profile:v dnxhr_hq", "yuv422p", "bt709", size=(256, 128), sound=pcm)
    yield Recipe("dnxhr.mxf", "-c:v dnxhd -profile:v dnxhr_hq", "yuv422p", "bt709", size=(256, 128), sound=pcm)
    yield Recipe("cfhd.mov", "-c:v cfhd -quality film3+", "yuv422p10le", sound=pcm)
    yield Recipe("hap.mov", "-c:v hap", "rgba", sound=pcm)
    for name, pixels in (("qtrle", "rgb24"), ("rpza", "rgb555be"), ("svq1", "yuv410p"), ("v210", "yuv422p10le")):
        yield Recipe(f"{name}.mov", f"-c:v {name} -strict -2", pixels, sound=pcm)
    yield Recipe("r210.mov", "-c:v r210", "gbrp10le", sound=pcm)
    yield Recipe("vc2.mkv", "-c:v vc2", "yuv422p", "bt709", sound=mp3)
    yield Recipe("vvc.mp4", "-c:v libvvenc -preset faster -qp 10", "yuv420p10le", sound=_AAC)
    yield Recipe("apv.mp4", "-c:v liboapv -qp 10", "yuv422p10le", sound=_AAC, refused="no frame that can be decoded")
    yield Recipe("xvid.mkv", f"-c:v libxvid {_MPEG}", sound=mp3)
    yield Recipe("speedhq.mkv", "-c:v speedhq -q:v 1", "yuv422p", sound=mp3)


def _pixels() -> Iterator[Recipe]:
    for pixels in ("yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "nv12", "gray"):
        yield Recipe(f"h264-{pixels}.mp4", _X264, pixels, sound=_AAC)
    for pixels in ("yuv444p", "yuv420p10le", "yuv420p12le", "yuv444p12le"):
        yield Recipe(f"hevc-{pixels}.mp4", _X265, pixels)
    yield Recipe("hevc-gbrp.mkv", _X265, "gbrp")
    yield Recipe("h264-rgb.mkv", "-c:v libx264rgb -preset ultrafast -crf 6", "rgb24")
    for pixels in ("yuv422p", "yuv440p", "yuv444p", "yuv420p10le", "yuv444p12le", "gbrp", "yuva420p"):
        yield Recipe(f"vp9-{pixels}.webm", _VP9 + (" -auto-alt-ref 0" if pixels == "yuva420p" else ""), pixels)
    yield Recipe("av1-yuv420p10le.mkv", _AV1, "yuv420p10le")
    yield Recipe("gbrp.mkv", _FFV1, "gbrp", sound="-c:a flac")
    for pixels in ("gray", "gray16le", "yuv411p", "yuv410p", "yuv440p", "rgb48le", "gbrp16le", "yuva444p", "bgra"):
        yield Recipe(f"ffv1-{pixels}.mkv", _FFV1, pixels)
    for pixels in ("uyvy422", "yuyv422", "nv12", "gray"):
        yield Recipe(f"raw-{pixels}.avi", "-c:v rawvideo", pixels)
    for pixels in ("bgr24", "rgb565le"):  # ffmpeg writes these into AVI and does not read them
        yield Recipe(f"raw-{pixels}.avi", "-c:v rawvideo", pixels, refused="cannot be decoded here")
    yield Recipe("raw-uyvy422.mov", "-c:v rawvideo", "uyvy422")
    yield Recipe("utvideo-gbrp.avi", "-c:v utvideo", "gbrp")


def _colours() -> Iterator[Recipe]:
    yield Recipe("hd-untagged.mp4", _X264, matrix="bt709", size=_HD)
    yield Recipe("hd-untagged.webm", _VP9, matrix="bt709", size=_HD)
    yield Recipe("hd-untagged.ts", "-c:v mpeg2video -q:v 2 -b:v 30M", matrix="bt709", size=_HD)
    yield Recipe("hd-upright-untagged.mp4", _X264, matrix="bt709", size=(640, 1136))
    yield Recipe("hd-601.mp4", _X264, size=_HD, tagged=True)
    yield Recipe("sd-709.mp4", _X264, matrix="bt709", tagged=True)
    yield Recipe("bt2020.mp4", _X265, "yuv420p10le", matrix="bt2020", tagged=True)
    for name, video in (("full.mp4", _X264), ("full-hevc.mp4", _X265), ("full-vp9.webm", _VP9)):
        yield Recipe(name, video, full=True, tagged=True)
    yield Recipe("full-709.mkv", _X264, matrix="bt709", full=True, tagged=True)
    yield Recipe("hd-mjpeg.mov", "-c:v mjpeg -q:v 1", "yuvj422p", full=True, size=_HD)  # JFIF says BT.601
    for name, curve in (("pq", "smpte2084"), ("hlg", "arib-std-b67")):
        yield Recipe(f"{name}.mp4", _X265, "yuv420p10le", matrix="bt2020", tagged=True, hdr=curve)


def _turned() -> Iterator[Recipe]:
    for turn in (0, 90, 180, 270):
        for flip in ("", "-hflip"):
            if turn or flip:
                name = f"turned-{turn}{flip}.mp4" if turn else "hflip.mp4"
                display = f"-display_rotation {turn}" + (" -display_hflip" if flip else "")
                yield Recipe(name, _X264, display=display, sound=_AAC)
    yield Recipe("vflip.mov", _X264, display="-display_vflip")
    yield Recipe("turned-90.mkv", _X264, display="-display_rotation 90")
    for suffix in ("mp4", "mkv", "mpg"):
        video = "-c:v mpeg2video -q:v 2" if suffix == "mpg" else _X264
        yield Recipe(f"wide-pixels.{suffix}", video, sar="16/11" if suffix != "mpg" else "16/15", size=(720, 576))
    yield Recipe("odd.mkv", _FFV1, "yuv444p", size=(191, 127))


def _sounds() -> Iterator[Recipe]:
    for name, layout in (("mono", "mono"), ("5.1", "5.1"), ("7.1", "7.1"), ("quad", "quad")):
        yield Recipe(f"aac-{name}.mp4", _X264, sound=f"-c:a aac -af aformat=channel_layouts={layout}")
    for rate in (8000, 11025, 44100, 96000):
        yield Recipe(f"aac-{rate}.mp4", _X264, sound=f"-c:a aac -ar {rate}")
    codecs = {
        "mp4": ("libmp3lame", "ac3 -ac 6", "eac3 -ac 6"),
        "mov": ("alac", "pcm_s24le", "pcm_f32le", "pcm_mulaw", "adpcm_ima_qt"),
        "mkv": (
            "flac", "libvorbis -ac 2", "libopus -ac 6 -mapping_family 1", "dca -strict -2", "truehd -strict -2 -ac 2",
            "wavpack", "tta", "mp2", "pcm_s16le -ar 192000",
        ),
        "avi": ("pcm_u8", "pcm_alaw", "adpcm_ms", "ac3"),
        "asf": ("wmav1",),
        "ts": ("s302m -strict -2 -ac 2", "ac3", "libopus"),
        "flv": ("nellymoser -ar 22050 -ac 1",),
    }  # fmt: skip
    for suffix, options in codecs.items():
        for codec in options:
            yield Recipe(f"{codec.split()[0]}.{suffix}", _X264, sound=f"-c:a {codec}")
    for codec, suffix in (("aac", "mp4"), ("libopus", "mkv"), ("pcm_s16le", "mov"), ("ac3", "ts"), ("aac", "ts")):
        name = codec.split("_")[0].removeprefix("lib")
        yield Recipe(f"{name}-later.{suffix}", _X264, sound=f"-c:a {codec}", begins_s=0.3)
        yield Recipe(f"{name}-earlier.{suffix}", _X264, sound=f"-c:a {codec}", begins_s=-0.3)
    yield Recipe("two-sounds.mkv", _X264, sound=_AAC, second_sound="-c:a:0 libopus")


def _rates() -> Iterator[Recipe]:
    rates = {
        "23.976": "24000/1001",
        "29.97": "30000/1001",
        "59.94": "60000/1001",
        "12.5": "25/2",
        "15": "15",
        "60": "60",
    }
    for name, fps in rates.items():
        yield Recipe(f"{name}.mp4", _X264, fps=fps, sound=_AAC)
    for suffix in ("mkv", "ts", "flv"):
        yield Recipe(f"29.97.{suffix}", _X264, fps="30000/1001", sound=_AAC)
    for suffix in ("mp4", "mkv", "ts", "webm", "flv"):
        video, sound = (_VP9, "-c:a libopus") if suffix == "webm" else (_X264, _AAC)
        yield Recipe(f"pause.{suffix}", video, select="lt(t,0.5)+gte(t,0.9)", sound=sound)
    yield Recipe("uneven.mp4", _X264, fps="50", select="mod(n,3)", sound=_AAC)


def _refusals() -> Iterator[Recipe]:
    """Formats that are not read: the file is refused by name."""
    options = {
        "text.y4m": "-c:v wrapped_avframe",
        "x.nut": _X264,
        "x.swf": "-c:v flv",
        "x.h264": _X264,
        "x.rm": "-c:v rv20",
        "x.dv": "-c:v dvvideo -s 720x576",
        "x.apng": "-c:v apng -pix_fmt rgb24",
        "x.mjpg": "-c:v mjpeg -f mjpeg -pix_fmt yuvj420p",
        "x.gxf": "-c:v mpeg2video -s 720x576 -b:v 8M",
        "x.wtv": "-c:v mpeg2video -b:v 8M",
        "x.webp": "-c:v libwebp_anim -pix_fmt yuv420p",
    }
    for name, video in options.items():
        yield Recipe(name, video, refused="no video container that is allowed here")
    yield Recipe("sound.m4a", "-vn", sound=_AAC, refused="holds no video stream")
