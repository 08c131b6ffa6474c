"""The README.md that every data set carries: what is inside, what was refused and why, how to take a person out."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.shards import DatasetManifest


def data_card(manifest: DatasetManifest, identities: Mapping[str, int]) -> str:
    """Markdown. `identities`: split -> number of identities planned for it."""
    counts, clip = manifest.counts, manifest.config["clip"]
    splits = "\n".join(
        f"| {split} | {number} | {sum(s.num_clips for s in manifest.shards if s.split == split)} | "
        f"{sum(s.num_frames for s in manifest.shards if s.split == split)} |"
        for split, number in identities.items()
    )
    refused = "\n".join(f"| {code} | {number} |" for code, number in manifest.codes.items()) or "| none | 0 |"
    return f"""# Talking-head data set

Made by `sfumato preprocess` {manifest.code_version}, schema version {manifest.schema_version}.
Digest `{manifest.digest}`.

- Source: {manifest.source}
- Licence: {manifest.licence}
- Crops of {clip["size"]} x {clip["size"]} pixels, up to {clip["frames_per_clip"]} frames per clip, JPEG quality \
{clip["jpeg_quality"]}
- 68 landmarks per frame by {clip["detector"]}, in pixels of the crop
- Sound: {"kept, packets copied" if clip["audio"] else "left out"}

## What is inside

{counts["inputs"]} input clips: {counts["done"]} done, {counts["rejected"]} rejected, {counts["failed"]} failed.

| split | identities planned | clips | frames |
|---|---|---|---|
{splits}

No identity is in two splits.

## What was rejected or failed, and why

| reason | clips |
|---|---|
{refused}

Each one is a row of `rejects/part-*.parquet`, with its stage and message.

## Faces of real people

The crops show faces, and some rows hold voices. To take a person out, remove the identity's clips from the source,
and make the data set again in a new folder; `plan.parquet` says which shard holds which identity.
"""
