"""Write the README.md of a data set: contents, rejected clips with reasons, how to read it, how to remove a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.dataset import schema
from pipelines.dataset.manifest import DatasetManifest
from pipelines.dataset.paths import CLIPS, HIVE, INDEX, shard_paths
from pipelines.dataset.pose_counts import STEP_DEGREES, quantile, sum_counts
from pipelines.dataset.shard_report import ShardReport
from pipelines.one_line import one_line

EXPLANATIONS = {
    "unreadable": "no video, or one that is damaged beyond decoding",
    "no_face": "no face in any of the frames looked at",
    "several_faces": "several people, and none of them clearly the main one",
    "too_small": "the face is smaller than `min_face`",
    "blurred": "the face is less sharp than `min_sharpness`",
    "too_few_frames": "the face is in fewer frames than `min_frames`",
    "cut_inside": "cuts leave too few frames of any one scene",
    "duplicate": "the same film is in the data set under another name",
    "storage": "the file could not be fetched; `sfumato retry` tries again",
    "missing": "the manifest names a file that does not exist; `sfumato retry` tries again",
    "decoder_crashed": "the film crashed its decoder or took too much memory; `sfumato retry` tries again",
    "timed_out": "the film took its decoder too long; `sfumato retry` tries again",
    "internal": "our own error; `sfumato retry` tries again",
}
_SHARES = {"least": 0.0, "1 %": 0.01, "5 %": 0.05, "half": 0.5, "95 %": 0.95, "99 %": 0.99, "most": 1.0}


def data_card(manifest: DatasetManifest, identities: Mapping[str, int], reports: Sequence[ShardReport] = ()) -> str:
    """Return the card as Markdown; the same arguments give the same text.

    Args:
        identities: split -> number of planned identities.
        reports: reports of all shards; without them the card has no hours of video and no poses.
    """
    sections = (
        _front_matter(manifest),
        _header(manifest),
        _contents(manifest, identities, reports),
        _poses(reports),
        _rejects(manifest),
        _processing(manifest),
        _reading(manifest),
        _removing_people(),
        _limits(manifest),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(manifest: DatasetManifest) -> str:
    """Return the YAML by which the Hugging Face hub and its library `datasets` find the clips of each split.

    https://huggingface.co/docs/hub/datasets-manual-configuration
    """
    if manifest.layout != HIVE:
        return ""
    splits = sorted({entry.split for entry in manifest.shards if entry.num_clips}, key=schema.SPLITS.index)
    files = "\n".join(f"  - split: {split}\n    path: {CLIPS}/split={split}/*.parquet" for split in splits)
    return f"---\nconfigs:\n- config_name: {CLIPS}\n  data_files:\n{files}\n---" if splits else ""


def _header(manifest: DatasetManifest) -> str:
    return f"""# Talking-head data set

Face crops with 68 landmarks a frame, cut from films of people. Made by `sfumato preprocess` {manifest.code_version},
schema version {manifest.schema_version}.

- Source: {escape_line(manifest.source)}
- Licence: {escape_line(manifest.licence)}
- Digest: `{manifest.digest}`"""


def _contents(manifest: DatasetManifest, identities: Mapping[str, int], reports: Sequence[ShardReport]) -> str:
    counts = manifest.counts
    shots = manifest.episode_k_max
    episodes = f"Every clip holds an episode of up to K = {shots} shots and one target." if shots else ""
    header = ["split", "identities planned", "clips", "frames", *(["hours of film"] if reports else [])]
    rows: list[list[str]] = []
    for split, number in identities.items():
        entries = [entry for entry in manifest.shards if entry.split == split]
        row = [
            split,
            f"{number:,}",
            f"{sum(e.num_clips for e in entries):,}",
            f"{sum(e.num_frames for e in entries):,}",
        ]
        if reports:
            row.append(_hours(sum(report.source_us for report in reports if report.split == split)))
        rows.append(row)
    return f"""## What is inside

{counts["inputs"]:,} input clips: {counts["done"]:,} done, {counts["rejected"]:,} rejected, {counts["failed"]:,} failed.

{table(header, rows)}

No identity is in two splits. {episodes}""".rstrip()


def _hours(microseconds: int) -> str:
    hours = microseconds / 3.6e9
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.3f}"


def _poses(reports: Sequence[ShardReport]) -> str:
    counts = {name: sum_counts((report.spread for report in reports), name) for name in ("yaw", "pitch", "frames")}
    if not all(counts.values()):
        return ""
    names = {"yaw": "yaw (°)", "pitch": "pitch (°)", "frames": "frames per clip"}
    rows = [[text, *(str(quantile(counts[name], share)) for share in _SHARES.values())] for name, text in names.items()]
    return f"""## Where the faces look

