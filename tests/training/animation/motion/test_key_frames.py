import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipelines.synthetic.head.arkit_actions import action_index
from training.animation.motion.drivers import read_motion
from training.animation.motion.key_frames import Key, interpolate, read_key_json, read_key_table
from training.animation.motion.text_table import read_table


@pytest.mark.parametrize(
    ("easing", "quarter"),
    [("linear", 0.25), ("smooth", 3 * 0.25**2 - 2 * 0.25**3), ("hold", 0.0)],
)
def test_easings(easing: str, quarter: float) -> None:
    keys = [Key(1.0, {"smile": 0.0}, easing), Key(2.0, {"smile": 1.0}), Key(3.0, {"yaw": 9.0})]
    times = np.array([0.0, 1.0, 1.25, 2.0, 3.0])
    assert interpolate(keys, "smile", times) == pytest.approx([0, 0, quarter, 1, 1])
    assert interpolate(keys, "yaw", times) == pytest.approx([9] * 5)
    assert interpolate(keys, "wink", times) == pytest.approx([0] * 5)


def test_a_table_of_keys(tmp_path: Path) -> None:
    """At 25 frames a second, 0.4 s are frames 0 to 10; a cell that is empty is no key of its slider."""
    path = tmp_path / "keys.csv"
    path.write_text("time,yaw,aaa,easing\n0,0,,\n0.2,,1,hold\n0.4,10,0,linear\n")
    motion, times = read_key_table(read_table(path))
    assert (len(times), times.fps, times.constant) == (11, 25, True)
    assert motion.angles[:, 0] == pytest.approx(np.arange(11))
    assert motion.actions[:, action_index("jawOpen")] == pytest.approx([0.5] * 10 + [0])
    track = read_motion(path, "dlib")
    assert (track.detector, track.exact, len(track)) == ("dlib", True, 11)


def test_json_with_its_own_rate(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = [{"time": 0}, {"time": 1, "smile": 0.5, "easing": "smooth"}]
    path.write_text(json.dumps({"fps": 29.97, "keys": keys}))
    _, times = read_key_json(path)
    assert (times.fps, len(times)) == (Fraction(30000, 1001), 30)
    path.write_text(json.dumps(keys))
    assert read_key_json(path)[1].fps == 25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,grin\n0,1\n", " line 1: unknown column 'grin'; known: time, easing, pitch, yaw, "),
        ("time,smile\n,1\n", " line 2: the cell 'time' is empty"),
        ("time,smile\n0,1\n0,1\n", " line 3: time 0 is not after the key before it, 0"),
        ("time,smile\n0,1\n\n1,2\n", " line 4: smile must be a number in [-1, 1], got '2'"),
        ("time,easing\n0,bounce\n", " line 2: easing must be one of linear, smooth, hold, got 'bounce'"),
        ("time,smile\n4000,1\n", " line 2: time must be a number in [0, 3600], got '4000'"),
        ("time,smile\n", " holds no key frame"),
        (
            "a,b\n0,1\n",
            " line 1: neither key frames, with a column time, nor an ARKit recording, with a column Timecode",
        ),
        ('time,smile\n0,"1\n', " line 2: unexpected end of data"),
        (b"time,smile\n0,\xff\n", " line 2: not UTF-8 text"),
    ],
)
def test_mistakes_in_a_table_name_the_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "keys.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as caught:
        read_motion(path, "mediapipe")
    assert str(caught.value).startswith(f"{path}{message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[\n{]", " line 2: no JSON: "),
        ('{"keys": []}', " holds no key frame"),
        ('{"keys": 3}', ": key frames are a list of objects, or an object with fps, a number, and keys, a list"),
        ('{"keys": [], "rate": 3}', ": unknown entry 'rate'; known: fps, keys"),
        ('{"keys": [], "fps": 1000}', ": fps must lie in [1, 240], got 1000"),
        ("[3]", " key 1: no object"),
        ('[{"time": 0}, {"smile": 1}]', " key 2: no time"),
        ('[{"time": true}]', " key 1: time must be a number in [0, 3600], got true"),
        ('[{"time": 0, "smile": NaN}]', " key 1: smile must be a number in [-1, 1], got NaN"),
        ('[{"time": 0, "grin": 1}]', " key 1: unknown entry 'grin'; known: time, easing, pitch, "),
        ('[{"time": 0, "easing": ["hold"]}]', " key 1: easing must be one of linear, smooth, hold, got "),
        ("[" * 100_000, ": no JSON of key frames: nested too deeply"),
    ],
)
def test_mistakes_in_json_name_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        read_motion(path, "mediapipe")
    assert str(caught.value).startswith(f"{path}{message}")
