"""Make the films of `media_recipes.py` and check what becomes of each: done as it should be, or refused by name.

    python tests/support/media_corpus.py [NAME ...]

A film is decoded and written again by the functions that `animate` uses, without a face. Source and result are measured
by ffmpeg's program: frames, times, brightness and sound; the source's colours by zimg, which Sfumato does not use.
"""

import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from media_recipes import Recipe, recipes

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
FLASHES_S = ((0.4, 0.5), (1.0, 1.1))
COLOURS = ((200, 60, 50), (60, 180, 70), (50, 70, 190), (128, 128, 128), (220, 190, 60), (170, 60, 170))
_GREY = {"gray", "gray16le", "monow"}
_RGB = ("rgb", "bgr", "gbr", "monow")
_MAX_LEVELS, _MAX_SYNC_S, _MAX_TIME_S = 3.0, 0.02, 0.0021
_RATE = 48000


class Wrong(Exception):
    """The result differs from the source."""


@dataclass(frozen=True)
class Measured:
    """What ffmpeg says of a film."""

    times: np.ndarray
    """Of the frames, seconds."""
    flash_s: float | None
    """Time of the first white band, since the first frame."""
    beep_s: float | None
    """Time of the first beep, since the first frame."""
    length_s: float
    """From the first frame to the end of the last one."""


def ffmpeg(*arguments: str, data: bytes | None = None) -> bytes:
    """Run ffmpeg; return standard output. Raises CalledProcessError."""
    command = [FFMPEG, "-hide_banner", "-loglevel", "error", "-y", *arguments]
    source = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    return subprocess.run(command, capture_output=True, check=True, timeout=300, **source).stdout


def make(recipe: Recipe, folder: Path) -> Path:
    """Write the film of a recipe."""
    (width, height), fps = recipe.size, Fraction(recipe.fps)
    path, made = folder / recipe.name, folder / (f"flat-{recipe.name}" if recipe.display else recipe.name)
    seconds = 1.2 if recipe.sound else 0.6
    number = round(seconds * fps)
    inputs = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {recipe.fps}"
    picture_delay = f"-itsoffset {-recipe.begins_s} " if recipe.begins_s < 0 else ""
    command = [*shlex.split(f"{picture_delay}{inputs}"), "-i", "-"]
    if recipe.sound:
        late = max(0.0, recipe.begins_s)
        early = max(0.0, -recipe.begins_s)  # the sound's clock begins before the picture's
        beeps = "+".join(f"between(t,{a - late + early},{b - late + early})" for a, b in FLASHES_S)
        wave = f"aevalsrc='0.8*sin(1000*2*PI*t)*({beeps})':d={seconds - late + early}:s=48000"
        command += ["-itsoffset", str(late), "-f", "lavfi", "-i", wave]
        streams = ["-map", "1:a"]
        if recipe.second_sound:
            command += ["-f", "lavfi", "-i", f"sine=440:d={seconds}:r=48000"]
            streams = ["-map", "2:a", "-map", "1:a", "-disposition:a:0", "0", "-disposition:a:1", "default"]
        command += ["-map", "0:v", *streams]
    if recipe.video != "-vn":
        command += ["-vf", _filters(recipe), "-pix_fmt", recipe.pixels, "-fps_mode", "passthrough"]
        command += shlex.split("-strict -1")
    command += shlex.split(f"{recipe.video} {recipe.sound} {recipe.second_sound}")
    ffmpeg(*command, f"file:{made}", data=b"".join(frame.tobytes() for frame in _frames(recipe, number)))
    if recipe.display:
        ffmpeg(*shlex.split(recipe.display), "-i", f"file:{made}", "-c", "copy", f"file:{path}")
    return path


