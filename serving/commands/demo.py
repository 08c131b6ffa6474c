"""`sfumato demo`: every stage on small data. A second run repeats only what is missing.

Every stage is one call of the `sfumato` command in its own process, so that the table at the end lists commands to
copy. The training set holds a few synthetic people and the four people of the real clips, three of whom drive the
Mona Lisa.
"""

import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from pipelines import assets, storage
from pipelines.cli import Artefact, CommandResult, console
from pipelines.media.animated_webp import write_animated_webp
from pipelines.provenance.marks import Ingredient, Provenance, marked
from pipelines.provenance.signing_key import load_signing_key
from pipelines.storage import ScratchFolder
from pipelines.storage.hashing import sha256_of
from pipelines.synthetic.corpus.corpus import CorpusConfig, plan_clips
from serving.batch.results.sidecars import read_sidecar
from serving.client import Client
from training.checkpoints.shipped import SHIPPED
from training.device import choose_device

# Rendered in half a minute. 3 s of video give 38 candidate frames, of which 32 are kept.
_CORPUS = CorpusConfig(identities=12, videos=1, seconds=3.0)
_CORPUS_FOLDER = "corpus"
_HELD_OUT = 2  # synthetic people in the test split, for `sfumato evaluate`; the four real people are too few to split
_FRAMES_PER_CLIP = 32

# Asset -> (identity, video). Clips of one person share an identity, so that no person is in two splits.
_CLIPS = {
    "clip_langer": ("woman", "pexels"),
    "clip_single_face": ("man-at-door", "single-face"),
    "clip_face_noface": ("man-at-door", "face-noface"),
    "clip_noface_face": ("man-at-door", "noface-face"),
    "clip_carphone": ("man-in-car", "carphone"),
    "clip_cap12": ("man-at-map", "cap12"),
    "clip_cap13": ("man-at-map", "cap13"),
}
_OPTIONAL_CLIPS = ("clip_cap12", "clip_cap13")
_DRIVERS = ("clip_langer", "clip_single_face", "clip_carphone")
_HTTP_DRIVER = "clip_single_face"
_PORTRAIT = "mona_lisa"
_WEIGHTS = ("face_landmarker", "selfie_segmenter", "lpips_vgg16")
_LICENCE = "real clips: MIT, BSD and Pexels licences (see `sfumato assets list`); synthetic people: CC0 data"
_CONSENT = "Public domain: painted by Leonardo da Vinci about 1503; the sitter died in 1542."
_JOB_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Options:
    """Run every stage on this machine: from synthetic people and real videos to an animated Mona Lisa."""

    out: Annotated[str, tyro.conf.arg(aliases=["-o"], metavar="OUT")] = "demo"
    """Folder of all results."""
    num_steps: int | None = None
    """Meta-training steps; default: the preset's."""
    device: str = "auto"
    """Device of the networks: auto (a CUDA device if there is one), cpu, cuda or cuda:N. With a CUDA device,
    meta-training uses one GPU, which Ray chooses."""


@dataclass(frozen=True)
class _Row:
    """One row of the table at the end: a stage's result, where it is, seconds, and the command to repeat or view it."""

    what: str
    where: str
    seconds: float
    command: str


def run(options: Options) -> CommandResult:
    """Run every stage that is not complete.

    Raises:
        ValueError: there is no such device, or a stage failed; its own message is printed before.
        KeyboardInterrupt: Ctrl-C; a second run resumes.
    """
    started, device = time.monotonic(), choose_device(options.device)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    paths, notes = _fetch()
    seconds = time.monotonic() - started
    rows = [_Row("weights and clips", str(assets.cache_folder()), seconds, "sfumato assets list")]
    for what, where, command in commands(out, paths, options.num_steps, options.device, uses_gpu=device.type != "cpu"):
        rows.append(_Row(what, where, _call(what, command), shlex.join(["sfumato", *command])))
    rows.append(_animated_webp(out))
    rows.append(_round_trip(out, paths, options.device))
    rows.append(_Row("experiments", str(out / "mlflow.db"), 0.0, f"make mlflow DEMO={shlex.quote(options.out)}"))
    _print_table(rows)
    made = tuple(Artefact(row.what, row.where) for row in rows)
    return CommandResult(made=made, counts={"stages": len(rows)}, seconds=time.monotonic() - started, notes=notes)


def _fetch() -> tuple[dict[str, Path], tuple[str, ...]]:
    """Fetch weights and clips; return their paths and a note about optional clips, which need npm, that are missing."""
    paths = dict(assets.fetch_many([*_WEIGHTS, *(name for name in _CLIPS if name not in _OPTIONAL_CLIPS), _PORTRAIT]))
    try:
        paths |= assets.fetch_many(_OPTIONAL_CLIPS)
    except ValueError as error:
        return paths, (f"training goes without {', '.join(_OPTIONAL_CLIPS)}: {error}",)
    return paths, ()


