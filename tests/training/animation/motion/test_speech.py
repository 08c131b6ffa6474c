"""Speech as a driver: the phones of a stand-in for the recogniser, and the real one on sounds that are no speech."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.synthetic.head.arkit_actions import action_index
from training.animation.motion import speech
from training.animation.motion.drivers import read_driver
from training.animation.motion.speech import read_speech
from training.animation.motion.visemes import phone_actions

# The 39 phones of the CMU Pronouncing Dictionary.
_PHONES = [
    "AA",
    "AE",
    "AH",
    "AO",
    "AW",
    "AY",
    "B",
    "CH",
    "D",
    "DH",
    "EH",
    "ER",
    "EY",
    "F",
    "G",
    "HH",
    "IH",
    "IY",
    "JH",
    "K",
    "L",
    "M",
    "N",
    "NG",
    "OW",
    "OY",
    "P",
    "R",
    "S",
    "SH",
    "T",
    "TH",
    "UH",
    "UW",
    "V",
    "W",
    "Y",
    "Z",
    "ZH",
]
JAW, BLINK = action_index("jawOpen"), action_index("eyeBlinkLeft")


def write(path: Path, seconds: float, level: float = 0.0) -> Path:
    samples = level * np.random.default_rng(0).normal(0, 3000, int(seconds * 16_000))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


class Recogniser:
    """Hears the same phones in every piece of sound: (phone, first and last hundredth of a second)."""

    def __init__(self, phones: Sequence[tuple[str, int, int]]) -> None:
        self.phones, self.pieces = phones, 0

    def start_utt(self) -> None:
        self.pieces += 1

    def end_utt(self) -> None: ...

    def process_raw(self, data: bytes, full_utt: bool) -> None: ...

    def hyp(self) -> str:
        return ""

    def seg(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(word=word, start_frame=first, end_frame=last) for word, first, last in self.phones]


def test_every_phone_shapes_the_mouth_and_silence_rests() -> None:
    assert all(phone_actions(phone).any() for phone in _PHONES)
    assert not any(phone_actions(phone).any() for phone in ("SIL", "+NSN+", "+SPN+"))
    opening = {phone: phone_actions(phone)[JAW] for phone in _PHONES}
    assert max(opening, key=lambda phone: opening[phone]) in ("AA", "AE", "AW", "AY")
    assert opening["M"] == opening["B"] == opening["P"] == 0


def test_phones_open_the_mouth_when_they_are_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hears = Recogniser([("SIL", 0, 39), ("AA", 40, 79), ("M", 80, 99), ("SIL", 100, 2999)])
    monkeypatch.setattr(speech, "_decoder", lambda: hears)
    motion, times = read_speech(write(tmp_path / "talk.wav", 21.0))
    assert len(motion) == len(times) == 525
    assert hears.pieces == 2  # of 20 s
    jaw = motion.actions[:, JAW]
    # The middle of AA is at 0.6 s, frame 15; its edges, at 0.4 and 0.8 s, are halfway.
    assert jaw[15] == pytest.approx(0.42, abs=1e-3)
    assert jaw[[10, 20]] == pytest.approx([0.21] * 2, abs=0.03)
    assert jaw[[5, 23]] == pytest.approx([0, 0], abs=0.01)
    assert jaw[500 + 15] == pytest.approx(0.42, abs=1e-3)  # the second piece
    assert motion.actions[22, action_index("mouthPressLeft")] > 0.15
    assert not motion.angles.any()
    assert 4 <= (np.diff((motion.actions[:, BLINK] > 0.4).astype(int)) == 1).sum() <= 11  # every 2 to 6 s


@pytest.mark.slow
def test_silence_and_noise_do_not_speak(tmp_path: Path) -> None:
    quiet = read_driver(write(tmp_path / "quiet.wav", 3.0), SimpleNamespace(name="dlib"))
    assert (len(quiet), quiet.detector, quiet.exact, quiet.adds) == (75, "dlib", True, False)
    assert quiet.rest is not None
    motion, _ = read_speech(tmp_path / "quiet.wav")
    assert motion.actions[:, JAW].max() < 0.05
    noise, _ = read_speech(write(tmp_path / "noise.wav", 0.5, 1.0))
    assert len(noise) in (12, 13)
    assert noise.actions.tobytes() == read_speech(tmp_path / "noise.wav")[0].actions.tobytes()


def test_what_is_no_speech_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    with pytest.raises(ValueError, match=r"text\.wav is no sound file that can be read"):
        read_speech(text)
    with pytest.raises(ValueError, match=r"empty\.wav holds no sound"):
        read_speech(write(tmp_path / "empty.wav", 0.0))
    monkeypatch.setattr(speech, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs a package that is not here: pip install '\.\[speech\]'"):
        read_speech(text)
