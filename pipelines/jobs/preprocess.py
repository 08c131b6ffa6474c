"""`sfumato preprocess SRC OUT`: videos -> shards, with Beam. Run again, it continues where it stopped."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow.parquet as pq
import tyro

from pipelines import schema, storage
from pipelines.card import data_card
from pipelines.clips import ClipConfig
from pipelines.command import Artefact, Outcome
from pipelines.faces import CropRule
from pipelines.landmarks import require_weights
from pipelines.plan import Plan, PlanConfig, make_plan
from pipelines.process import ShardSpec
from pipelines.quality import QualityRule
from pipelines.resume import check_resume, write_plan
from pipelines.schema import SCHEMA_VERSION, SPLITS
from pipelines.shard_writer import ShardReport, sum_seconds
from pipelines.shards import MANIFEST, DatasetManifest, read_manifest
from pipelines.sources import Layout, Source, find_sources
from pipelines.video import probe

_JPEG_BYTES_PER_PIXEL = 0.37  # q95 4:4:4 crops of faces: about 24 kB at 256 px


@dataclass(frozen=True)
class Options:
    """Videos in, shards of face crops and landmarks out."""

    src: tyro.conf.Positional[str]
    """Folder of videos, one video, or a manifest (.jsonl or .csv: path, identity, video, clip, split)."""
    out: tyro.conf.Positional[str]
    """Where the data set goes: a path or URL. An unfinished one is continued."""
    layout: Layout = "auto"
    """How SRC is laid out; `voxceleb` is identity/video/clip.mp4."""
    detector: Literal["mediapipe", "face-alignment"] = "mediapipe"
    """Finds faces and their 68 landmarks."""
    frames_per_clip: int = 16
    """Frames kept of each clip, spread over pose and expression."""
    min_frames: int = 9
    """Frames with a face that a clip must have (K + 1 for K shots), else it is rejected."""
    size: int = 256
    """Side of the crops in pixels."""
    fps_limit: float = 12.5
    """Frames looked at per second of film, at most."""
    min_face: float = 32.0
    """Smallest face accepted, in pixels of the source."""
    min_sharpness: float = 3.0
    """Least sharpness accepted (variance of the Laplacian over the face)."""
    audio: bool = True
    """Keep the clips' sound in the shards."""
    val_fraction: float = 0.05
    """Share of identities held out for validation, by hash of the identity."""
    test_fraction: float = 0.05
    """Share of identities held out for testing."""
    licence: str = "not stated"
    """Licence of the source, recorded in the data set and its card."""
    runner: str = "local"
    """`local` (this machine), or a Beam runner by name (DataflowRunner, FlinkRunner, ...)."""
    workers: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    """Shards made at once by the local runner."""
    beam_args: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Flags that this verb does not know and Beam does."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")

    def clip_config(self) -> ClipConfig:
        """What decides the content of a row. Raises ValueError for values out of range."""
        return ClipConfig(
            detector=self.detector,
            frames_per_clip=self.frames_per_clip,
            size=self.size,
            fps_limit=self.fps_limit,
            audio=self.audio,
            crop=CropRule(),
            quality=QualityRule(self.min_frames, self.min_face, self.min_sharpness),
        )

    def plan_config(self) -> PlanConfig:
        """What decides splits and shards."""
        frame_bytes = int(self.size**2 * _JPEG_BYTES_PER_PIXEL)
        return PlanConfig(
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            clip_bytes=self.frames_per_clip * frame_bytes,
        )


def accept_unknown(options: Options, args: list[str]) -> Options:
    """Take flags that are not ours as Beam's. Raises ValueError for what Beam does not know either."""
    from pipelines.jobs.runner import check_beam_args

    check_beam_args(args)
    return dataclasses.replace(options, beam_args=tuple(args))


def run(options: Options) -> Outcome:
    """Plan, run what is not done, and write the manifest last.

    Raises:
        FileNotFoundError: SRC does not exist.
        ValueError: nothing to do in SRC, or OUT holds a data set made with another config or other inputs.
    """
    begin = time.monotonic()
    config = options.clip_config()
    sources = find_sources(options.src, options.layout)
    if len(sources) == 1 and sources[0].url == options.src and storage.is_local(options.src):
        probe(storage.local_path(options.src))  # one video, named by hand: say at once what is wrong with it
    plan = make_plan(sources, options.plan_config())
    settings = config_record(config, options.plan_config(), require_weights(config.detector))
    reports, resumed = _make_shards(options, config, settings, plan, sources)
    manifest = _finish(options, settings, plan, sources, reports)
    return _outcome(options.out, manifest, resumed, _refusals(options.out, plan), time.monotonic() - begin)


def config_record(config: ClipConfig, plan: PlanConfig, weights: Mapping[str, str]) -> dict[str, Any]:
    """Everything that the shards depend on besides the inputs: the config whose hash they carry."""
    # Predicted sizes follow from the clip's config; as a difference of their own they would only puzzle.
    planned = {name: value for name, value in asdict(plan).items() if name != "clip_bytes"}
    return {"schema_version": SCHEMA_VERSION, "clip": asdict(config), "plan": planned, "weights": dict(weights)}