def commands(
    out: Path, paths: Mapping[str, Path], num_steps: int | None, device: str = "auto", *, uses_gpu: bool = False
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield (result, its path, command arguments) of each stage. Write the manifest before yielding `preprocess`.

    Args:
        device: `--device`; auto is every command's default.
        uses_gpu: whether that is a GPU here, which meta-training then takes too.
    """
    on_device = () if device == "auto" else ("--device", device)
    tracking = f"sqlite:///{out / 'mlflow.db'}"
    dataset, model, avatar, videos = (str(out / name) for name in ("dataset", "model", "avatar", "videos"))
    corpus = str(out / _CORPUS_FOLDER)
    numbers = {"--identities": _CORPUS.identities, "--videos": _CORPUS.videos, "--seconds": _CORPUS.seconds}
    size = (word for flag, number in numbers.items() for word in (flag, f"{number:g}"))
    yield "synthetic people", corpus, ("synthesize", corpus, *size)
    preprocess = ("preprocess", str(write_manifest(out, paths)), dataset, "--frames-per-clip", str(_FRAMES_PER_CLIP))
    # The manifest assigns the test split.
    yield "data set", dataset, (*preprocess, "--val-fraction", "0", "--test-fraction", "0", "--licence", _LICENCE)
    steps = () if num_steps is None else ("--num-steps", str(num_steps))
    gpus = ("--gpus", "--workers", "1") if uses_gpu else ()
    train = ("meta-train", "demo", "--data", dataset, "-o", model, "--mlflow", tracking)
    yield "base model of your own", model, (*train, *gpus, *steps)
    # The demo's own model is trained for minutes only; the portrait uses the bundled one.
    yield "avatar", avatar, ("fine-tune", str(paths[_PORTRAIT]), "-o", avatar, "--consent", _CONSENT, *on_device)
    drivers = (str(paths[name]) for name in _DRIVERS)
    yield "videos", videos, ("animate", "-s", avatar, "-d", *drivers, "-o", videos, *on_device)


def write_manifest(out: Path, paths: Mapping[str, Path]) -> Path:
    """Write a manifest of the real and the synthetic clips; the last synthetic people form the test split."""
    rows: list[dict[str, str]] = [
        {"path": str(paths[name]), "identity": identity, "video": video}
        for name, (identity, video) in _CLIPS.items()
        if name in paths
    ]
    for spec in plan_clips(_CORPUS):
        split = "test" if spec.identity > _CORPUS.identities - _HELD_OUT else "train"
        names = {"identity": spec.key.identity, "video": spec.key.video, "clip": spec.key.clip}
        rows.append({"path": spec.url(_CORPUS_FOLDER), **names, "split": split})
    manifest = out / "clips.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


def _call(what: str, command: tuple[str, ...]) -> float:
    """Run one `sfumato` command, its output on the terminal; return the seconds it took."""
    console().rule(f"[bold]{what}", align="left")
    console().print(shlex.join(["sfumato", *command]), style="dim", markup=False)
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "sfumato", *command], check=False)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode != 0:
        raise ValueError(f"the {what} could not be made: `sfumato {command[0]}` ended with code {done.returncode}")
    return time.monotonic() - started


def _animated_webp(out: Path) -> _Row:
    """Convert the first driver's result to a small animated WebP, for a web page."""
    picture = out / "videos" / "mona-lisa.webp"
    (video,) = (out / "videos").glob("*Langer*.side-by-side.mp4")
    seconds = _unless_newer(picture, video, lambda: _write_marked(video, picture))
    return _Row("animated picture", str(picture), seconds, f"open {shlex.quote(str(picture))} in a browser")


def _write_marked(video: Path, picture: Path) -> None:
    """Write the animated picture with credentials, of which those of the video are part."""
    sidecar = read_sidecar(str(video.with_name(video.name.replace(".side-by-side.mp4", ".json"))))
    film = Ingredient("film", video.name, sha256_of(video), video, is_shown=True)
    provenance = Provenance((film,), model="" if sidecar is None else sidecar.model, command="sfumato demo")
    with ScratchFolder() as scratch:
        written = Path(scratch) / picture.name
        write_animated_webp(video, written)
        storage.write_bytes(str(picture), marked(written.read_bytes(), picture.name, provenance, load_signing_key()))


def _round_trip(out: Path, paths: Mapping[str, Path], device: str) -> _Row:
    """Make an avatar of the same portrait and a video through the HTTP service."""
    video = out / "videos" / "over-http.mp4"

    def serve_and_request() -> None:
        from serving.commands.serve import Options as ServeOptions
        from serving.commands.serve import running

        console().rule("[bold]HTTP round trip", align="left")
        options = ServeOptions(data_dir=str(out / "service"), port=_free_port(), num_steps=10, device=device)
        with running(options) as url:
            _request_video(url, paths[_PORTRAIT], paths[_HTTP_DRIVER], video)

    seconds = _unless_newer(video, Path(SHIPPED) / "manifest.json", serve_and_request)
    return _Row("video over HTTP", str(video), seconds, "sfumato serve")


def _request_video(url: str, portrait: Path, driver: Path, video: Path) -> None:
    with Client(url) as service:
        avatar = service.create_avatar([portrait], consent=_CONSENT)
        service.wait(avatar.id, timeout_s=_JOB_TIMEOUT_S)
        job = service.create_video(avatar.avatar_id, driver=driver)
        service.wait(job.id, timeout_s=_JOB_TIMEOUT_S)
        service.download(job.id, video)


def _unless_newer(target: Path, source: Path, make: Callable[[], None]) -> float:
    """Call `make` when `target` is missing or older than `source`; return the seconds it took."""
    started = time.monotonic()
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        make()
    return time.monotonic() - started


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _print_table(rows: list[_Row]) -> None:
    table = Table(title="Results of the demo", title_justify="left")
    for column in ("what", "where"):
        table.add_column(column, overflow="fold")
    table.add_column("seconds", justify="right")
    table.add_column("command to repeat or view it", overflow="fold")
    for row in rows:
        table.add_row(row.what, row.where, f"{row.seconds:.1f}", row.command)
    console().print(table)
