"""Make the videos of the tests of bad drivers: damaged, mislabelled, oddly named, or without usable faces."""

import os
import struct
import subprocess
from pathlib import Path

import av

from pipelines import assets
from pipelines.media.ffmpeg_process import ffmpeg_executable


def ffmpeg(*arguments: object) -> None:
    command = [ffmpeg_executable(), "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def broken(video_path: Path, folder: Path, keyframe_every: int = 30) -> None:
    """Videos without frames, with one, without picture, without index, cut off, and with a hole in the middle."""
    with av.open(str(folder / "27.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.start_encoding()
    ffmpeg("-i", video_path, "-c", "copy", "-frames:v", 1, folder / "28.mp4")
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", folder / "29.mp4")
    data = video_path.read_bytes()
    (folder / "30.mp4").write_bytes(data[: data.index(b"moov") - 4] if data.index(b"moov") > 1000 else data[:500])
    ffmpeg("-i", video_path, "-c:v", "libx264", "-g", keyframe_every, folder / "whole.mkv")
    whole = (folder / "whole.mkv").read_bytes()
    (folder / "whole.mkv").unlink()
    (folder / "31.mkv").write_bytes(whole[: len(whole) * 6 // 10])
    middle, hole = len(whole) // 2, len(whole) // 20
    (folder / "32.mkv").write_bytes(whole[:middle] + bytes(hole) + whole[middle + hole :])


def lying_headers(video_path: Path, folder: Path) -> None:
    ffmpeg("-i", video_path, "-c:v", "mjpeg", "-q:v", 3, folder / "honest.avi")
    data = (folder / "honest.avi").read_bytes()
    (folder / "honest.avi").unlink()
    rate = data.index(b"vids", data.index(b"strh")) + 20  # scale and rate, 4 bytes each
    for name, scale, per in (("33 fps 0", 1, 0), ("33 fps 1000", 1, 1000), ("33 fps nan", 0, 0)):
        lying = bytearray(data)
        lying[rate : rate + 8] = struct.pack("<II", scale, per)
        (folder / f"{name}.avi").write_bytes(lying)
    lying = bytearray(data)
    count = data.index(b"avih") + 8 + 16
    lying[count : count + 4] = struct.pack("<I", 10**6)
    (folder / "33 frame count.avi").write_bytes(lying)


def frame_rates(video_path: Path, folder: Path, loops: int = 149) -> None:
    """Videos of other rates, and one that is repeated so often: of four seconds, it becomes ten minutes."""
    ffmpeg("-i", video_path, "-vf", "select='not(mod(n,3))+lt(mod(n,20),9)'", "-fps_mode", "vfr", folder / "34.mp4")
    for name, rate in (("23.976", "24000/1001"), ("29.97", "30000/1001"), ("59.94", "60000/1001")):
        ffmpeg("-r", rate, "-i", video_path, "-r", rate, folder / f"35 {name}.mp4")
    ffmpeg("-stream_loop", loops, "-i", video_path, "-c", "copy", folder / "35 ten minutes.mp4")


def picture_formats(video_path: Path, folder: Path) -> None:
    x264 = ("-c:v", "libx264")
    ffmpeg("-i", video_path, "-vf", "setsar=1,transpose=clock", *x264, folder / "lying.mp4")
    ffmpeg("-display_rotation", 90, "-i", folder / "lying.mp4", "-c", "copy", folder / "36.mp4")
    (folder / "lying.mp4").unlink()
    ffmpeg("-i", video_path, "-vf", "scale=88:144,setsar=2", *x264, folder / "37.mp4")
    ffmpeg(
        "-i",
        video_path,
        "-vf",
        "interlace",
        "-c:v",
        "mpeg2video",
        "-q:v",
        3,
        "-flags",
        "+ilme+ildct",
        folder / "38.mpg",
    )
    hdr = ("-pix_fmt", "yuv444p10le", "-color_trc", "smpte2084", "-color_primaries", "bt2020")
    ffmpeg("-i", video_path, *x264, *hdr, folder / "39.mp4")
    ffmpeg("-i", video_path, "-vf", "setsar=1,format=yuv444p,crop=175:143", *x264, folder / "40.mp4")
    ffmpeg("-i", video_path, "-frames:v", 60, "-vf", "setsar=1", *x264, folder / "small.ts")
    later = ("-output_ts_offset", 2.002)
    ffmpeg("-i", video_path, "-frames:v", 60, "-vf", "scale=352:288,setsar=1", *x264, *later, folder / "large.ts")
    parts = [folder / "small.ts", folder / "large.ts"]
    (folder / "41.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()


def sounds(video_path: Path, folder: Path, seconds: float = 4) -> None:
    """Videos with sound that is longer, shorter, of other layouts and codecs; `seconds` is the length of the video."""
    for name, share, layout, codec in (
        ("42 longer.mp4", 2.25, "mono", "aac"),
        ("42 shorter.mp4", 0.25, "stereo", "aac"),
        ("42 surround.mp4", 1, "5.1", "aac"),
        ("42 opus.mkv", 1, "stereo", "libopus"),
    ):
        tone = f"sine=duration={share * seconds},aformat=channel_layouts={layout}"
        ffmpeg("-i", video_path, "-f", "lavfi", "-i", tone, "-c:v", "copy", "-c:a", codec, folder / name)


def faces(video_path: Path, folder: Path) -> None:
    other = assets.fetch("clip_single_face")
    grey = "color=gray:s=176x144:r=30000/1001:d={}"
    face = ("-i", video_path, "-i", other)
    same = "scale=176:144,setsar=1,fps=30000/1001,format=yuv420p"
    for name, parts in (
        ("44 start", f"{grey.format(2)}[a];[0]{same}[b];[a][b]concat"),
        (
            "44 middle",
            f"[0]{same},split[x][y];[x]trim=0:2[a];[y]trim=2,setpts=PTS-STARTPTS[c];{grey.format(1)}[b];"
            "[a][b][c]concat=n=3",
        ),
        ("44 end", f"[0]{same}[a];{grey.format(2)}[b];[a][b]concat"),
        ("44 cut to another", f"[0]{same},trim=0:1.5[a];[1]{same}[b];[a][b]concat"),
        ("44 two people", f"[0]{same},setsar=1[a];[1]{same}[b];[a][b]hstack=shortest=1"),
    ):
        ffmpeg(*face, "-filter_complex", parts, "-r", "30000/1001", folder / f"{name}.mp4")
    ffmpeg("-ss", blink(video_path) / (30000 / 1001), "-i", video_path, folder / "45.mp4")


def blink(video_path: Path) -> int:
    """The frame among the first half in which the eyes are most shut."""
    from pipelines.faces.detectors import create_detector
    from pipelines.faces.head_pose import eye_openness
    from pipelines.media.video import decode

    detector = create_detector()
    seen = [(detector.detect(frame.image), frame.index) for frame in decode(video_path, frame_indices=range(60))]
    return min((float(eye_openness(faces[0].landmarks).mean()), index) for faces, index in seen if faces)[1]


def playlists(video_path: Path, folder: Path) -> None:
    target = video_path.absolute()
    for name, text in (
        ("hls", f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{target}\n#EXT-X-ENDLIST\n"),
        ("concat", f"ffconcat version 1.0\nfile '{target}'\n"),
        ("sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
        ("dash", f'<?xml version="1.0"?><MPD><Period><BaseURL>file://{target}</BaseURL></Period></MPD>'),
    ):
        (folder / f"46 {name}.mp4").write_text(text)


ODD_NAMES = {
    "percent": "%d %03d.mp4",
    "dash": "-y -i.mp4",
    "quotes": 'it\'s "here".mp4',
    "shell": "$(touch pwned) `id`.mp4",
    "newline": "new\nline.mp4",
    "spaces": "a  b   c.mp4",
    "unicode": "Léonard-モナ.mp4",
    "long": "x" * 240 + ".mp4",
}


def odd_names(video_path: Path, folder: Path) -> None:
    for number, name in enumerate(ODD_NAMES.values()):
        (folder / name).write_bytes(video_path.read_bytes() + b"\0\0\0\x0cfree" + bytes([65 + number] * 4))
    (folder / "broken\n  name.mp4").write_text("hello")


def not_files(video_path: Path, folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere.mp4"
    elsewhere.write_bytes(video_path.read_bytes() + b"\0\0\0\x0cfreelink")
    (folder / "48 link.mp4").symlink_to(elsewhere)
    (folder / "48 nothing.mp4").symlink_to(folder / "gone.mp4")
    os.mkfifo(folder / "48 pipe.mp4")
    (folder / "48 folder.mp4").mkdir()