def _frames(recipe: Recipe, number: int) -> list[np.ndarray]:
    width, height = recipe.size
    dark = np.zeros((height, width, 3), np.uint8)
    top = height // 4
    for index, colour in enumerate(COLOURS):
        row, column = divmod(index, 3)
        rows = slice(top + row * (height - top) // 2, top + (row + 1) * (height - top) // 2)
        dark[rows, column * width // 3 : (column + 1) * width // 3] = colour
    bright = dark.copy()
    bright[:top] = 255
    fps = float(Fraction(recipe.fps))
    lit = [any(a <= (i + 0.01) / fps < b for a, b in FLASHES_S) for i in range(number)]
    # The row at the bottom changes with every frame: some encoders leave out frames that are like the last one.
    frames = [(bright if on else dark).copy() for on in lit]
    for index, frame in enumerate(frames):
        frame[-max(2, height // 32) :] = 40 + 170 * (index % 2)
    return frames


def _filters(recipe: Recipe) -> str:
    filters = [f"select='{recipe.select}'"] if recipe.select else []
    if not recipe.pixels.startswith(_RGB) and recipe.pixels != "pal8":
        matrix, limits = recipe.matrix, "pc" if recipe.full else "tv"
        filters.append(f"scale=out_color_matrix={matrix}:out_range={limits}:flags=accurate_rnd+full_chroma_int")
        filters.append(f"format={recipe.pixels}")
        if not recipe.tagged:
            unknown = ":".join(f"{name}=unknown" for name in ("colorspace", "color_primaries", "color_trc"))
            filters.append(f"setparams={unknown}" + ("" if recipe.full else ":range=unknown"))
    if recipe.hdr:
        filters.append(f"setparams=color_primaries=bt2020:color_trc={recipe.hdr}")
    if recipe.sar:
        filters.append(f"setsar={recipe.sar}")
    return ",".join(filters) or "null"


def measure(path: Path, *, sound: bool, stream: int = 0) -> Measured:
    """Measure a film by ffmpeg's program."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table"
        shown = f"-copyts -fps_mode passthrough -enc_time_base 1:90000 -i file:{shlex.quote(str(path))} -map 0:V:0"
        arguments = shlex.split(shown)
        at = arguments.index("-i")
        options, source = arguments[1:at], arguments[at:]
        grey = ffmpeg("-copyts", *source, "-vf", "scale=16:16:flags=area,format=gray", *options,
                      "-f", "rawvideo", "pipe:1", "-map", "0:V:0", *options, "-f", "framecrc", str(table))  # fmt: skip
        lines = [line for line in table.read_text().splitlines() if line and not line.startswith("#")]
        times = np.array([int(line.split(",")[2]) for line in lines]) / 90000
        length = float(times[-1] - times[0]) + int(lines[-1].split(",")[3]) / 90000
        levels = np.frombuffer(grey, np.uint8).reshape(-1, 256).mean(axis=1)
        lit = np.flatnonzero(levels > levels.min() + 25)
        beep = None
        if sound:
            begin = max(0, round(float(times[0]) * _RATE))
            fill = f"aresample={_RATE}:async=1:min_hard_comp=0.01:first_pts={begin}"
            data = ffmpeg("-copyts", "-i", f"file:{path}", "-map", f"0:a:{stream}", "-af", fill,
                          "-ac", "1", "-ar", str(_RATE), "-f", "f32le", "pipe:1")  # fmt: skip
            wave = np.abs(np.frombuffer(data, np.float32))
            loud = np.flatnonzero(wave > 0.3 * wave.max()) if wave.size and wave.max() > 0.01 else np.zeros(0)
            beep = float(loud[0]) / _RATE + begin / _RATE - float(times[0]) if loud.size else None
        flash = float(times[lit[0]] - times[0]) if lit.size else None
        return Measured(times - times[0], flash, beep, length)


def true_picture(recipe: Recipe, path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return the first frame as RGB by zimg, with the matrix and range that the recipe says."""
    width, height = size
    convert = ""
    if not recipe.pixels.startswith(_RGB) and recipe.pixels not in _GREY:
        matrix = {"bt601": "170m", "bt709": "709", "bt2020": "2020_ncl"}[recipe.matrix]
        limits = "full" if recipe.full else "limited"
        convert = f"zscale=matrixin={matrix}:rangein={limits}:matrix=gbr:range=full,format=gbrp,"
        if "a" in recipe.pixels.removeprefix("gray").removeprefix("bgra"):
            convert = f"format={recipe.pixels.replace('yuva', 'yuv')}," + convert
    filters = f"{convert}scale={width}:{height}:flags=area,format=rgb24"
    data = ffmpeg("-i", f"file:{path}", "-map", "0:V:0", "-frames:v", "1", "-vf", filters, "-f", "rawvideo", "pipe:1")
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


def colour_error(picture: np.ndarray, truth: np.ndarray, margin: int = 4) -> float:
    """Return the largest difference of mean colours in blocks that are flat in `truth`, levels."""
    errors = []
    height, width = truth.shape[:2]
    for top in range(margin, height - 8 - margin, max(8, height // 24)):
        for left in range(margin, width - 8 - margin, max(8, width // 24)):
            around = truth[
                top - margin : top + 8 + margin, left - margin : left + 8 + margin
            ]  # chroma of 4:2:0 bleeds over edges
            if around.std(axis=(0, 1)).max() < 2.0:
                block = np.s_[top : top + 8, left : left + 8]
                errors.append(np.abs(truth[block].mean(axis=(0, 1)) - picture[block].mean(axis=(0, 1))).max())
    if len(errors) < 40:
        raise Wrong(f"only {len(errors)} flat blocks")
    return float(np.percentile(errors, 95))


def rewrite(path: Path, out: Path) -> tuple[np.ndarray, float, str | None]:
    """Write a film again as `animate` does; return its first picture, its length, and the note about its sound."""
    from pipelines.media.frame_times import Schedule, frame_times
    from pipelines.media.sound import find_sound
    from pipelines.media.video import VideoWriter, decode, probe

    info = probe(path)
    sound, note = find_sound(path, info.start_s)
    frames = list(decode(path))
    times = frame_times([frame.pts_us / 1e6 for frame in frames], info.fps)
    schedule = Schedule.of(times, None)
    height, width = (side // 2 * 2 for side in frames[0].image.shape[:2])
    with VideoWriter(
        out, width=width, height=height, fps=schedule.fps, variable=schedule.variable, sound=sound
    ) as writer:
        for position, frame in enumerate(frames):
            for seconds in schedule.times_shown(position):
                writer.write(np.ascontiguousarray(frame.image[:height, :width]), seconds)
    return frames[0].image, times.duration_s, note or writer.sound_problem


def check(recipe: Recipe, folder: Path) -> str:
    """Make a film and check what becomes of it; return a line of figures. Raises Wrong."""
    path = make(recipe, folder)
    out = folder / "out.mp4"
    try:
        first, length_s, note = rewrite(path, out)
    except ValueError as error:
        if recipe.refused and recipe.refused in str(error) and str(path) in str(error):
            return "refused"
        raise Wrong(f"refused: {error}") from error
    if recipe.refused:
        raise Wrong("done, though it should be refused")
    if note:
        raise Wrong(note)
    has_sound = bool(recipe.sound)
    source = measure(path, sound=has_sound, stream=1 if recipe.second_sound else 0)
    result = measure(out, sound=has_sound)
    if len(source.times) != len(result.times):
        raise Wrong(f"{len(result.times)} frames of {len(source.times)}")
    off = float(np.abs(source.times - result.times).max())
    if off > _MAX_TIME_S:
        raise Wrong(f"a frame is off by {1000 * off:.1f} ms")
    if abs(result.length_s - length_s) > _MAX_TIME_S or abs(source.length_s - length_s) > 0.1:
        raise Wrong(f"{result.length_s:.3f} s of {source.length_s:.3f} s")
    if abs((source.flash_s or 0) - 0.4) > 0.05:
        raise Wrong(f"the source's flash is at {source.flash_s}")
    figures = [f"{len(source.times)} frames"]
    if has_sound:
        if source.beep_s is None or result.beep_s is None or result.flash_s is None or source.flash_s is None:
            raise Wrong(f"no beep: {source.beep_s} {result.beep_s}")
        sync = (result.beep_s - result.flash_s) - (source.beep_s - source.flash_s)
        if abs(sync) > _MAX_SYNC_S:
            raise Wrong(f"sound is off by {1000 * sync:.1f} ms")
        figures.append(f"sync {1000 * sync:+.1f} ms")
    if not recipe.hdr:
        height, width = first.shape[:2]
        truth = true_picture(recipe, path, (width, height))
        margin = 10 if recipe.pixels in ("yuv410p",) else 4  # chroma of 4 x 4 pixels
        decoded = colour_error(first, truth, margin)
        data = ffmpeg("-i", str(out), "-frames:v", "1", "-vf",
                      "zscale=matrixin=709:rangein=limited:matrix=gbr:range=full,format=gbrp,format=rgb24",
                      "-f", "rawvideo", "pipe:1")  # fmt: skip
        shape = (height // 2 * 2, width // 2 * 2, 3)
        written = colour_error(np.frombuffer(data, np.uint8).reshape(shape), first[: shape[0], : shape[1]], margin)
        if max(decoded, written) > _MAX_LEVELS:
            raise Wrong(f"colours are off by {decoded:.1f} levels decoded, {written:.1f} written")
        figures.append(f"colours {decoded:.1f}, {written:.1f}")
    return ", ".join(figures)


def main(names: list[str]) -> int:
    """Check the films of these names, or all; print a line each."""
    counts: Counter[str] = Counter()
    for recipe in recipes():
        if names and recipe.name not in names:
            continue
        started = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            try:
                line = check(recipe, Path(folder))
                outcome = "refused" if line == "refused" else "done"
            except subprocess.CalledProcessError as error:
                outcome, line = "not made", error.stderr.decode(errors="replace").strip().splitlines()[-1]
            except Wrong as error:
                outcome, line = "WRONG", str(error)
            except Exception as error:  # noqa: BLE001 - the whole point is to find them
                outcome, line = "CRASH", f"{type(error).__name__}: {error}"
        counts[outcome] += 1
        sys.stdout.write(f"{outcome:9} {recipe.name:26} {line}  ({time.process_time() - started:.1f} s)\n")
        sys.stdout.flush()
    sys.stdout.write(", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items())) + "\n")
    return 1 if set(counts) - {"done", "refused"} else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