{table(["", *_SHARES], rows)}

A column says which value that share of the frames (of the clips, in the last row) does not exceed. Angles to the
nearest {STEP_DEGREES} degrees: yaw > 0 turns the face to the picture's right, pitch > 0 looks up."""


def _rejects(manifest: DatasetManifest) -> str:
    rows = [[code, f"{number:,}", EXPLANATIONS.get(code, "")] for code, number in manifest.codes.items()]
    return f"""## What was rejected or failed, and why

{table(["reason", "clips", "meaning"], rows or [["none", "0", ""]])}

Each one is a row of `rejects/part-*.parquet`, with its stage, its message and what was measured before."""


def _processing(manifest: DatasetManifest) -> str:
    clip = manifest.config["clip"]
    rule = clip["quality"]
    weights = "\n".join(f"- `{name}`: sha256 `{digest}`" for name, digest in manifest.config["weights"].items())
    return f"""## How it was made

- Crops of {clip["size"]} x {clip["size"]} pixels, JPEG quality {clip["jpeg_quality"]}
- Up to {clip["frames_per_clip"]} frames per clip, spread over pose and expression
- 68 landmarks per frame (iBUG order) by {clip["detector"]}, in pixels of the crop, pixel centres at whole numbers
- Sound: {"kept, packets copied" if clip["audio"] else "left out"}
- Least accepted: {rule["min_frames"]} frames with a face, a face of {rule["min_face"]:g} pixels, sharpness \
{rule["min_sharpness"]:g}
- Config: sha256 `{manifest.config_sha256}`

Pretrained files:

{weights or "- none"}"""


def _reading(manifest: DatasetManifest) -> str:
    filled = [entry for entry in manifest.shards if entry.num_clips]
    split = filled[0].split if filled else schema.SPLITS[0]
    return f"""## How to read it

With Sfumato, any frame by its byte range, from a folder or an object store:

```python
from pipelines.dataset.reader import ShardDataset

dataset = ShardDataset(".")  # this folder, as a path or URL
for video in dataset.videos("{split}"):
    for frame, (jpeg, landmarks) in zip(video.frames, dataset.read(video.frames)):
        print(video.video_id, frame.clip, frame.frame_index, len(jpeg), landmarks.shape)
```

{_other_readers(manifest, split, filled[0].shard if filled else 0)}"""


def _other_readers(manifest: DatasetManifest, split: str, shard: int) -> str:
    if manifest.layout == HIVE:
        return f"""With any Parquet reader, one row per clip, and the split as a column:

```python
import duckdb, pandas, polars, pyarrow.dataset

duckdb.sql("SELECT split, identity, len(frame_jpeg) FROM read_parquet('{CLIPS}/**/*.parquet', hive_partitioning=true)")
polars.scan_parquet("{CLIPS}/").select("split", "identity").collect()
pandas.read_parquet("{CLIPS}/", columns=["split", "identity"])
pyarrow.dataset.dataset("{CLIPS}/", partitioning="hive").to_table(columns=["split", "identity"])
```

`{INDEX}/` has one row per frame in the same folders: byte ranges, pose, sharpness."""
    return f"""With any Parquet reader, one row per clip and one row group per source video:

```python
import pyarrow.parquet as pq

for clip in pq.ParquetFile("{shard_paths(split, shard, manifest.layout).part}").read_row_group(0).to_pylist():
    print(clip["identity"], clip["video"], clip["clip"], len(clip["frame_jpeg"]), len(clip["landmarks"][0]))
```"""


def _removing_people() -> str:
    return """## Faces of real people

The crops show faces, some rows hold voices, and the rejects have small pictures. To take a person out, everywhere:

```
sfumato forget . --identity ID
```

`plan.parquet` has the names. Models trained before still know the face: train again without it."""


def _limits(manifest: DatasetManifest) -> str:
    lines = [
        "Landmarks, angles and measures come from a detector, not from people: least exact in profile.",
        "An identity is what the source calls one: nobody has compared the faces.",
        "Who is in it follows from the source; ages, skin tones and languages were neither measured nor balanced.",
        "Frames were chosen to differ in pose and expression: they are no sample of how people look on average.",
    ]
    if manifest.config["clip"]["audio"]:
        lines.append("Sound is that of the whole clip, not only of the frames kept.")
    return "## Known limits\n\n" + "\n".join(f"- {line}" for line in lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def escape_line(text: str) -> str:
    """Return a user's text on one line, with `<` and backquotes replaced so that it is not read as Markdown."""
    return one_line(text).replace("<", "&lt;").replace("`", "'")
