"""Which pictures make one avatar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines import assets
from pipelines.faces.identity.sface import FaceRecogniser
from serving.service.store import Store
from serving.service.work.finetuner import require_one_person
from training.avatars.portraits import Portrait

A, B = np.eye(2, dtype=np.float32)
BETWEEN = np.float32([0.8, 0.6])  # like A (cosine 0.8) and like B (0.6)


@pytest.mark.parametrize(
    ("embeddings", "problem"),
    [
        ([A], None),
        ([A, A, A], None),
        ([A, BETWEEN, B], None),  # a front, a half profile, a profile
        ([A, B], "picture 2 shows another person than picture 1"),
        ([A, A, B, A], "picture 3 shows another person than picture 1"),
        ([A, B, A, B], "picture 2 shows another person than picture 1"),
    ],
)
def test_pictures_of_several_people_are_refused_by_number(
    embeddings: list[np.ndarray], problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FaceRecogniser, "embed_aligned", lambda self, faces: np.stack(embeddings))
    names = [f"picture-{number:02}.jpg" for number in range(1, len(embeddings) + 1)]
    landmarks = np.random.default_rng(1).uniform(0, 60, (68, 2)).astype(np.float32)
    portraits = [Portrait(np.zeros((64, 64, 3), np.uint8), landmarks, name, name) for name in names]
    if problem is None:
        require_one_person(portraits, names)
    else:
        with pytest.raises(ValueError, match=f"^{problem}$"):
            require_one_person(portraits, names)


def test_a_picture_that_was_sent_twice_does_not_shift_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaceRecogniser, "embed_aligned", lambda self, faces: np.stack([A, B]))
    landmarks = np.random.default_rng(1).uniform(0, 60, (68, 2)).astype(np.float32)
    kept = [Portrait(np.zeros((64, 64, 3), np.uint8), landmarks, name, name) for name in ("1.jpg", "3.jpg")]
    with pytest.raises(ValueError, match="picture 3 shows another person"):
        require_one_person(kept, ["1.jpg", "2.jpg", "3.jpg"])


@pytest.mark.slow
def test_two_people_are_told_apart_and_one_named_face_is_not_questioned(tmp_path: Path) -> None:
    from pipelines.faces.detectors import create_detector
    from serving.service.state.requests import AvatarRequest
    from serving.service.work.finetuner import run_fine_tune
    from serving.service.work.lease import JobOrder, Lease

    class Reached(Exception):
        """The pictures have been accepted."""

    class Progress(Lease):
        def progress(self, done: int, total: int, stage: str = "") -> None:
            if stage == "fine-tuning":
                raise Reached

    store = Store.create(str(tmp_path))
    names = ("picture-01.jpg", "picture-02.jpg")
    for name, picture in zip(names, ("mona_lisa", "astronaut"), strict=True):
        store.put(assets.fetch(picture), store.upload("1" * 32, name))
    detector = create_detector("mediapipe")

    def run(face: str | None) -> None:
        order = JobOrder("1" * 32, "2" * 32, AvatarRequest(names, face=face))
        run_fine_tune(order, Progress(), store=store, model=None, detector=detector)  # type: ignore[arg-type]

    with pytest.raises(ValueError, match=r"^picture 2 shows another person than picture 1$"):
        run(None)
    with pytest.raises(Reached):
        run("0")
