import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import INDEX, PART, edit_table, findings, first_frame, flip

from pipelines.dataset.manifest import read_manifest

Make = Callable[..., Any]


def test_a_flipped_byte_in_a_picture_is_found_and_named(root: Path) -> None:
    flip(root / PART, first_frame(root)["jpeg_offset"] + 60)
    found = findings(root, quick=True)
    assert any(line.startswith(f"{PART}: sha256: expected") for line in found)
    assert any(line.startswith(f"{PART}: damaged pictures: frame 5 of ann/v1/a: crc32c: expected") for line in found)
    assert len(found) == 2


def test_a_picture_of_another_size_or_none_at_all_is_found_unless_quick(root: Path) -> None:
    manifest = read_manifest(str(root))
    config = {**manifest.config, "clip": {**manifest.config["clip"], "size": 64}}
    (root / "dataset.json").write_text(dataclasses.replace(manifest, config=config).to_json())
    wanted = f"{PART}: pictures: frame 5 of ann/v1/a: expected 64 x 64 px, found 32 x 32 (and 36 more)"
    assert wanted in findings(root)
    assert wanted not in findings(root, quick=True)
    edit_table(root / PART, lambda rows: rows[0]["frame_jpeg"].__setitem__(0, b"no picture"))
    assert any("a JPEG of 10 bytes cannot be decoded" in line for line in findings(root))


def test_flipped_landmarks_are_found(root: Path) -> None:
    flip(root / PART, first_frame(root)["landmarks_offset"] + 3)  # sign and exponent of the first x
    assert any(line.startswith(f"{PART}: sha256: expected ") for line in findings(root))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "landmarks that are no numbers: frame 6 of ann/v1/a"),
        (39.5, "landmarks outside the crop: frame 6 of ann/v1/a: from "),
        (-8.5, "landmarks outside the crop: frame 6 of ann/v1/a: from -8.5 to "),
        (38.5, ""),  # a quarter of the side outside is allowed: up to 31 + 8
    ],
)
def test_landmarks_must_be_numbers_inside_the_crop_or_little_outside(value: float, message: str, root: Path) -> None:
    edit_table(root / PART, lambda rows: rows[0]["landmarks"][1].__setitem__(7, value))
    found = [line for line in findings(root) if line.startswith(f"{PART}: landmarks")]
    assert [line.startswith(f"{PART}: {message}") for line in found] == ([True] if message else [])


def test_swapped_index_rows_are_found(root: Path) -> None:
    edit_table(root / INDEX, lambda rows: rows.insert(0, rows.pop(1)))
    found = findings(root)
    assert f"{INDEX}: frame_index differs from the part's: row 0: expected 5, found 6 (and 1 more)" in found
    assert any(line.startswith(f"{INDEX}: byte ranges of pictures: row 0: ") for line in found)
    assert any(line.startswith(f"{INDEX}: byte ranges of landmarks: row 0: ") for line in found)


def test_an_index_that_names_other_clips_or_too_few_frames_is_found(root: Path) -> None:
    edit_table(root / INDEX, lambda rows: rows[0].update(identity="eve"))
    assert f"{INDEX}: keys differ from the part's: row 0: expected ann/v1/a, found eve/v1/a" in findings(root)
    edit_table(root / INDEX, lambda rows: rows.pop())
    assert f"{INDEX}: rows: expected 37, one per frame of the part, found 36" in findings(root)


def test_offsets_beyond_the_file_are_a_finding(root: Path) -> None:
    edit_table(root / INDEX, lambda rows: rows[2].update(jpeg_offset=2**40, landmarks_offset=-1))
    found = findings(root)
    assert any(line.startswith(f"{INDEX}: byte ranges of pictures: row 2: ") for line in found)
    assert any(line.startswith(f"{INDEX}: byte ranges of landmarks: row 2: ") for line in found)


def test_another_encoding_is_found(root: Path) -> None:
    edit_table(root / PART, lambda rows: None, use_dictionary=True)
    assert any(line.startswith(f"{PART}: encodings: column") for line in findings(root))


def test_lists_of_unequal_length_are_found(root: Path) -> None:
    edit_table(root / PART, lambda rows: rows[1]["yaw"].pop())
    (line,) = [line for line in findings(root) if "unequal" in line]
    assert line.startswith(f"{PART}: lists of unequal length: ann/v1/b: frame_index 16, ")
    assert "yaw 15" in line


def test_frames_must_ascend(root: Path) -> None:
    edit_table(root / PART, lambda rows: rows[1]["frame_index"].__setitem__(3, 7))
    assert f"{PART}: frame_index that does not ascend: ann/v1/b: 7, then 7" in findings(root)


def test_a_video_in_two_row_groups_is_found(root: Path) -> None:
    kind, rows = pq.read_schema(root / PART), pq.read_table(root / PART).to_pylist()
    with pq.ParquetWriter(root / PART, kind, compression="none", use_dictionary=False) as writer:
        for row in rows:
            writer.write_table(pa.Table.from_pylist([row], kind))
    assert f"{PART}: row groups: video ann/v1 is in more than one" in findings(root)


def test_numbers_that_are_none_are_found(root: Path) -> None:
    edit_table(root / PART, lambda rows: rows[0]["yaw"].__setitem__(2, np.nan))
    assert f"{PART}: yaw that is no number: frame 7 of ann/v1/a" in findings(root)
