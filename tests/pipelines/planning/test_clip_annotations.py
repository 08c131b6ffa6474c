import json
from fractions import Fraction
from pathlib import Path

import pytest

from pipelines.planning.clip_annotations import parse_annotation, read_annotations, read_box_text

# The examples of the two data sets' READMEs.
CELEBV_HQ = {
    "ytb_id": "M2Ohb0FAaJU",
    "duration": {"start_sec": 81.62, "end_sec": 86.17},
    "bbox": {"top": 0.0, "bottom": 0.8815, "left": 0.1964, "right": 0.6922},
}
CELEBV_TEXT = {
    "ytb_id": "00-30GQl0TM",
    "duration": {"start_frame": 415.2, "end_frame": 420.88},
    "bbox": {"top": 0, "bottom": 1183, "left": 665, "right": 1956},
}


def test_fractions_become_pixels_and_seconds_frames() -> None:
    track = parse_annotation(json.dumps(CELEBV_HQ))
    # 81.62 s are 2040.5 frames of 1/25 s, 86.17 s are 2154.25.
    assert track.span == (Fraction(2040, 25), Fraction(2154, 25))
    assert track.boxes_at({0: 83.0, 1: 90.0}, 1000, 500) == {0: pytest.approx((196.4, 0.0, 692.2, 440.75))}


def test_pixels_are_those_of_the_raw_video() -> None:
    track = parse_annotation(json.dumps(CELEBV_TEXT))
    assert track.span == (Fraction(10380, 25), Fraction(10522, 25))
    assert track.boxes_at({0: 416.0}, 3840, 2160) == {0: pytest.approx((665, 0, 1956, 1183))}


def test_one_clip_is_looked_up_by_name(tmp_path: Path) -> None:
    url = str(tmp_path / "celebvhq_info.json")
    Path(url).write_text(json.dumps({"clips": {"M2Ohb0FAaJU_1": {**CELEBV_HQ, "attributes": {}}}}))
    assert json.loads(read_box_text(f"{url}#M2Ohb0FAaJU_1")) == CELEBV_HQ
    with pytest.raises(FileNotFoundError, match="has no clip M2Ohb0FAaJU_2"):
        read_box_text(f"{url}#M2Ohb0FAaJU_2")
    (tmp_path / "1.txt").write_text("FRAME X Y W H")
    assert read_box_text(str(tmp_path / "1.txt")) == "FRAME X Y W H"


@pytest.mark.parametrize("text", ["[]", "{", '{"clips": {"a": {}}}', '{"clips": 3}'])
def test_what_is_no_file_of_annotations_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "info.json").write_text(text)
    with pytest.raises(ValueError, match=r"info\.json holds no annotations of clips"):
        read_annotations(str(tmp_path / "info.json"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"duration": {}}, "no span and box in numbers"),
        ({"bbox": {"top": "x"}}, "no span and box in numbers"),
        ({"duration": {"start_sec": 2, "end_sec": 2}}, "span or box is empty"),
        ({"bbox": {"top": 1, "bottom": 0, "left": 0, "right": 1}}, "span or box is empty"),
    ],
)
def test_a_broken_annotation_says_why(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_annotation(json.dumps({**CELEBV_HQ, **change}))
