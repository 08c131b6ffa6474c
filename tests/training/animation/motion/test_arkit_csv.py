from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipelines.media.frame_times import FrameTimes
from pipelines.synthetic.head.arkit_actions import ACTIONS, action_index
from training.animation.motion.arkit_csv import read_arkit, write_arkit
from training.animation.motion.face_motion import FaceMotion
from training.animation.motion.text_table import read_table

HEADER = "Timecode,BlendShapeCount,EyeBlinkLeft,JawOpen,HeadYaw,HeadPitch,HeadRoll\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "take.csv"
    path.write_text(text)
    return path


def test_a_recording_is_read_as_actions_and_degrees(tmp_path: Path) -> None:
    """0.1 rad is 5.73 degrees; frames 58 and 59 of a second, then 0: 60 frames a second."""
    rows = "17:01:02:58.000,61,0.5,0.25,0.1,-0.2,0.3\n17:01:02:59.000,61,0,0,0,0,0\n17:01:03:00.000,61,0,1,0,0,0\n"
    motion, times = read_arkit(read_table(written(tmp_path, HEADER + rows)))
    assert motion.actions[:, action_index("eyeBlinkLeft")].tolist() == [0.5, 0, 0]
    assert motion.actions[:, action_index("jawOpen")].tolist() == [0.25, 0, 1]
    assert motion.angles[0] == pytest.approx([5.73, -11.46, -17.19], abs=0.01)
    assert (times.fps, times.constant) == (60, True)


@pytest.mark.parametrize(("last", "rate"), [(23, 24), (24, 25), (29, 30)])
def test_the_rate_is_found_from_the_frames_of_a_second(tmp_path: Path, last: int, rate: int) -> None:
    codes = [f"00:00:0{second}:{frame:02}.000" for second in (1, 2) for frame in range(last + 1)]
    path = written(tmp_path, "Timecode,BlendShapeCount,JawOpen\n" + "".join(f"{code},61,0\n" for code in codes))
    _, times = read_arkit(read_table(path))
    assert (times.fps, times.constant, len(times)) == (rate, True, 2 * rate)


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(60)])
def test_a_written_recording_comes_back(tmp_path: Path, fps: Fraction) -> None:
    rng = np.random.default_rng(1)
    motion = FaceMotion(rng.uniform(0, 1, (70, 52)), rng.uniform(-20, 20, (70, 3)))
    path = tmp_path / "take.csv"
    write_arkit(motion, FrameTimes(np.arange(70) / float(fps), fps, constant=True), path)
    back, times = read_arkit(read_table(path))
    assert back.actions == pytest.approx(motion.actions, abs=1e-6)
    assert back.angles == pytest.approx(motion.angles, abs=1e-4)
    assert (times.fps, times.constant) == (fps, True)


def test_the_columns_are_the_apps(tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    motion = FaceMotion(np.eye(52)[[action_index("eyeLookOutLeft")]], np.zeros((1, 3)))
    write_arkit(motion, FrameTimes(np.zeros(1), Fraction(25), constant=True), path)
    columns, values = (line.split(",") for line in path.read_text().splitlines())
    assert columns[:2] == ["Timecode", "BlendShapeCount"]
    assert sorted(columns[2:54]) == sorted(name[0].upper() + name[1:] for name in ACTIONS)
    assert columns[54:58] == ["HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw"]
    assert len(columns) == len(values) == 63
    assert values[:2] == ["00:00:00:00.000", "61"]
    assert float(values[columns.index("EyeLookOutLeft")]) == 1
    assert float(values[columns.index("LeftEyeYaw")]) == pytest.approx(np.radians(38), abs=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Timecode,Other\n00:00:00:00.0,1\n", " line 1: no column is one of the 52 ARKit actions"),
        (HEADER, " holds no frame"),
        (HEADER + "1.5,61,0,0,0,0,0\n", " line 2: Timecode must be HH:MM:SS:FF.FFF, got '1.5'"),
        (HEADER + "\n00:00:00:00.0,61,0,much,0,0,0\n", " line 3: JawOpen must be a number in [-0.5, 3], got 'much'"),
        (HEADER + "00:00:00:00.0,61,nan,0,0,0,0\n", " line 2: EyeBlinkLeft must be a number in [-0.5, 3], got 'nan'"),
        (
            HEADER + "00:00:00:00.0,61,0,0,40,0,0\n",
            " line 2: HeadYaw must be a number in [-3.14159, 3.14159], got '40'",
        ),
        (HEADER + "00:00:00:00.0,61,0,0,0,0,0,7\n", " line 2: 8 cells, but the header names 7 columns"),
        ("Timecode,JawOpen,JawOpen\n", " line 1: column 'JawOpen' is there twice"),
        ("", " is empty"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ValueError) as caught:
        read_arkit(read_table(path))
    assert str(caught.value) == f"{path}{message}"
