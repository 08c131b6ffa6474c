"""A driver that crashes or hangs its decoder is an error that names it, and harms no other driver."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from poison import write_poison

from pipelines.faces.face import Face, make_face
from pipelines.faces.head_pose import CANONICAL_LANDMARKS
from pipelines.faces.identity.face_choice import LARGEST
from pipelines.media.decoder.process import Decoder, Limits
from pipelines.media.video import VideoWriter
from training.animation.driver_track import track_driver
from training.animation.preview.driver_sample import sample_driver

pytestmark = pytest.mark.slow


class Finder:
    """Finds one face in every frame, as far to the right as the frame is bright."""

    name = "mediapipe"

    def detect(self, image: np.ndarray) -> list[Face]:
        return [make_face(CANONICAL_LANDMARKS[:, :2] + (20 + image.mean() / 10, 20), 1.0, None)]


def write_film(path: Path) -> Path:
    """Three grey frames, each brighter than the last."""
    with VideoWriter(path, width=48, height=32, fps=Fraction(25)) as writer:
        for level in (40, 80, 120):
            writer.write(np.full((32, 48, 3), level, np.uint8))
    return path


@pytest.fixture
def decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Decoder:
    monkeypatch.setenv("PYTHONPATH", write_poison(tmp_path / "poison"))
    return Decoder(Limits(stall_s=2.0))


def test_a_crash_and_a_hang_are_errors_and_the_next_driver_is_tracked(decoder: Decoder, tmp_path: Path) -> None:
    good, crash, hang = (write_film(tmp_path / f"{name}.mp4") for name in ("good", "crash", "hang"))
    finder = Finder()
    with decoder:
        with pytest.raises(ValueError, match=r"crash\.mp4: the decoder crashed \(signal SIGSEGV\)"):
            track_driver(crash, finder, decoder=decoder)
        with pytest.raises(ValueError, match=r"hang\.mp4: the decoder took longer than 2 s"):
            track_driver(hang, finder, decoder=decoder)
        with pytest.raises(ValueError, match=r"crash\.mp4: the decoder crashed \(signal SIGSEGV\)"):
            sample_driver(crash, finder, LARGEST, decoder=decoder)
        track = track_driver(good, finder, decoder=decoder)
        assert decoder.probe(good).fps == Fraction(25)
    here = track_driver(good, finder)
    assert len(track) == 3
    assert np.array_equal(track.landmarks, here.landmarks)
    assert np.all(np.diff(track.landmarks[:, 0, 0]) > 2)  # every frame is its own
    assert np.array_equal(track.times.seconds, here.times.seconds)


def test_what_is_no_film_is_the_same_error_in_either_process(decoder: Decoder, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    messages = []
    for its_decoder in (None, decoder):
        with pytest.raises(ValueError, match=r"text\.mp4 is not a readable video") as refused:
            track_driver(tmp_path / "text.mp4", Finder(), decoder=its_decoder)
        messages.append(str(refused.value))
    assert messages[0] == messages[1]
    decoder.close()