def _make_shards(
    options: Options, config: ClipConfig, settings: Mapping[str, Any], plan: Plan, sources: Sequence[Source]
) -> tuple[list[ShardReport], int]:
    """Reports of all shards, in order, and how many of them were done before."""
    config_sha256 = schema.digest_of(settings)
    started = check_resume(options.out, settings, plan)
    specs = [
        ShardSpec(
            root=_absolute(options.out),
            split=split,
            shard=shard,
            clips=tuple(dataclasses.replace(clip.source, url=_absolute(clip.source.url)) for clip in clips),
            config=config,
            config_sha256=config_sha256,
            spec_sha256=plan.digest,
        )
        for (split, shard), clips in plan.shards().items()
    ]
    todo = [spec for spec in specs if spec.finished() is None] if started else specs
    if not started:
        write_plan(options.out, settings, plan)
    if todo:
        from pipelines.jobs.runner import run_shards

        run_shards(todo, runner=options.runner, workers=options.workers, beam_args=options.beam_args)
    reports = [spec.finished() for spec in specs]
    missing = [spec.shard for spec, report in zip(specs, reports, strict=True) if report is None]
    if missing:
        raise OSError(f"{len(missing)} of {len(specs)} shards were not made; run the same command again to continue")
    done = [report for report in reports if report is not None]
    total = sum(report.num_done + report.num_rejected + report.num_failed for report in done)
    assert total == len(sources), f"{len(sources)} inputs, but {total} outcomes"
    return done, len(specs) - len(todo)


def _absolute(url: str) -> str:
    # Workers may have another working directory.
    return str(storage.local_path(url).absolute()) if storage.is_local(url) else url


def _finish(
    options: Options,
    settings: Mapping[str, Any],
    plan: Plan,
    sources: Sequence[Source],
    reports: Sequence[ShardReport],
) -> DatasetManifest:
    """Write the data card and, last, dataset.json; both are left alone when they say the same already."""
    codes: dict[str, int] = {}
    for report in reports:
        for code, number in report.codes.items():
            codes[code] = codes.get(code, 0) + number
    manifest = DatasetManifest(
        schema_version=SCHEMA_VERSION,
        code_version=_code_version(),
        config=json.loads(schema.canonical_json(settings)),
        config_sha256=schema.digest_of(settings),
        plan_sha256=plan.digest,
        source=options.src.rstrip("/").rpartition("/")[2] or options.src,
        licence=options.licence,
        counts={
            "inputs": len(sources),
            "done": sum(report.num_done for report in reports),
            "rejected": sum(report.num_rejected for report in reports),
            "failed": sum(report.num_failed for report in reports),
            "frames": sum(report.num_frames for report in reports),
            "identities": len({source.key.identity for source in sources}),
        },
        codes=dict(sorted(codes.items())),
        shards=tuple(report.entry for report in reports),
        episode_k_max=max(0, min((r.min_clip_frames for r in reports if r.num_done), default=0) - 1),
        stage_seconds=sum_seconds(reports),
    )
    try:
        if read_manifest(options.out) == manifest:
            return manifest
    except ValueError:
        pass  # there is none yet
    identities = {split: len({c.source.key.identity for c in plan.clips if c.split == split}) for split in SPLITS}
    storage.write_bytes(storage.join(options.out, "README.md"), data_card(manifest, identities).encode())
    storage.write_bytes(storage.join(options.out, MANIFEST), manifest.to_json().encode())
    return manifest


def _code_version() -> str:
    from importlib.metadata import version

    return version("sfumato")


def _refusals(out: str, plan: Plan) -> list[str]:
    """One line per clip that gave no row, at most twenty."""
    lines: list[str] = []
    for _, shard in plan.shards():
        url = storage.join(out, schema.rejects_name(shard))
        if storage.exists(url):
            rows = pq.read_table(io.BytesIO(storage.read_bytes(url))).to_pylist()
            lines += [f"{row['source']} {row['status']} ({row['code']}): {row['message']}" for row in rows]
    more = len(lines) - 20
    return [*lines[:20], f"and {more} more, in {storage.join(out, 'rejects')}"] if more > 0 else lines


def _outcome(out: str, manifest: DatasetManifest, resumed: int, refusals: list[str], seconds: float) -> Outcome:
    counts = dict(manifest.counts)
    total = counts["done"] + counts["rejected"] + counts["failed"]
    sums = f"{counts['done']} done + {counts['rejected']} rejected + {counts['failed']} failed = {total} inputs"
    notes = [sums, *refusals]
    if resumed:
        notes.append(f"{resumed} of {len(manifest.shards)} shards were done before")
    if not counts["done"]:
        notes.append("no clip gave a usable row")
    return Outcome(
        made=(Artefact("data set", out),), counts=counts, seconds=seconds, ok=counts["done"] > 0, notes=tuple(notes)
    )
