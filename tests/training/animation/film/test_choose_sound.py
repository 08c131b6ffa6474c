from fractions import Fraction
from pathlib import Path

import pytest

from pipelines.media.sound import Sound
from training.animation.film import choose_sound as module
from training.animation.film.choose_sound import choose_sound
from training.animation.render import RenderOptions, SoundChoice
from training.animation.retarget import MotionOptions

LIPS, EYES = ("lips",), ("eyes", "gaze")


@pytest.mark.parametrize(
    ("choice", "parts", "heard", "whose"),
    [
        ("auto", LIPS, "both", "driver"),
        ("auto", EYES, "both", "film"),
        ("auto", LIPS, "film", "film"),
        ("auto", EYES, "driver", None),
        ("driver", EYES, "both", "driver"),
        ("driver", LIPS, "film", None),
        ("source", LIPS, "both", "film"),
        ("none", LIPS, "both", None),
    ],
)
def test_whose_sound_is_heard(
    choice: SoundChoice, parts: tuple[str, ...], heard: str, whose: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_sound(path: Path, begins: Fraction) -> tuple[Sound | None, str | None]:
        return (Sound(path, 0, "aac", 2, Fraction(0), begins), None) if heard in ("both", path.stem) else (None, None)

    class Info:
        start_s = Fraction(0)

    monkeypatch.setattr(module, "find_sound", find_sound)
    monkeypatch.setattr(module, "driver_sound", lambda path: find_sound(path, Fraction(0)))
    monkeypatch.setattr(module, "probe", lambda path: Info())
    options = RenderOptions(MotionOptions(parts=parts), sound=choice)
    sound, _ = choose_sound(options, Path("film.mp4"), Path("driver.mp4"))
    assert (sound and sound.path.stem) == whose


def test_motion_alone_has_no_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    sound, note = choose_sound(RenderOptions(sound="driver"), Path("film.mp4"), None)
    assert sound is None
    assert note == "the driver is motion without a film: the video is silent"
