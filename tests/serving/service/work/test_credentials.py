"""What the credentials of the service's results say, and what they keep to themselves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from grey_avatars import grey_avatar

from serving.service.work.credentials import still_provenance, video_provenance
from training.animation.motion.sliders import Sliders
from training.animation.render import RenderOptions


def test_uploads_are_named_by_their_hashes_alone(tmp_path: Path) -> None:
    driver = tmp_path / "holiday in Rome.mp4"
    driver.write_bytes(b"abc")
    portrait = SimpleNamespace(name="ann at home.jpg", sha256="1" * 64)
    avatar = grey_avatar("1" * 64)
    avatar.__dict__["portraits"] = (portrait,)
    film = video_provenance(avatar, driver, RenderOptions(max_size=256))
    assert [(each.name, each.sha256, each.path) for each in film.ingredients] == [
        ("portrait 1", "1" * 64, None),
        ("driver", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", None),  # sha256 of "abc"
    ]
    assert film.command == "sfumato animate -s AVATAR -d DRIVER -o videos --max-size 256"
    still = still_provenance(avatar, Sliders(smile=0.5))
    assert still.command == "sfumato pose AVATAR -o still.jpg --smile 0.5"
    assert still.options == {"smile": 0.5}
    assert not any("ann at home" in str(each) or "Rome" in str(each) for each in (film, still))
