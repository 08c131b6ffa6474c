from pathlib import Path

import pytest

from training.losses.perceptual_files import PerceptualFiles


def test_the_two_networks_are_named_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert PerceptualFiles.named(None, None) is None
    assert PerceptualFiles.named("a.pth", "memory://b/c") == PerceptualFiles(f"{tmp_path}/a.pth", "memory://b/c")
    with pytest.raises(ValueError, match="--vgg19 is given without --vggface"):
        PerceptualFiles.named("a.pth", None)
    with pytest.raises(ValueError, match="--vggface is given without --vgg19"):
        PerceptualFiles.named(None, "a.pth")
